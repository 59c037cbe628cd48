"""Whose mobile network an address is in (the prefix table of RFC 3963 section 6.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Network
from typing import Generic, TypeVar

T = TypeVar("T")


class MobileNetworks(Generic[T]):
    """Prefixes that do not overlap, each with its owner. Knows no bindings: who is where, its owner knows."""

    __slots__ = ("_by_shift",)

    def __init__(self, rows: Iterable[tuple[IPv6Network, T]] = ()) -> None:
        """Raises `ValueError`: two prefixes overlap."""
        table: dict[int, dict[int, T]] = {}
        seen: list[IPv6Network] = []
        for network, owner in sorted(rows, key=lambda row: row[0]):
            if seen and network.overlaps(seen[-1]):
                raise ValueError(f"mobile network {network} overlaps {seen[-1]}; give each mobile router its own")
            seen.append(network)
            shift = 128 - network.prefixlen
            table.setdefault(shift, {})[int(network.network_address) >> shift] = owner
        self._by_shift = tuple(table.items())

    def owner(self, address: bytes) -> T | None:
        """Whose mobile network these 16 octets are in; None: nobody's."""
        for shift, rows in self._by_shift:
            found = rows.get(int.from_bytes(address) >> shift)
            if found is not None:
                return found
        return None


class Prefixes:
    """Some prefixes; answers for an address of 16 octets."""

    __slots__ = ("_values", "networks")

    def __init__(self, networks: Iterable[IPv6Network] = ()) -> None:
        self.networks = tuple(networks)
        self._values = tuple((shift := 128 - each.prefixlen, int(each.network_address) >> shift) for each in networks)

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address)
        return any(number >> shift == value for shift, value in self._values)

    def __bool__(self) -> bool:
        return bool(self.networks)


NO_PREFIXES = Prefixes()
