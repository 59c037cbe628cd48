"""However much happens, widgets draw at most twenty times a second, and none that nobody sees."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.ui.support import drive, opened
from ui.model import Part
from ui.redraw import PERIOD
from ui.widgets.calls import CallCard, CallList
from ui.widgets.incoming import IncomingOverlay


def test_a_flood_of_events_is_drawn_now_and_then_and_on_the_visible_screen_only(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, (120, 36)) as screen:
            await screen.paste(screen.bob_uri)
            await screen.press("enter")
            await (await anext(screen.bob.incoming())).answer()
            await screen.sees("in call")
            card = screen.app.screen.query_one(CallCard)
            drawn: list[frozenset[Part]] = []
            card.show_parts = drawn.append  # type: ignore[method-assign, assignment]
            levels = {"call": card.call, "sent_dbov": -20.0, "received_dbov": -30.0}
            events: list[dict[str, object]] = [
                {"event": "levels", "calls": [levels]},
                {"event": "quality", "call": card.call, "mos": 4.0},
            ]

            async def flood() -> float:
                drawn.clear()
                began = time.monotonic()
                for _ in range(100):
                    for event in events * 10:
                        screen.app._event(event)
                    await asyncio.sleep(0.005)
                return time.monotonic() - began

            seconds = await flood()
            assert 1 <= len(drawn) <= seconds / PERIOD + 2
            assert all({Part.LEVELS, Part.QUALITY} & parts for parts in drawn[1:])
            await screen.press("f10")
            await flood()
            assert drawn == []

    drive(work)


def test_widgets_name_what_they_show() -> None:
    assert Part.LEVELS in CallCard.PARTS
    assert Part.LEVELS not in CallList.PARTS | IncomingOverlay.PARTS
