"""``mobility completion``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mobility.commandline.completion import SHELLS, script
from mobility.commandline.description import describe
from mobility.commands.common import DONE

if TYPE_CHECKING:
    from mobility.commands.common import Commands


def add(commands: Commands) -> None:
    completing = commands.add_parser("completion", help="print what makes a shell complete commands and options")
    completing.add_argument("shell", choices=SHELLS)
    completing.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """``source <(mobility completion bash)``."""
    from mobility.cli import parser

    sys.stdout.write(script(describe(parser()), options.shell))
    return DONE
