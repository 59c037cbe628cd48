"""The command ``softphone``.

Exit status: 0 ok, 1 failure, 2 usage.
"""

from __future__ import annotations

import argparse
import os
import sys

DEMO = "sip_test_env.demo"
"Run as a program of its own: product code never imports the test environment."


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the console script; ``arguments`` default to the command line's."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="softphone", description="A SIP softphone with Mobile IPv6 built in.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "demo", add_help=False, help="a call that changes networks, on real network stacks in namespaces (needs root)"
    )
    options, rest = parser.parse_known_args(given)
    if options.command == "demo":
        os.execv(sys.executable, [sys.executable, "-m", DEMO, *rest])
    return 2


if __name__ == "__main__":
    sys.exit(main())
