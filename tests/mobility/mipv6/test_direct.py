"""Home address option and type 2 routing header on data: quick and thorough looks agree, and scapy with both."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import HAO, IPv6, IPv6ExtHdrRouting

from mobility.discards import Discard, Reason
from mobility.mipv6 import direct
from mobility.mipv6.again_direct import SentDirectly, heard_in, heard_option
from mobility.wire import ip6

HOME = IPv6Address("2001:db8:1::100")
CARE_OF = IPv6Address("2001:db8:a::1")
CORRESPONDENT = IPv6Address("2001:db8:c::c")

protocols = st.sampled_from([ip6.UDP, ip6.TCP, ip6.ESP, ip6.AH, ip6.ICMPV6, ip6.SCTP])
bodies = st.binary(min_size=4, max_size=200)


@given(protocols, bodies, st.integers(0, 255), st.integers(0, 0xFFFFF), st.integers(1, 255))
def test_there_and_back(protocol: int, body: bytes, traffic_class: int, label: int, hops: int) -> None:
    there = ip6.packet(HOME, CORRESPONDENT, protocol, body, hops, traffic_class, label)
    sent = direct.to_correspondent(there, CARE_OF.packed, HOME.packed)
    assert len(sent) == len(there) + direct.OVERHEAD
    assert direct.quickly_from_terminal(sent) == there
    opened, headers = direct.opened(sent)
    assert (opened, headers.home_address, sent[8:24]) == (there, HOME.packed, CARE_OF.packed)
    seen = IPv6(sent)
    assert (seen.src, seen.dst, seen[HAO].hoa, seen.tc, seen.fl) == (
        str(CARE_OF), str(CORRESPONDENT), str(HOME), traffic_class, label,
    )  # fmt: skip

    back = ip6.packet(CORRESPONDENT, HOME, protocol, body, hops, traffic_class, label)
    sent = direct.to_terminal(back, CARE_OF.packed)
    assert direct.quickly_from_correspondent(sent) == back
    opened, headers = direct.opened(sent)
    assert (opened, headers.routing_address, sent[24:40]) == (back, HOME.packed, CARE_OF.packed)
    seen = IPv6(sent)
    assert (seen.dst, seen[IPv6ExtHdrRouting].type, seen[IPv6ExtHdrRouting].segleft) == (str(CARE_OF), 2, 1)


@given(protocols, bodies, st.integers(0, 300), st.integers(1, 255), st.booleans())
def test_quick_look_never_says_what_the_thorough_one_does_not(
    protocol: int, body: bytes, at: int, change: int, there: bool
) -> None:
    if there:
        packet = direct.to_correspondent(ip6.packet(HOME, CORRESPONDENT, protocol, body), CARE_OF.packed, HOME.packed)
    else:
        packet = direct.to_terminal(ip6.packet(CORRESPONDENT, HOME, protocol, body), CARE_OF.packed)
    at %= len(packet)
    changed = packet[:at] + bytes((packet[at] ^ change,)) + packet[at + 1 :]
    quick = direct.quickly_from_terminal(changed) if there else direct.quickly_from_correspondent(changed)
    if quick is not None:
        assert quick == direct.opened(changed)[0]
    for size in range(0, len(packet), 7):
        assert direct.quickly_from_terminal(packet[:size]) is None
        assert direct.quickly_from_correspondent(packet[:size]) is None


@given(st.binary(max_size=120))
def test_noise(packet: bytes) -> None:
    direct.quickly_from_terminal(packet)
    direct.quickly_from_correspondent(packet)
    with suppress(Discard):
        direct.opened(packet)


def test_what_has_to_stand_before_the_option_goes_through_the_tunnel() -> None:
    for protocol in (ip6.HOP_BY_HOP, ip6.ROUTING):
        assert not direct.can_go_direct(ip6.packet(HOME, CORRESPONDENT, protocol, bytes(8)))
    assert direct.can_go_direct(ip6.packet(HOME, CORRESPONDENT, ip6.FRAGMENT, bytes(16)))
    assert direct.can_go_direct(ip6.packet(HOME, CORRESPONDENT, ip6.UDP, bytes(65511)))
    assert not direct.can_go_direct(ip6.packet(HOME, CORRESPONDENT, ip6.UDP, bytes(65512)))


def test_routing_header_that_was_used_up_is_refused() -> None:
    packet = direct.to_terminal(ip6.packet(CORRESPONDENT, HOME, ip6.UDP, bytes(8)), CARE_OF.packed)
    with pytest.raises(Discard) as caught:
        direct.opened(packet[:43] + b"\0" + packet[44:])
    assert caught.value.reason is Reason.MALFORMED


def test_numbers_are_told_and_read() -> None:
    assert heard_option({}) == ()
    highest = {0x12345678: 0xFFFFFFFF, 0x100: 0}
    assert heard_in(heard_option(highest)) == highest
    assert heard_in(()) is None


def test_only_what_the_peer_lacks_is_sent_again() -> None:
    kept = SentDirectly()
    other = CARE_OF.packed

    def esp(spi: int, number: int) -> bytes:
        return ip6.packet(HOME, CORRESPONDENT, ip6.ESP, spi.to_bytes(4) + number.to_bytes(4) + bytes(20))

    for number in range(1, 700):
        kept.keep(CORRESPONDENT.packed, esp(0x100, number), 10.0)
    kept.keep(other, esp(0x100, 9999), 10.0)
    kept.keep(CORRESPONDENT.packed, esp(0x200, 5), 10.0)
    kept.keep(CORRESPONDENT.packed, ip6.packet(HOME, CORRESPONDENT, ip6.UDP, bytes(8)), 10.0)
    assert len(kept) == 512
    # An association that the peer says nothing of is not guessed at.
    again = kept.after(CORRESPONDENT.packed, {0x100: 690}, 10.5)
    assert again == [esp(0x100, number) for number in range(691, 700)]
    assert kept.after(CORRESPONDENT.packed, {0x100: 0, 0x200: 0}, 10.5) == []  # once is enough
    assert kept.after(other, {0x100: 0}, 11.1) == []  # older than a second
    assert kept.sent_again == 9
