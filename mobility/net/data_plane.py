"""One process, one node: moves packets between a `Node`, its links and the host OS, and carries out what it answers."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from mobility.links import describe_endpoint
from mobility.net.access import Access, AccessSettings, Change
from mobility.net.loop import Loop
from mobility.net.monitor import LinkMonitor
from mobility.net.netlink import LinkState
from mobility.net.packet_socket import Link, PacketSocket
from mobility.net.tun import Tunnel
from mobility.net.tun_link import TunLink
from mobility.net.udp_socket import UdpSocket
from mobility.node import Node, NoticesSleep, PrefersInterfaces, SaysGoodbye, UsesUdp
from mobility.outputs import Deliver, Discarded, Event, Output, Transmit

log = logging.getLogger(__name__)

FAIR_SHARE = 64
"Packets taken from one descriptor before the others get their turn."
AFTER_FAILURE = 1.0
"Seconds until a timer whose handling failed is tried again."
SLEEP = 1.0
"Seconds of suspension that a node is told of."
LONGEST_WAIT = 2.0
"Seconds after which a sleep is noticed where nothing else wakes the process: waiting does not count while suspended."


def now() -> float:
    """Seconds since the machine was started, with those in which it was suspended: the clock of nodes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def time_asleep() -> float:
    """Seconds that the machine was suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Observer(Protocol):
    """Is told what happens; `mobility.trace.Trace` is one. Must not block."""

    @property
    def wants_packets(self) -> bool:
        """Whether `packet` is to be called: the hot path asks this first."""

    def packet(self, where: str, outbound: bool, packet: bytes, inside: bytes) -> None:
        """A packet passed ``where`` (name of a link, or ``host``); ``outbound`` seen from the node. ``inside``: what
        the node sees of it, which is less than the packet where a datagram is around it."""

    def carried_out(self) -> None:
        """What the node answered to the last packet is done. Only where `wants_packets`."""

    def discarded(self, discarded: Discarded) -> None: ...

    def event(self, event: Event) -> None: ...


class DataPlane:
    """Runs a node.

    ``interfaces`` are those it was built for, by link name. A change of their hardware address or MTU, and the end of
    the host OS, need a new node: then `must_restart` says why and the loop stops. ``route``: one of them that is open
    already, and that is made anew as well when the kernel takes it down. ``access``: what it may use by UDP
    (a node that `UsesUdp`). ``listen``: addresses and ports of the kernel where it gets datagrams, as links
    ``udp/ADDRESS``.
    """

    def __init__(
        self,
        loop: Loop,
        node: Node,
        interfaces: Mapping[str, LinkState],
        observer: Observer,
        *,
        tunnel: Tunnel | None = None,
        route: TunLink | None = None,
        access: AccessSettings | None = None,
        listen: Iterable[tuple[IPv4Address | IPv6Address, int]] = (),
        clock: Callable[[], float] = now,
        asleep: Callable[[], float] = time_asleep,
        open_link: Callable[[LinkState], Link] | None = None,
    ) -> None:
        self.node = node
        self.must_restart: str | None = None
        self.packets: Counter[str] = Counter()
        "Packets moved: ``from-host``, ``to-host``, ``from-LINK``, ``to-LINK``, and ``lost-to-...`` where not taken."
        self.discards: Counter[str] = Counter()
        "Packets that the node dropped, by reason."
        self._loop = loop
        self._interfaces = dict(interfaces)
        self._observer = observer
        self._tunnel = tunnel
        self._route = route
        self._clock = clock
        self._open_link = _open_packet_socket if open_link is None else open_link
        self._monitor = LinkMonitor(routes=access is not None)
        self._access = None if access is None else Access(access, self._monitor)
        self._order: tuple[str, ...] | None = None
        "Of interfaces, as the node was told."
        self._listen = tuple(listen)
        self._asleep = asleep
        self._asleep_before = asleep()
        self._links: dict[str, Link] = {}
        self._indexes: dict[str, int] = {}
        self._up: set[str] = set()
        self._carrier_losses: dict[str, int] = {}
        self._past_errors: dict[str, Counter[str]] = {}
        "Of links that were closed."
        self._not_before = 0.0

    def start(self) -> None:
        """Starts the node and opens its links as far as they exist. Raises OSError: not permitted to open a link, or
        another process has the port to listen at."""
        present = self._monitor.open()
        self._loop.watch(self._monitor, self._kernel_changed)
        if self._tunnel is not None:
            self._loop.watch(self._tunnel, self._host_ready)
        self.call(self.node.start)
        for address, port in self._listen:
            self._watch_link(_listening(address, port))
        self._follow(present)
        if self._not_before:
            raise RuntimeError("the node failed to start; the log above has the traceback")

    def run(self) -> None:
        """Until the loop is stopped."""
        while not self._loop.stopping:
            self.turn()

    def turn(self, longest: float | None = None) -> None:
        """One turn of the loop: waits for a packet or the node's timer, ``longest`` seconds at most."""
        due = self._due()
        wait = LONGEST_WAIT if longest is None else min(longest, LONGEST_WAIT)
        if due is not None:
            wait = min(wait, due - self._clock())
        self._loop.turn(wait)
        asleep = self._asleep()
        if asleep - self._asleep_before > SLEEP:
            log.info("the machine was suspended for %.0f seconds", asleep - self._asleep_before)
            self._asleep_before = asleep
            if isinstance(self.node, NoticesSleep):
                self.call(self.node.resumed)
        due = self._due()
        if due is not None and due <= self._clock():
            self.call(self.node.handle_timer)

    def now(self) -> float:
        """The time that the node is told."""
        return self._clock()

    def call(self, method: Callable[[float], list[Output]]) -> None:
        """Calls the node with the present time and carries out what it answers; exceptions are noted, not raised."""
        now = self._clock()
        try:
            self.carry_out(method(now))
        except Exception as error:
            self._not_before = now + AFTER_FAILURE
            self._loop.failed(error)

    def carry_out(self, outputs: list[Output]) -> None:
        """Does what the node answered."""
        packets, observer = self.packets, self._observer
        for output in outputs:
            if isinstance(output, Transmit):
                packet, to, name = output
                link = self._links.get(name)
                if link is not None and link.send(packet, to):
                    packets["to-" + name] += 1
                    if observer.wants_packets:
                        observer.packet(name, True, _as_packet(link, packet, to, outbound=True), packet)
                else:
                    packets["lost-to-" + name] += 1
            elif isinstance(output, Deliver):
                packet = output.packet
                if self._tunnel is not None and self._tunnel.send(packet):
                    packets["to-host"] += 1
                    if observer.wants_packets:
                        observer.packet("host", False, packet, packet)
                else:
                    packets["lost-to-host"] += 1
            elif isinstance(output, Discarded):
                self.discards[output.reason] += 1
                observer.discarded(output)
            elif isinstance(output, Event):
                observer.event(output)
            else:  # Arrived: the node did not want it itself
                packets["unclaimed"] += 1
        if observer.wants_packets:
            observer.carried_out()

    def snapshot(self) -> dict[str, object]:
        """The node's tables, JSON-ready. Raises what the node raises."""
        return self.node.snapshot(self._clock())

    def counters(self) -> dict[str, object]:
        """All counters of the I/O side, JSON-ready."""
        errors = {name: Counter(counts) for name, counts in self._past_errors.items()}
        for name, link in self._links.items():
            errors[name] = errors.get(name, Counter()) + _errors(link)
        return {
            "packets": dict(self.packets),
            "discards": dict(self.discards),
            "link_errors": {name: dict(counts) for name, counts in errors.items() if counts},
            "internal_errors": dict(self._loop.failures),
            "netlink_overruns": self._monitor.overruns,
        }

    def links(self) -> dict[str, object]:
        """The links as the kernel sees them, JSON-ready."""
        links: dict[str, object] = {
            name: {
                "up": name in self._up,
                "present": name in self._links,
                "address": state.address.hex(":"),
                "mtu": state.mtu,
            }
            for name, state in self._interfaces.items()
        }
        for name, link in self._links.items():
            if isinstance(link, UdpSocket):
                links[name] = {
                    "up": True,
                    "present": True,
                    "address": describe_endpoint(link.address),
                    "mtu": link.mtu,
                }
        return links

    def close(self) -> None:
        if isinstance(self.node, SaysGoodbye):
            self.call(self.node.stopping)
        for link in list(self._links.values()):
            self._close_link(link)
        if self._tunnel is not None:
            self._loop.unwatch(self._tunnel)
            self._tunnel.close()
            self._tunnel = None
        self._loop.unwatch(self._monitor)
        self._monitor.close()

    def _due(self) -> float | None:
        """When the node wants to be woken; not at once again after a failure."""
        try:
            timer = self.node.timer
        except Exception as error:
            self._not_before = self._clock() + AFTER_FAILURE
            self._loop.failed(error)
            return self._not_before
        return None if timer is None else max(timer, self._not_before)

    def _host_ready(self, _events: int) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            return
        try:
            arrived = tunnel.receive(FAIR_SHARE)
        except OSError as error:
            self._restart(f"the host OS has gone ({os.strerror(error.errno or 0)})")
            return
        self.packets["from-host"] += len(arrived)
        clock, from_host = self._clock, self.node.from_host
        for packet in arrived:
            if self._observer.wants_packets:
                self._observer.packet("host", True, packet, packet)
            try:
                self.carry_out(from_host(packet, clock()))
            except Exception as error:
                self._loop.failed(error)

    def _link_ready(self, link: Link) -> None:
        arrived = link.receive(FAIR_SHARE)
        name, clock, from_link = link.name, self._clock, self.node.from_link
        self.packets["from-" + name] += len(arrived)
        for packet, sender in arrived:
            if self._observer.wants_packets:
                self._observer.packet(name, False, _as_packet(link, packet, sender, outbound=False), packet)
            try:
                self.carry_out(from_link(name, packet, sender, clock()))
            except Exception as error:
                self._loop.failed(error)

    # ------------------------------------------------------------ following the kernel

    def _kernel_changed(self, _events: int) -> None:
        self._follow(self._monitor.read())

    def _follow(self, changes: Iterable[object]) -> None:
        for change in changes:
            if isinstance(change, LinkState):
                self._interface_changed(change)
        access = self._access
        if access is None:
            return
        order = access.order()
        if order != self._order and isinstance(self.node, PrefersInterfaces):
            prefers, self._order = self.node, order
            self.call(lambda now: prefers.interfaces_changed(order, now))
        self._access_changed(access.follow())

    def _access_changed(self, changes: Iterable[Change]) -> None:
        for change in changes:
            link, node = change.socket, self.node
            if change.former is not None:
                self._close_link(change.former)
            if link is not None and change.link not in self._links:
                self._watch_link(link)
            if isinstance(node, UsesUdp):
                self._tell(node, change)

    def _tell(self, node: UsesUdp, change: Change) -> None:
        address = None if change.socket is None else change.socket.local
        one = change.socket or change.former
        mtu = 0 if one is None else one.mtu
        self.call(lambda now: node.udp_changed(change.link, address, mtu, now))

    def _interface_changed(self, interface: LinkState) -> None:
        name = interface.name
        lost_in_between = interface.carrier_losses > self._carrier_losses.get(name, interface.carrier_losses)
        self._carrier_losses[name] = interface.carrier_losses
        if self._access is not None and (lost_in_between or not interface.up):
            self._access_changed(self._access.drop(name))
        for native, index in list(self._indexes.items()):
            if index == interface.index and native != name:  # renamed: ours is no longer there
                self._lost(native)
        built_for = self._interfaces.get(name)
        if built_for is None:
            return
        if self._is_route(name) and not interface.up:
            self._lost(name)
            return
        if interface.removed or self._indexes.get(name, interface.index) != interface.index:
            self._lost(name)
            if interface.removed:
                return
        if (interface.address, interface.mtu) != (built_for.address, built_for.mtu):
            self._restart(f"interface {name} has a new hardware address or MTU")
            return
        if interface.up and name not in self._links and not self._found(interface):
            return
        if interface.up and name in self._up and lost_in_between:
            self.call(lambda now: self.node.link_changed(name, False, now))
            self.call(lambda now: self.node.link_changed(name, True, now))
        if interface.up != (name in self._up):
            (self._up.add if interface.up else self._up.discard)(name)
            self.call(lambda now: self.node.link_changed(name, interface.up, now))

    def _found(self, interface: LinkState) -> bool:
        route = self._route
        try:
            link = self._open_link(interface) if route is None or not self._is_route(interface.name) else route
        except PermissionError:
            raise
        except OSError as error:  # gone again between the message and now
            log.warning("interface %s cannot be opened: %s", interface.name, error)
            return False
        self._watch_link(link)
        self._indexes[interface.name] = interface.index
        return True

    def _lost(self, name: str) -> None:
        link = self._links.get(name)
        self._indexes.pop(name, None)
        if link is not None:
            self._close_link(link)
        if name in self._up:
            self._up.discard(name)
            self.call(lambda now: self.node.link_changed(name, False, now))
        if self._is_route(name):
            self._restart(f"interface {name} was taken down or away, and the routes to it with it")

    def _is_route(self, name: str) -> bool:
        return self._route is not None and name == self._route.name

    def _watch_link(self, link: Link) -> None:
        self._links[link.name] = link
        self._loop.watch(link, lambda _events: self._link_ready(link))

    def _close_link(self, link: Link) -> None:
        self._past_errors.setdefault(link.name, Counter()).update(_errors(link))
        self._loop.unwatch(link)
        link.close()
        if self._links.get(link.name) is link:
            del self._links[link.name]

    def _restart(self, why: str) -> None:
        log.warning("%s: the data plane starts anew", why)
        self.must_restart = why
        self._loop.stop()


def _open_packet_socket(interface: LinkState) -> Link:
    link = PacketSocket(interface)
    link.open()
    return link


def _listening(address: IPv4Address | IPv6Address, port: int) -> UdpSocket:
    link = UdpSocket(f"udp/{address}", address, 1500, port=port, before_the_address=True)
    try:
        link.open()
    except OSError as error:
        why = f"port {port} at {address} cannot be had: {error.strerror}; see udp and udp_port in [home_agent]"
        raise OSError(error.errno, why) from error
    return link


def _errors(link: Link) -> Counter[str]:
    return link.errors if isinstance(link, PacketSocket | UdpSocket | TunLink) else Counter()


def _as_packet(link: Link, packet: bytes, other: bytes, *, outbound: bool) -> bytes:
    """What a capture shows: datagrams with their headers."""
    return link.wrapped(packet, other, outbound=outbound) if isinstance(link, UdpSocket) else packet
