"""IPv4 home addresses: a terminal's own, or one of a pool for as long as it is bound (RFC 5555 section 3.2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from mobility.mipv6.home_settings import AuthorisedTerminal

DUMMY = IPv4Address("192.0.0.8")
"Source of ICMP errors of a home agent that has no IPv4 address there (RFC 7600 section 4.8)."


class Answer(IntEnum):
    """Status of an IPv4 address acknowledgement (RFC 5555 section 3.2.1)."""

    ACCEPTED = 0
    ADMINISTRATIVELY_PROHIBITED = 129
    INCORRECT_HOME_ADDRESS = 130
    "It belongs to another terminal, or is not of this home agent."
    INVALID_ADDRESS = 131
    NO_DYNAMIC_ASSIGNMENT = 132
    "There is no pool, or none of it is free."


@dataclass(frozen=True, slots=True)
class Assignment:
    """What became of a request."""

    status: Answer
    address: IPv4Address
    "Assigned, or where refused what was asked for."


class IPv4Homes:
    """Who has which IPv4 home address."""

    def __init__(self, pool: IPv4Network | None, terminals: Iterable[AuthorisedTerminal]) -> None:
        """Raises `ValueError`: two terminals have one address, or one has the home agent's own."""
        self.pool = pool
        hosts: Iterator[IPv4Address] = iter(()) if pool is None else iter(pool.hosts())
        self.own = next(hosts, DUMMY)
        "Of the home agent itself: the first of the pool."
        self._never_used = hosts
        self._released: dict[IPv4Address, None] = {}
        self._fixed: dict[IPv6Address, IPv4Address] = {}
        self._reserved: dict[IPv4Address, IPv6Address] = {}
        self.holders: dict[bytes, bytes] = {}
        "IPv4 home address -> home address; read on the data path."
        self._held: dict[IPv6Address, IPv4Address] = {}
        self._last: dict[IPv6Address, IPv4Address] = {}
        "Of terminals that are not bound now: they get it again if it is free."
        self.reconfigure(terminals)

    def reconfigure(self, terminals: Iterable[AuthorisedTerminal]) -> None:
        """Other terminals. Whoever holds an address keeps it until `release`. Raises `ValueError`, changing nothing."""
        fixed: dict[IPv6Address, IPv4Address] = {}
        reserved: dict[IPv4Address, IPv6Address] = {}
        known: set[IPv6Address] = set()
        for terminal in terminals:
            known.add(terminal.home_address)
            address = terminal.home_address4
            if address is None:
                continue
            if address == self.own or not is_usable(address):
                raise ValueError(f"{address} of {terminal.home_address} cannot be a home address; choose another one")
            if address in reserved:
                raise ValueError(
                    f"IPv4 home address {address} is configured twice, for {reserved[address]} and"
                    f" {terminal.home_address}; give each terminal its own"
                )
            reserved[address] = terminal.home_address
            fixed[terminal.home_address] = address
        unreserved = self._reserved.keys() - reserved.keys()
        self._fixed, self._reserved = fixed, reserved
        for address in unreserved:
            if address.packed not in self.holders:
                self._give_back(address)
        self._last = {home: address for home, address in self._last.items() if home in known}

    def of(self, home_address: IPv6Address) -> IPv4Address | None:
        """The address that a terminal holds."""
        return self._held.get(home_address)

    def request(self, home_address: IPv6Address, wanted: IPv4Address) -> Assignment:
        """A terminal asks for an address; 0.0.0.0: any. What it gets it holds until `release`."""
        any_will_do = wanted == _ANY
        if not any_will_do and not is_usable(wanted):
            return Assignment(Answer.INVALID_ADDRESS, wanted)
        chosen = self._choose(home_address, None if any_will_do else wanted)
        if isinstance(chosen, Answer):
            return Assignment(chosen, wanted)
        self._hold(home_address, chosen)
        return Assignment(Answer.ACCEPTED, chosen)

    def _choose(self, home_address: IPv6Address, wanted: IPv4Address | None) -> IPv4Address | Answer:
        fixed = self._fixed.get(home_address)
        if fixed is not None:
            theirs = self.holders.get(fixed.packed, home_address.packed) != home_address.packed
            return Answer.INCORRECT_HOME_ADDRESS if theirs or wanted not in (None, fixed) else fixed
        if self.pool is None:
            return Answer.NO_DYNAMIC_ASSIGNMENT if wanted is None else Answer.ADMINISTRATIVELY_PROHIBITED
        if wanted is None:
            return self._any(home_address) or Answer.NO_DYNAMIC_ASSIGNMENT
        return wanted if self._is_free(wanted, home_address) else Answer.INCORRECT_HOME_ADDRESS

    def resume(self, home_address: IPv6Address, address: IPv4Address) -> bool:
        """A terminal held this address before a restart. False: it is another's now."""
        holder = self.holders.get(address.packed, self._reserved.get(address, home_address).packed)
        if holder != home_address.packed or address == self.own:
            return False
        self._hold(home_address, address)
        return True

    def release(self, home_address: IPv6Address) -> IPv4Address | None:
        """The terminal is not bound any more."""
        address = self._held.pop(home_address, None)
        if address is None:
            return None
        del self.holders[address.packed]
        if address not in self._reserved:
            self._last[home_address] = address
            self._give_back(address)
        return address

    def snapshot(self) -> dict[str, object]:
        """JSON-ready."""
        return {"pool": None if self.pool is None else str(self.pool), "held": len(self._held)}

    def _give_back(self, address: IPv4Address) -> None:
        if self.pool is not None and address in self.pool:
            self._released[address] = None

    def _hold(self, home_address: IPv6Address, address: IPv4Address) -> None:
        held = self._held.get(home_address)
        if held == address:
            return
        if held is not None:
            self.release(home_address)
        self._held[home_address] = address
        self.holders[address.packed] = home_address.packed
        self._last.pop(home_address, None)
        self._released.pop(address, None)

    def _is_free(self, address: IPv4Address, home_address: IPv6Address) -> bool:
        pool = self.pool
        if pool is None or address not in pool or address == self.own:
            return False
        if pool.prefixlen < 31 and address in (pool.network_address, pool.broadcast_address):
            return False
        return (
            self.holders.get(address.packed, home_address.packed) == home_address.packed
            and self._reserved.get(address, home_address) == home_address
        )

    def _any(self, home_address: IPv6Address) -> IPv4Address | None:
        for address in (self._held.get(home_address), self._last.get(home_address)):
            if address is not None and self._is_free(address, home_address):
                return address
        for address in self._never_used:
            if self._is_free(address, home_address):
                return address
        return next((address for address in self._released if self._is_free(address, home_address)), None)


def is_usable(address: IPv4Address) -> bool:
    """Whether a terminal may have this address at all."""
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.packed[0] >= 240
    )


_ANY = IPv4Address(0)
