"""The command ``softphone``; its exit status is an `ExitCode`."""

from __future__ import annotations

import argparse
import os
import sys

from softphone.errors import ConfigError, SoftphoneError
from softphone.exit_code import ExitCode

DEMO = "sip_test_env.demo"
"Run as a program of its own: product code never imports the test environment."
UI = "ui"
"A program of its own, too: it has to be on the screen before the phone's modules would have been imported."


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the console script; ``arguments`` default to the command line's."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["demo"]:
        os.execv(sys.executable, [sys.executable, "-m", DEMO, *given[1:]])
    if not given or given[0] == "tui":
        os.execv(sys.executable, [sys.executable, "-m", UI, *given[1:]])
    from softphone.commands.common import complain

    options = _parser().parse_args(given)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except ConfigError as exc:
        complain(str(exc))
        return ExitCode.USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains on its way out
        return ExitCode.FAILURE
    except (SoftphoneError, OSError) as exc:
        complain(str(exc))
        return ExitCode.FAILURE
    except (KeyboardInterrupt, EOFError):
        complain("given up")
        return ExitCode.FAILURE


def _parser() -> argparse.ArgumentParser:
    from softphone.commands import accounts, calls, contacts, ctl, daemon, devices, history, load

    parser = argparse.ArgumentParser(
        prog="softphone", description="A SIP softphone with Mobile IPv6 built in.",
        epilog="Exit status: 0 ok, 1 failure, 2 usage or configuration, 3 rejected, 4 unauthorised, 5 timeout, 6 busy.",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    calls.add(commands)
    accounts.add(commands)
    history.add(commands)
    contacts.add(commands)
    daemon.add(commands)
    ctl.add(commands)
    load.add(commands)
    commands.add_parser("tui", add_help=False, help="the phone on the whole terminal; so does no command at all")
    devices.add(commands)
    commands.add_parser(
        "demo", add_help=False, help="a call that changes networks, on real network stacks in namespaces (needs root)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
