"""The screen of mobility: driven by keys against a terminal that really moves, and as it looks with fixed news."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.content import Content

from tests.mobility.live import LiveTerminal
from tests.ui.mobile import press, roaming, sees, soon
from tests.ui.support import SIZES, drive
from ui import mobility_view as view
from ui.pages.mobility import MobilityPage

KEYS = (
    "mobility.move", "mobility.roam", "mobility.reregister", "mobility.return", "mobility.switch", "mobility.choose",
    "mobility.next", "mobility.previous",
)  # fmt: skip
"That are pressed below."


def preferred(live: LiveTerminal) -> str | None:
    return live.network.terminal.mobile_node.movement.preferred


@pytest.mark.parametrize("size", SIZES)
def test_every_key(tmp_path: Path, size: tuple[int, int]) -> None:
    async def work() -> None:
        async with roaming(tmp_path, size) as (screen, live):
            await press(screen.app, "f3")
            await sees(screen.app, "application IPsec", "mobile tunnel esp", "2001:db8:1::100", "wlan0", "bound")
            await sees(screen.app, "● wlan0", "○ wlan1")
            await press(screen.app, "m")  # the chosen network is in use: to the next
            await sees(screen.app, "● wlan1", "preferred")
            assert preferred(live) == "wlan1"
            await press(screen.app, "a")
            await sees(screen.app, "● wlan0")
            assert preferred(live) is None
            await press(screen.app, "tab")
            await sees(screen.app, "HA  bound #")
            before = live.network.terminal.mobile_node.registration.snapshot(live.network.world.now)["sequence"]
            await press(screen.app, "r")
            registration = live.network.terminal.mobile_node.registration
            await soon(lambda: registration.snapshot(live.network.world.now)["sequence"] != before)
            await press(screen.app, "right")
            await sees(screen.app, "wlan0 → wlan1", "wlan1 → wlan0", "gap")
            await press(screen.app, "right")
            await sees(screen.app, "■ 10000")
            row = live.network.terminal.scenarios.snapshot()[0]
            assert row["status"] == "enabled"
            await press(screen.app, "home", "space")
            await sees(screen.app, "□ 10000")
            await press(screen.app, "enter")
            await sees(screen.app, "■ 10000")
            await press(screen.app, "right")
            await sees(screen.app, "speech", "aes-gcm-16")
            await press(screen.app, "shift+tab", "left", "left", "left")
            await sees(screen.app, "wlan1")
            await press(screen.app, "end", "enter")
            await sees(screen.app, "● wlan1")
            await press(screen.app, "h")
            await soon(lambda: list(screen.app._notifications))
            assert "home network" in next(iter(screen.app._notifications)).message
            await soon(lambda: len(view.round_trips(_status(screen.app.screen))) > 1)

    drive(work)


def _status(page: object) -> view.Object:
    assert isinstance(page, MobilityPage)
    return page.status or {}


def test_the_mobility_process_goes_and_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softphone.daemon.mobility.AGAIN", 0.05)

    async def work() -> None:
        async with roaming(tmp_path, (80, 24)) as (screen, live):
            await press(screen.app, "f3")
            await sees(screen.app, "mobile tunnel esp")
            live.do(live.stop_serving)
            await sees(screen.app, "mobility mn")
            await press(screen.app, "m", "r")
            live.do(live.serve)
            await sees(screen.app, "mobile tunnel esp")

    drive(work)


def plain(lines: list[Content]) -> str:
    return "\n".join(line.plain for line in lines)


def test_paths() -> None:
    nowhere: view.Object = {"node": {"mobile_node": {"movement": {"present": None}}}}
    assert "no network lets packets through" in plain(view.path(nowhere, None, 60))
    home: view.Object = {
        "node": {
            "mobile_node": {"movement": {"present": {"link": "eth0", "at_home": True}}},
            "forwarding": {"at_home": True, "form": "esp", "tunnel": None},
        }
    }
    picture = plain(view.path(home, "bob", 60))
    assert "eth0 at home" in picture
    assert "bob" in picture
    assert "tunnel" not in picture
    assert "application IPsec: none" in picture
    anchored: view.Object = {
        "node": {
            "mobile_node": {"movement": {"present": {"link": "wlan0", "at_home": False}}},
            "forwarding": {
                "at_home": False, "form": "plain", "tunnel": {"udp": False},
                "regional": {"map": "2001:db8:9::9", "rcoa": "2001:db8:9::1", "lcoa": "2001:db8:a::1"},
            },
            "route_optimization": {"correspondents": [{"correspondent": "2001:db8:c::c", "state": "direct"}]},
        }
    }  # fmt: skip
    for width in (40, 76, 196):
        lines = view.path(anchored, None, width)
        assert all(line.cell_length <= width for line in lines)
    assert "MAP" in plain(lines)
    assert "to the MAP" in plain(lines)
    assert "directly, past the home agent (1)" in plain(lines)
    unbound: view.Object = {
        "node": {
            "mobile_node": {"movement": {"present": {"link": "wlan0"}}},
            "forwarding": {"at_home": False, "tunnel": None},
        }
    }  # fmt: skip
    assert "not bound yet" in plain(view.path(unbound, None, 76))


STRANGE: list[view.Object] = [
    {},
    {"node": None},
    {"node": {"mobile_node": {"movement": {"links": {"a": None}, "present": "x"}}}},
    {"links": {"a": 1}},
    {"handovers": [{}, 7], "node": {"scenarios": [{}], "liveness": {"round_trips": "no"}}},
    {"node": {"application": [{"action": "protect"}]}},
]


@pytest.mark.parametrize("status", STRANGE)
def test_a_process_of_another_version_may_say_anything(status: view.Object) -> None:
    view.path(status, None, 80)
    view.facts(status, view.round_trips(status), 80)
    tables = (view.networks, view.bindings, view.handovers, view.scenarios, view.translations, view.associations)
    for table in tables:
        table(status)
    assert view.next_network(status) is None
