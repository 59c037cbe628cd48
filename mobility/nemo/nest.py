"""Tunnels inside tunnels at the home agent (Fig. 36): one header, and one ESP, for each binding on the way.

To the home agent the place of a terminal is just an address that packets are sent to. Where that address is itself
behind a tunnel (in a mobile network, or the home address of a node that is away), the outer packet is put into that
one, and so on: `Nest` is the home link as everything in the home agent sees it, data and signalling alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.mipv6.home_paths import HomeLink
from mobility.nemo.mobile_networks import Prefixes
from mobility.outputs import Output

NESTING_LIMIT = 4
"Mobile networks that a place may be in, one inside the other; as many as RFC 2473 section 6.7 lets tunnels nest."


class Carrier(Protocol):
    """A node that is away, with its tunnel."""

    home: bytes

    def room(self) -> int: ...

    def send(self, packet: bytes, now: float) -> list[Output]: ...

    def places(self) -> Iterable[bytes]:
        """Addresses of 16 octets at which it is bound."""


class NestingRefused(Exception):
    """A place where a node cannot be bound: the text says why."""


class Nest:
    """A `HomeLink` that knows which addresses are behind tunnels."""

    def __init__(self, link: HomeLink, carrier: Callable[[bytes], Carrier | None]) -> None:
        """``carrier``: whose tunnel leads to an address; None: nobody's, it is reached by the link."""
        self.link = link.link
        self.has_neighbours = link.has_neighbours
        self.add_proxy = link.add_proxy
        self.remove_proxy = link.remove_proxy
        self.send_via = link.send_via
        self.receive_inner = link.receive_inner
        self.split = link.split
        self._link = link
        self._carrier = carrier
        self._under_way: list[Carrier] = []
        "Whose tunnels the packet that is being sent is in already, the innermost first."

    def next_hop(self, destination: bytes) -> bytes | None:
        """As `HomeLink`; None as well for what has to go into a tunnel."""
        return None if self._carrier(destination) is not None else self._link.next_hop(destination)

    def path_mtu(self, destination: bytes) -> int:
        """Octets of the largest packet to ``destination``, through all tunnels on the way."""
        carrier = self._carrier(destination)
        if carrier is None or carrier in self._under_way:
            return self._link.path_mtu(destination)
        self._under_way.append(carrier)
        try:
            return min(carrier.room(), self._link.path_mtu(destination))
        finally:
            self._under_way.pop()

    def send(self, packet: bytes, now: float) -> list[Output]:
        """A packet of the home agent's own to wherever its destination is (headers 352, 353 of Fig. 36).

        Raises `Discard`: TUNNEL_LOOP, NESTING_LIMIT, and as the tunnels on the way do.
        """
        carrier = self._carrier(packet[24:40])
        if carrier is None:
            return self._link.send(packet, now)
        if carrier in self._under_way:
            raise Discard(Reason.TUNNEL_LOOP, f"the way to {IPv6Address(carrier.home)} leads through its own tunnel")
        if len(self._under_way) >= NESTING_LIMIT:
            raise Discard(Reason.NESTING_LIMIT, f"to {IPv6Address(packet[24:40])}")
        self._under_way.append(carrier)
        try:
            room = min(carrier.room(), self._link.path_mtu(packet[24:40]))
            if len(packet) <= room:
                return carrier.send(packet, now)
            # The entry point of a tunnel splits what it has made too long, and the tunnel's end puts it together.
            return [output for piece in self._link.split(packet, room) for output in carrier.send(piece, now)]
        finally:
            self._under_way.pop()

    def check_place(self, place: bytes, node: Carrier, networks: Prefixes, depth: int = 0) -> None:
        """Whether ``node`` may be bound at an address, and take along these networks. Raises `NestingRefused`."""
        if place == node.home or place in networks:
            raise NestingRefused(
                f"a loop: the way to {IPv6Address(place)} leads through {IPv6Address(node.home)} itself"
            )
        carrier = self._carrier(place)
        if carrier is None or carrier is node:
            return
        if depth >= NESTING_LIMIT:
            raise NestingRefused(f"it is inside more than {NESTING_LIMIT} mobile networks")
        for each in carrier.places():
            self.check_place(each, node, networks, depth + 1)
