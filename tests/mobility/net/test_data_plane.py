"""The data plane with real links, a real host OS and a node that only passes on."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address

import pytest

from mobility.net import namespace, netlink, tun
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.net.obstacles import Forbidden
from mobility.net.tun import Tunnel, TunSettings

from .networks import OURS, PEER, Bridge, Cable, LinkSeen, Notes, cable, connect, run

pytestmark = pytest.mark.root


class Setup:
    """A cable, a host OS with our address, and a bridge node between them."""

    def __init__(self, wire: Cable, host: str) -> None:
        self.wire, self.host = wire, host
        self.loop, self.node, self.notes = Loop(), Bridge(), Notes()
        with namespace.inside(host):
            tunnel = Tunnel(tun.create(TunSettings("home0", IPv6Address(OURS), 1280)))
        deadline = time.monotonic() + 5
        while not run("ip", "-n", host, "route", "get", OURS).startswith("local"):  # the kernel does it by and by
            assert time.monotonic() < deadline
        with namespace.inside(wire.ours):
            interfaces = {"eth0": netlink.read_links()["eth0"]}
            self.plane = DataPlane(self.loop, self.node, interfaces, self.notes, tunnel=tunnel)
            self.plane.start()

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen"
            with namespace.inside(self.wire.ours):  # a link that comes back is opened here
                self.plane.turn(0.05)

    def host_socket(self, kind: socket.SocketKind, port: int) -> socket.socket:
        with namespace.inside(self.host):
            made = socket.socket(socket.AF_INET6, kind)
        made.bind((OURS, port))
        made.settimeout(5)
        return made


@pytest.fixture
def setup() -> Iterator[Setup]:
    with cable() as wire, contextlib.ExitStack() as stack:
        host = wire.ours + "h"
        run("ip", "netns", "add", host)
        stack.callback(run, "ip", "netns", "del", host)
        made = Setup(wire, host)
        stack.callback(made.loop.close)
        stack.callback(made.plane.close)
        yield made


def ready(sock: socket.socket) -> Callable[[], bool]:
    return lambda: bool(select.select([sock], [], [], 0)[0])


def echo(setup: Setup, data: bytes, port: int = 5000) -> None:
    """A datagram from the host OS to the peer and back."""
    with setup.host_socket(socket.SOCK_DGRAM, port) as ours, setup.wire.peer_socket(port=port) as peer:
        ours.sendto(data, (PEER, port))
        setup.until(ready(peer))
        assert peer.recv(2000) == data
        peer.sendto(data, (OURS, port))
        setup.until(ready(ours))
        assert ours.recv(2000) == data


def test_packets_go_both_ways(setup: Setup) -> None:
    echo(setup, b"there and back")
    packets = setup.plane.packets
    assert packets["to-eth0"] == 1
    assert packets["to-host"] >= 1  # the peer's kernel says this and that on its own
    assert not packets["lost-to-eth0"]


def test_tcp_of_two_kernels_with_segmentation_offload(setup: Setup) -> None:
    """The peer's kernel hands over TCP super-packets; the host OS must see right segments no larger than its MTU."""
    amount = 600_000
    received = bytearray()
    with setup.wire.peer_socket(socket.SOCK_STREAM, 5001) as listener, contextlib.ExitStack() as stack:
        listener.listen(1)
        ours = stack.enter_context(setup.host_socket(socket.SOCK_STREAM, 5001))

        def peer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(bytes(amount))

        def us() -> None:
            ours.connect((PEER, 5001))
            while data := ours.recv(1 << 16):
                received.extend(data)

        threads = [threading.Thread(target=side, daemon=True) for side in (peer, us)]
        for thread in threads:
            thread.start()
        setup.until(lambda: not any(thread.is_alive() for thread in threads), 20)
    assert received == bytes(amount)
    assert setup.plane.packets["to-host"] >= amount // 1220


def test_an_exception_of_the_node_is_counted_and_life_goes_on(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.node.fails_on = b"poison"
    with setup.wire.peer_socket() as peer:
        peer.sendto(b"poison", (OURS, 5002))
        setup.until(lambda: bool(setup.loop.failures))
    assert setup.loop.failures == {"ZeroDivisionError": 1}
    assert "on purpose" in caplog.text
    echo(setup, b"still here")


def test_carrier_down_up_removal_and_return(setup: Setup) -> None:
    wire, seen = setup.wire, setup.node.seen
    assert seen == [("eth0", True)]
    wire.ip("link set eth0 down", wire.peer)  # carrier lost at our end
    setup.until(lambda: seen[-1] == ("eth0", False))
    wire.ip("link set eth0 up", wire.peer)
    setup.until(lambda: seen[-1] == ("eth0", True))
    wire.ip("link del eth0")
    setup.until(lambda: seen[-1] == ("eth0", False))
    assert setup.plane.links()["eth0"] == {
        "up": False,
        "present": False,
        "address": "02:00:00:00:77:01",
        "mtu": 1500,
    }
    connect(wire.ours, wire.peer)
    wire.address_peer()
    setup.until(lambda: seen[-1] == ("eth0", True))
    echo(setup, b"on the new interface")
    assert setup.notes.events.count(LinkSeen("eth0", True)) == len([up for _, up in seen if up])


def test_a_carrier_that_is_lost_for_an_instant_is_seen(setup: Setup) -> None:
    """Both ends have the same index here, so the kernel tells of such a loss late and in one message: "up"."""
    wire, seen = setup.wire, setup.node.seen
    for losses in (1, 2):
        wire.ip("link set eth0 down", wire.peer)
        wire.ip("link set eth0 up", wire.peer)
        setup.until(lambda: seen[1:] == [("eth0", False), ("eth0", True)] * losses)  # noqa: B023 - used at once
    wire.address_peer()
    echo(setup, b"after the second loss")


def test_a_new_hardware_address_wants_a_new_node(setup: Setup) -> None:
    wire = setup.wire
    wire.ip("link set eth0 down")
    wire.ip("link set eth0 address 02:00:00:00:77:99")
    setup.until(lambda: setup.loop.stopping)
    assert setup.plane.must_restart == "interface eth0 has a new hardware address or MTU"


def test_the_end_of_the_host_os_wants_a_new_node(setup: Setup) -> None:
    run("ip", "-n", setup.host, "link", "del", "home0")
    setup.until(lambda: setup.loop.stopping)
    assert "host OS has gone" in (setup.plane.must_restart or "")


def test_the_timer_is_kept(setup: Setup) -> None:
    due = time.monotonic() + 0.05
    setup.node.timer = due
    setup.until(lambda: setup.node.timer is None)
    assert time.monotonic() >= due


def test_packets_are_shown_to_an_observer_that_wants_them(setup: Setup) -> None:
    setup.notes.wants_packets = True
    echo(setup, b"seen")
    seen = [(where, outbound) for where, outbound, packet in setup.notes.packets if packet.endswith(b"seen")]
    assert seen == [("host", True), ("eth0", True), ("eth0", False), ("host", False)]


def test_the_tun_interface_has_one_address_and_no_other(setup: Setup) -> None:
    shown = run("ip", "-n", setup.host, "-6", "-o", "addr", "show", "dev", "home0")
    assert [line.split()[3] for line in shown.splitlines()] == [f"{OURS}/128"]
    assert "mtu 1280" in run("ip", "-n", setup.host, "link", "show", "home0")
    assert "default dev home0" in run("ip", "-n", setup.host, "-6", "route")


def test_tun_needs_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAMPHONE_TUN_DEVICE", os.devnull + "-not-there")
    with pytest.raises(Forbidden, match="there is no TUN device"):
        tun.create(TunSettings("home0", IPv6Address(OURS), 1280))
