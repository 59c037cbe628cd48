"""The screen of packets: driven by keys with packets that really pass, flooded, and as it looks with fixed ones."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.ui.mobile import alone, packet_events, press, roaming, sees, soon
from tests.ui.support import SIZES, drive
from ui.dialogs.packet import PacketDialog
from ui.packet_book import MOST, PacketBook, discards
from ui.pages.packets import PacketsPage
from ui.widgets.packets import PacketList

KEYS = (
    "packets.filter", "packets.pause", "packets.follow", "packets.save", "packets.discards", "packets.clear",
    "packets.leave", "list.up", "list.down", "list.page_up", "list.page_down", "list.first", "list.last",
)  # fmt: skip
"That are pressed below."


@pytest.mark.parametrize("size", SIZES)
def test_every_key(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    async def work() -> None:
        async with roaming(tmp_path, size) as (screen, live):
            await press(screen.app, "f4")
            await sees(screen.app, "● live", "IPv6 ESP IPv6 ESP UDP (S)RTP", "mobile tunnel", "application IPsec")
            page = screen.app.screen
            assert isinstance(page, PacketsPage)
            packets = page.query_one(PacketList)
            await press(screen.app, "space")
            await sees(screen.app, "‖ paused", "came meanwhile")
            count = len(page.book.shown)
            await asyncio.sleep(0.3)
            assert len(page.book.shown) == count
            await press(screen.app, "home")
            await soon(lambda: packets.cursor == 0)
            await press(screen.app, "down", "j", "k", "pagedown", "pageup", "g")
            await soon(lambda: packets.cursor == 0)
            await press(screen.app, "enter")
            await soon(lambda: isinstance(screen.app.screen, PacketDialog))
            await sees(screen.app, "at every stage that it passed", "octets")
            await press(screen.app, "escape")
            await soon(lambda: screen.app.screen is page)
            await press(screen.app, "G", "space")
            await sees(screen.app, "● live")
            await press(screen.app, "slash")
            await soon(lambda: page.query_one(Input).has_focus)
            await press(screen.app, *"in esp", "enter")
            await soon(lambda: page.book.shown and not any(packet.outbound for packet in page.book.shown))
            await soon(lambda: packets.has_focus)
            await press(screen.app, "slash")
            await soon(lambda: page.query_one(Input).has_focus)
            await press(screen.app, *" -rtp")
            await soon(lambda: not any("rtp" in packet.text for packet in page.book.shown))
            await press(screen.app, "escape")
            await soon(lambda: packets.has_focus)
            await press(screen.app, "d")
            await sees(screen.app, "Discards")
            await press(screen.app, "d", "s")
            await soon(lambda: page.file)
            await sees(screen.app, "● saving")
            await press(screen.app, "s")
            await soon(lambda: page.file is None)
            (file,) = (tmp_path / "data" / "roamphone" / "captures").iterdir()
            assert file.stat().st_size > 500
            before = page.book.seen
            await press(screen.app, "c")
            await soon(lambda: page.book.seen < before, 0.001)
            await press(screen.app, "f2")
            await soon(lambda: not live.trace.wants_packets)  # nobody looks any more

    drive(work)


def test_a_flood_does_not_hold_up_keys(tmp_path: Path) -> None:
    """As many packets as the mobility process tells at most, five times over."""
    events = packet_events()

    async def work() -> None:
        async with alone(tmp_path, (120, 36)) as (app, pilot):
            app.action_page("packets")
            await pilot.pause()
            page = app.screen
            assert isinstance(page, PacketsPage)
            drawn = 0
            draw = page.show_stream

            def counted() -> None:
                nonlocal drawn
                drawn += 1
                draw()

            page.show_stream = counted  # type: ignore[method-assign]
            flooding = True
            given = 0

            async def flood() -> None:
                nonlocal given
                while flooding:
                    for event in events:
                        moved = [{**one, "packet": one["packet"] + given} for one in event["packets"]]
                        page.take_event({**event, "packets": moved})
                        given += 30
                    await asyncio.sleep(0.01)

            task = asyncio.create_task(flood())
            packets = page.query_one(PacketList)
            await soon(lambda: packets.count >= 100)
            begin = time.monotonic()
            slowest = 0.0
            for _ in range(20):
                pressed, at = time.monotonic(), packets.cursor - packets.count
                app.simulate_key("up")
                await soon(lambda at=at: packets.cursor - packets.count != at, 0.001)  # type: ignore[misc]
                slowest = max(slowest, time.monotonic() - pressed)
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - begin
            flooding = False
            await task
            assert page.book.seen > 500
            assert drawn <= seconds * 20 + 5
            assert slowest < 1.5  # usually 0.05; others may use the machine
            page.book.settle()
            assert len(page.book._packets) <= MOST

    drive(work)


def test_the_book_keeps_the_newest_and_follows_packets() -> None:
    book = PacketBook(most=10)
    for number in range(30):
        stages = [
            {
                "packet": number,
                "time": 1.0,
                "stage": stage,
                "where": "wlan0",
                "outbound": True,
                "length": 1,
                "octets": "60",
            }
            for stage in ("host", "wire")
        ]
        book.take({"event": "packets", "packets": stages[:1]})
        book.take({"event": "packets", "packets": [*stages[1:], {"packet": "nonsense"}, 7], "missed": 2})
        book.settle()
    assert [packet.number for packet in book.shown] == list(range(20, 30))
    assert book.take_gone() == 20
    assert (book.take_gone(), book.seen, book.missed) == (0, 30, 60)
    assert [stage.stage for stage in book.shown[0].stages] == ["host", "wire"]
    book.take({"event": "packets-missed", "count": 5})
    assert book.missed == 65
    book.pause(True)
    book.take({"event": "packets", "packets": [{"packet": 33, "time": 1.0, "stage": "host"}]})
    assert (book.seen, book.meanwhile) == (30, 4)
    book.pause(False)
    assert book.meanwhile == 0


def test_discards_by_their_number() -> None:
    assert discards({"discards": {"replayed": 2, "not-ours": 7, "malformed": 2}}) == [
        ("not-ours", 7),
        ("malformed", 2),
        ("replayed", 2),
    ]
    assert discards({}) == []
