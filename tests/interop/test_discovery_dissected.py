"""tshark reads every message of address discovery and prefix discovery, and finds nothing wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scapy.utils import PcapWriter

from mobility.mipv6.tunnel import TunnelForm
from mobility.residence import Home
from mobility.wire import ip6
from tests.mobility.test_homes import HA_NEW, World
from tests.mobility.whole import HA, MN

pytestmark = pytest.mark.interop

WRONG = "_ws.malformed || _ws.expert.severity >= warning"
KINDS = {134: "router advertisements", 144: "request", 145: "reply", 146: "solicitation", 147: "advertisement"}


def messages() -> list[bytes]:
    """From a cold start to a renumbered home network, with nothing hidden by IPsec; one of each length and kind."""
    network = World(Home(MN), agents=((HA, 3), (HA_NEW, -3)), form=TunnelForm.PLAIN, signalling=False)
    network.plug(network.a)
    network.run(8.0)
    network.renumber()
    network.run(30.0)
    found: dict[tuple[int, int, int], bytes] = {}
    for frame in network.world.frames:
        headers = ip6.walk(frame.packet)
        if headers.protocol == ip6.ICMPV6 and (kind := frame.packet[headers.offset]) in KINDS:
            found.setdefault((kind, headers.offset, len(frame.packet)), frame.packet)
    return list(found.values())


def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "discovery.pcap"
    packets = messages()

    def write(packets: list[bytes]) -> None:
        with PcapWriter(str(path), linktype=101) as capture:
            for packet in packets:
                capture.write(packet)

    def tshark(*arguments: str) -> list[str]:
        command = ["tshark", "-r", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()

    write(packets)
    assert tshark("-Y", WRONG) == []
    for kind in KINDS:
        assert tshark("-Y", f"icmpv6.type == {kind}")
    assert tshark("-Y", "icmpv6.opt.type == 8 && icmpv6.opt.prefix.flag.r == 1")  # home agent information
    assert tshark("-Y", f"icmpv6.type == 146 && ipv6.opt.mipv6.home_address == {MN}")
    assert tshark("-Y", f"icmpv6.type == 147 && ipv6.routing.mipv6.home_address == {MN}")
    # The same look finds what is wrong.
    write([packets[-1][:-1] + bytes((packets[-1][-1] ^ 1,))])
    assert len(tshark("-Y", WRONG)) == 1
