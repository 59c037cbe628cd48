"""How many calls a second does a telephone system take? Tries rising rates until an expectation fails.

python examples/load_test/load_test.py examples/load_test/office.toml --rates 2 4 8 16 --seconds 30
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def load(scenario: Path, rate: float, seconds: float, reports: Path) -> dict[str, Any]:
    """One run; its report. Ctrl-C ends it politely, for the command gets it, too."""
    command = [
        sys.executable, "-m", "softphone.cli", "load", "--scenario", str(scenario), "--rate", str(rate),
        "--duration", str(seconds), "--concurrent", "500", "--processes", "2", "--json",
        "--report", str(reports / f"{rate:g}.html"),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        sys.exit(done.returncode)  # it has said why
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 2, 4, 8], help="calls a second, rising")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--reports", type=Path, default=Path("."), help="directory for the reports")
    options = parser.parse_args()
    reached = 0.0
    for rate in options.rates:
        report = load(options.scenario, rate, options.seconds, options.reports)
        delay, mos = report["post_dial_delay"]["p95"], report["mos"]["all"]["p05"]
        print(f"{rate:g}/s: {report['calls']['answered']} answered, delay p95 {delay} s, MOS p05 {mos}")  # noqa: T201
        if not report["ok"] or report["interrupted"]:
            for failed in (one for one in report["expectations"] if not one["holds"]):
                print(f"  {failed['what']}: {failed['found']} instead of {failed['wanted']}")  # noqa: T201
            break
        reached = rate
    print(f"it takes {reached:g} calls a second")  # noqa: T201
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
