"""``python -m mobility`` is the command ``mobility``."""

import sys

from mobility.cli import main

sys.exit(main())
