"""Fig. 5 put together: a program that speaks IPv4 and correspondents that speak IPv6."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from mobility.discards import Reason
from mobility.host.fragments import TIMEOUT, fragment
from mobility.outputs import Discarded
from mobility.translation.table import IDLE, Origin, RowRemoved
from mobility.translation.translation import Translated, Translation, VirtualAddressSet
from tests.mobility.translation.support import (
    AGENT,
    HERE,
    HOME,
    PEER,
    SETTINGS,
    STRANGER4,
    consistent4,
    consistent6,
    datagram,
    ip4,
    ip6,
    known,
    translation,
)

SPEECH = bytes(range(172))


@pytest.fixture
def made() -> Translation:
    return translation()


def reasons(result: Translated) -> list[Reason]:
    return [output.reason for output in result.outputs if isinstance(output, Discarded)]


def test_speech_both_ways_while_a_row_lives(made: Translation) -> None:
    peer = known(made)
    for number in range(5):
        sent = made.outbound(ip4(peer, datagram((40000, 4000), SPEECH), id=number), number)
        read = consistent6(sent.network[0])
        assert (read.src, read.dst, read[UDP].load) == (str(HOME), str(PEER), SPEECH)
        back = made.inbound(ip6(datagram((4000, 40000), SPEECH)), number)
        told = consistent4(back.host[0])
        assert (told.src, told.dst, told[UDP].load) == (str(peer), str(HERE), SPEECH)
    assert (made.sent, made.received) == (5, 5)


PAYLOADS = st.binary(max_size=1500)
PROTOCOLS = st.sampled_from(["udp", "tcp", "none"])


@given(PAYLOADS, PROTOCOLS, st.integers(0, 255), st.integers(1, 255), st.sampled_from([0, "DF"]), st.integers(0, 3))
def test_the_short_way_does_what_the_long_one_does(
    payload: bytes, protocol: str, tos: int, ttl: int, flags: int | str, damage: int
) -> None:
    def upper() -> Packet:
        if protocol == "tcp":
            return TCP(sport=4000, dport=80, seq=7) / Raw(payload)
        if protocol == "none":
            return UDP(sport=4000, dport=4002, chksum=0) / Raw(payload)
        return datagram((4000, 4002), payload)

    warm, cold = translation(), translation()
    for each in (warm, cold):
        known(each)
    peer = known(warm)
    warm.outbound(ip4(peer, datagram((1, 2), b"")), 0.0)
    warm.inbound(ip6(datagram((2, 1), b"")), 0.0)
    cold.translator.next_identification()
    packet = ip4(peer, upper(), tos=tos, ttl=ttl, flags=flags, id=99)
    if damage == 1:
        packet += b"padding"
    elif damage == 2:
        packet = packet[:-1]
    elif damage == 3:
        packet = packet[:10] + b"\0\0" + packet[12:]
    assert warm.outbound(packet, 0.0) == cold.outbound(packet, 0.0)
    packet = ip6(upper(), tc=tos, hlim=ttl)
    packet = packet + b"padding" if damage == 1 else packet[:-1] if damage == 2 else packet
    assert warm.inbound(packet, 0.0) == cold.inbound(packet, 0.0)


def test_a_stranger_gets_a_virtual_address_and_can_be_answered(made: Translation) -> None:
    received = made.inbound(ip6(datagram((4000, 5000), b"hello")), 0.0)
    stranger = IPv4Address(IP(received.host[0]).src)
    assert stranger in made.settings.pool4
    assert origin(made) == Origin.STRANGER
    answer = made.outbound(ip4(stranger, datagram((5000, 4000), b"hello")), 0.1)
    assert consistent6(answer.network[0]).dst == str(PEER)
    assert origin(made) == Origin.ASKED, "a program wants it: not the first to go for want of room"


def origin(made: Translation) -> str:
    """Of the row of `PEER`."""
    row = made.table.known6(PEER.packed)
    assert row is not None
    return row.origin


def test_an_ipv4_destination_gets_a_virtual_ipv6_address(made: Translation) -> None:
    sent = made.outbound(ip4(STRANGER4, datagram((5000, 4000), b"hello")), 0.0)
    there = IPv6Address(consistent6(sent.network[0]).dst)
    assert there in made.settings.pool6
    back = made.inbound(ip6(datagram((4000, 5000), b"hello"), source=there), 0.1)
    assert IP(back.host[0]).src == str(STRANGER4)


def test_only_between_an_acknowledgement_and_the_end_of_its_lifetime() -> None:
    made = Translation(SETTINGS, Random(1).randbytes)
    packet = ip6(datagram((4000, 5000), b"hello"))
    assert reasons(made.inbound(packet, 0.0)) == [Reason.NO_BINDING]
    assert made.acknowledged(420.0, 1.0) == [VirtualAddressSet(HERE)]
    assert made.acknowledged(420.0, 300.0) == []
    assert made.inbound(packet, 700.0).host
    assert made.timer == 720.0
    assert made.handle_timer(720.0).outputs == [RowRemoved(HERE, HOME, "expired")]
    assert not made.active
    refused = made.outbound(ip4(STRANGER4, datagram((1, 2), b"")), 721.0)
    assert reasons(refused) == [Reason.NO_BINDING]
    assert consistent4(refused.host[0])[ICMP].type == 3
    made.acknowledged(420.0, 730.0)
    made.stop()
    assert not made.active


def test_the_short_way_keeps_a_row_alive_and_ends_with_it(made: Translation) -> None:
    peer = known(made)
    packet = ip4(peer, datagram((40000, 4000), SPEECH))
    for now in range(0, int(2 * IDLE), 600):
        assert made.outbound(packet, now).network
        made.handle_timer(now)
    silent = 2 * IDLE + IDLE
    assert [output.ipv6 for output in made.handle_timer(silent).outputs if isinstance(output, RowRemoved)] == [PEER]
    assert reasons(made.outbound(packet, silent)) == [Reason.TRANSLATION_NO_ROW]


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("224.0.0.251", Reason.LINK_LOCAL_CHATTER),
        ("255.255.255.255", Reason.LINK_LOCAL_CHATTER),
        ("169.254.1.1", Reason.LINK_LOCAL_CHATTER),
        ("127.0.0.1", Reason.NOT_FORWARDED),
        ("0.0.0.0", Reason.NOT_FORWARDED),
        ("250.0.0.1", Reason.NOT_FORWARDED),
        (str(HERE), Reason.NOT_FORWARDED),
        ("198.18.200.1", Reason.TRANSLATION_NO_ROW),
    ],
)
def test_destinations_that_nobody_has(made: Translation, destination: str, reason: Reason) -> None:
    rows = len(made.table)
    assert reasons(made.outbound(ip4(IPv4Address(destination), datagram((1, 2), b"")), 0.0)) == [reason]
    assert len(made.table) == rows


def test_programs_have_one_address(made: Translation) -> None:
    assert reasons(made.outbound(ip4(known(made), datagram((1, 2), b""), src="198.18.0.9"), 0.0)) == [
        Reason.SOURCE_NOT_HOST_ADDRESS
    ]


@pytest.mark.parametrize("source", ["::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1", "::5"])
def test_sources_that_nobody_has_make_no_row(made: Translation, source: str) -> None:
    rows = len(made.table)
    result = made.inbound(ip6(datagram((1, 2), b""), source=IPv6Address(source)), 0.0)
    assert reasons(result) == [Reason.SOURCE_INVALID]
    assert len(made.table) == rows


def test_answers_go_back_where_the_packet_came_from(made: Translation) -> None:
    peer = known(made)
    too_big = made.outbound(ip4(peer, datagram((1, 2), bytes(1400)), flags="DF"), 0.0)
    assert reasons(too_big) == [Reason.TOO_BIG]
    assert consistent4(too_big.host[0])[ICMP].nexthopmtu == 1380
    assert consistent4(too_big.host[0]).src == str(known(made, AGENT))
    spent = made.inbound(ip6(datagram((1, 2), b""), hlim=1), 0.0)
    assert reasons(spent) == [Reason.HOP_LIMIT]
    assert consistent6(spent.network[0]).haslayer(ICMPv6TimeExceeded)


def test_ping_in_fragments(made: Translation) -> None:
    peer = known(made)
    whole = ip4(peer, ICMP(type=8, id=5, seq=1) / Raw(bytes(range(256)) * 12), id=4)
    body = whole[20:]
    head = IP(src=str(HERE), dst=str(peer), proto=1, id=4)
    pieces = []
    for at in range(0, len(body), 1480):
        head.frag, head.flags = at // 8, "MF" if at + 1480 < len(body) else 0
        pieces.append(bytes(head / Raw(body[at : at + 1480])))
    sent = [packet for piece in pieces for packet in made.outbound(piece, 0.0).network]
    assert all(len(packet) <= 1280 for packet in sent)
    joined = b"".join(bytes(IPv6(packet)[IPv6ExtHdrFragment].payload) for packet in sent)
    asked = consistent6(bytes(IPv6(src=str(HOME), dst=str(PEER), nh=58) / joined))
    assert asked[ICMPv6EchoRequest].data == bytes(range(256)) * 12
    reply = ip6(ICMPv6EchoReply(id=5, seq=1, data=bytes(range(256)) * 12))
    told = [packet for piece in fragment(reply, 1280, 77) for packet in made.inbound(piece, 0.1).host]
    assert len(told) == 1
    assert consistent4(told[0])[ICMP].load == bytes(range(256)) * 12


def test_a_missing_fragment_is_told_after_a_minute(made: Translation) -> None:
    first, _ = fragment(ip6(datagram((4000, 5000), bytes(1500))), 1280, 77)
    assert made.inbound(first, 1.0).host == []
    assert made.timer == 1.0 + TIMEOUT
    result = made.handle_timer(1.0 + TIMEOUT)
    assert reasons(result) == [Reason.FRAGMENT_TIMEOUT]
    assert consistent6(result.network[0])[ICMPv6TimeExceeded].code == 1


def test_overlapping_fragments_are_dropped_by_name(made: Translation) -> None:
    first, last = fragment(ip6(datagram((4000, 5000), bytes(1500))), 1280, 77)
    made.inbound(first, 1.0)
    evil = bytearray(last)
    evil[42:44] = (1224 | 0).to_bytes(2)
    assert reasons(made.inbound(bytes(evil), 1.0)) == [Reason.FRAGMENT_INVALID]
    beyond = bytearray(last)
    beyond[42:44] = 0xFFF8.to_bytes(2)
    assert reasons(made.inbound(bytes(beyond), 1.0)) == [Reason.FRAGMENT_INVALID]


def test_programs_that_speak_ipv6_get_ipv6(made: Translation) -> None:
    def sent(upper: Packet) -> None:
        made.native_sent(bytes(IPv6(src=str(HOME), dst=str(PEER)) / upper))

    sent(datagram((7000, 7001), b"hello"))
    sent(ICMPv6EchoRequest(id=3, seq=1))
    for upper, native in (
        (datagram((7001, 7000), b"hello"), True),
        (datagram((7001, 7002), b"hello"), False),
        (ICMPv6EchoReply(id=3, seq=1), True),
        (ICMPv6EchoReply(id=4, seq=1), False),
    ):
        packet = ip6(upper)
        (told,) = made.inbound(packet, 0.0).host
        assert (told == packet) == native
        assert native or told[0] >> 4 == 4
    error = ICMPv6DestUnreach() / Raw(bytes(IPv6(src=str(HOME), dst=str(PEER)) / datagram((7000, 7001), b"hello")))
    packet = ip6(error, source=IPv6Address("2001:db8:ffff::1"))
    assert made.inbound(packet, 0.0).host == [packet]


def test_native_flows_are_bounded(made: Translation) -> None:
    for port in range(1, 3000):
        made.native_sent(bytes(IPv6(src=str(HOME), dst=str(PEER)) / datagram((port, 7001), b"")))
    assert len(made.native) == made.native.limit
    packet = ip6(datagram((7001, 1), b""))
    assert made.inbound(packet, 0.0).host != [packet]


def test_an_exhausted_pool_is_told_by_name() -> None:
    made = translation(replace(SETTINGS, pool4=IPv4Network("198.18.0.0/29")))
    for number in range(6):
        result = made.inbound(ip6(datagram((1, 2), b""), source=IPv6Address(int(PEER) + number)), float(number))
    assert [output.why for output in result.outputs if isinstance(output, RowRemoved)] == ["pool-exhausted"]
    with pytest.raises(ValueError, match="too small"):
        translation(replace(SETTINGS, pool4=IPv4Network("198.18.0.0/30")))


def test_the_snapshot_is_for_people(made: Translation) -> None:
    known(made)
    shown = made.snapshot(5.0)
    assert shown["active"] is True
    assert shown["servers"] == ["198.18.0.3"]
    assert shown["address4"] == str(HERE)
