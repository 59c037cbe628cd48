"""Whose mobile network an address is in (the prefix table of RFC 3963 section 6.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Network, collapse_addresses
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 4096
"Addresses whose answer is remembered; strangers can only make it forget."


class MobileNetworks(Generic[T]):
    """Prefixes that do not overlap, each with its owner. Knows no bindings: who is where, its owner knows."""

    __slots__ = ("_by_shift", "_known")

    def __init__(self, rows: Iterable[tuple[IPv6Network, T]] = ()) -> None:
        """Raises `ValueError`: two prefixes overlap."""
        table: dict[int, dict[int, T]] = {}
        before: IPv6Network | None = None
        for network, owner in sorted(rows, key=lambda row: row[0]):
            if before is not None and network.overlaps(before):
                raise ValueError(f"mobile network {network} overlaps {before}; give each mobile router its own")
            before = network
            shift = 128 - network.prefixlen
            table.setdefault(shift, {})[int(network.network_address) >> shift] = owner
        self._by_shift = tuple(table.items())
        self._known: dict[bytes, T | None] = {}

    def owner(self, address: bytes) -> T | None:
        """Whose mobile network these 16 octets are in; None: nobody's."""
        if not self._by_shift:
            return None
        try:
            return self._known[address]
        except KeyError:
            number = int.from_bytes(address)
            found = (rows.get(number >> shift) for shift, rows in self._by_shift)
            owner = next((each for each in found if each is not None), None)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[address] = owner
            return owner


class Prefixes:
    """Some prefixes; answers for an address of 16 octets."""

    __slots__ = ("_table", "networks")

    def __init__(self, networks: Iterable[IPv6Network] = ()) -> None:
        self.networks = tuple(networks)
        self._table = MobileNetworks((network, True) for network in collapse_addresses(self.networks))

    def __contains__(self, address: bytes) -> bool:
        return self._table.owner(address) is not None

    def __bool__(self) -> bool:
        return bool(self.networks)


NO_PREFIXES = Prefixes()
