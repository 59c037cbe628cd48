"""What the kernel has as long as this home agent serves: addresses that terminals send datagrams to, and routes.

The kernel has each address as a loan of some seconds that is renewed as long as this process serves and turns its loop.
So a home agent that is killed or hangs loses them without anybody's doing, and the kernel of its machine does not go on
answering for them beside the home agent that took over. Routes go with the TUN device that they lead to, which a
process that hangs has until it is killed.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Network
from struct import Struct

from mobility.net.netlink import FIRST_METRIC, RouteSocket

log = logging.getLogger(__name__)

LOAN = 2
"Seconds. The kernel looks four times a second."
RENEWAL = 0.5
"Seconds."
ANNOUNCEMENTS = 3
_BROADCAST = b"\xff" * 6
_ETHERTYPE = 0x0806
_ARP = Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1


class Floating:
    """Nothing of it raises: what cannot be had is told, and tried again. A subclass knows what it is."""

    def __init__(self, interface: str, key: str, consequence: str) -> None:
        """``key``: of the configuration, that names the interface; ``consequence``: of not having it."""
        self.held = False
        self._interface = interface
        self._key = key
        self._consequence = consequence
        self._next = 0.0
        self._complaint = ""

    def take(self, now: float) -> None:
        """This home agent serves."""
        self.held = True
        self._renew(now)

    def leave(self) -> None:
        """Another one serves, or nobody does."""
        self.held = False
        try:
            index = socket.if_nametoindex(self._interface)
        except OSError:
            return  # the interface has gone, and took it along
        try:
            with RouteSocket() as route:
                self._remove(route, index)
        except OSError as error:
            self._complain(error)

    def turned(self, now: float) -> None:
        """To be called with every turn of the loop."""
        if self.held and now >= self._next:
            self._renew(now)

    def _add(self, route: RouteSocket, index: int) -> None:
        """Has the kernel have it, or have it longer. Raises OSError."""
        raise NotImplementedError

    def _remove(self, route: RouteSocket, index: int) -> None:
        """Raises OSError."""
        raise NotImplementedError

    def _renew(self, now: float) -> None:
        self._next = now + RENEWAL
        try:
            with RouteSocket() as route:
                self._add(route, socket.if_nametoindex(self._interface))
            self._complaint = ""
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        text = str(error)
        if text != self._complaint:
            self._complaint = text
            log.error("%s %s: %s; %s", self._key, self._interface, text, self._consequence)


class FloatingAddresses(Floating):
    """IPv4 addresses at which the home agent listens; neighbours are told where they are now."""

    def __init__(self, interface: str, addresses: Iterable[IPv4Address]) -> None:
        super().__init__(interface, "udp_interface", "terminals on IPv4 may not reach this home agent")
        self._addresses = tuple(addresses)
        self._announcements = 0

    def take(self, now: float) -> None:
        self._announcements = ANNOUNCEMENTS
        super().take(now)

    def _add(self, route: RouteSocket, index: int) -> None:
        for address in self._addresses:
            route.lend_address(index, str(address), 32, LOAN)
        if self._announcements:
            self._announcements -= 1
            self._announce(next(link.address for link in route.links() if link.index == index))

    def _remove(self, route: RouteSocket, index: int) -> None:
        for address in self._addresses:
            route.remove_address(index, str(address), 32)

    def _announce(self, own: bytes) -> None:
        """A gratuitous ARP request each (RFC 5227 section 2.3): neighbours overwrite what they know."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_PACKET, kind, 0) as out:
            out.bind((self._interface, 0))
            for address in self._addresses:
                out.send(announcement(own, address))


class FloatingRoutes(Floating):
    """Prefixes whose packets the kernel hands over by an interface; a route that somebody removed comes again."""

    def __init__(self, interface: str, prefixes: Iterable[IPv6Network]) -> None:
        super().__init__(interface, "home_agent.interface", "no packets for terminals come here")
        self._prefixes = tuple(prefixes)

    def _add(self, route: RouteSocket, index: int) -> None:
        for prefix in self._prefixes:
            route.add_route(index, prefix, FIRST_METRIC)

    def _remove(self, route: RouteSocket, index: int) -> None:
        for prefix in self._prefixes:
            route.remove_route(index, prefix, FIRST_METRIC)


def announcement(own: bytes, address: IPv4Address) -> bytes:
    """The frame that tells a link that this address is at this hardware address now."""
    return _ARP.pack(
        _BROADCAST,
        own,
        _ETHERTYPE,
        _ETHERNET,
        _IPV4,
        6,
        4,
        _REQUEST,
        own,
        address.packed,
        bytes(6),
        address.packed,
    )
