"""The program on a daemon with a mobility process: a live one, or fixed news of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any, ClassVar

from textual.pilot import Pilot

from mobility.mipv6.tunnel import TunnelForm
from mobility.outputs import Output
from mobility.packet_stream import PacketStream
from mobility.trace import Trace
from softphone.daemon.link import DaemonLink
from tests.mobility.live import LiveTerminal, Observed
from tests.mobility.whole import CN, MN, Network, udp
from tests.softphone.daemon.test_mobility import configuration
from tests.ui.support import Screen, opened, shown
from ui.app import RoamphoneApp

MOMENT = 1_764_331_200.0
"Seconds since 1970."


@asynccontextmanager
async def roaming(
    directory: Path, size: tuple[int, int], *, form: TunnelForm = TunnelForm.ESP
) -> AsyncIterator[tuple[Screen, LiveTerminal]]:
    """A terminal in two networks, whose programs talk."""
    with LiveTerminal(directory / "mn", Network(form)) as live:
        live.plug_second()
        live.talk()
        async with opened(directory, size, configuration=configuration(directory)) as screen:
            yield screen, live


@asynccontextmanager
async def alone(directory: Path, size: tuple[int, int]) -> AsyncIterator[tuple[RoamphoneApp, Pilot[None]]]:
    """The program without a daemon: what it shows is what a test gives it."""
    app = RoamphoneApp(DaemonLink(directory / "nobody.sock"), directory / "softphone.toml")
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def press(app: RoamphoneApp, *keys: str) -> None:
    """Keys as a person presses them. A pilot would wait for a quiet moment after each, and while packets pass there is
    none."""
    for key in keys:
        app.simulate_key(key)
        await asyncio.sleep(0.02)


async def soon(condition: Callable[[], object], period: float = 0.01) -> None:
    """Wait until it is true. A pilot would wait for a screen that is just being opened, and perhaps for ever."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nobody would set an event
            await asyncio.sleep(period)


async def sees(app: RoamphoneApp, *texts: str) -> None:
    """Wait until all of them are on the screen."""
    try:
        await soon(lambda: all(text in shown(app) for text in texts))
    except TimeoutError:
        raise AssertionError(f"not on the screen: {texts}\n{shown(app)}") from None


NETWORK_STATUS: dict[str, Any] = {
    "links": {"wlan0": {"up": True}, "wlan1": {"up": True}, "eth0": {"up": False}},
    "node": {
        "mobile_node": {
            "home_address": "2001:db8:1::100", "home_address4": "10.20.0.7",
            "movement": {
                "present": {"link": "wlan1/udp4", "address": "192.168.77.2", "at_home": False, "udp": True},
                "preferred": "wlan1",
                "links": {
                    "wlan1/udp4": {"addresses": ["192.168.77.2"]},
                    "wlan0": {"addresses": ["2001:db8:a::99"], "dead_for": 4.2},
                    "wlan1": {"addresses": []},
                },
            },
            "registration": {"home_agent": "2001:db8:1::a", "state": "bound", "remaining": 371.0},
            "places": [{"role": "in use", "nat": True}],
            "binding_update_list": [
                {
                    "destination": "2001:db8:1::a", "care_of_address": "192.168.77.2", "link": "wlan1/udp4",
                    "identifier": 7, "sequence": 12, "state": "bound", "remaining": 371.0, "lifetime": 420,
                    "home_registration": True,
                },
                {
                    "destination": "2001:db8:c::c", "care_of_address": "192.168.77.2", "link": "wlan1/udp4",
                    "identifier": 0, "sequence": 3, "state": "bound", "remaining": 40.0, "lifetime": 420,
                    "home_registration": False,
                },
            ],
        },
        "forwarding": {
            "at_home": False, "form": "esp", "tunnel": {"home_agent": "2001:db8:1::a", "udp": True}, "regional": None,
            "policies": [
                {
                    "name": "tunnel 2001:db8:1::100", "action": "protect",
                    "outbound_sa": {"spi": "0x00001002", "algorithm": "aes-gcm-16", "packets": 1512},
                    "inbound_sa": {"spi": "0x00001003", "packets": 1498, "failed": 2},
                }
            ],
        },
        "application": [
            {
                "name": "speech", "action": "protect",
                "outbound_sa": {"spi": "0x00000100", "algorithm": "aes-gcm-16", "packets": 1500},
                "inbound_sa": {"spi": "0x00000101", "packets": 1490, "failed": 0},
            }
        ],
        "scenarios": [
            {"number": 10010, "substance": "IPv4-IPv6 translation (IPsec)", "status": "enabled", "in_use": True},
            {"number": 10020, "substance": "no translation (IPsec)", "status": "disabled", "in_use": False},
        ],
        "liveness": {"round_trips": [[9.0, 12.0], [7.0, 14.0], [5.0, 29.0], [3.0, 13.5], [1.0, 13.0]]},
        "translation": {
            "table": {"rows": [{"ipv4": "198.18.0.4", "ipv6": "2001:db8:c::c", "origin": "dns", "lifetime": 300.0}]}
        },
    },
    "discards": {"replayed": 1, "not-ours": 3},
    "handovers": [
        {
            "time": MOMENT - 610, "from_link": "wlan0", "to_link": "wlan1/udp4", "to_address": "192.168.77.2",
            "since_noticed_ms": 38.0, "since_update_ms": 12.0, "make_before_break": True, "sent_again": 0,
            "received_again": 0, "silence_ms": 41.5, "lost": 0, "delivered": 90,
        },
        {
            "time": MOMENT - 75, "from_link": "wlan1/udp4", "to_link": "wlan0", "to_address": "2001:db8:a::99",
            "since_noticed_ms": 612.0, "since_update_ms": 34.0, "make_before_break": False, "sent_again": 9,
            "received_again": 8, "silence_ms": 640.0, "lost": 3, "delivered": 90,
        },
    ],
}  # fmt: skip
"What a mobility process might tell: in UDP behind a NAT, translating, after two handovers."


class _Kept(Observed):
    """Remembers what arrives."""

    seen: ClassVar[list[bytes]] = []

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        self.seen.append(packet)
        return super().from_link(link, packet, sender, now)


def packet_events() -> list[dict[str, Any]]:
    """Speech out and in at all its stages, and a packet that came twice; always the same."""
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    station = network.world.stations["mn"]
    told: list[dict[str, Any]] = []
    trace = Trace()
    stream = PacketStream(
        station.node,
        lambda line, _count: told.append(json.loads(line)),
        lambda: MOMENT - 5 + network.world.now,
        rate=1e6,
    )
    trace.follow(stream)
    kept = station.node = _Kept(station.node, trace)
    kept.seen.clear()
    for number in range(8):
        head = pack("!BBHII", 0x80, 111, 4100 + number, 960 * number, 0x5EECC)
        station.send(udp(MN, CN, head + bytes(81), (16384, 16400)))
        network.world.stations["cn"].send(udp(CN, MN, head + bytes(81), (16400, 16384)))
        network.run(0.02)
    station.send(udp(MN, CN, b"BYE sip:bob@example.org SIP/2.0\r\n" + bytes(200), (5060, 5060)))
    network.run(0.1)
    station.receive("wlan0", next(packet for packet in kept.seen if packet[6] == 50), bytes(6))
    while stream.wait is not None:
        network.run(0.1)
        stream.turned()
    return told


def message(at: float, sent: bool, first: str, remote: str = "192.0.2.1:5060", **headers: str) -> dict[str, Any]:
    lines = [first, "From: Alice <sip:alice@example.org>;tag=1", 'To: "Bob" <sip:bob@example.org>']
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    body = "v=0\r\nc=IN IP6 2001:db8:1::100\r\n" if "Content_Type" in headers else ""
    return {
        "event": "sip-message", "time": MOMENT + at, "account": "work", "sent": sent, "transport": "udp",
        "local": "[2001:db8:1::100]:5060", "remote": remote, "call": "a84b4c76e66710",
        "text": "\r\n".join(lines) + "\r\n\r\n" + body,
    }  # fmt: skip


CALL = [
    message(0.0, True, "INVITE sip:bob@example.org SIP/2.0", CSeq="1 INVITE", Content_Type="application/sdp"),
    message(0.02, False, "SIP/2.0 100 Trying", CSeq="1 INVITE"),
    message(0.4, False, "SIP/2.0 407 Proxy Authentication Required", CSeq="1 INVITE"),
    message(0.41, True, "ACK sip:bob@example.org SIP/2.0", CSeq="1 ACK"),
    message(0.45, True, "INVITE sip:bob@example.org SIP/2.0", CSeq="2 INVITE", Content_Type="application/sdp"),
    message(3.1, False, "SIP/2.0 200 OK", CSeq="2 INVITE", Content_Type="application/sdp"),
    message(3.11, True, "ACK sip:bob@198.51.100.2 SIP/2.0", "198.51.100.2:5060", CSeq="2 ACK"),
    message(63.0, False, "BYE sip:alice@example.org SIP/2.0", "198.51.100.2:5060", CSeq="1 BYE"),
    message(63.01, True, "SIP/2.0 200 OK", "198.51.100.2:5060", CSeq="1 BYE"),
]
"A call through a proxy, which then goes on directly."
