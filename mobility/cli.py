"""The command ``mobility``. Exit status: 0 done, 1 something failed, 2 wrong use or wrong configuration.

``mobility exec`` has the exit status of its program.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from mobility.client import MobilityError
from mobility.commands import check, completion, control, execute, ike, keys, nodes, scenarios, status, terminals
from mobility.commands.common import DONE, FAILED, WRONG
from mobility.config import ConfigurationError
from mobility.sequences import SequenceFileError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s mobility[%(process)d] %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        done = options.run(options)
        sys.stdout.flush()
        return int(done)
    except ConfigurationError as error:
        return _complain(str(error), WRONG)
    except PermissionError as error:
        return _complain(f"{error.strerror}: {error.filename or 'this needs root'}", FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains on its way out
        return FAILED
    except (MobilityError, SequenceFileError, OSError) as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return DONE


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    whole = argparse.ArgumentParser(
        prog="mobility",
        description="Mobile IPv6 with IPsec in user space: a machine keeps its address wherever it is. On a laptop: "
        "import, check, mn, exec, status. On a home agent: ha, reload, status, add-terminal.",
        epilog="Exit status: 0 done, 1 something failed, 2 wrong use or wrong configuration; that of its program for "
        "`mobility exec`.",
    )  # fmt: skip
    whole.add_argument("--verbose", action="store_true", help="tell more in the log")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for family in (nodes, status, check, execute, control, scenarios, terminals, keys, ike, completion):
        family.add(commands)
    return whole


def _complain(text: str, exit_status: int) -> int:
    sys.stderr.write(f"mobility: {text}\n")
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
