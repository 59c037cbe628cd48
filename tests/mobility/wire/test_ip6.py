"""IPv6 packets against scapy, and against nonsense."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Pad1,
    PadN,
    RouterAlert,
    in6_chksum,
)
from scapy.packet import Raw

from mobility.wire import ip6
from mobility.wire.errors import WireError
from tests.mobility.wire.values import outcome, u8, u16, u32, unicast

A, B, HOME = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b"), IPv6Address("2001:db8:6::1")


@given(unicast, unicast, u8, st.binary(max_size=64), u8, u8, st.integers(0, 0xFFFFF))
def test_packet_reads_in_scapy_as_it_was_built(
    source: IPv6Address, destination: IPv6Address, nh: int, body: bytes, hops: int, tc: int, label: int
) -> None:
    packet = ip6.packet(source, destination, nh, body, hops, tc, label)
    seen = IPv6(packet[:40])  # scapy stumbles over the bodies of some extension headers, which are not looked at here
    assert (seen.version, seen.plen, seen.nh, seen.hlim, seen.tc, seen.fl) == (6, len(body), nh, hops, tc, label)
    assert (IPv6Address(seen.src), IPv6Address(seen.dst)) == (source, destination)
    header = ip6.parse(packet)
    assert header == ip6.Header(source, destination, nh, hops, len(body), tc, label)
    assert bytes(header) == packet[:40]


def test_fast_packet_is_the_packet() -> None:
    expected = ip6.packet(A, B, ip6.UDP, b"12345678", hop_limit=9)
    assert ip6.fast_packet(A.packed + B.packed, ip6.UDP, b"12345678", 9) == expected


def test_builders_refuse_what_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 4"):
        ip6.packet(b"\x7f\0\0\1", B, ip6.UDP, b"")
    with pytest.raises(WireError, match="65536 octets is too large"):
        ip6.fast_packet(A.packed + B.packed, ip6.UDP, bytes(65536))
    with pytest.raises(ValueError, match="65536 octets"):
        ip6.packet(A, B, ip6.UDP, bytes(65536))


@given(st.sampled_from([ip6.UDP, ip6.ICMPV6, ip6.MOBILITY, ip6.TCP]), st.binary(min_size=8, max_size=200))
def test_checksum_is_scapys(nh: int, body: bytes) -> None:
    # The checksum field of scapy's own messages is zero while it computes.
    body = body[:6] + b"\0\0" + body[8:]
    expected = in6_chksum(nh, IPv6(src=str(A), dst=str(B)), body)
    assert ip6.checksum(A.packed, B.packed, nh, body) in (expected, expected or 0xFFFF)


@given(st.binary(min_size=8, max_size=100), st.integers(0, 107), st.integers(1, 255))
def test_checksum_verifies_and_notices_one_changed_octet(body: bytes, where: int, change: int) -> None:
    value = ip6.checksum(A.packed, B.packed, ip6.UDP, body[:6] + b"\0\0" + body[8:])
    good = body[:6] + value.to_bytes(2, "big") + body[8:]
    assert ip6.checksum(A.packed, B.packed, ip6.UDP, good) == 0
    bad = bytearray(good)
    bad[where % len(bad)] ^= change
    assert ip6.checksum(A.packed, B.packed, ip6.UDP, bytes(bad)) != 0


def test_udp_never_says_zero() -> None:
    # The field that makes the sum come out as zero must be sent as all ones (RFC 8200 section 8.1).
    base = ip6.checksum(A.packed, B.packed, ip6.UDP, bytes(10))
    body = bytes(8) + base.to_bytes(2, "big")
    assert ip6.checksum(A.packed, B.packed, ip6.UDP, body) == 0xFFFF


class TestCheck:
    def test_ethernet_padding_goes(self) -> None:
        packet = ip6.packet(A, B, ip6.NO_NEXT, b"")
        assert ip6.check(packet + bytes(6)) == packet

    @pytest.mark.parametrize("size", range(48))
    def test_truncated(self, size: int) -> None:
        with pytest.raises(WireError) as caught:
            ip6.check(ip6.packet(A, B, ip6.UDP, bytes(8))[:size])
        assert caught.value.at == size

    def test_other_version(self) -> None:
        with pytest.raises(WireError, match="version is 4"):
            ip6.check(b"\x45" + ip6.packet(A, B, ip6.UDP, bytes(8))[1:])


class TestWalk:
    def test_home_address_option_is_scapys(self) -> None:
        built = ip6.packet(A, B, ip6.DEST_OPTIONS, ip6.home_address_option(HOME, ip6.MOBILITY) + bytes(16))
        seen = IPv6(built)[IPv6ExtHdrDestOpt]
        assert [option.hoa for option in seen.options if isinstance(option, HAO)] == [str(HOME)]
        assert seen.nh == ip6.MOBILITY
        at = built.index(b"\xc9\x10")
        assert (at - 40) % 8 == 6
        headers = ip6.walk(built)
        assert (headers.home_address, headers.home_address_at) == (HOME.packed, at)
        assert (headers.protocol, headers.offset, headers.next_header_at) == (ip6.MOBILITY, 64, 40)

    def test_routing_header_is_scapys(self) -> None:
        built = ip6.packet(A, B, ip6.ROUTING, ip6.routing_header(HOME, ip6.UDP) + bytes(8))
        seen = IPv6(built)[IPv6ExtHdrRouting]
        assert (seen.type, seen.segleft, seen.addresses, seen.nh) == (2, 1, [str(HOME)], ip6.UDP)
        headers = ip6.walk(built)
        assert (headers.routing_address, headers.routing_at, headers.segments_left) == (HOME.packed, 40, 1)

    @given(unicast, unicast, u32, st.booleans())
    def test_all_headers_of_scapy(self, home: IPv6Address, final: IPv6Address, ident: int, more: bool) -> None:
        packet = bytes(
            IPv6(src=str(A), dst=str(B))
            / IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"\0\0")])
            / IPv6ExtHdrRouting(type=2, segleft=1, addresses=[str(final)])
            / IPv6ExtHdrDestOpt(options=[HAO(hoa=str(home))])
            / IPv6ExtHdrFragment(offset=0, m=int(more), id=ident)
            / UDP(sport=5, dport=7)
            / Raw(b"hello")
        )
        headers = ip6.walk(packet)
        assert (headers.home_address, headers.routing_address) == (home.packed, final.packed)
        assert headers.router_alert
        assert headers.fragment is not None
        assert headers.fragment[1:] == (ip6.UDP, 0, more, ident)
        assert not headers.later_fragment
        assert packet[headers.offset :][:4] == b"\0\x05\0\x07"
        assert headers.unknown_options == ()
        assert ip6.flow(packet) == ip6.Flow(home.packed, final.packed, ip6.UDP, 5, 7)

    @given(st.integers(1, 0x1FFF))
    def test_later_fragment_shows_no_ports(self, units: int) -> None:
        packet = bytes(IPv6(src=str(A), dst=str(B)) / IPv6ExtHdrFragment(nh=17, offset=units) / Raw(b"x" * 8))
        headers = ip6.walk(packet)
        assert headers.fragment is not None
        assert headers.fragment.offset == units * 8
        assert headers.later_fragment
        assert ip6.flow(packet) == ip6.Flow(A.packed, B.packed, ip6.UDP)

    @pytest.mark.parametrize("kind", [0x1E, 0x5E, 0x9E, 0xDE])
    def test_unknown_option_tells_its_action(self, kind: int) -> None:
        options = b"%c\0\0%c\x02ab\0" % (ip6.UDP, kind)
        headers = ip6.walk(ip6.packet(A, B, ip6.DEST_OPTIONS, options + bytes(8)))
        assert headers.unknown_options == (ip6.UnknownOption(43, kind),)
        assert headers.unknown_options[0].action == kind >> 6

    def test_unknown_routing_type(self) -> None:
        def routed(left: int) -> bytes:
            return ip6.packet(A, B, ip6.ROUTING, b"%c\0\x04%c\0\0\0\0" % (ip6.UDP, left) + bytes(8))

        assert ip6.walk(routed(1)).unknown_routing_at == 40
        assert ip6.walk(routed(0)).unknown_routing_at is None

    @pytest.mark.parametrize(
        ("next_header", "body", "why"),
        [
            (ip6.DEST_OPTIONS, ip6.home_address_option(HOME, 60) + ip6.home_address_option(HOME, 17), "a second one"),
            (ip6.ROUTING, ip6.routing_header(HOME, 43) + ip6.routing_header(HOME, 17), "a second one"),
            (ip6.ROUTING, ip6.routing_header(HOME, 17, segments_left=2), "segments left"),
            (ip6.ROUTING, b"\x11\0\x02\x01\0\0\0\0", "length is not 2"),
            (ip6.DEST_OPTIONS, b"\x11\0\xc9\x04abcd", "length is not 16"),
            (ip6.DEST_OPTIONS, b"\x11\0\x01\x05abcd", "option 1 is cut off"),
            (ip6.DEST_OPTIONS, b"\0\0\x01\x04abcd" + b"\x11\0\x01\x04abcd", "not right after"),
            (ip6.FRAGMENT, b"\x2c\0\0\0abcd" + b"\x11\0\0\0abcd", "a second one"),
            (ip6.DEST_OPTIONS, b"\x11\x09\x01\x04abcd", "claims to end at 120"),
        ],
    )
    def test_nonsense_is_refused(self, next_header: int, body: bytes, why: str) -> None:
        with pytest.raises(WireError, match=why):
            ip6.walk(ip6.packet(A, B, next_header, body))

    def test_options_that_pad_are_no_options(self) -> None:
        packet = bytes(
            IPv6(src=str(A), dst=str(B)) / IPv6ExtHdrDestOpt(options=[Pad1(), Pad1(), PadN(optdata=b"")]) / UDP()
        )
        assert ip6.walk(packet).unknown_options == ()


class TestFlow:
    @given(u16, u16)
    def test_ports(self, source_port: int, destination_port: int) -> None:
        for layer, protocol in ((UDP, ip6.UDP), (TCP, ip6.TCP)):
            packet = bytes(IPv6(src=str(A), dst=str(B)) / layer(sport=source_port, dport=destination_port))
            assert ip6.flow(packet) == ip6.Flow(A.packed, B.packed, protocol, source_port, destination_port)

    def test_types(self) -> None:
        echo = bytes(IPv6(src=str(A), dst=str(B)) / ICMPv6EchoRequest(code=3))
        assert ip6.flow(echo) == ip6.Flow(A.packed, B.packed, ip6.ICMPV6, type=128, code=3)
        update = bytes(IPv6(src=str(A), dst=str(B)) / IPv6ExtHdrDestOpt(options=[HAO(hoa=str(HOME))]) / MIP6MH_BU())
        assert ip6.flow(update) == ip6.Flow(HOME.packed, B.packed, ip6.MOBILITY, type=5)

    def test_processed_routing_header_no_longer_names_the_destination(self) -> None:
        # At the final destination the care-of address has moved into the routing header (RFC 8200 section 4.4).
        packet = ip6.packet(A, HOME, ip6.ROUTING, ip6.routing_header(B, ip6.NO_NEXT, segments_left=0))
        assert ip6.flow(packet).destination == HOME.packed

    @pytest.mark.parametrize(("protocol", "needs"), [(ip6.UDP, 4), (ip6.TCP, 4), (ip6.ICMPV6, 4), (ip6.MOBILITY, 6)])
    def test_cut_off(self, protocol: int, needs: int) -> None:
        for size in range(needs):
            with pytest.raises(WireError, match="cut off"):
                ip6.flow(ip6.packet(A, B, protocol, bytes(size)))
        ip6.flow(ip6.packet(A, B, protocol, bytes(needs)))


def test_insert_puts_headers_in_front() -> None:
    packet = ip6.packet(A, B, ip6.UDP, b"\0\x05\0\x07....")
    routed = ip6.insert(packet, ip6.routing_header(HOME, ip6.UDP), ip6.ROUTING)
    assert ip6.check(routed) == routed
    assert ip6.flow(routed) == ip6.Flow(A.packed, HOME.packed, ip6.UDP, 5, 7)


def _walk_and_flow(data: bytes) -> None:
    ip6.flow(ip6.check(data))


def test_truncated_everywhere() -> None:
    body = ip6.routing_header(HOME, ip6.DEST_OPTIONS) + ip6.home_address_option(HOME, ip6.UDP) + bytes(4)
    packet = ip6.packet(A, B, ip6.ROUTING, body)
    _walk_and_flow(packet)
    for size in range(len(packet)):
        assert outcome(_walk_and_flow, packet[:size]) == "refused"
        # And when the length field tells the truth about it.
        if size >= 40:
            cut = ip6.packet(A, B, ip6.ROUTING, body[: size - 40])
            assert outcome(_walk_and_flow, cut) == "refused"


@given(st.sampled_from([0, 43, 44, 60, 17, 58, 135, 50]), st.binary(max_size=120))
def test_random_bytes_only_raise_wire_error(next_header: int, body: bytes) -> None:
    outcome(_walk_and_flow, ip6.packet(A, B, next_header, body))
    outcome(_walk_and_flow, body)
    outcome(ip6.walk, body)
    outcome(ip6.parse, body)
