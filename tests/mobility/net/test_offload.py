"""Finishing a sender's work: checksums and segmentation, checked by scapy and by the slow sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from mobility.net.offload import (
    GSO_ECN,
    GSO_TCP6,
    GSO_UDP_L4,
    NEEDS_CHECKSUM,
    VNET_HEADER,
    OffloadError,
    complete_checksum,
    finish,
)

from .networks import OURS, PEER, internet_checksum, transport_sum, udp_packet

ETHERNET = 14
UDP_AT = ETHERNET + 40


def header(flags: int, kind: int, size: int, start: int, offset: int) -> bytes:
    return VNET_HEADER.pack(flags, kind, 0, size, start, offset)


def unfinished(data: bytes) -> bytes:
    """As a kernel leaves a UDP packet: the checksum field holds the sum of the pseudo header."""
    packet = bytearray(udp_packet(PEER, OURS, 4000, 5000, data))
    pseudo = bytes(packet[8:40]) + (8 + len(data)).to_bytes(4, "big") + b"\0\0\0\x11"
    packet[46:48] = (internet_checksum(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(packet)


@given(st.binary(max_size=200))
def test_checksum_is_completed(data: bytes) -> None:
    [packet] = finish(header(NEEDS_CHECKSUM, 0, 0, UDP_AT, 6), unfinished(data), ETHERNET)
    assert transport_sum(packet) == 0
    assert packet == udp_packet(PEER, OURS, 4000, 5000, data) or packet[46:48] == b"\xff\xff"
    assert packet[46:48] != b"\0\0"


def test_a_finished_packet_stays_as_it_is() -> None:
    packet = udp_packet(PEER, OURS, 1, 2, b"x")
    assert finish(header(0, 0, 0, 0, 0), packet, ETHERNET) == [packet]


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 1400), st.integers(0, 0xFFFFFFFF), st.booleans())
def test_tcp_segments(data: bytes, size: int, sequence: int, congestion: bool) -> None:
    flags = "PAF" + ("C" if congestion else "")
    options = [("Timestamp", (7, 8)), ("NOP", None), ("NOP", None)]
    whole = bytes(
        IPv6(src=PEER, dst=OURS) / TCP(sport=1, dport=2, seq=sequence, ack=5, flags=flags, options=options) / data
    )
    kind = GSO_TCP6 | GSO_ECN if congestion else GSO_TCP6
    parts = finish(header(NEEDS_CHECKSUM, kind, size, UDP_AT, 16), whole, ETHERNET)
    read = [IPv6(part) for part in parts]
    assert b"".join(bytes(part[TCP].payload) for part in read) == data
    assert max(len(part[TCP].payload) for part in read) <= size
    at = sequence
    for number, part in enumerate(read):
        last = number == len(read) - 1
        assert part[TCP].seq == at
        assert part[TCP].options == options
        assert str(part[TCP].flags) == ("FPA" if last else "A") + ("C" if congestion and number == 0 else "")
        assert part.plen == len(bytes(part)) - 40
        assert transport_sum(parts[number]) == 0
        at = (at + len(part[TCP].payload)) & 0xFFFFFFFF


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 1400))
def test_udp_segments(data: bytes, size: int) -> None:
    whole = udp_packet(PEER, OURS, 1, 2, data)
    parts = finish(header(NEEDS_CHECKSUM, GSO_UDP_L4, size, UDP_AT, 6), whole, ETHERNET)
    assert b"".join(part[48:] for part in parts) == data
    assert {transport_sum(part) for part in parts} == {0}
    assert [int.from_bytes(part[44:46], "big") for part in parts] == [len(part) - 40 for part in parts]


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=120))
def test_any_header_with_any_packet(vnet: bytes, packet: bytes) -> None:
    try:
        parts = finish(vnet, packet, ETHERNET)
    except OffloadError:
        return
    assert all(parts) or packet == b""


@pytest.mark.parametrize(("start", "offset"), [(0, 6), (39, 6), (60, 0), (40, 17), (65535, 65535)])
def test_a_checksum_outside_the_packet_is_refused(start: int, offset: int) -> None:
    with pytest.raises(OffloadError):
        complete_checksum(bytes(57), start, offset)
