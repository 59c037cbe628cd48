"""A network in memory and in simulated time: the twin of real links, for tests, experiments and benchmarks.

    world = World(seed=1)
    visited = world.segment("visited-a", delay=0.002, loss=0.01)
    world.add("mn", node)
    world.attach("mn", "wlan0", visited, mac)
    world.run(until=10.0)

UDP is in `mobility.net.memory_internet`. Nodes are `mobility.node.Node`s. Everything that happens is decided by the
seed: two runs are alike to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import count
from random import Random
from typing import TypeVar

from mobility.net.memory_impairments import Impaired
from mobility.net.memory_internet import Datagram, Endpoint, Gateway, Internet, Nat
from mobility.net.memory_nodes import EndHost, RouterInterface, SimRouter
from mobility.node import Node, UsesUdp
from mobility.outputs import Arrived, Deliver, Discarded, Event, Output, Transmit

__all__ = [
    "Datagram",
    "EndHost",
    "Endpoint",
    "Frame",
    "Internet",
    "Nat",
    "Port",
    "RouterInterface",
    "Segment",
    "SimRouter",
    "Station",
    "World",
]

_Event = TypeVar("_Event", bound=Event)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a capture on the segment saw it, before any impairment."""

    time: float
    segment: str
    source: bytes
    destination: bytes
    packet: bytes


@dataclass(eq=False, slots=True)
class Port:
    """A node's end of a segment. Frames under way to a port that was unplugged are lost."""

    station: Station
    link: str
    mac: bytes


@dataclass(eq=False)
class Segment(Impaired):
    """A layer 2 link. Frames longer than its MTU vanish, as on a real one."""

    frames: list[Frame] = field(default_factory=list)
    "The capture: every frame that was sent."
    ports: list[Port] = field(default_factory=list)

    def transmit(self, sender: Port, packet: bytes, to: bytes) -> None:
        """Carries a frame to the port with the address ``to``, or to all others when it is a group's."""
        if self.capturing:
            self.frames.append(Frame(self.world.now, self.name, sender.mac, to, packet))
        if len(packet) > self.mtu:
            self.lost += 1
            return
        for port in self.ports:
            if port is not sender and (to[0] & 1 or port.mac == to):
                self._carry(port, packet, sender.mac)

    def _carry(self, port: Port, packet: bytes, sender: bytes) -> None:
        for when in self.arrivals(port):
            self.world.at(when, lambda: self._arrive(port, packet, sender))

    def _arrive(self, port: Port, packet: bytes, sender: bytes) -> None:
        if port in self.ports:
            port.station.receive(port.link, packet, sender)
        else:
            self.lost += 1


class Station:
    """A node in the world, and the record of what it did."""

    def __init__(self, world: World, name: str, node: Node) -> None:
        self.world = world
        self.name = name
        self.node = node
        self.ports: dict[str, tuple[Segment, Port]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        "Sockets of UDP, by name of their link."
        self.kernels: dict[str, Station] = {}
        "Routers at the other end of links that are routes (`World.attach_route`)."
        self.host_side: Callable[[bytes], None] | None = None
        "Takes what is given to the host OS, in place of `delivered`."
        self.delivered: list[tuple[float, bytes]] = []
        "Packets given to the host OS, with their time."
        self.events: list[tuple[float, Event]] = []
        self.discards: list[tuple[float, Discarded]] = []
        self.arrived: list[tuple[float, bytes, str]] = []
        "Packets that the node left to its owner: none, when the node is a whole one."
        self._armed: float | None = None

    def receive(self, link: str, packet: bytes, sender: bytes) -> None:
        """A frame or a datagram arrived."""
        self.carry_out(self.node.from_link(link, packet, sender, self.world.now))

    def send(self, packet: bytes) -> None:
        """A program on the host OS sends a packet."""
        self.carry_out(self.node.from_host(packet, self.world.now))

    def carry_out(self, outputs: list[Output]) -> None:
        """Does what the node wants done, records it, and sets its alarm. Use it for the node's own methods too."""
        now = self.world.now
        for output in outputs:
            match output:
                case Transmit(packet, to, link):
                    if link in self.ports:
                        segment, port = self.ports[link]
                        segment.transmit(port, packet, to)
                    elif link in self.endpoints:
                        endpoint = self.endpoints[link]
                        endpoint.network.transmit(endpoint.here, to, packet)
                    elif link in self.kernels:
                        self.world.after(0.0, partial(self.kernels[link].send, packet))
                case Deliver(packet) if self.host_side is not None:
                    self.host_side(packet)
                case Deliver(packet):
                    self.delivered.append((now, packet))
                case Discarded():
                    self.discards.append((now, output))
                case Arrived(packet, link):
                    self.arrived.append((now, packet, link))
                case Event():
                    self.events.append((now, output))
        self._arm()

    def events_of(self, kind: type[_Event]) -> list[tuple[float, _Event]]:
        """The events of one kind, with their time."""
        return [(time, event) for time, event in self.events if isinstance(event, kind)]

    def _arm(self) -> None:
        wanted = self.node.timer
        if wanted is not None and (self._armed is None or wanted < self._armed):
            self._armed = wanted
            self.world.at(max(wanted, self.world.now), lambda: self._ring(wanted))

    def _ring(self, armed: float) -> None:
        if self._armed != armed:
            return  # an earlier alarm has taken over
        self._armed = None
        due = self.node.timer
        if due is not None and due <= self.world.now:
            self.carry_out(self.node.handle_timer(self.world.now))
        else:
            self._arm()


class World:
    """Clock, queue of what will happen, segments and stations."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.seed = seed
        self.dice = Random(f"{seed}/world")
        self.segments: dict[str, Segment] = {}
        self.internets: dict[str, Internet] = {}
        self.stations: dict[str, Station] = {}
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = count()

    def random_bytes(self, name: str) -> Callable[[int], bytes]:
        """A source of randomness for the node ``name``, independent of all others."""
        return Random(f"{self.seed}/{name}").randbytes

    # ---------------------------------------------------------------- building

    def segment(
        self,
        name: str,
        *,
        delay: float = 0.0005,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        reordering_delay: float = 0.01,
        mtu: int = 1500,
    ) -> Segment:
        """A new link. Raises `ValueError` when the name is taken."""
        if name in self.segments:
            raise ValueError(f"there is a segment {name} already; choose another name")
        segment = Segment(self, name, delay, jitter, loss, duplication, reordering, reordering_delay, mtu)
        self.segments[name] = segment
        return segment

    def internet(
        self,
        name: str,
        outside: Internet | str | None = None,
        *,
        delay: float = 0.0005,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        reordering_delay: float = 0.01,
        mtu: int = 1500,
    ) -> Internet:
        """A new network that carries datagrams; with ``outside`` an access network of that one, without translation.

        Raises `ValueError` when the name is taken.
        """
        self._is_free(name)
        impairments = (delay, jitter, loss, duplication, reordering, reordering_delay, mtu)
        network = self.internets[name] = Internet(self, name, *impairments)
        network.outside = None if outside is None else self._internet(outside)
        return network

    def nat(
        self,
        name: str,
        outside: Internet | str,
        public: IPv4Address,
        *,
        timeout: float = 120.0,
        strict: bool = False,
        delay: float = 0.0005,
        jitter: float = 0.0,
        loss: float = 0.0,
        mtu: int = 1500,
    ) -> Nat:
        """A new access network behind a box that translates its IPv4 endpoints to ``public``; see `Nat`.

        Raises `ValueError` when the name or the address is taken.
        """
        self._is_free(name)
        box = Nat(self, name, delay, jitter, loss, mtu=mtu, timeout=timeout, strict=strict)
        box.outside = self._internet(outside)
        box.plug_in(public)
        self.internets[name] = box
        return box

    def _is_free(self, name: str) -> None:
        if name in self.internets:
            raise ValueError(f"there is an internet {name} already; choose another name")

    def gateway(self, router: str, internet: Internet | str, networks: Sequence[IPv6Network]) -> None:
        """Joins an internet to the segments at a `SimRouter`: there, ``networks`` are those of the internet."""
        station, joined = self.stations[router], self._internet(internet)
        if not isinstance(station.node, SimRouter):
            raise ValueError(f"{router} is no SimRouter")
        gateway = Gateway(joined, station, networks)
        joined.gateways.append(gateway)
        station.node.beyond += tuple(networks)
        station.host_side = gateway.outbound

    def add(self, name: str, node: Node) -> Station:
        """Puts a node into the world and starts it. Raises `ValueError` when the name is taken."""
        if name in self.stations:
            raise ValueError(f"there is a node {name} already; choose another name")
        station = self.stations[name] = Station(self, name, node)
        station.carry_out(node.start(self.now))
        return station

    def remove(self, name: str) -> None:
        """The node dies without a word: its frames under way stay, nothing reaches it any more."""
        station = self.stations.pop(name)
        for segment, port in station.ports.values():
            segment.ports.remove(port)
        station.ports.clear()
        for kernel in station.kernels.values():
            kernel.host_side = None
        for endpoint in station.endpoints.values():
            endpoint.network.close(endpoint)
        station.endpoints.clear()

    def attach(self, name: str, link: str, segment: Segment | str, mac: bytes) -> Port:
        """Plugs a node's link into a segment: carrier up. Raises `ValueError` when the link is plugged in already."""
        station = self.stations[name]
        target = self._segment(segment)
        if link in station.ports:
            raise ValueError(f"{name}: link {link} is on {station.ports[link][0].name}; detach it first, or move it")
        port = Port(station, link, mac)
        target.ports.append(port)
        station.ports[link] = (target, port)
        station.carry_out(station.node.link_changed(link, True, self.now))
        return port

    def detach(self, name: str, link: str) -> bytes:
        """Pulls the plug: carrier down. Answers the link-layer address. Raises `KeyError` when it is not plugged in."""
        station = self.stations[name]
        mac = self._unplug(station, link)
        station.carry_out(station.node.link_changed(link, False, self.now))
        return mac

    def move(self, name: str, link: str, segment: Segment | str, *, gap: float = 0.0, silent: bool = False) -> None:
        """Takes a link to another segment, ``gap`` seconds without any between (break before make).

        ``silent``: the node is not told that its carrier went and came.
        """
        target = self._segment(segment)
        station = self.stations[name]
        if silent:
            port = Port(station, link, self._unplug(station, link))
            target.ports.append(port)
            station.ports[link] = (target, port)
            return
        mac = self.detach(name, link)
        if gap > 0:
            self.after(gap, lambda: self.attach(name, link, target, mac))
        else:
            self.attach(name, link, target, mac)

    def attach_route(self, name: str, link: str, router: str, networks: Sequence[IPv6Network]) -> None:
        """Routes ``networks`` from a `SimRouter`, as the kernel of a node's machine, to that node: carrier up."""
        station, kernel = self.stations[name], self.stations[router]
        if not isinstance(kernel.node, SimRouter):
            raise ValueError(f"{router} is no SimRouter")
        kernel.node.beyond = tuple(dict.fromkeys((*kernel.node.beyond, *networks)))
        kernel.host_side = lambda packet: self.after(0.0, lambda: station.receive(link, packet, b""))
        station.kernels[link] = kernel
        station.carry_out(station.node.link_changed(link, True, self.now))

    def attach_udp(
        self,
        name: str,
        link: str,
        internet: Internet | str,
        address: IPv4Address | IPv6Address,
        port: int = 0,
    ) -> Endpoint:
        """Opens a node's socket of UDP on a network and tells the node (`UsesUdp`); ``port`` 0: a free one.

        Raises `ValueError` when the link has a socket already, or the endpoint is taken.
        """
        station, network = self.stations[name], self._internet(internet)
        if link in station.endpoints:
            raise ValueError(f"{name}: {link} is on {station.endpoints[link].network.name}; detach it first")
        opened = station.endpoints[link] = network.open(station, link, address, port)
        if isinstance(station.node, UsesUdp):
            station.carry_out(station.node.udp_changed(link, address, network.mtu, self.now))
        return opened

    def detach_udp(self, name: str, link: str) -> None:
        """Closes a node's socket: the network is left. Raises `KeyError` when there is none."""
        station = self.stations[name]
        opened = station.endpoints.pop(link)
        opened.network.close(opened)
        if isinstance(station.node, UsesUdp):
            station.carry_out(station.node.udp_changed(link, None, opened.network.mtu, self.now))

    def move_udp(
        self,
        name: str,
        link: str,
        internet: Internet | str,
        address: IPv4Address | IPv6Address,
        port: int = 0,
        *,
        gap: float = 0.0,
    ) -> None:
        """A node's socket on another network, or with another address; ``gap`` seconds without any in between."""
        self.detach_udp(name, link)
        if gap > 0:
            self.after(gap, lambda: self.attach_udp(name, link, internet, address, port))
        else:
            self.attach_udp(name, link, internet, address, port)

    def _unplug(self, station: Station, link: str) -> bytes:
        segment, port = station.ports.pop(link)
        segment.ports.remove(port)
        return port.mac

    def _segment(self, segment: Segment | str) -> Segment:
        return self.segments[segment] if isinstance(segment, str) else segment

    def _internet(self, internet: Internet | str) -> Internet:
        return self.internets[internet] if isinstance(internet, str) else internet

    # ---------------------------------------------------------------- time

    def at(self, time: float, action: Callable[[], object]) -> None:
        """``action`` happens at ``time``. Raises `ValueError` when that is over."""
        if time < self.now:
            raise ValueError(f"{time} is over: it is {self.now}")
        heappush(self._queue, (time, next(self._serial), action))

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """``action`` happens ``delay`` seconds from now."""
        self.at(self.now + delay, action)

    def every(self, interval: float, action: Callable[[], object], *, until: float) -> None:
        """``action`` happens now and every ``interval`` seconds before ``until``."""
        times = max(0, int((until - self.now) / interval + 1 - 1e-9))
        for number in range(times):
            self.at(self.now + number * interval, action)

    def run(self, until: float) -> None:
        """Lets everything happen up to and including ``until``, which is `now` afterwards."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heappop(self._queue)
            action()
        self.now = max(self.now, until)

    def run_until(self, condition: Callable[[], bool], *, limit: float) -> bool:
        """Runs until ``condition()`` holds, at most to the time ``limit``. Whether it holds."""
        while not condition():
            if not self._queue or self._queue[0][0] > limit:
                self.now = max(self.now, limit)
                return condition()
            self.now, _, action = heappop(self._queue)
            action()
        return True

    @property
    def frames(self) -> list[Frame]:
        """The captures of all segments in order of time."""
        return sorted((f for segment in self.segments.values() for f in segment.frames), key=lambda f: f.time)
