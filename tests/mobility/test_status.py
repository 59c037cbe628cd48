"""What people see of a node, and that no answer of a node breaks it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.cli import main
from mobility.commands.view import WIDTH, event_line, full, overview
from mobility.control import ControlServer
from mobility.net.loop import Loop

LINKS = {"wlan0": {"up": True, "present": True, "mtu": 1500}, "eth0": {"up": False, "present": False, "mtu": 0}}
TERMINAL: dict[str, object] = {
    "process": {"pid": 77, "start": 2, "role": "mn", "scheduling": "ordinary"},
    "links": LINKS,
    "node": {
        "role": "terminal",
        "mobile_node": {
            "home_address": "2001:db8:1::100", "home_address4": "10.1.0.7", "handover_under_way": True,
            "movement": {
                "present": {"link": "wlan0/udp4", "address": "192.168.1.7", "at_home": False, "udp": True},
                "links": {
                    "wlan0/udp4": {"addresses": ["192.168.1.7"], "deserted": False, "dead_for": 0.0},
                    "eth0": {"addresses": ["2001:db8:2::9"], "deserted": True, "dead_for": 12.3, "doubted_for": 0.0},
                },
            },
            "registration": {"home_agent": "2001:db8:1::a"},
            "places": [
                {"role": "in use", "link": "wlan0/udp4", "address": "192.168.1.7", "nat": True, "state": "bound",
                 "remaining": 411.7, "round_trip": 0.5},
                {"role": "former", "link": "eth0", "address": "2001:db8:2::9", "nat": False, "state": "bound",
                 "remaining": 400.0, "round_trip": None},
            ],
        },
        "forwarding": {"at_home": False, "form": "esp"},
        "application": [
            {"name": "audio", "action": "protect", "outbound_sa": {"packets": 5},
             "inbound_sa": {"packets": 6, "replayed": 1, "failed": 0}},
        ],
        "waiting": 3, "liveness": {"asked": 2, "answered": 2, "round_trip_ms": 21.04},
        "counters": {"sent": 1, "delivered": 2, "discarded-x": 9},
    },
    "counters": {"packets": {"to-wlan0": 8}, "discards": {"replay": 2, "hop-limit": 30}, "internal_errors": {}},
}  # fmt: skip
RECENT: list[dict[str, object]] = [
    {"time": 1.0, "event": "Bound", "care_of_address": "192.168.1.7", "round_trip": 0.0231},
    {"time": 2.0, "event": "HandoverFinished", "from_link": "eth0", "to_link": "wlan0/udp4",
     "to_address": "192.168.1.7", "since_noticed_ms": 38.04, "since_update_ms": 12.1, "sent_again": 2,
     "received_again": 1, "make_before_break": True},
    {"time": 2.5, "event": "HandoverMeasured", "to_link": "wlan0/udp4", "silence_ms": 41.5, "lost": 0, "delivered": 60},
    {"time": 3.0, "event": "PathDead", "link": "eth0", "retry_in": 2.0},
]  # fmt: skip
HOME_AGENT: dict[str, object] = {
    "process": {"pid": 78, "start": 1},
    "node": {
        "address": "2001:db8:1::a", "active": True, "ipv4": {"pool": "10.1.0.0/16", "held": 1},
        "terminals": [
            {"home_address": "2001:db8:1::100", "name": "alice", "tunnel": "esp", "admitted": True},
            {"home_address": "2001:db8:1::101", "name": "bob", "tunnel": "esp", "admitted": True},
            {"home_address": "2001:db8:1::102", "name": "eve", "tunnel": "esp", "admitted": False},
        ],
        "binding_cache": [
            {"home_address": "2001:db8:1::100", "care_of_address": "192.168.1.7", "way": "udp",
             "endpoint": "203.0.113.9 port 4711", "nat": True, "primary": True, "remaining": 411.0,
             "home_address4": "10.1.0.7"},
            {"home_address": "2001:db8:1::100", "care_of_address": "2001:db8:2::9", "way": "native", "endpoint": None,
             "nat": False, "primary": False, "remaining": 0.6, "home_address4": "10.1.0.7"},
        ],
        "counters": {"intercepted": 5, "reversed": 6},
    },
}  # fmt: skip


def squeezed(text: str) -> str:
    """However it is broken into lines."""
    return " ".join(text.split())


def test_a_terminal() -> None:
    text = "\n".join(overview(TERMINAL, RECENT))
    for part in (
        "terminal   2001:db8:1::100 and 10.1.0.7\n",
        "place      wlan0/udp4, 192.168.1.7, in UDP through a NAT (a handover is under way)\n",
        "home agent 2001:db8:1::a, tunnel of the form esp\n           answers in 21.0 ms\n",
        "bindings   in use: wlan0/udp4 192.168.1.7, bound, 412 s left, round trip 23.1 ms\n",
        "           former: eth0 2001:db8:2::9, bound, 400 s left\n",
        "other ways eth0 2001:db8:2::9; nothing comes through, next try in 12 s; left behind\n",
        "IPsec      audio: protect, 5 packets out, 6 in, 1 replayed\n",
        "eth0 -> wlan0/udp4 192.168.1.7: 38.0 ms, of which signalling",
        "eth0: nothing comes through\n",
        "links      wlan0 up, MTU 1500\n           eth0 not there\n",
        "packets    1 sent, 2 delivered, 8 to wlan0, 3 waiting\n",
        "discarded  30 hop-limit, 2 replay\n",
        "77, scheduled as ordinary, started 2 times",
    ):
        assert squeezed(part) in squeezed(text)
    assert "12.1 ms; made before broken; 3 sent again; silence 41.5 ms, 0 lost" in squeezed(text)
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def translating(rows: list[dict[str, object]], *, active: bool = True) -> str:
    """What people see of the translation of a terminal."""
    translation = {"active": active, "address4": "198.18.0.1", "table": {"rows": rows}, "sent": 7, "received": 9}
    node = {"mobile_node": {"home_address": "2001:db8:1::100"}, "translation": translation}
    lines = overview({"node": node})
    assert max(map(len, lines)) <= WIDTH
    return "\n".join(lines)


def test_a_terminal_in_the_domain_of_a_map() -> None:
    regional = {
        "domains": [
            {"anchor": "2001:db8:9::9", "type": 1, "rcoa": "2001:db8:9::1:1", "lcoa": "2001:db8:a::1",
             "access": "wlan0", "registration": {"state": "bound"}},
        ],
        "maps": [
            {"link": "wlan0", "address": "2001:db8:9::9", "usable": True},
            {"link": "wlan0", "address": "2001:db8:7::7", "distance": 3, "preference": 0, "usable": False},
        ],
    }  # fmt: skip
    node = TERMINAL["node"]
    assert isinstance(node, dict)
    recent = [
        {"event": "RegionalHandover", "from_link": "wlan0", "to_link": "wlan1", "to_lcoa": "2001:db8:b::1",
         "anchor": "2001:db8:9::9", "since_noticed_ms": 21.5, "make_before_break": True, "time": 1.0},
        {"event": "MapLeft", "anchor": "2001:db8:9::9", "why": "it does not answer", "time": 2.0},
    ]  # fmt: skip
    text = "\n".join(overview({**TERMINAL, "node": {**node, "regional": regional}}, recent))
    flat = " ".join(text.split())
    assert "2001:db8:9::9, type 1, bound: RCoA 2001:db8:9::1:1 at 2001:db8:a::1 on wlan0" in flat
    assert "heard on wlan0: 2001:db8:7::7, distance 3, preference 0, not to be used" in flat
    assert "within the domain of 2001:db8:9::9: 21.5 ms; made before broken" in flat
    assert "MAP 2001:db8:9::9 left: it does not answer" in flat
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_map_and_its_announcers() -> None:
    row = {"rcoa": "2001:db8:9::1:1", "lcoa": "2001:db8:a::1", "terminal": "laptop", "remaining": 400.0}
    node = {
        "role": "map",
        "anchor": {"address": "2001:db8:9::9", "prefix": "2001:db8:9::/64", "map_cache": [row] * 25},
        "advertised": {"link0": {"prefixes": ["2001:db8:a::/64"], "maps": [{"address": "2001:db8:9::9", "type": 2}]}},
    }
    flat = " ".join(" ".join(overview({"node": node})).split())
    assert "2001:db8:9::9, RCoAs in 2001:db8:9::/64, 25 bound" in flat
    assert "laptop: 2001:db8:9::1:1 at 2001:db8:a::1, 400.0 s left" in flat
    assert "and 5 more" in flat
    assert "on link0: 2001:db8:a::/64, MAP 2001:db8:9::9 (type 2)" in flat


def test_the_translation_table() -> None:
    rows: list[dict[str, object]] = [
        {"ipv6": "2001:db8:1::100", "ipv4": "198.18.0.1", "lifetime": 411.6, "origin": "home"},
        {"ipv6": "2001:db8:1::a", "ipv4": "198.18.0.4", "lifetime": None, "origin": "fixed"},
    ]
    seen = (
        "translates 198.18.0.1, 7 packets out, 9 in\n"
        "           198.18.0.1 is 2001:db8:1::100, home, 412 s left\n"
        "           198.18.0.4 is 2001:db8:1::a, fixed\n"
    )
    assert seen in translating(rows)
    assert "198.18.0.1, not in use, 7 packets out" in translating(rows, active=False)
    assert "translates" not in "\n".join(overview(TERMINAL, RECENT))
    many: list[dict[str, object]] = [
        {"ipv6": f"2001:db8:c::{number:x}", "ipv4": f"198.18.1.{number}", "lifetime": 9.0} for number in range(1, 31)
    ]
    text = translating(many)
    assert "198.18.1.20 " not in text
    assert "198.18.1.21 is 2001:db8:c::15, 9 s left\n" in text
    assert "198.18.1.30 " in text
    assert "and 20 more\n" in text


def test_a_home_agent() -> None:
    text = "\n".join(overview(HOME_AGENT))
    for part in (
        "home agent 2001:db8:1::a serves: 3 terminals, 1 away\n",
        "IPv4       1 addresses of 10.1.0.0/16 are handed out\n",
        "  alice 2001:db8:1::100 10.1.0.7, tunnel esp\n",
        "   * udp 203.0.113.9 port 4711 through a NAT, 411 s left\n",
        "     native 2001:db8:2::9, 1 s left\n",
        "not away   bob\n",
        "not admitted",
        "eve",
        "packets    5 intercepted, 6 reversed\n",
    ):
        assert part in text
    shared = {"standing": "standby", "store": "connected", "takeovers": 1}
    standby = {"node": {"active": False, "binding_cache": [], "address": "2001:db8:1::a", "shared": shared}}
    assert overview(standby)[:2] == [
        "home agent 2001:db8:1::a stands by: 0 terminals, 0 away",
        "shared     standby; store connected; 1 takeovers",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def spoil(value: object, choose: st.DataObject) -> object:
    """The same with some parts replaced by anything."""
    if choose.draw(st.integers(0, 9)) == 0:
        return choose.draw(JSON)
    if isinstance(value, dict):
        return {key: spoil(item, choose) for key, item in value.items()}
    if isinstance(value, list):
        return [spoil(item, choose) for item in value]
    return value


@given(st.data())
def test_a_node_of_another_version_is_shown_as_far_as_possible(data: st.DataObject) -> None:
    for whole in (TERMINAL, HOME_AGENT):
        status = spoil(whole, data)
        if isinstance(status, dict):
            lines = overview(status, [one for event in RECENT if isinstance(one := spoil(event, data), dict)])
            assert all(isinstance(line, str) for line in lines)
            assert bool(full(status)) == bool(status)


def test_events_are_one_line_each() -> None:
    line = event_line({"time": 0.0, "event": "Bound", "lifetime": 420, "round_trip": 0.25, "nat": False, "x": None})
    assert line[8:] == " Bound lifetime=420 round_trip=0.250 nat=no x=none"


class Node(threading.Thread):
    """A control socket that answers with a status, and publishes an event when it is asked for one."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(daemon=True)
        self.loop = Loop()
        self.runtime = runtime
        self.asked = 0
        self.server = ControlServer(
            self.loop, runtime / "control.sock", {"status": self._status, "recent": lambda _request: RECENT}
        )
        self.server.open()

    def _status(self, _request: object) -> object:
        self.asked += 1
        self.server.publish({"time": 0.0, "event": "Asked", "times": self.asked})
        return TERMINAL

    def run(self) -> None:
        while not self.loop.stopping:
            self.loop.turn(0.05)
        self.server.close()
        self.loop.close()

    def stop(self) -> None:
        self.loop.stop()
        self.join(10)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    made.start()
    yield made
    if made.is_alive():
        made.stop()


def test_the_three_forms(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runtime", str(node.runtime)]
    assert main(["status", *where]) == 0
    assert capsys.readouterr().out.splitlines() == overview(TERMINAL, RECENT)
    assert main(["status", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out) == TERMINAL
    assert main(["status", "--all", *where]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines() == full(TERMINAL)
    assert "    discarded-x: 9\n" in shown


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    while line := process.stdout.readline():
        yield line


def test_watch_as_json_is_the_status_and_then_events(node: Node) -> None:
    command = [sys.executable, "-m", "mobility", "status", "--watch", "--json", "--runtime", str(node.runtime)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = lines_of(process)
        assert json.loads(next(lines)) == TERMINAL
        assert json.loads(next(lines)) == {"time": 0.0, "event": "Asked", "times": 1}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def read_until(terminal: int, wanted: str, seconds: float = 20.0) -> str:
    seen = ""
    deadline = time.monotonic() + seconds
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536).decode()
    return seen


def test_watch_redraws_waits_for_the_node_and_gives_the_screen_back(node: Node) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mobility", "status", "--watch", "--runtime", str(node.runtime)]
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        first = read_until(ours, "Asked times=1")
        assert first.startswith("\x1b[?1049h")
        assert "terminal   2001:db8:1::100" in first
        read_until(ours, "Asked times=2")
        node.stop()
        read_until(ours, "no mobility process serves")
        again = Node(node.runtime)
        again.start()
        read_until(ours, "Asked times=1")
        process.send_signal(signal.SIGTERM)
        assert read_until(ours, "\x1b[?1049l")
        assert process.wait(10) == 0
        again.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
