"""Packet sockets against a kernel at the other end of a veth pair."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from mobility.net import namespace
from mobility.net.packet_socket import PacketSocket

from .networks import OUR_MAC, OURS, PEER, PEER_MAC, Cable, cable, transport_sum, udp_packet

pytestmark = pytest.mark.root

UDP_SEGMENT = 103
_PEER = bytes.fromhex(PEER_MAC.replace(":", ""))


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture
def link(wire: Cable) -> Iterator[PacketSocket]:
    made = PacketSocket(wire.interface())
    with namespace.inside(wire.ours):
        made.open()
    yield made
    made.close()


def receive_udp(link: PacketSocket, port: int, count: int = 1) -> list[tuple[bytes, bytes]]:
    """The next UDP packets to a port; a kernel says other things too."""
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + 5
    while len(found) < count and time.monotonic() < deadline:
        select.select([link], [], [], 0.5)
        found += [
            (packet, sender)
            for packet, sender in link.receive(64)
            if packet[6] == 17 and packet[42:44] == port.to_bytes(2, "big")
        ]
    return found


def test_knows_its_interface(link: PacketSocket) -> None:
    assert (link.name, link.address.hex(":"), link.mtu) == ("eth0", OUR_MAC, 1500)


@pytest.mark.parametrize("size", [0, 1, 2, 171, 1400])
def test_a_kernel_s_unfinished_checksum_is_completed(wire: Cable, link: PacketSocket, size: int) -> None:
    data = bytes(range(256)) * 6
    with wire.peer_socket() as peer:
        peer.sendto(data[:size], (OURS, 4000))
        [(packet, sender)] = receive_udp(link, 4000)
    assert sender == _PEER
    assert packet[48:] == data[:size]
    assert transport_sum(packet) == 0


def test_a_kernel_takes_what_we_send(wire: Cable, link: PacketSocket) -> None:
    with wire.peer_socket(port=4001) as peer:
        assert link.send(udp_packet(OURS, PEER, 9, 4001, b"hello"), _PEER)
        data, (host, port, *_) = peer.recvfrom(100)
    assert (data, host, port) == (b"hello", OURS, 9)


def test_a_super_packet_is_cut_up(wire: Cable, link: PacketSocket) -> None:
    data = bytes(range(250)) * 14
    with wire.peer_socket() as peer:
        peer.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        peer.sendto(data, (OURS, 4002))
        packets = [packet for packet, _ in receive_udp(link, 4002, 4)]
    assert [len(packet) for packet in packets] == [1048, 1048, 1048, 548]
    assert b"".join(packet[48:] for packet in packets) == data
    assert {transport_sum(packet) for packet in packets} == {0}


def test_multicast_arrives_and_our_own_frames_and_those_for_others_do_not(wire: Cable, link: PacketSocket) -> None:
    stranger = bytes.fromhex("020000009999")
    wire.ip("link set eth0 promisc on")  # else the interface itself keeps them out
    with wire.peer_socket() as peer, namespace.inside(wire.peer):
        scope = socket.if_nametoindex("eth0")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind(("eth0", 0))
            frame = _PEER + b"\x86\xdd" + udp_packet(PEER, OURS, 1, 4003, b"not for us")
            raw.send(stranger + frame)
            link.send(udp_packet(OURS, PEER, 1, 4003, b"by us"), _PEER)
        peer.sendto(b"for all", ("ff02::77", 4003, 0, scope))
        [(packet, _)] = receive_udp(link, 4003)
    assert packet[48:] == b"for all"


def test_an_interface_that_is_down_is_counted_and_comes_back(wire: Cable, link: PacketSocket) -> None:
    wire.ip("link set eth0 down")
    assert not link.send(udp_packet(OURS, PEER, 9, 4004, b"lost"), _PEER)
    assert link.receive(64) == []
    assert link.errors["ENETDOWN"] >= 1
    wire.ip("link set eth0 up")
    with wire.peer_socket(port=4004) as peer:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            link.send(udp_packet(OURS, PEER, 9, 4004, b"back"), _PEER)
            if select.select([peer], [], [], 0.05)[0]:
                break
        assert peer.recv(100) == b"back"


def test_an_interface_that_has_gone_is_counted(wire: Cable, link: PacketSocket) -> None:
    wire.ip("link del eth0")
    assert not link.send(udp_packet(OURS, PEER, 9, 4005, b"lost"), _PEER)
    assert link.receive(64) == []
    assert set(link.errors) <= {"ENXIO", "ENETDOWN", "ENODEV"}
    assert link.errors.total() >= 1


def test_what_is_too_long_is_counted(link: PacketSocket) -> None:
    assert not link.send(bytes(1501), _PEER)
    assert link.errors["EMSGSIZE"] == 1


def test_is_of_no_use_before_it_is_open(wire: Cable) -> None:
    link = PacketSocket(wire.interface())
    assert not link.send(b"", _PEER)
    assert link.receive(1) == []
    with pytest.raises(RuntimeError, match="not open"):
        link.fileno()
