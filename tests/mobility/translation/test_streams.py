"""SIP over TCP through the gateway: whatever is lost, repeated or comes out of order, both ends get whole streams."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from mobility.translation.sip import SipGateway
from mobility.translation.streams import CONNECTIONS, MESSAGE, Speech, Streams, sip_size
from mobility.wire.tcp import ACK, FIN, RST, SYN, Segment
from tests.mobility.translation.support import (
    HERE,
    PEER,
    consistent4,
    consistent6,
    datagram,
    ip4,
    ip6,
    known,
    translation,
)
from tests.mobility.translation.test_sip import MESSAGE4, MESSAGE6, TO4, TO6

PORTS = (40000, 5060)
GATEWAY = SipGateway(TO4.get, TO6.get)
SHORT = b"SIP/2.0 200 OK\r\nContact: <sip:a@198.18.0.1>\r\nContent-Length: 0\r\n\r\n"
ALIVE = b"\r\n\r\n"


def new_streams() -> Streams:
    speech = Speech(partial(sip_size, GATEWAY.is_message), GATEWAY.outbound, GATEWAY.inbound)
    return Streams(lambda _key: speech)


def segment(sequence: int, acknowledgement: int, flags: int = ACK, payload: bytes = b"", back: bool = False) -> Segment:
    here, there = PORTS[::-1] if back else PORTS
    return Segment(here, there, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF, flags, 65535, b"", payload)


class Wire:
    """A program, the gateway and a correspondent; the number of an octet is ``start`` and its place."""

    def __init__(self, data: bytes, start: int, random: Random) -> None:
        self.data, self.start, self.random = data, start, random
        self.streams = new_streams()
        self.heard = b""
        self.early: dict[int, bytes] = {}
        self.known = 0
        "Octets of which the program knows that they have arrived."
        self.streams.sent(PEER.packed, segment(start - 1, 0, SYN))
        self.streams.received(PEER.packed, segment(4999, start, SYN | ACK, back=True))
        self.streams.sent(PEER.packed, segment(start, 5000))

    def send(self, at: int, size: int, lose: float) -> None:
        passed = self.streams.sent(PEER.packed, segment(self.start + at, 5000, ACK, self.data[at : at + size]))
        assert passed is not None
        self.random.shuffle(passed) if lose else None
        for each in passed:
            if self.random.random() >= lose:
                self.arrive(each, lose)

    def arrive(self, each: Segment, lose: float) -> None:
        place = (each.sequence - self.start) & 0xFFFFFFFF
        if place < 1 << 31:
            self.early[place] = max(self.early.get(place, b""), each.payload, key=len)
        for found in sorted(self.early):
            if found <= len(self.heard):
                self.heard += self.early.pop(found)[len(self.heard) - found :]
        if self.random.random() >= lose:
            answer = segment(5000, self.start + len(self.heard), ACK, back=True)
            for back in self.streams.received(PEER.packed, answer) or []:
                told = (back.acknowledgement - self.start) & 0xFFFFFFFF
                assert told <= len(self.data)
                self.known = max(self.known, told)


PARTS = st.lists(st.sampled_from([MESSAGE4, SHORT, ALIVE]), min_size=1, max_size=6)


@given(PARTS, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False), st.floats(0.0, 0.6))
def test_the_stream_is_whole_whatever_the_network_does(
    parts: list[bytes], start: int, random: Random, lose: float
) -> None:
    wire = Wire(b"".join(parts), start, random)
    for _ in range(40):
        at = random.randint(wire.known, len(wire.data))
        wire.send(at, random.randint(1, 700), lose)
    for at in (*range(wire.known, len(wire.data), 500), *range(0, len(wire.data), 300)):
        if wire.known < len(wire.data):
            wire.send(max(at, wire.known), 500, 0.0)
    while wire.known < len(wire.data):
        before = wire.known
        for at in range(wire.known, len(wire.data), 500):
            wire.send(at, 500, 0.0)
        assert wire.known > before
    assert wire.heard == b"".join(GATEWAY.outbound(part) for part in parts)


def test_an_incomplete_message_is_held_and_not_acknowledged() -> None:
    wire = Wire(SHORT * 2, 1000, Random(1))
    streams = wire.streams
    half = len(SHORT) + 20
    (first,) = streams.sent(PEER.packed, segment(1000, 5000, ACK, wire.data[:half])) or []
    assert first.payload == GATEWAY.outbound(SHORT)
    (back,) = streams.received(PEER.packed, segment(5000, 1000 + len(first.payload), ACK, back=True)) or []
    assert back.acknowledgement == 1000 + len(SHORT)
    assert streams.sent(PEER.packed, segment(1000 + half, 5000, ACK, b"")) is not None
    (last,) = streams.sent(PEER.packed, segment(1000 + half, 5000, ACK, wire.data[half:])) or []
    assert (last.sequence, last.payload) == (1000 + len(first.payload), GATEWAY.outbound(SHORT))


def test_the_end_of_a_stream_has_its_place() -> None:
    streams = Wire(SHORT, 1000, Random(1)).streams
    grown = len(GATEWAY.outbound(SHORT))
    data, end = streams.sent(PEER.packed, segment(1000, 5000, ACK | FIN, SHORT)) or []
    assert (data.sequence, data.flags & FIN, len(data.payload)) == (1000, 0, grown)
    assert (end.sequence, end.flags & FIN, end.payload) == (1000 + grown, FIN, b"")
    (again,) = streams.sent(PEER.packed, segment(1000 + len(SHORT), 5000, ACK | FIN)) or []
    assert (again.sequence, again.flags & FIN) == (1000 + grown, FIN)
    (back,) = streams.received(PEER.packed, segment(5000, 1000 + grown + 1, ACK, back=True)) or []
    assert back.acknowledgement == 1000 + len(SHORT) + 1


def test_the_rest_of_a_stream_that_ends_in_mid_message_goes_out() -> None:
    streams = Wire(SHORT, 1000, Random(1)).streams
    data, end = streams.sent(PEER.packed, segment(1000, 5000, ACK | FIN, SHORT[:30])) or []
    assert (data.payload, end.sequence) == (SHORT[:30], 1030)


def test_what_was_acknowledged_and_comes_again_asks_for_an_acknowledgement() -> None:
    wire = Wire(SHORT, 1000, Random(1))
    grown = len(GATEWAY.outbound(SHORT))
    wire.send(0, len(SHORT), 0.0)
    assert wire.known == len(SHORT)
    (probe,) = wire.streams.sent(PEER.packed, segment(1000, 5000, ACK, SHORT)) or []
    assert (probe.sequence, probe.payload, probe.flags) == (1000 + grown - 1, b"", ACK)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x16\x03\x01 no SIP at all\r\n\r\n and more",
        b"INVITE sip:198.18.0.4 SIP/2.0\r\nContent-Length: 99999\r\n\r\n" + b"x" * 50,
        b"INVITE sip:198.18.0.4 SIP/2.0\r\nSubject: " + b"x" * MESSAGE,
    ],
)
def test_what_is_no_message_or_too_long_passes_as_it_is(stream: bytes) -> None:
    wire = Wire(stream + SHORT, 1000, Random(1))
    for at in range(0, len(wire.data), 500):
        wire.send(at, 500, 0.0)
    assert wire.heard == stream + SHORT


def test_selective_acknowledgements_are_not_offered() -> None:
    syn = replace(segment(1, 0, SYN), options=bytes.fromhex("020405b4 0402 080a0000000100000000 01 030307"))
    (passed,) = new_streams().sent(PEER.packed, syn) or []
    assert passed.options == bytes.fromhex("020405b4 0101 080a0000000100000000 01 030307")
    for broken in ("05", "0500", "05ff00", "0201"):
        assert replace(syn, options=bytes.fromhex(broken)).without_sack() == b""


def test_a_connection_is_known_from_its_beginning_or_not_at_all() -> None:
    streams = new_streams()
    assert streams.sent(PEER.packed, segment(1, 1, ACK, SHORT)) is None
    assert streams.received(PEER.packed, segment(1, 1, SYN | ACK, back=True)) is None
    assert len(streams) == 0


def test_a_reset_with_a_guessed_number_ends_nothing() -> None:
    streams = Wire(SHORT, 1000, Random(1)).streams
    streams.received(PEER.packed, segment(777, 1000, RST, back=True))
    assert len(streams) == 1
    streams.received(PEER.packed, segment(5000, 1000, RST, back=True))
    assert len(streams) == 0


def test_connections_are_bounded() -> None:
    streams = new_streams()
    for number in range(CONNECTIONS + 10):
        streams.sent(PEER.packed, replace(segment(1, 0, SYN), source_port=1000 + number))
    assert len(streams) == CONNECTIONS


def test_in_packets() -> None:
    made = translation()
    peer = known(made)
    handshake = made.outbound(ip4(peer, TCP(sport=PORTS[0], dport=5060, seq=99, flags="S")), 0.0)
    assert consistent6(handshake.network[0])[TCP].flags == "S"
    answer = made.inbound(ip6(TCP(sport=5060, dport=PORTS[0], seq=499, ack=100, flags="SA")), 0.0)
    assert consistent4(answer.host[0])[TCP].ack == 100
    sent = made.outbound(ip4(peer, TCP(sport=PORTS[0], dport=5060, seq=100, ack=500, flags="PA") / Raw(MESSAGE4)), 0.0)
    octets = b"".join(bytes(consistent6(packet)[TCP].payload) for packet in sent.network)
    assert octets == MESSAGE6
    acknowledged = ip6(TCP(sport=5060, dport=PORTS[0], seq=500, ack=100 + len(MESSAGE6), flags="PA") / Raw(MESSAGE6))
    told = [consistent4(packet) for packet in made.inbound(acknowledged, 0.0).host]
    assert b"".join(bytes(packet[TCP].payload) for packet in told) == MESSAGE4
    assert {packet[TCP].ack for packet in told} == {100 + len(MESSAGE4)}
    assert {(packet.src, packet.dst) for packet in told} == {(str(peer), str(HERE))}


def test_a_call_over_tcp_may_come_to_where_the_program_listens() -> None:
    made = translation()
    known(made)
    register = b"REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/TCP 198.18.0.1:5099;branch=z\r\n\r\n"
    made.outbound(ip4(known(made), datagram((40001, 5060), register)), 0.0)
    made.inbound(ip6(TCP(sport=44444, dport=5099, seq=99, flags="S")), 0.0)
    assert len(made.gateways.streams) == 1
    read = IPv6(
        made.outbound(ip4(known(made), TCP(sport=5099, dport=44444, seq=7, ack=100, flags="SA")), 0.0).network[0]
    )
    assert read[TCP].seq == 7


@given(st.binary(max_size=80))
def test_rubbish_in_segments(rubbish: bytes) -> None:
    made = translation()
    peer = known(made)
    made.outbound(ip4(peer, Raw(PORTS[0].to_bytes(2) + (5060).to_bytes(2) + rubbish), proto=6), 0.0)
    made.inbound(ip6(Raw((5060).to_bytes(2) + PORTS[0].to_bytes(2) + rubbish), nh=6), 0.0)
