"""Run the sections of the benchmark and merge what they measured into ``bench/report.json`` and ``bench/report.md``.

    python -m bench [--section NAME]... [--output FILE]

A section is a module of this package with a function ``measure() -> dict[str, object]``, and perhaps ``PROGRAMS``:
packages that it measures. Of some there is a picture (`bench.plot`), ``bench/SECTION.png``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench import report as written
from sip_test_env.errors import EnvironmentFailure

SECTIONS = (
    *("data_plane", "handover", "hierarchy", "home_agent", "negotiation", "nesting", "phone", "reinvite", "routes"),
    *("strangers", "ui"),
)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": system,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def programs(names: Sequence[str]) -> dict[str, object]:
    """Versions of foreign programs and libraries: packages of Debian's, or of Python's."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            asked = ["dpkg-query", "-W", "-f", "${Version}", name]
            found[name] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout or "unknown"
    return {"programs": found} if found else {}


def main() -> int:
    """Exit status 0: all sections measured, all ratios within their bounds (`bench.report`); 1: not so (what was
    measured is written all the same).
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one (may be repeated)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "report.json")
    options = parser.parse_args()
    report: dict[str, object] = json.loads(options.output.read_text()) if options.output.exists() else {}
    failed = False
    for name in options.section or SECTIONS:
        sys.stderr.write(f"measuring {name} ...\n")
        try:
            section = importlib.import_module(f"bench.{name}")
            figures = section.measure()
        except (EnvironmentFailure, RuntimeError, OSError) as error:
            sys.stderr.write(f"{name}: {error}\n")
            failed = True
            continue
        report[name] = {**figures, **programs(getattr(section, "PROGRAMS", ())), "machine": machine()}
        options.output.write_text(json.dumps(report, indent=2) + "\n")
        sys.stdout.write(json.dumps({name: figures}, indent=2) + "\n")
    _draw(report, options.section or SECTIONS, options.output)
    written.write(report, options.output.with_suffix(".md"))
    for failure in written.failures(report):
        sys.stderr.write(f"{failure}\n")
        failed = True
    return 1 if failed else 0


def _draw(report: dict[str, object], measured: Sequence[str], output: Path) -> None:
    """The pictures in which something is new."""
    from bench.plot import PICTURES  # matplotlib takes a second to import and is for this only

    for name, picture in PICTURES.items():
        if any(section in measured for section in (name, *picture.beside)):
            try:
                picture.draw(report, output.with_name(f"{name}.png"))
            except KeyError as error:
                sys.stderr.write(f"{name}: no picture without {error}\n")


if __name__ == "__main__":
    sys.exit(main())
