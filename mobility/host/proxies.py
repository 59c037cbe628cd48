"""Addresses of absent nodes that the host stands in for (RFC 6275 section 10.4.1, RFC 4861 section 7.2.8)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.host import messages
from mobility.host.events import AddressConflict
from mobility.host.interface import Interface
from mobility.host.multicast import MulticastGroups

ANNOUNCEMENTS = 3
"How often the neighbours are told, as the message may be lost (MAX_NEIGHBOR_ADVERTISEMENT)."


class Proxies:
    """Answers neighbour solicitations for addresses that are not its own, and defends them."""

    def __init__(self, interface: Interface, groups: MulticastGroups, own: Callable[[], bytes]) -> None:
        """``own``: the address that the advertisements come from."""
        self._own = own
        self._interface = interface
        self._groups = groups
        self._nonces: dict[bytes, bytes] = {}
        self.addresses: set[bytes] = set()
        "Read on the hot path."

    def add(self, address: bytes, now: float) -> None:
        """From now on packets for the address come here.

        The announcement is not held back until the check for duplicates is over: the packets of a call that runs would
        be lost meanwhile. `AddressConflict` tells if another node turns out to have the address.
        """
        if address in self.addresses:
            return
        self.addresses.add(address)
        self._groups.join(messages.solicited_node(address), now)
        if self._interface.up:
            self._begin(address, now)

    def remove(self, address: bytes, now: float) -> None:
        """The node is back. The neighbours learn that from its own advertisement."""
        if address not in self.addresses:
            return
        self.addresses.discard(address)
        self._nonces.pop(address, None)
        self._interface.alarms.cancel(("proxy", address))
        self._groups.leave(messages.solicited_node(address), now)

    def link_up(self, now: float) -> None:
        for address in sorted(self.addresses):
            self._begin(address, now)

    def link_down(self) -> None:
        for address in self.addresses:
            self._interface.alarms.cancel(("proxy", address))

    def solicited(self, target: bytes, source: bytes, sender: bytes, nonces: list[bytes]) -> None:
        """Somebody asks for the link-layer address, or (unspecified source) whether the address is free: it is not."""
        if source == messages.UNSPECIFIED:
            if self._nonces.get(target) not in nonces:
                messages.neighbour_advertisement(self._interface, self._own(), target, None, override=False)
            return
        messages.neighbour_advertisement(self._interface, self._own(), target, (source, sender), override=False)

    def claimed(self, target: bytes, mac: bytes) -> None:
        """Another node advertises the address: it is at home after all, or somebody else took it."""
        self._interface.emit(AddressConflict(self._interface.name, IPv6Address(target), mac.hex(":")))

    def _begin(self, address: bytes, now: float) -> None:
        nonce = self._nonces[address] = self._interface.random(6)
        messages.duplicate_probe(self._interface, address, nonce)
        self._announce(address, now, ANNOUNCEMENTS)

    def _announce(self, address: bytes, now: float, times: int) -> None:
        messages.neighbour_advertisement(self._interface, self._own(), address, None, override=True)
        if times > 1:
            self._interface.alarms.set(
                ("proxy", address),
                now + self._interface.retrans_timer,
                lambda then: self._announce(address, then, times - 1),
            )
