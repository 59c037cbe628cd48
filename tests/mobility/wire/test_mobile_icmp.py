"""Discovery of home agents and prefixes on the wire: against scapy in both directions, and against nonsense."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6HAADReply,
    ICMPv6HAADRequest,
    ICMPv6MPAdv,
    ICMPv6MPSol,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)

from mobility.wire import icmp6, mobile_icmp, ndisc
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import HomeAgentsReply, HomeAgentsRequest, PrefixAdvertisement, PrefixSolicitation
from tests.mobility.wire.values import outcome, u16, u32, unicast

A, B = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")

prefix = st.builds(
    ndisc.PrefixInformation, unicast, st.integers(0, 128), u32, u32, st.booleans(), st.booleans(), st.booleans()
)
messages = st.one_of(
    st.builds(HomeAgentsRequest, u16),
    st.builds(HomeAgentsReply, u16, st.lists(unicast, max_size=mobile_icmp.AGENTS_LIMIT).map(tuple)),
    st.builds(PrefixSolicitation, u16),
    st.builds(PrefixAdvertisement, u16, st.lists(prefix, max_size=4).map(tuple), st.booleans(), st.booleans()),
)


def in_scapy(message: mobile_icmp.Message) -> Any:
    return IPv6(icmp6.packet(A, B, message)).payload


def from_scapy(layer: Any) -> mobile_icmp.Message:
    packet = bytes(IPv6(src=str(A), dst=str(B)) / layer)
    icmp6.verify(packet[8:24], packet[24:40], packet[40:])
    return mobile_icmp.parse(packet[40:])


@given(messages)
def test_what_is_built_is_read(message: mobile_icmp.Message) -> None:
    packet = icmp6.packet(A, B, message)
    icmp6.verify(packet[8:24], packet[24:40], packet[40:])
    assert mobile_icmp.parse(packet[40:]) == message


def test_requests_and_replies_agree_with_scapy() -> None:
    assert in_scapy(HomeAgentsRequest(0x1234)).id == 0x1234
    assert isinstance(in_scapy(HomeAgentsRequest(1)), ICMPv6HAADRequest)
    reply = in_scapy(HomeAgentsReply(7, (A, B)))
    assert isinstance(reply, ICMPv6HAADReply)
    assert (reply.id, reply.addresses) == (7, [str(A), str(B)])
    assert from_scapy(ICMPv6HAADRequest(id=9, R=0)) == HomeAgentsRequest(9)
    assert from_scapy(ICMPv6HAADReply(id=9, R=0, addresses=[str(B), str(A)])) == HomeAgentsReply(9, (B, A))


def test_prefixes_agree_with_scapy() -> None:
    assert isinstance(in_scapy(PrefixSolicitation(1)), ICMPv6MPSol)
    assert from_scapy(ICMPv6MPSol(id=3)) == PrefixSolicitation(3)
    information = ndisc.PrefixInformation(IPv6Address("2001:db8:1::"), 64, 900, 300)
    seen = in_scapy(PrefixAdvertisement(5, (information,), managed=True))
    assert isinstance(seen, ICMPv6MPAdv)
    option = seen[ICMPv6NDOptPrefixInfo]
    assert (seen.id, seen.flags, option.prefix) == (5, 2, "2001:db8:1::")  # scapy: M is the second bit of two
    assert (option.prefixlen, option.validlifetime, option.preferredlifetime) == (64, 900, 300)
    layer = ICMPv6MPAdv(id=6, flags=1) / ICMPv6NDOptPrefixInfo(
        prefix="2001:db8:1::", prefixlen=64, validlifetime=900, preferredlifetime=300, L=1, A=1
    )
    assert from_scapy(layer) == PrefixAdvertisement(6, (information,), other=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "none of the types"),
        (b"\x80" + bytes(7), "none of the types"),
        (b"\x90" + bytes(6), "needs 8 octets"),
        (b"\x90\x01" + bytes(6), "code 1"),
        (b"\x91" + bytes(7 + 15), "inside an address"),
        (b"\x93" + bytes(7) + b"\x03\x00", "length 0"),
        (b"\x93" + bytes(7) + b"\x03\x04" + bytes(8), "claims to end"),
    ],
)
def test_nonsense_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        mobile_icmp.parse(data)


@given(st.binary(max_size=200), st.integers(144, 147))
def test_anything_is_parsed_or_refused(rest: bytes, kind: int) -> None:
    assert outcome(mobile_icmp.parse, bytes((kind,)) + rest) in ("parsed", "refused")
