"""``softphone load``: many calls by a scenario, and a report."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.commands.common import complain, config_option, say, say_json
from softphone.errors import ConfigError, SoftphoneError
from softphone.exit_code import ExitCode

if TYPE_CHECKING:
    from softphone.commands.common import Commands
    from softphone.load.report import Report

MOST_CALLS = 10_000
MOST_CONCURRENT = 2_000
MOST_PROCESSES = 256


def add(commands: Commands) -> None:
    parser = commands.add_parser("load", help="load on a telephone system: many calls by a scenario, and a report")
    config_option(parser)
    parser.add_argument(
        "--scenario", type=Path, required=True, metavar="FILE", help="who calls whom and does what: TOML"
    )
    parser.add_argument("--rate", type=float, metavar="CALLS", help="a second; default: as fast as callers are free")
    parser.add_argument("--concurrent", type=int, default=10, metavar="CALLERS", help="at once, at most; default 10")
    parser.add_argument(
        "--duration", type=float, default=60.0, metavar="SECONDS", help="in which calls begin; default 60"
    )
    parser.add_argument(
        "--calls", type=int, default=MOST_CALLS, metavar="NUMBER", help=f"altogether, at most; default {MOST_CALLS}"
    )
    parser.add_argument("--processes", type=int, metavar="NUMBER", help="default 1; with --cluster all its workers")
    parser.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler: tcp://host:8786 (extra `cluster`)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="the report as HTML, with plots")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object on stdout")
    parser.set_defaults(run=load)


def load(options: argparse.Namespace) -> int:
    # Imported here: other commands need none of it.
    from softphone.load.page import page
    from softphone.load.report import Report

    report = asyncio.run(_load(options))
    assert isinstance(report, Report)
    if options.report is not None:
        options.report.write_text(page(report), "utf-8")
    if options.json:
        say_json(report.as_json())
    else:
        say(report.as_text())
    return ExitCode.OK if report.ok else ExitCode.FAILURE


async def _load(options: argparse.Namespace) -> Report:
    from softphone.load.pacing import Offer
    from softphone.load.run import Run
    from softphone.load.scenario import read_scenario

    _check(options)
    scenario = await asyncio.to_thread(read_scenario, options.scenario, options.config)
    processes = options.processes
    if processes is None and options.cluster is None:
        processes = 1
    elif processes is None:
        from softphone.load.cluster import workers_of

        processes = await workers_of(options.cluster)
    offer = Offer(options.rate, options.concurrent, options.duration, options.calls)
    run = Run(scenario, offer, processes, complain, options.cluster)
    working = asyncio.create_task(run.run())
    interrupts = 0

    def interrupted() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1 or not run.report.began:
            working.cancel()
            return
        complain("ending the calls; once more gives up")
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted)
    try:
        return await working
    except asyncio.CancelledError:
        if not run.report.began:
            raise SoftphoneError("interrupted before the first call") from None
        run.report.troubles.append("given up before all calls were over")
        return run.report


def _check(options: argparse.Namespace) -> None:
    """Raises ConfigError."""
    for name, least, most in (
        ("rate", 0.001, 10_000), ("concurrent", 1, MOST_CONCURRENT), ("duration", 0.1, 86_400), ("calls", 1, 1_000_000),
        ("processes", 1, MOST_PROCESSES),
    ):  # fmt: skip
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"--{name}: {value:g} is not between {least:g} and {most:g}")
    if options.report is not None and not os.access(options.report.absolute().parent, os.W_OK):
        raise ConfigError(f"--report: {options.report.absolute().parent} is no directory that can be written to")
