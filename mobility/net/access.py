"""Which sockets of UDP a terminal has: one for each interface and version of IP by which its home agent can be reached.

The kernel does the networking here (DHCP, router advertisements, routes are the business of the system); this follows
what it tells and never changes anything.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

from mobility.links import MOBILITY_PORT, udp_link
from mobility.net.netlink import AddressState, LinkState, RouteState
from mobility.net.udp_socket import IP_MTU, IPV6_MTU, UdpSocket, udp_socket

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """What a terminal may use."""

    interfaces: tuple[str, ...]
    "By name, the preferred one first."
    others: bool
    "All others with a default route, too; by its metric."
    agents: tuple[Address, ...]
    "The home agent: at most one address of each version of IP."
    port: int = MOBILITY_PORT
    native: frozenset[str] = frozenset()
    "Interfaces on which the node speaks IPv6 itself: there is no UDP over IPv6 on them."


class Kernel(Protocol):
    """What the kernel has; `mobility.net.monitor.LinkMonitor`."""

    @property
    def links(self) -> Iterable[LinkState]: ...

    @property
    def addresses(self) -> Iterable[AddressState]: ...

    @property
    def routes(self) -> Iterable[RouteState]: ...


@dataclass(frozen=True, slots=True)
class Reach:
    """How the kernel would send to a home agent."""

    address: Address
    "The source address."
    mtu: int
    "Octets of IP packet."


Probe = Callable[[str, Address, int], Reach | None]
"Interface, home agent, port."


@dataclass(frozen=True, slots=True)
class _Place:
    interface: str
    index: int
    address: Address
    mtu: int


@dataclass(frozen=True, slots=True)
class Change:
    """``socket``: of the link from now on, open already; None: it has none any more."""

    link: str
    socket: UdpSocket | None
    former: UdpSocket | None
    "The one before, which the receiver of this closes; None: there was none, or it is the same."


class Access:
    """Opens sockets, and says which are to be closed, as links, addresses and routes come and go."""

    def __init__(
        self,
        settings: AccessSettings,
        kernel: Kernel,
        *,
        probe: Probe | None = None,
        open_socket: Callable[[UdpSocket], None] = UdpSocket.open,
        strict: Callable[[str], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._kernel = kernel
        self._probe = ask_kernel if probe is None else probe
        self._open_socket = open_socket
        self._strict = filters_strictly if strict is None else strict
        self._warned: set[str] = set()
        self._held: dict[str, tuple[_Place, UdpSocket]] = {}

    def order(self) -> tuple[str, ...]:
        """All interfaces that may be used, the preferred one first."""
        settings = self._settings
        if not settings.others:
            return settings.interfaces
        names = {link.index: link.name for link in self._kernel.links if link.name != LOOPBACK}
        metrics: dict[str, int] = {}
        for route in self._kernel.routes:
            name = names.get(route.index)
            if route.default and name is not None and name not in settings.interfaces:
                metrics[name] = min(route.metric, metrics.get(name, route.metric))
        return (*settings.interfaces, *sorted(metrics, key=lambda name: (metrics[name], name)))

    def follow(self) -> list[Change]:
        """Makes the sockets what they should be now; tells of those that are others than before or have another MTU."""
        wanted = self._wanted()
        changes: list[Change] = []
        for link, (place, held) in list(self._held.items()):
            if link not in wanted:
                del self._held[link]
                changes.append(Change(link, None, held))
            elif (wanted[link].index, wanted[link].address) == (place.index, place.address):
                if wanted[link].mtu != held.mtu:
                    held.mtu = wanted[link].mtu
                    changes.append(Change(link, held, None))
                self._held[link] = (wanted.pop(link), held)
        for link, place in wanted.items():
            changes += self._replace(link, place)
        return changes

    def drop(self, interface: str) -> list[Change]:
        """Gives up the sockets of an interface that may be in another network now."""
        dropped = [link for link, (place, _) in self._held.items() if place.interface == interface]
        return [Change(link, None, self._held.pop(link)[1]) for link in dropped]

    def _wanted(self) -> dict[str, _Place]:
        links = {link.name: link for link in self._kernel.links if link.up}
        wanted: dict[str, _Place] = {}
        for name in self.order():
            link = links.get(name)
            for agent in self._settings.agents if link is not None else ():
                if agent.version == 6 and name in self._settings.native:
                    continue
                place = None if link is None else self._place(link, agent)
                if place is not None:
                    wanted[udp_link(name, agent.version)] = place
        return wanted

    def _place(self, link: LinkState, agent: Address) -> _Place | None:
        # IPv4 takes a home agent for a neighbour where no route leads to it through the interface: hence the first.
        if not any(route.index == link.index and agent in route.destination for route in self._kernel.routes):
            return None
        reach = self._probe(link.name, agent, self._settings.port)
        if reach is None:
            return None
        present = {
            state.address: state
            for state in self._kernel.addresses
            if state.index == link.index and state.address.version == agent.version and state.usable
        }
        held = self._held.get(udp_link(link.name, agent.version))
        chosen = [] if held is None else [held[0].address]
        candidates = [*chosen, reach.address, *present]
        fresh = [address for address in candidates if address in present and not present[address].deprecated]
        usable = fresh or [address for address in candidates if address in present]
        if not usable:
            return None
        return _Place(link.name, link.index, usable[0], min(link.mtu, reach.mtu))

    def _replace(self, link: str, place: _Place) -> list[Change]:
        opened = UdpSocket(link, place.address, place.mtu, device=place.interface)
        held = self._held.pop(link, None)
        former = None if held is None else held[1]
        try:
            self._open_socket(opened)
        except OSError as error:  # gone again between the message and now: another one will come
            log.info("no socket on %s with %s: %s", place.interface, place.address, error.strerror)
            return [] if former is None else [Change(link, None, former)]
        self._held[link] = (place, opened)
        self._warn_of_filter(place)
        return [Change(link, opened, former)]

    def _warn_of_filter(self, place: _Place) -> None:
        name = place.interface
        if place.address.version == 6 or name in self._warned or len(self.order()) < 2 or not self._strict(name):
            return
        self._warned.add(name)
        log.warning(
            "what comes by %s is dropped while another interface has the better route: as root,"
            " sysctl -w net.ipv4.conf.all.rp_filter=2 (RFC 3704: loose instead of strict)",
            name,
        )


def filters_strictly(interface: str) -> bool:
    """Whether the kernel takes IPv4 packets only by the interface by which it would answer (RFC 3704 section 2.2)."""
    try:
        modes = [int(Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").read_text()) for name in ("all", interface)]
    except (OSError, ValueError):
        return False
    return max(modes) == 1


def ask_kernel(interface: str, agent: Address, port: int) -> Reach | None:
    """What the kernel's routes, address selection and knowledge of the path say; None: there is no way."""
    six = isinstance(agent, IPv6Address)
    try:
        with udp_socket(agent, interface) as probe:
            probe.connect((str(agent), port))
            own = probe.getsockname()[0]
            if six:
                return Reach(IPv6Address(own.partition("%")[0]), probe.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU))
            return Reach(IPv4Address(own), probe.getsockopt(socket.IPPROTO_IP, IP_MTU))
    except OSError:
        return None
