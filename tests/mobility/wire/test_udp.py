"""UDP over IPv6."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from mobility.wire import ip6, udp
from mobility.wire.errors import WireError

HERE, THERE = IPv6Address("2001:db8:1::a"), IPv6Address("2001:db8:a::1")
ENDS = HERE.packed + THERE.packed
PORTS = st.integers(0, 0xFFFF)


@given(PORTS, PORTS, st.binary(max_size=300), st.integers(0, 255))
def test_packets_are_those_of_scapy(source: int, destination: int, payload: bytes, tos: int) -> None:
    marks = bytes((0x60 | tos >> 4, tos << 4 & 0xF0))
    packet = udp.packet(ENDS, (source, destination), payload, marks)
    theirs = IPv6(src=str(HERE), dst=str(THERE), tc=tos, hlim=64) / UDP(sport=source, dport=destination) / payload
    assert packet == bytes(theirs)
    assert udp.parse(packet) == udp.Datagram(source, destination, payload)


def test_what_is_no_datagram() -> None:
    packet = udp.packet(ENDS, (4191, 5000), b"payload")
    for size in range(7):
        with pytest.raises(WireError, match="UDP header: needs 8 octets"):
            udp.parse(packet[: 40 + size])
    with pytest.raises(WireError, match="claims 15 octets, has 14"):
        udp.parse(packet[:-1])
    with pytest.raises(WireError, match="UDP checksum: no checksum"):
        udp.parse(packet[:46] + b"\0\0" + packet[48:])
    with pytest.raises(WireError, match="too large for one datagram"):
        udp.packet(ENDS, (1, 2), bytes(65528))


@given(st.integers(8, 62), st.integers(1, 255))
def test_every_changed_octet_is_noticed(at: int, change: int) -> None:
    packet = udp.packet(ENDS, (4191, 5000), b"fifteen octets.")
    changed = packet[:at] + bytes((packet[at] ^ change,)) + packet[at + 1 :]
    with pytest.raises(WireError):
        udp.parse(changed)


@given(st.binary(max_size=60))
def test_noise(body: bytes) -> None:
    with pytest.raises(WireError):
        udp.parse(ip6.packet(HERE, THERE, ip6.UDP, body))
