"""``mobility status``: what a running node knows and does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mobility.client import ControlClient, MobilityError
from mobility.commands.common import DONE, add_runtime, runtime, say
from mobility.commands.view import event_line, full, overview
from mobility.gateway.settings import SOCKET as GATEWAYS

if TYPE_CHECKING:
    from mobility.commands.common import Commands

PERIOD = 1.0
"Seconds between two looks."
EVENTS = 8
"How many events are shown below the overview."
_TOP, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def add(commands: Commands) -> None:
    what = "show where a node is, its bindings, counters and handovers"
    status = commands.add_parser("status", help=what, description=what)
    add_runtime(status)
    status.add_argument("--all", action="store_true", help="all tables and counters")
    status.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    status.add_argument(
        "--watch", action="store_true", help="every second anew, with events; with --json: then events, one a line"
    )
    status.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    path = runtime(options) / "control.sock"
    if options.watch and not options.json:
        with _screen() as draw:
            return asyncio.run(_watch(path, draw, everything=options.all))
    return asyncio.run(_status(path, options))


async def _status(path: Path, options: argparse.Namespace) -> int:
    async with ControlClient(path) as control:
        if options.watch:
            await control.subscribe()  # first, so that no event falls between status and stream
        if options.json:
            say(json.dumps(await _everything(control, path)))
        else:
            say("\n".join(await _picture(control, path, options.all)))
        if options.watch:
            async for event in control.events():
                say(json.dumps(event))
    return DONE


async def _watch(path: Path, draw: Callable[[list[str]], None], *, everything: bool) -> int:
    """Until it is interrupted; a node that goes away is waited for."""
    events: deque[str] = deque(maxlen=EVENTS)
    found = False
    while True:
        try:
            async with ControlClient(path) as control:
                await control.subscribe()
                found = True
                reading = asyncio.create_task(_collect(control, events))
                beside = asyncio.create_task(_collect_beside(path.with_name(GATEWAYS), events))
                try:
                    while not reading.done():
                        draw([*await _picture(control, path, everything), "", *events])
                        await asyncio.wait([reading], timeout=PERIOD)
                finally:
                    reading.cancel()
                    beside.cancel()
                    await asyncio.gather(reading, beside, return_exceptions=True)
        except MobilityError as error:
            if not found:
                raise
            draw([str(error), "", *events])
            await asyncio.sleep(PERIOD)


async def _collect(control: ControlClient, events: deque[str]) -> None:
    async for event in control.events():
        events.append(event_line(event))


async def _collect_beside(path: Path, events: deque[str]) -> None:
    """The events of a terminal's gateways, whenever that process is there."""
    while True:
        with contextlib.suppress(MobilityError):
            async with ControlClient(path) as gateways:
                await _collect(gateways, events)
        await asyncio.sleep(PERIOD)


async def _picture(control: ControlClient, path: Path, everything: bool) -> list[str]:
    status = await _everything(control, path)
    return full(status) if everything else overview(status, await control.recent())


async def _everything(control: ControlClient, path: Path) -> dict[str, object]:
    """The status of a node; of a terminal with that of its gateways, which another process of its keeps."""
    status = await control.status()
    with contextlib.suppress(MobilityError):  # there is none, or it is just being started again
        async with ControlClient(path.with_name(GATEWAYS)) as gateways:
            status["gateways"] = (await gateways.status()).get("gateways")
    return status


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[list[str]], None]]:
    """Draws in place on a terminal, as long as the block runs; elsewhere one picture after the other."""
    if not sys.stdout.isatty():
        yield lambda lines: say("\n".join([*lines, ""]))
        return

    def draw(lines: list[str]) -> None:
        width, height = shutil.get_terminal_size()
        shown = [line[:width] + _REST_OF_LINE for line in lines[: height - 1]]
        sys.stdout.write(_TOP + "\n".join(shown) + _REST_OF_SCREEN)
        sys.stdout.flush()

    def ended(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # so that the terminal gets its screen back

    before = signal.signal(signal.SIGTERM, ended)
    sys.stdout.write(_OTHER_SCREEN)
    try:
        yield draw
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stdout.write(_OWN_SCREEN)
        sys.stdout.flush()
