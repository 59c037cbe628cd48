"""Wire formats: whatever is parsed says the same when it is written and parsed again; all else is a `WireError`."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import SupportsBytes, TypeVar

from mobility.wire import icmp6, ip4, ip6, mh, mld, mobile_icmp, ndisc, tcp, udp
from mobility.wire.errors import WireError
from tests.fuzz.reader import Reader

GROUP, LINK_LOCAL, GLOBAL, NOBODY = (IPv6Address(text) for text in ("ff02::1:ff00:1", "fe80::1", "2001:db8::1", "::"))
ENDS = (LINK_LOCAL, GLOBAL, GROUP, NOBODY)

_T = TypeVar("_T")


def _parsed(parse: Callable[[bytes], _T], data: bytes) -> _T | None:
    try:
        return parse(data)
    except WireError as error:
        if not (0 <= error.at <= len(data) + 2100 and error.what and error.why):
            raise AssertionError(f"unhelpful error {error!r}") from error
        return None


def _comes_back(parse: Callable[[bytes], SupportsBytes], data: bytes, *, limit: int = 1 << 16) -> None:
    """``limit``: octets beyond which a message may be cut when it is written."""
    value = _parsed(parse, data)
    if value is None:
        return
    try:
        written = bytes(value)
    except ValueError:
        # Padding in another place than ours can make a message too large for its format.
        if len(data) > limit // 2:
            return
        raise
    again = parse(written)
    if len(data) <= limit and again != value:
        raise AssertionError(f"{value!r} came back as {again!r}")
    if bytes(again) != written:
        raise AssertionError(f"{written!r} came back as {again!r}")


def walk(data: bytes) -> None:
    """`ip6.check`, `ip6.walk`, `ip6.flow`: all offsets are inside of the packet."""
    whole = _parsed(ip6.check, data)
    headers = _parsed(ip6.walk, data)
    if whole is not None and len(whole) != 40 + int.from_bytes(data[4:6]):
        raise AssertionError("another length than the packet claims")
    if headers is None:
        return
    ends = [headers.offset, headers.next_header_at, *(option.at for option in headers.unknown_options)]
    ends += [at for at in (headers.home_address_at, headers.routing_at, headers.unknown_routing_at) if at is not None]
    if not all(0 <= at <= len(data) for at in ends) or len(headers.unknown_options) > len(data) // 2:
        raise AssertionError(f"outside of the packet: {headers}")
    for address in (headers.home_address, headers.routing_address):
        if address is not None and len(address) != 16:
            raise AssertionError(f"no address: {address!r}")
    _parsed(lambda octets: ip6.flow(octets, headers), data)
    icmp6.may_be_answered_with_error(data)


def icmp(data: bytes) -> None:
    _comes_back(icmp6.parse, data, limit=1232)


def neighbour_discovery(data: bytes) -> None:
    """First octet: which addresses the packet has."""
    reader = Reader(data)
    ends, body = reader.byte(), reader.rest()
    source, to = ENDS[ends & 3], ENDS[ends >> 2 & 3]

    def packet(message: bytes) -> bytes:
        total = message[:2] + b"\0\0" + message[4:]
        value = ip6.checksum(source.packed, to.packed, ip6.ICMPV6, total)
        return ip6.packet(source, to, ip6.ICMPV6, total[:2] + value.to_bytes(2) + total[4:], 255)

    _comes_back(lambda message: ndisc.parse(packet(message)), body)


def multicast_report(data: bytes) -> None:
    _comes_back(mld.Report.parse, data)


def mobility_header(data: bytes) -> None:
    """First octet: the type; the rest, padded, is what follows the checksum."""
    reader = Reader(data)
    kind, body = reader.byte(), reader.take(2042)
    body += bytes(-(len(body) + 6) % 8)

    def parse(octets: bytes) -> mh.Message:
        octets = octets[:4] + b"\0\0" + octets[6:]
        value = ip6.checksum(GLOBAL.packed, LINK_LOCAL.packed, ip6.MOBILITY, octets)
        return mh.parse(octets[:4] + value.to_bytes(2) + octets[6:], GLOBAL, LINK_LOCAL)

    _comes_back(parse, b"%c%c%c\0\0\0%b" % (ip6.NO_NEXT, (len(body) + 6) // 8 - 1, kind, body), limit=2048)
    _parsed(lambda octets: mh.parse(octets, GLOBAL, LINK_LOCAL), data)


def discovery(data: bytes) -> None:
    _comes_back(mobile_icmp.parse, data)


def ipv4(data: bytes) -> None:
    """Header with its checksum put right in half of the inputs."""
    if data[:1] >= b"\x80" and len(data) > 21:
        data = bytes((data[0] & 0x7F,)) + data[1:]
        head = (data[0] & 15) * 4
        right = ip4.checksum(data[:10] + b"\0\0" + data[12:head]).to_bytes(2)
        data = data[:10] + right + data[12:]
    packet = _parsed(ip4.check, data)
    if packet is None:
        return
    if len(packet) != int.from_bytes(packet[2:4]) or ip4.check(packet) != packet:
        raise AssertionError("another length than the packet claims")
    told = ip4.error(packet, IPv4Address("192.0.2.1"), 3, 1)
    if told is not None and (len(ip4.check(told)) > 576 or ip4.error(told, IPv4Address("192.0.2.1"), 3, 1)):
        raise AssertionError("an error that is too long, or is answered with an error")
    ip4.traffic_class(packet)


def datagram(data: bytes) -> None:
    packet = ip6.packet(GLOBAL, LINK_LOCAL, ip6.UDP, data[:0xFFFF])
    read = _parsed(udp.parse, packet)
    if read is not None:
        made = udp.packet(GLOBAL.packed + LINK_LOCAL.packed, (read.source_port, read.destination_port), read.payload)
        if udp.parse(made) != read:
            raise AssertionError(f"{read} came back as another")


def segment(data: bytes) -> None:
    _comes_back(tcp.Segment.parse, data)
    read = _parsed(tcp.Segment.parse, data)
    if read is not None:
        kept = read.without_sack()
        if len(kept) > len(read.options) or b"\x04\x02" == kept[:2]:
            raise AssertionError(f"{kept!r} of {read.options!r}")
