"""The networks that the test network can be: the basic one, and what others have beside it.

A new one is a module here with an `Extension`, a row in `EXTENSIONS`, and, where it differs, a scene for the demo in
`sip_test_env.scenes`.
"""

from __future__ import annotations

from sip_test_env.extensions.gateway import GATEWAY
from sip_test_env.extensions.hmip import HMIP
from sip_test_env.extensions.nemo import NEMO
from sip_test_env.plan import BASIC, Extension

EXTENSIONS: dict[str, Extension] = {extension.name: extension for extension in (BASIC, HMIP, NEMO, GATEWAY)}
"""By name."""
