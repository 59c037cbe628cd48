"""A network in memory and in simulated time: the twin of real links, for tests, experiments and benchmarks.

    world = World(seed=1)
    visited = world.segment("visited-a", delay=0.002, loss=0.01)
    world.add("mn", node)
    world.attach("mn", "wlan0", visited, mac)
    world.run(until=10.0)

Nodes are `mobility.node.Node`s. Everything that happens is decided by the seed: two runs are alike to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeVar

from mobility.net.memory_nodes import EndHost, RouterInterface, SimRouter
from mobility.node import Node
from mobility.outputs import Arrived, Deliver, Discarded, Event, Output, Transmit

__all__ = ["EndHost", "Frame", "Port", "RouterInterface", "Segment", "SimRouter", "Station", "World"]

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
    latest: float = 0.0
    "When the latest frame in order arrives; a later one must not overtake it by jitter alone."


@dataclass(eq=False)
class Segment:
    """A layer 2 link. The parameters may be changed at any time; they hold for frames sent from then on."""

    world: World
    name: str
    delay: float = 0.0005
    "Seconds from sender to receiver."
    jitter: float = 0.0
    "Up to so many seconds more, at random, without changing the order."
    loss: float = 0.0
    "Probability for each frame and receiver; likewise the next two."
    duplication: float = 0.0
    reordering: float = 0.0
    "Such a frame is held back by ``reordering_delay``, so that later ones overtake it."
    reordering_delay: float = 0.01
    mtu: int = 1500
    "Octets of IPv6 packet; longer frames vanish, as on a real link."
    frames: list[Frame] = field(default_factory=list)
    "The capture: every frame that was sent."
    capturing: bool = True
    "False: nothing is kept, for runs of many packets."
    lost: int = 0
    ports: list[Port] = field(default_factory=list)

    def transmit(self, sender: Port, packet: bytes, to: bytes) -> None:
        """Carries a frame to the port with the address ``to``, or to all others when it is a group's."""
        world = self.world
        if self.capturing:
            self.frames.append(Frame(world.now, self.name, sender.mac, to, packet))
        if len(packet) > self.mtu:
            self.lost += 1
            return
        for port in self.ports:
            if port is not sender and (to[0] & 1 or port.mac == to):
                self._carry(port, packet, sender.mac)

    def _carry(self, port: Port, packet: bytes, sender: bytes) -> None:
        dice = self.world.dice
        if dice.random() < self.loss:
            self.lost += 1
            return
        for _ in range(2 if dice.random() < self.duplication else 1):
            when = self.world.now + self.delay + self.jitter * dice.random()
            if dice.random() < self.reordering:
                when += self.reordering_delay
            else:
                port.latest = when = max(when, port.latest)
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
        self.delivered: list[tuple[float, bytes]] = []
        "Packets given to the host OS, with their time."
        self.events: list[tuple[float, Event]] = []
        self.discards: list[tuple[float, Discarded]] = []
        self.arrived: list[tuple[float, bytes, str]] = []
        "Packets that the node left to its owner: none, when the node is a whole one."
        self._armed: float | None = None

    def receive(self, link: str, packet: bytes, sender: bytes) -> None:
        """A frame arrived."""
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

    def _unplug(self, station: Station, link: str) -> bytes:
        segment, port = station.ports.pop(link)
        segment.ports.remove(port)
        return port.mac

    def _segment(self, segment: Segment | str) -> Segment:
        return self.segments[segment] if isinstance(segment, str) else segment

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
