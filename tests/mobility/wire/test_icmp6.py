"""ICMPv6 against scapy in both directions, and against nonsense."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    in6_chksum,
)

from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError
from tests.mobility.wire.values import outcome, u8, u16, u32

A, B = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")
invoking = ip6.packet(B, A, ip6.UDP, b"\0\5\0\7\0\x6c\1\1" + bytes(range(100)))


def in_scapy(message: icmp6.Message) -> Any:
    """What scapy reads, once its checksum agrees."""
    packet = icmp6.packet(A, B, message)
    seen = IPv6(packet)
    body = packet[40:42] + b"\0\0" + packet[44:]
    assert seen.payload.cksum in (in6_chksum(ip6.ICMPV6, seen, body), 0)
    return seen.payload


def from_scapy(layer: Any) -> object:
    """What we read in a message of scapy, once our checksum agrees."""
    packet = bytes(IPv6(src=str(A), dst=str(B)) / layer)
    icmp6.verify(A.packed, B.packed, packet[40:])
    return icmp6.parse(packet[40:])


@given(u16, u16, st.binary(max_size=100), st.booleans())
def test_echo(identifier: int, sequence: int, data: bytes, reply: bool) -> None:
    seen = in_scapy(icmp6.Echo(identifier, sequence, data, reply))
    layer = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    assert isinstance(seen, layer)
    assert (seen.id, seen.seq, seen.data) == (identifier, sequence, data)
    echo = from_scapy(layer(id=identifier, seq=sequence, data=data))
    assert echo == icmp6.Echo(identifier, sequence, data, reply)


@given(u8, u32)
def test_errors(code: int, number: int) -> None:
    cases: list[tuple[icmp6.Error, Any]] = [
        (icmp6.DestinationUnreachable(code, invoking), ICMPv6DestUnreach(code=code)),
        (icmp6.PacketTooBig(number, invoking), ICMPv6PacketTooBig(mtu=number)),
        (icmp6.TimeExceeded(code, invoking), ICMPv6TimeExceeded(code=code)),
        (icmp6.ParameterProblem(code, number, invoking), ICMPv6ParamProblem(code=code, ptr=number)),
    ]
    for ours, theirs in cases:
        assert from_scapy(theirs / invoking) == ours
        seen = in_scapy(ours)
        assert type(seen) is type(theirs)
        assert (IPv6Address(seen.payload.src), IPv6Address(seen.payload.dst)) == (B, A)
        assert icmp6.packet(A, B, ours)[48:] == invoking
    assert in_scapy(cases[1][0]).mtu == number
    assert (in_scapy(cases[3][0]).ptr, in_scapy(cases[3][0]).code) == (number, code)


@pytest.mark.parametrize("size", [0, 40, 1231, 1232, 1233, 9000])
def test_errors_fit_the_minimum_mtu(size: int) -> None:
    long = bytes(size)
    for error in (
        icmp6.DestinationUnreachable(0, long),
        icmp6.PacketTooBig(1280, long),
        icmp6.TimeExceeded(0, long),
        icmp6.ParameterProblem(0, 0, long),
    ):
        assert len(icmp6.packet(A, B, error)) == min(48 + size, 1280)


@given(st.integers(5, 127) | st.integers(130, 255), u8, st.binary(max_size=40))
def test_unknown_types_are_kept(kind: int, code: int, body: bytes) -> None:
    message = icmp6.Unknown(kind, code, body)
    parsed = icmp6.parse(icmp6.payload(A, B, message))
    assert parsed == message
    assert message.is_error == (kind < 128)


def test_every_changed_octet_is_noticed() -> None:
    good = icmp6.payload(A, B, icmp6.Echo(1, 2, b"data"))
    icmp6.verify(A.packed, B.packed, good)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 4
        with pytest.raises(WireError, match="wrong checksum"):
            icmp6.verify(A.packed, B.packed, bytes(bad))
    with pytest.raises(WireError, match="wrong checksum"):
        icmp6.verify(A.packed, A.packed, good)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 128, 129])
def test_truncated_everywhere(kind: int) -> None:
    data = bytes((kind,)) + bytes(7)
    assert outcome(icmp6.parse, data) == "parsed"
    for size in range(8):
        assert outcome(icmp6.parse, data[:size]) == "refused"
    for size in range(4):
        assert outcome(lambda cut: icmp6.verify(A.packed, B.packed, cut), data[:size]) == "refused"


@given(st.binary(max_size=100))
def test_random_bytes_only_raise_wire_error(data: bytes) -> None:
    outcome(icmp6.parse, data)
    for kind in (
        icmp6.Echo,
        icmp6.DestinationUnreachable,
        icmp6.PacketTooBig,
        icmp6.TimeExceeded,
        icmp6.ParameterProblem,
        icmp6.Unknown,
    ):
        outcome(kind.parse, data)


class TestMayBeAnswered:
    @pytest.mark.parametrize(
        ("packet", "may"),
        [
            (ip6.packet(A, B, ip6.UDP, bytes(8)), True),
            (icmp6.packet(A, B, icmp6.Echo(1, 1)), True),
            (icmp6.packet(A, B, icmp6.DestinationUnreachable(0, b"")), False),
            (icmp6.packet(A, B, icmp6.Unknown(100, 0, b"")), False),
            (icmp6.packet(A, B, icmp6.Unknown(137, 0, b"")), False),
            (ip6.packet(A, B, ip6.ICMPV6, b""), False),
            (ip6.packet(A, IPv6Address("ff02::1"), ip6.UDP, bytes(8)), False),
            (ip6.packet(IPv6Address("::"), B, ip6.UDP, bytes(8)), False),
            (ip6.packet(IPv6Address("ff02::1"), B, ip6.UDP, bytes(8)), False),
            (ip6.packet(A, B, ip6.FRAGMENT, b"\x11\0\0\x08\0\0\0\1" + bytes(8)), False),
            (ip6.packet(A, B, ip6.FRAGMENT, b"\x11\0\0\x01\0\0\0\1" + bytes(8)), True),
            (ip6.packet(A, B, ip6.DEST_OPTIONS, b"\x11\0\x01\x09abcd"), True),
            (b"\x60", False),
        ],
    )
    def test_rules_of_rfc_4443(self, packet: bytes, may: bool) -> None:
        assert icmp6.may_be_answered_with_error(packet) == may

    def test_multicast_may_be_too_big(self) -> None:
        packet = ip6.packet(A, IPv6Address("ff0e::1"), ip6.UDP, bytes(8))
        assert icmp6.may_be_answered_with_error(packet, allow_multicast=True)

    @given(st.binary(max_size=100))
    def test_random_bytes(self, data: bytes) -> None:
        assert icmp6.may_be_answered_with_error(data) in (True, False)
