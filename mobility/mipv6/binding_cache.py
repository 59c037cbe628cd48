"""Binding cache: which home address is where at the moment (RFC 6275 sections 9.1 and 10.1)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address


@dataclass(frozen=True, slots=True)
class Binding:
    """One row. Times are monotonic seconds."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    lifetime: int
    "Seconds granted."
    expires: float
    sequence: int
    "Of the last binding update accepted, modulo 2**16."
    home_registration: bool = True


class CacheFull(Exception):
    """The cache holds as many bindings as it may; the update is answered with status 130."""


def newer(sequence: int, last: int) -> bool:
    """Whether ``sequence`` lies ahead of ``last`` modulo 2**16, by at most 2**15 (RFC 6275 section 9.5.1)."""
    return 0 < (sequence - last) & 0xFFFF <= 0x8000


class BindingCache:
    """Rows by home address, at most ``limit``. A row whose lifetime is over is deleted by `expire`."""

    def __init__(self, limit: int = 1024) -> None:
        self.limit = limit
        self._by_home: dict[bytes, Binding] = {}
        self.generation = 0
        "Counts changes, so that whoever caches a decision notices that it is stale."

    def __len__(self) -> int:
        return len(self._by_home)

    def find(self, home_address: bytes) -> Binding | None:
        """The row of a home address (16 bytes)."""
        return self._by_home.get(home_address)

    def put(self, binding: Binding) -> None:
        """Add or replace a row. Raises `CacheFull`."""
        key = binding.home_address.packed
        if key not in self._by_home and len(self._by_home) >= self.limit:
            raise CacheFull(f"{self.limit} bindings; raise the limit of the binding cache to admit more terminals")
        self._by_home[key] = binding
        self.generation += 1

    def delete(self, home_address: IPv6Address) -> Binding | None:
        """Remove and return a row, if there is one."""
        binding = self._by_home.pop(home_address.packed, None)
        if binding is not None:
            self.generation += 1
        return binding

    @property
    def timer(self) -> float | None:
        """When the next row expires."""
        return min((binding.expires for binding in self._by_home.values()), default=None)

    def expire(self, now: float) -> list[Binding]:
        """Delete the rows whose lifetime is over, and return them."""
        over = [binding for binding in self._by_home.values() if binding.expires <= now]
        for binding in over:
            self.delete(binding.home_address)
        return over

    def bindings(self) -> list[Binding]:
        """All rows."""
        return list(self._by_home.values())

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """The table for people, JSON-ready."""
        return [
            {
                "home_address": str(binding.home_address),
                "care_of_address": str(binding.care_of_address),
                "lifetime": binding.lifetime,
                "remaining": round(max(binding.expires - now, 0.0), 3),
                "sequence": binding.sequence,
                "home_registration": binding.home_registration,
            }
            for binding in self._by_home.values()
        ]
