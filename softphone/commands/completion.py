"""``softphone completion``."""

from __future__ import annotations

import argparse
import sys

from mobility.commandline.completion import script
from mobility.commandline.description import describe
from softphone.exit_code import ExitCode


def run(options: argparse.Namespace) -> int:
    """``source <(softphone completion bash)``."""
    from softphone.commands.parser import parser

    sys.stdout.write(script(describe(parser()), options.shell))
    return ExitCode.OK
