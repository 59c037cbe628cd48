"""Makes all calls of the matrix, one after the other, and writes the table.

python -m tests.interop.matrix [--only WORD ...] [--write FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from roamphone_pytest.server import SipServer, running_server
from tests.interop.matrix import report
from tests.interop.matrix.cells import Cell, Outcome, Program, all_cells
from tests.interop.matrix.judge import judge
from tests.interop.matrix.programs import PROGRAMS
from tests.interop.matrix.recordings import debian_version


def attempt(program: Program, cell: Cell, server: SipServer) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        return asyncio.run(judge(program, cell, server, Path(folder)))


def main() -> int:
    """Exit status 1 when a cell failed twice."""
    arguments = argparse.ArgumentParser(prog="python -m tests.interop.matrix", description="the call matrix")
    arguments.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cells whose names have these words")
    arguments.add_argument("--write", type=Path, metavar="FILE", help="the table, of all cells")
    options = arguments.parse_args()
    if options.only and options.write:
        arguments.error("a table needs all cells: leave --only out")
    found = []
    with running_server() as server:
        for program in PROGRAMS.values():
            outcomes = []
            for cell in all_cells(program.name):
                if {*options.only} <= {*re.findall(r"\w+", str(cell))}:
                    began = time.monotonic()
                    outcome = attempt(program, cell, server)
                    if outcome.failed is not None:
                        outcome = replace(attempt(program, cell, server), before=outcome.failed)
                    outcomes.append(outcome)
                    sys.stdout.write(f"{time.monotonic() - began:5.1f} s  {outcomes[-1]}\n")
                    sys.stdout.flush()
            found.append((program, outcomes))
    if options.write is not None:
        options.write.write_text(report.write(found, debian_version("kamailio"), datetime.now(UTC).date()))
    return int(any(outcome.failed is not None for _, outcomes in found for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
