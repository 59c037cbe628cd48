"""A user-space IPv6 node on a link that is not physical: prefixes that are routed to its machine."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Reason
from mobility.host.interface import Interface
from mobility.host.node import Ipv6Node
from mobility.outputs import Output
from mobility.wire import ip6

NO_NEIGHBOUR = b""
"In place of a link-layer address: the kernel of the machine is at the other end, and finds the way."


class RoutedHost(Ipv6Node):
    """One node at the end of a route. It has no neighbours: nobody to resolve, to defend an address against, to hear.

    Everything that it sends goes to the kernel of its machine. What comes and is for no address of ours is the owner's
    (`Arrived`), as soon as the node has an address; until then it is dropped.
    """

    has_neighbours = False

    def __init__(self, link: str, mtu: int, random: Callable[[int], bytes]) -> None:
        """Raises `ValueError`: an MTU that is too small for IPv6."""
        self._lengths: dict[bytes, int] = {}
        super().__init__(Interface(link, NO_NEIGHBOUR, mtu, random), set(), set())

    # ---------------------------------------------------------------- entry points

    def link_changed(self, up: bool, now: float) -> list[Output]:
        """The interface of the kernel came or went."""
        self._interface.up = up
        if not up:
            self._path_mtus.clear()
        return self._finish()

    def send_via(self, packet: bytes, hop: bytes, now: float) -> list[Output]:
        """As `send`: there are no neighbours."""
        return self.send(packet, now)

    def next_hop(self, destination: bytes) -> bytes | None:
        """As `Host.next_hop`; it is always the kernel."""
        return NO_NEIGHBOUR if self._interface.up and destination not in self._usable else None

    def add_address(
        self, address: IPv6Address, now: float, *, prefix_length: int = 64, quiet: bool = False
    ) -> list[Output]:
        """An address of ours from now on. ``quiet``: makes no difference, there is nobody to be told."""
        self._lengths[address.packed] = prefix_length
        self._usable.add(address.packed)
        return self._finish()

    def remove_address(self, address: IPv6Address, now: float) -> list[Output]:
        """Takes an address away. One that is not there is left alone."""
        self._usable.discard(address.packed)
        self._lengths.pop(address.packed, None)
        return self._finish()

    def announce(self, address: IPv6Address, now: float) -> list[Output]:
        """Nobody is there to be told."""
        return self._finish()

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """Packets for this address take the short way to the owner."""
        self._proxied.add(address.packed)
        return self._finish()

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """No more."""
        self._proxied.discard(address.packed)
        return self._finish()

    def source_for(self, destination: bytes) -> bytes | None:
        """The first address of ours."""
        return next(iter(self._lengths), None)

    def snapshot(self, now: float) -> dict[str, object]:
        """As that of `Host`, as far as it goes."""
        interface = self._interface
        return {
            "link": self.link,
            "up": interface.up,
            "mtu": interface.mtu,
            "addresses": [
                {"address": str(IPv6Address(address)), "prefix_length": length}
                for address, length in self._lengths.items()
            ],
            "proxied": sorted(str(IPv6Address(address)) for address in self._proxied),
            "path_mtus": self._path_mtus.snapshot(now),
            "counters": {"arrived": self._arrived, **interface.counters},
        }

    # ---------------------------------------------------------------- inside

    def _leave(self, packet: bytes, source: bytes, now: float) -> None:
        destination = packet[24:40]
        if not ip6.forwardable(destination):
            self._interface.discard(Reason.NO_ROUTE, f"to {IPv6Address(destination)}, which is only for neighbours")
            return
        for piece in self._fit(packet, destination):
            self._interface.transmit(piece, NO_NEIGHBOUR)

    def _receive_other(self, packet: bytes, sender: bytes, now: float) -> None:
        destination = packet[24:40]
        if not ip6.forwardable(destination):
            self._interface.discard(Reason.LINK_LOCAL_CHATTER, f"to {IPv6Address(destination)}")
        elif not self._usable:
            self._interface.discard(Reason.NOT_OURS, f"to {IPv6Address(destination)}")
        else:
            self._arrive(packet)

    def _link_message(self, packet: bytes, offset: int, sender: bytes, now: float) -> None:
        self._interface.discard(Reason.ICMP_IGNORED, f"type {packet[offset]}: this link has no neighbours")
