"""tshark reads what the translation makes and finds nothing wrong: checksums, lengths, fragments, DNS, SIP."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw
from scapy.utils import PcapWriter

from mobility.host.fragments import fragment
from mobility.translation.translation import Translated, Translation
from tests.mobility.translation.support import PEER, SERVER, datagram, ip4, ip6, known, translation
from tests.mobility.translation.test_sip import MESSAGE4, MESSAGE6

pytestmark = pytest.mark.interop

CHECKED = [option for protocol in ("ip", "tcp", "udp") for option in ("-o", f"{protocol}.check_checksum:TRUE")]
WRONG = "_ws.malformed || _ws.expert.severity >= warning"


def made_by(used: Translation) -> list[Translated]:
    """One of each kind."""
    peer = known(used)
    query = dns.message.make_query("peer.example", "A", id=7)
    results = [
        used.outbound(ip4(peer, datagram((4000, 4000), bytes(3000))), 0.0),
        used.outbound(ip4(peer, datagram((4000, 4000), bytes(1400)), flags="DF"), 0.0),
        used.outbound(ip4(peer, datagram((4000, 4000), b""), ttl=1), 0.0),
        used.outbound(ip4(peer, UDP(sport=4000, dport=4002, chksum=0) / Raw(b"odd")), 0.0),
        used.outbound(ip4(peer, ICMP(type=8, id=1, seq=2) / Raw(bytes(56))), 0.0),
        used.outbound(ip4(peer, TCP(sport=4000, dport=80, seq=7, flags="S")), 0.0),
        used.outbound(ip4(peer, datagram((5060, 5060), MESSAGE4)), 0.0),
        used.outbound(ip4(used.servers[0], datagram((4053, 53), query.to_wire())), 0.0),
        used.inbound(ip6(datagram((5060, 5060), MESSAGE6)), 0.0),
        used.inbound(ip6(ICMPv6EchoReply(id=1, seq=2, data=bytes(56))), 0.0),
        used.inbound(ip6(datagram((4000, 4000), b""), hlim=1), 0.0),
    ]
    asked = dns.message.from_wire(bytes(IPv6(results[-4].network[0])[UDP].payload))
    response = dns.message.make_response(asked)
    response.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", "AAAA", str(PEER)))
    results.append(used.inbound(ip6(datagram((53, 4053), response.to_wire()), source=SERVER), 0.1))
    sent = used.outbound(ip4(peer, datagram((4000, 4000), bytes(100))), 0.1).network[0]
    for error in (ICMPv6PacketTooBig(mtu=1300), ICMPv6TimeExceeded(), ICMPv6ParamProblem(code=1, ptr=6)):
        results.append(used.inbound(ip6(error / Raw(sent)), 0.1))
    received = used.inbound(ip6(datagram((4000, 4000), bytes(100))), 0.1).host[0]
    results.append(used.outbound(ip4(peer, ICMP(type=3, code=3) / Raw(received)), 0.1))
    results += [used.inbound(piece, 0.1) for piece in fragment(ip6(datagram((4000, 4000), bytes(3000))), 1280, 5)]
    return results


def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "translated.pcap"
    results = made_by(translation())
    packets = [packet for result in results for packet in (*result.network, *result.host)]
    assert len(packets) > len(results)
    with PcapWriter(str(path), linktype=101) as capture:
        for packet in packets:
            capture.write(packet)

    def tshark(*arguments: str) -> list[str]:
        done = subprocess.run(
            ["tshark", "-r", str(path), *CHECKED, *arguments], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()

    assert tshark("-Y", WRONG) == []
    assert len(tshark()) == len(packets)
    assert len(tshark("-Y", "sip.Method == INVITE")) == 2
    assert len(tshark("-Y", "dns.a == 198.18.0.0/16")) == 1
    # The same look finds what is wrong.
    with PcapWriter(str(path), linktype=101) as capture:
        capture.write(packets[-1][:-1] + bytes((packets[-1][-1] ^ 1,)))
    assert len(tshark("-Y", WRONG)) == 1
