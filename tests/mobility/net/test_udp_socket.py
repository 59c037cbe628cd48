"""Sockets of UDP as links: against each other on loopback, and against a kernel on a wire."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from mobility.links import describe_endpoint, endpoint
from mobility.net import namespace
from mobility.net import udp_socket as module
from mobility.net.udp_socket import UdpSocket
from mobility.wire import ip6

from .networks import internet_checksum, run, transport_sum

Address = IPv4Address | IPv6Address
LOOPBACK: list[Address] = [IPv4Address("127.0.0.1"), IPv6Address("::1")]
AGENT = endpoint(IPv4Address("198.51.100.10"), 4191)


def opened(stack: contextlib.ExitStack, name: str, local: Address, **options: object) -> UdpSocket:
    made = UdpSocket(name, local, 1500, **options)  # type: ignore[arg-type]
    made.open()
    stack.callback(made.close)
    return made


def receive(link: UdpSocket, count: int = 1) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    while len(found) < count and select.select([link], [], [], 5.0)[0]:
        found += link.receive(count - len(found))
    return found


@pytest.mark.parametrize("local", LOOPBACK, ids=str)
def test_datagrams_go_both_ways_with_their_endpoints(local: Address) -> None:
    with contextlib.ExitStack() as stack:
        terminal, agent = (opened(stack, name, local) for name in ("lo/udp4", "udp/x"))
        assert terminal.address != agent.address
        assert terminal.send(b"there", agent.address)
        assert receive(agent) == [(b"there", terminal.address)]
        assert agent.send(b"back", terminal.address)
        assert agent.send(b"", terminal.address)
        assert receive(terminal, 2) == [(b"back", agent.address), (b"", agent.address)]
        assert terminal.receive(64) == []
        assert not terminal.errors + agent.errors


def test_no_more_are_taken_than_wanted() -> None:
    with contextlib.ExitStack() as stack:
        link, other = (opened(stack, name, LOOPBACK[0]) for name in "ab")
        for number in range(10):
            other.send(bytes([number]), link.address)
        assert [payload[0] for payload, _ in link.receive(4)] == [0, 1, 2, 3]
        assert [payload[0] for payload, _ in link.receive(64)] == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("local", LOOPBACK, ids=str)
def test_the_largest_datagram_goes_through_and_what_is_longer_is_counted(local: Address) -> None:
    with contextlib.ExitStack() as stack:
        link, other = (opened(stack, name, local) for name in "ab")
        largest = os.urandom(65507 if isinstance(local, IPv4Address) else 65527)
        assert link.send(largest, other.address)
        assert receive(other) == [(largest, link.address)]
        assert not link.send(largest + b"x", other.address)
        assert link.errors == {"EMSGSIZE": 1}


def test_nobody_listening_is_no_error() -> None:
    """The kernel tells of ICMP errors to connected sockets only: a stranger's message cannot stop this one."""
    with contextlib.ExitStack() as stack:
        link, other = (opened(stack, name, LOOPBACK[0]) for name in "ab")
        nobody = endpoint(IPv4Address("127.0.0.1"), 9)
        for _ in range(3):
            assert link.send(b"x", nobody)
        assert link.receive(64) == []
        other.send(b"still here", link.address)
        assert receive(link) == [(b"still here", other.address)]
        assert not link.errors


def test_an_endpoint_of_the_other_version_is_counted() -> None:
    with contextlib.ExitStack() as stack:
        link4, link6 = (opened(stack, "l", local) for local in LOOPBACK)
        assert not link4.send(b"x", link6.address)
        assert not link6.send(b"x", link4.address)
        assert link4.errors == link6.errors == {"EAFNOSUPPORT": 1}


def test_a_port_that_is_taken_and_an_address_that_is_not_ours_are_told() -> None:
    with contextlib.ExitStack() as stack:
        link = opened(stack, "a", LOOPBACK[0])
        again = UdpSocket("b", LOOPBACK[0], 1500, port=int.from_bytes(link.address[16:]))
        with pytest.raises(OSError, match="in use") as caught:
            again.open()
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="assign"):
            UdpSocket("c", IPv4Address("192.0.2.77"), 1500).open()
        with pytest.raises(OSError, match="assign"):
            UdpSocket("c", IPv6Address("2001:db8::77"), 1500).open()
        for address in (IPv4Address("192.0.2.77"), IPv6Address("2001:db8::77")):
            early = opened(stack, "d", address, before_the_address=True, port=4191)
            assert early.address == endpoint(address, 4191)
            assert not early.send(b"x", link.address)
            assert early.errors.total() == 1


def test_is_of_no_use_before_it_is_open_and_after_it_is_closed() -> None:
    link = UdpSocket("a", LOOPBACK[0], 1500)
    assert not link.send(b"x", AGENT)
    assert link.receive(1) == []
    with pytest.raises(RuntimeError, match="not open"):
        link.fileno()
    link.open()
    link.close()
    link.close()
    assert not link.send(b"x", AGENT)
    assert link.errors == {"ENODEV": 2}


def test_tables_of_endpoints_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 8)
    with contextlib.ExitStack() as stack:
        link = opened(stack, "a", LOOPBACK[0])
        others = [opened(stack, "b", LOOPBACK[0]) for _ in range(20)]
        for other in others:
            other.send(b"x", link.address)
            assert receive(link) == [(b"x", other.address)]
            assert link.send(b"y", other.address)
            assert receive(other) == [(b"y", link.address)]
        assert len(link._endpoints) <= 8
        assert len(link._names) <= 8


@pytest.mark.parametrize("size", [0, 1, 1400])
def test_a_capture_shows_a_sound_packet(size: int) -> None:
    payload = bytes(range(256)) * 6
    there4, there6 = AGENT, endpoint(IPv6Address("2001:db8::a"), 4191)
    link = UdpSocket("a", IPv4Address("192.0.2.1"), 1500, port=40000)
    packet = link.wrapped(payload[:size], there4, outbound=True)
    assert packet[:1] == b"\x45"
    assert (packet[9], int.from_bytes(packet[2:4])) == (17, len(packet))
    assert internet_checksum(packet[:20]) == 0
    assert (packet[12:16], packet[16:20]) == (link.local.packed, IPv4Address("198.51.100.10").packed)
    assert packet[20:28] == (40000).to_bytes(2) + (4191).to_bytes(2) + (8 + size).to_bytes(2) + b"\0\0"
    assert packet[28:] == payload[:size]
    back = link.wrapped(payload[:size], there4, outbound=False)
    assert (back[12:16], back[16:20], back[20:22]) == (packet[16:20], packet[12:16], (4191).to_bytes(2))
    link6 = UdpSocket("a", IPv6Address("2001:db8::1"), 1500, port=40000)
    packet = link6.wrapped(payload[:size], there6, outbound=True)
    header = ip6.parse(packet)
    assert (header.source, header.destination, header.next_header) == (link6.local, IPv6Address("2001:db8::a"), ip6.UDP)
    assert transport_sum(packet) == 0
    assert packet[48:] == payload[:size]


# ---------------------------------------------------------------- on a wire


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Two namespaces: ours with the interfaces eth0 and eth1, both with a way to 198.51.100.10 and 2001:db8:f::a."""
    ours, peer = (f"rnet-{os.getpid()}-{secrets.token_hex(2)}-{end}" for end in "uv")
    try:
        for name in (ours, peer):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, *"link set lo up".split())
        for index in (0, 1):
            run("ip", "-n", ours, *f"link add eth{index} type veth peer name eth{index}".split(), "netns", peer)
            for name, host in ((ours, 2), (peer, 1)):
                run("ip", "-n", name, *f"link set eth{index} up".split())
                run("ip", "-n", name, *f"addr add 192.0.{index}.{host}/24 dev eth{index}".split())
                run("ip", "-n", name, *f"addr add 2001:db8:{index}::{host}/64 dev eth{index} nodad".split())
            run("ip", "-n", ours, *f"route add default via 192.0.{index}.1 metric {100 + index}".split())
            run("ip", "-n", ours, *f"route add default via 2001:db8:{index}::1 metric {100 + index}".split())
        for address in ("198.51.100.10/32", "2001:db8:f::a/128"):
            run("ip", "-n", peer, *f"addr add {address} dev lo".split())
        with namespace.inside(peer), open("/proc/sys/net/ipv4/conf/all/rp_filter", "w") as file:
            file.write("0")
        yield ours, peer
    finally:
        for name in (ours, peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


ENDS = [
    (IPv4Address("192.0.1.2"), IPv4Address("198.51.100.10")),
    (IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:f::a")),
]


@pytest.mark.root
@pytest.mark.parametrize(("local", "agent"), ENDS)
def test_a_socket_of_an_interface_does_not_ask_which_route_is_best(
    wire: tuple[str, str], local: Address, agent: Address
) -> None:
    ours, peer = wire
    with contextlib.ExitStack() as stack:
        with namespace.inside(ours):
            link = opened(stack, "eth1/udp", local, device="eth1")
        with namespace.inside(peer):
            listening = opened(stack, "udp/x", agent, port=4191, before_the_address=True)
        assert link.send(b"by eth1", listening.address)
        ((payload, source),) = receive(listening)
        assert (payload, source) == (b"by eth1", link.address), describe_endpoint(source)
        assert listening.send(b"back", source)
        assert receive(link) == [(b"back", listening.address)]
        run("ip", "-n", ours, *"link set eth1 down".split())
        assert not link.send(b"lost", listening.address)
        assert link.errors.total() == 1


@pytest.mark.root
@pytest.mark.parametrize(("local", "agent"), ENDS)
def test_the_kernel_makes_pieces_of_what_is_too_long(wire: tuple[str, str], local: Address, agent: Address) -> None:
    ours, peer = wire
    run("ip", "-n", ours, *"link set eth1 mtu 1300".split())
    with contextlib.ExitStack() as stack:
        with namespace.inside(ours):
            link = opened(stack, "eth1/udp", local, device="eth1")
        with namespace.inside(peer):
            listening = opened(stack, "udp/x", agent, port=4191)
        payload = os.urandom(3000)
        assert link.send(payload, listening.address)
        assert receive(listening) == [(payload, link.address)]


@pytest.mark.root
def test_an_address_that_comes_later_is_listened_at(wire: tuple[str, str]) -> None:
    ours, peer = wire
    with contextlib.ExitStack() as stack:
        with namespace.inside(peer):
            listening = opened(stack, "udp/x", IPv4Address("192.0.0.77"), port=4191, before_the_address=True)
        run("ip", "-n", peer, *"addr add 192.0.0.77/32 dev eth0".split())
        with namespace.inside(ours):
            link = opened(stack, "eth0/udp4", IPv4Address("192.0.0.2"), device="eth0")
        assert link.send(b"hello", listening.address)
        assert receive(listening) == [(b"hello", link.address)]
        assert listening.send(b"again", link.address)
        assert receive(link) == [(b"again", listening.address)]


@pytest.mark.root
def test_firewalls_and_missing_routes_are_counted(wire: tuple[str, str]) -> None:
    ours, _ = wire
    run("ip", "-n", ours, *"route del default via 192.0.1.1".split())
    run("ip", "-n", ours, *"route add unreachable 198.51.100.0/24".split())
    with contextlib.ExitStack() as stack:
        with namespace.inside(ours):
            link = opened(stack, "udp", IPv4Address("192.0.0.2"))
        for _ in range(2):
            assert not link.send(b"x", AGENT)
        assert link.errors == {"EHOSTUNREACH": 2}
        assert link.receive(64) == []


@pytest.mark.root
def test_an_ordinary_user_may_bind_to_an_interface(wire: tuple[str, str]) -> None:
    ours, _ = wire
    with namespace.inside(ours):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                link = UdpSocket("eth1/udp4", IPv4Address("192.0.1.2"), 1500, device="eth1")
                link.open()
                with socket.socket(fileno=os.dup(link.fileno())) as copy:
                    device = copy.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
                status = 0 if device == b"eth1\0" and link.send(b"x", AGENT) else 2
            finally:
                os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(wait_status) == 0
