"""The command ``softphone``; its exit status is an `ExitCode`."""

from __future__ import annotations

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
    from softphone.commands.parser import parser

    options = parser().parse_args(given)
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


if __name__ == "__main__":
    sys.exit(main())
