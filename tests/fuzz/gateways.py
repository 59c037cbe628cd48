"""The translation: what programs and the network send goes through table, translator and gateways.

Whatever comes out is a whole packet of the other version with right checksums where the one that went in had them.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from mobility.outputs import Discarded, Event
from mobility.translation.translation import Translated, Translation
from mobility.wire import ip4, ip6
from mobility.wire.tcp import ACK, FIN, SYN, Segment
from tests.fuzz.reader import Reader, put_right
from tests.mobility.translation.support import HERE, HOME, PEER, SERVER, translation
from tests.mobility.translation.test_sip import MESSAGE4, MESSAGE6

_QUERY = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
_ANSWER = b"\xff\xfe\x81\x80\0\1\0\1\0\0\0\0\3www\7example\0\0\x1c\0\1\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + PEER.packed
_NAMED = b"\0\2\1\0\0\1\0\0\0\0\0\0\0014\0010\00218\003198\7in-addr\4arpa\0\0\x0c\0\1"
_FEW = 16
"Packets out of one that went in: fragments, and segments of what a stream held back."


def gateways(data: bytes) -> None:
    """A sequence of packets of both sides."""
    reader = Reader(data)
    made, now = translation(), 0.0
    peer = IPv4Address(made.table.of_ipv6(PEER.packed, now, asked=True).ipv4)
    server = made.servers[0]
    addresses4 = [address.packed for address in (peer, server, HERE, IPv4Address("203.0.113.9"))]
    addresses6 = [PEER.packed, SERVER.packed, HOME.packed, bytes(15) + b"\1"]
    templates = [_QUERY, _ANSWER, _NAMED, MESSAGE4, MESSAGE6, b"\r\n\r\n", bytes(8)]
    for _ in range(24):
        if not reader:
            break
        step = reader.byte()
        now += reader.byte() / 8 if step & 0x80 else 0.0
        outbound = bool(step & 1)
        body, protocol = _body(reader, templates)
        if outbound:
            packet = _packet4(reader.chosen(addresses4), protocol, body, reader.byte())
        else:
            packet = put_right(ip6.packet(reader.chosen(addresses6), HOME, protocol, body))
            if step & 2:
                packet = put_right(reader.edited(packet))
        if step & 4:
            packet = reader.edited(packet)
        _check(made, made.outbound(packet, now) if outbound else made.inbound(packet, now), packet)
        if made.timer is not None and made.timer <= now:
            _check(made, made.handle_timer(now), b"")


def _body(reader: Reader, templates: list[bytes]) -> tuple[bytes, int]:
    payload = reader.edited(reader.chosen(templates))
    kind = reader.byte()
    ports = ((5060, 5060), (40000, 53), (53, 40000), (40000, 5060), (5060, 40000))[kind % 5]
    match kind // 5 % 4:
        case 0 | 1:
            head = ports[0].to_bytes(2) + ports[1].to_bytes(2) + (8 + len(payload)).to_bytes(2) + b"\0\0"
            return head + payload, ip6.UDP
        case 2:
            flags = (SYN, SYN | ACK, ACK, ACK | FIN)[reader.byte() & 3]
            at = 1000 + reader.short()
            return bytes(Segment(*ports, at, reader.short(), flags, 65535, reader.take(4), payload)), ip6.TCP
        case _:
            return reader.take(reader.byte()), reader.byte()


def _packet4(to: bytes, protocol: int, body: bytes, bits: int) -> bytes:
    at = {ip6.TCP: 16, ip6.UDP: 6}.get(protocol)
    if at is not None and len(body) >= at + 2:
        pseudo = HERE.packed + to + b"\0%c%b" % (protocol, len(body).to_bytes(2))
        body = body[:at] + ip4.checksum(pseudo + body).to_bytes(2) + body[at + 2 :]
    elif protocol == ip4.ICMP and len(body) >= 4:
        body = body[:2] + ip4.checksum(body[:2] + b"\0\0" + body[4:]).to_bytes(2) + body[4:]
    fragment = 0 if bits & 0xC0 else (bits & 1) << 13 | bits >> 1 & 15
    return ip4.packet(HERE.packed + to, protocol, body, bits=fragment, identification=bits >> 5)


def _check(made: Translation, result: Translated, packet: bytes) -> None:
    for out in result.network:
        ip6.check(out)
        if out[8:24] not in (HOME.packed, made.settings.home_agent.packed) or len(out) > max(made.mtu, 1280):
            raise AssertionError(f"{packet.hex()} became {out.hex()} for the network")
        ip6.walk(out)
    for out in result.host:
        if out[0] >> 4 == 4:
            ip4.check(out)
        else:
            ip6.check(out)
    if not all(isinstance(output, Discarded | Event) for output in result.outputs):
        raise AssertionError(f"outputs {result.outputs}")
    size = sum(map(len, (*result.network, *result.host)))
    if packet and (len(result.network) + len(result.host) > _FEW or size > 20 * len(packet) + 70_000):
        raise AssertionError(f"{len(result.network)} and {len(result.host)} packets, {size} octets for {len(packet)}")
