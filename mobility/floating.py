"""The IPv4 addresses that terminals send datagrams to: they are where the home agent that serves is.

The kernel has each as a loan of some seconds that is renewed as long as this process serves and turns its loop. So a
home agent that is killed or hangs loses them without anybody's doing, and the kernel of its machine does not go on
answering for them beside the home agent that took over.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from struct import Struct

from mobility.net.netlink import RouteSocket

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


class FloatingAddresses:
    """Nothing of it raises: an address that cannot be had is told, and tried again."""

    def __init__(self, interface: str, addresses: Iterable[IPv4Address]) -> None:
        self.held = False
        self._interface = interface
        self._addresses = tuple(addresses)
        self._announcements = 0
        self._next = 0.0
        self._complaint = ""

    def take(self, now: float) -> None:
        """This home agent serves: the addresses are here, and neighbours are told."""
        self.held = True
        self._announcements = ANNOUNCEMENTS
        self._renew(now)

    def leave(self) -> None:
        """Another one serves, or nobody does."""
        self.held = False
        try:
            with RouteSocket() as route:
                index = socket.if_nametoindex(self._interface)
                for address in self._addresses:
                    route.remove_address(index, str(address), 32)
        except OSError as error:
            self._complain(error)

    def turned(self, now: float) -> None:
        """To be called with every turn of the loop."""
        if self.held and now >= self._next:
            self._renew(now)

    def _renew(self, now: float) -> None:
        self._next = now + RENEWAL
        try:
            with RouteSocket() as route:
                index = socket.if_nametoindex(self._interface)
                for address in self._addresses:
                    route.lend_address(index, str(address), 32, LOAN)
                if self._announcements:
                    self._announcements -= 1
                    self._announce(next(link.address for link in route.links() if link.index == index))
            self._complaint = ""
        except OSError as error:
            self._complain(error)

    def _announce(self, own: bytes) -> None:
        """A gratuitous ARP request each (RFC 5227 section 2.3): neighbours overwrite what they know."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_PACKET, kind, 0) as out:
            out.bind((self._interface, 0))
            for address in self._addresses:
                out.send(announcement(own, address))

    def _complain(self, error: OSError) -> None:
        text = str(error)
        if text != self._complaint:
            self._complaint = text
            log.error("udp_interface %s: %s; terminals on IPv4 may not reach this home agent", self._interface, text)


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
