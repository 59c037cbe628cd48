"""The data plane of nodes that use UDP: it follows a real kernel's interfaces, addresses and routes."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from mobility.links import endpoint
from mobility.net import data_plane, namespace
from mobility.net.access import AccessSettings
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.outputs import Output, Transmit

from .networks import Bridge, Notes, run

Address = IPv4Address | IPv6Address
AGENT4, AGENT6 = IPv4Address("198.51.100.10"), IPv6Address("2001:db8:f::a")


class Terminal(Bridge):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[object, ...]] = []
        self.received: list[tuple[str, bytes, bytes]] = []
        self.resumptions = 0

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        self.told.append(order)
        return []

    def udp_changed(self, link: str, address: Address | None, mtu: int, now: float) -> list[Output]:
        self.told.append((link, None if address is None else str(address), mtu))
        return []

    def resumed(self, now: float) -> list[Output]:
        self.resumptions += 1
        return []

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        self.received.append((link, packet, sender))
        return []

    def take(self) -> list[tuple[object, ...]]:
        told, self.told = self.told, []
        return told


class Echo(Bridge):
    """A home agent that sends back what comes."""

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        return [Transmit(packet, sender, link)]


class Setup:
    """Interfaces wlan0 and wwan0 of ours, whose other ends are in the namespace of the home agent."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        base = f"rnet-{os.getpid()}-{secrets.token_hex(2)}"
        self.ours, self.peer = f"{base}-t", f"{base}-p"
        self.loop, self.node, self.notes = Loop(), Terminal(), Notes()
        for name in (self.ours, self.peer):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
            with namespace.inside(name), open("/proc/sys/net/ipv6/conf/default/accept_dad", "w") as file:
                file.write("0")
            self.ip("link set lo up", name)
        stack.callback(self.loop.close)
        for number, interface in enumerate(("wlan0", "wwan0")):
            self.ip(f"link add {interface} type veth peer name {interface} netns {self.peer}")
            self.ip(f"addr add 192.0.{number}.1/24 dev {interface}", self.peer)
            self.ip(f"addr add 2001:db8:{number}::1/64 dev {interface} nodad", self.peer)
            self.ip(f"link set {interface} up", self.peer)
        self.ip(f"addr add {AGENT4}/32 dev lo", self.peer)
        self.ip(f"addr add {AGENT6}/128 dev lo", self.peer)
        with namespace.inside(self.peer), open("/proc/sys/net/ipv4/conf/all/rp_filter", "w") as file:
            file.write("0")

    def ip(self, arguments: str, where: str | None = None) -> None:
        run("ip", "-n", where or self.ours, *arguments.split())

    def start(self, access: AccessSettings) -> DataPlane:
        with namespace.inside(self.ours):
            self.plane = DataPlane(self.loop, self.node, {}, self.notes, access=access)
            self.plane.start()
        return self.plane

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not happen; told was {self.node.told}"
            with namespace.inside(self.ours):
                self.plane.turn(0.05)

    def heard(self, *expected: tuple[object, ...]) -> None:
        """The node is told this, and nothing else before it."""
        self.until(lambda: len(self.node.told) >= len(expected))
        assert self.node.take() == list(expected)


@pytest.fixture
def setup() -> Iterator[Setup]:
    with contextlib.ExitStack() as stack:
        made = Setup(stack)
        stack.callback(lambda: made.plane.close())
        yield made


EVERYTHING = AccessSettings((), True, (AGENT4, AGENT6))


@pytest.mark.root
def test_sockets_follow_what_the_system_does(setup: Setup) -> None:
    setup.start(EVERYTHING)
    setup.heard(())
    setup.ip("link set wlan0 up")
    setup.ip("addr add 192.0.0.2/24 dev wlan0")
    setup.ip("route add default via 192.0.0.1 metric 600")  # as a DHCP client does it
    setup.heard(("wlan0",), ("wlan0/udp4", "192.0.0.2", 1500))
    setup.ip("addr add 2001:db8::2/64 dev wlan0 nodad")
    setup.ip("route add default via 2001:db8::1 metric 600")
    setup.heard(("wlan0/udp6", "2001:db8::2", 1500))
    # A better one comes, and goes.
    setup.ip("link set wwan0 up")
    setup.ip("addr add 192.0.1.2/24 dev wwan0")
    setup.ip("route add default via 192.0.1.1 metric 100")
    setup.heard(("wwan0", "wlan0"), ("wwan0/udp4", "192.0.1.2", 1500))
    setup.ip("route del default via 192.0.1.1")
    setup.heard(("wlan0",), ("wwan0/udp4", None, 1500))
    # Renumbering: another lease.
    setup.ip("addr add 192.0.0.3/24 dev wlan0")
    setup.ip("addr del 192.0.0.2/24 dev wlan0")  # the kernel takes the second with it, and the route
    setup.until(lambda: ("wlan0/udp4", None, 1500) in setup.node.told)
    setup.ip("addr add 192.0.0.3/24 dev wlan0")
    setup.ip("route add default via 192.0.0.1 metric 600")
    setup.until(lambda: ("wlan0/udp4", "192.0.0.3", 1500) in setup.node.told)
    setup.node.take()
    setup.ip("link set wlan0 mtu 1400")
    setup.until(lambda: len(setup.node.told) == 2)
    assert set(setup.node.take()) == {("wlan0/udp4", "192.0.0.3", 1400), ("wlan0/udp6", "2001:db8::2", 1400)}
    setup.ip("link del wlan0")
    setup.until(lambda: len(setup.node.told) == 3)
    assert set(setup.node.take()) == {("wlan0/udp4", None, 1400), ("wlan0/udp6", None, 1400), ()}
    assert setup.plane.links() == {}


@pytest.mark.root
def test_datagrams_go_to_a_home_agent_s_data_plane_and_back(setup: Setup) -> None:
    setup.ip("link set wlan0 up")
    setup.ip("addr add 192.0.0.2/24 dev wlan0")
    setup.ip("route add default via 192.0.0.1")
    setup.ip("addr add 2001:db8::2/64 dev wlan0 nodad")
    setup.ip("route add default via 2001:db8::1")
    plane = setup.start(EVERYTHING)
    setup.notes.wants_packets = True
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        with namespace.inside(setup.peer):
            agent = DataPlane(loop, Echo(), {}, Notes(), listen=((AGENT4, 4191), (AGENT6, 4191)))
            agent.start()
        stack.callback(agent.close)
        assert {name: dict(link)["address"] for name, link in agent.links().items()} == {  # type: ignore[call-overload]
            f"udp/{AGENT4}": f"{AGENT4}:4191",
            f"udp/{AGENT6}": f"[{AGENT6}]:4191",
        }
        for address, name in ((AGENT4, "wlan0/udp4"), (AGENT6, "wlan0/udp6")):
            plane.carry_out([Transmit(b"hello", endpoint(address, 4191), name)])
            deadline = time.monotonic() + 5
            while not setup.node.received and time.monotonic() < deadline:
                agent.turn(0.01)
                plane.turn(0.01)
            assert setup.node.received == [(name, b"hello", endpoint(address, 4191))]
            setup.node.received.clear()
        assert agent.packets[f"from-udp/{AGENT4}"] == agent.packets[f"to-udp/{AGENT4}"] == 1
        assert plane.packets["to-wlan0/udp6"] == plane.packets["from-wlan0/udp6"] == 1
    seen = [(where, outbound, packet[0] >> 4, packet[-5:]) for where, outbound, packet in setup.notes.packets]
    assert seen == [
        ("wlan0/udp4", True, 4, b"hello"),
        ("wlan0/udp4", False, 4, b"hello"),
        ("wlan0/udp6", True, 6, b"hello"),
        ("wlan0/udp6", False, 6, b"hello"),
    ]


@pytest.mark.root
def test_what_could_not_be_sent_stays_counted_when_the_socket_has_gone(setup: Setup) -> None:
    setup.ip("link set wlan0 up")
    setup.ip("addr add 192.0.0.2/24 dev wlan0")
    setup.ip("route add default via 192.0.0.1")
    plane = setup.start(EVERYTHING)
    plane.carry_out([Transmit(bytes(70000), endpoint(AGENT4, 4191), "wlan0/udp4")])
    setup.ip("link set wlan0 down")
    setup.until(lambda: ("wlan0/udp4", None, 1500) in setup.node.told)
    plane.carry_out([Transmit(b"x", endpoint(AGENT4, 4191), "wlan0/udp4")])
    assert plane.counters()["link_errors"] == {"wlan0/udp4": {"EMSGSIZE": 1}}
    assert plane.packets["lost-to-wlan0/udp4"] == 2


@pytest.mark.root
def test_a_carrier_that_is_lost_for_an_instant_means_a_new_socket(setup: Setup) -> None:
    setup.ip("link set wlan0 up")
    setup.ip("addr add 192.0.0.2/24 dev wlan0")
    setup.ip("route add default via 192.0.0.1")
    setup.start(EVERYTHING)
    setup.heard(("wlan0",), ("wlan0/udp4", "192.0.0.2", 1500))
    setup.ip("link set wlan0 down", setup.peer)
    setup.ip("link set wlan0 up", setup.peer)
    setup.until(lambda: ("wlan0/udp4", "192.0.0.2", 1500) in setup.node.told)
    told = [one for one in setup.node.take() if len(one) == 3]
    assert told == [("wlan0/udp4", None, 1500), ("wlan0/udp4", "192.0.0.2", 1500)]


@pytest.mark.root
def test_a_home_agent_hears_of_a_port_that_is_taken(setup: Setup) -> None:
    with namespace.inside(setup.peer), contextlib.ExitStack() as stack:
        planes = []
        for _ in range(2):
            loop = Loop()
            stack.callback(loop.close)
            planes.append(DataPlane(loop, Echo(), {}, Notes(), listen=((AGENT4, 4191),)))
            stack.callback(planes[-1].close)
        planes[0].start()
        with pytest.raises(OSError, match=f"port 4191 at {AGENT4} cannot be had: Address already in use; see udp"):
            planes[1].start()
    setup.start(EVERYTHING)


class Sleeper:
    """A clock that goes on during sleep, and the sum of all sleep."""

    def __init__(self) -> None:
        self.time, self.asleep = 100.0, 5.0

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.asleep += seconds


def test_a_node_is_told_when_the_machine_slept() -> None:
    loop, node, sleeper = Loop(), Terminal(), Sleeper()
    plane = DataPlane(loop, node, {}, Notes(), clock=lambda: sleeper.time, asleep=lambda: sleeper.asleep)
    plane.turn(0)
    sleeper.sleep(0.5)  # too short to matter
    plane.turn(0)
    assert node.resumptions == 0
    sleeper.sleep(3600)
    plane.turn(0)
    plane.turn(0)
    assert node.resumptions == 1
    node.timer = sleeper.time + 10
    sleeper.sleep(11)
    plane.turn(0)
    assert node.resumptions == 2
    assert [node.timer] == [None]
    loop.close()


def test_waiting_ends_soon_enough_to_notice_a_sleep() -> None:
    class Waits(Loop):
        def __init__(self) -> None:
            super().__init__()
            self.waits: list[float | None] = []

        def turn(self, timeout: float | None) -> None:
            self.waits.append(timeout)

    loop, node = Waits(), Terminal()
    plane = DataPlane(loop, node, {}, Notes(), clock=lambda: 100.0)
    plane.turn()
    node.timer = 100.5
    plane.turn()
    node.timer = 5000.0
    plane.turn()
    plane.turn(0.1)
    assert loop.waits == [data_plane.LONGEST_WAIT, 0.5, data_plane.LONGEST_WAIT, 0.1]
    loop.close()


def test_the_clock_counts_sleep() -> None:
    assert abs(data_plane.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0
    assert abs(data_plane.now() - data_plane.time_asleep() - time.monotonic()) < 1.0
