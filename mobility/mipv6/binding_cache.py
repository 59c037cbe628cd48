"""Binding cache: which home address is where at the moment (RFC 6275 sections 9.1 and 10.1, RFC 5648 section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.links import describe_endpoint, endpoint_address, mapped

BINDINGS_PER_HOME = 8
"Of one home address: more interfaces than any terminal has."


@dataclass(frozen=True, slots=True)
class Binding:
    """One row. Times are monotonic seconds."""

    home_address: IPv6Address
    care_of_address: IPv6Address | IPv4Address
    "As the terminal told it; behind a NAT nobody else knows it."
    lifetime: int
    "Seconds granted."
    expires: float
    sequence: int
    "Of the last binding update accepted, modulo 2**16."
    identifier: int = 0
    "Binding identifier; 0: the terminal gave none and has this binding alone."
    endpoint: bytes = b""
    "Where its datagrams come from (`mobility.links.endpoint`); empty: native Mobile IPv6."
    link: str = ""
    "Link on which the endpoint is reached; empty: UDP of the home agent's own IPv6 address."
    mobile_networks: tuple[IPv6Network, ...] = ()
    "That a mobile router takes along (RFC 3963); empty: it is a mobile host."

    @property
    def native(self) -> bool:
        """Whether packets travel in IPv6 headers and not in datagrams."""
        return not self.endpoint

    @property
    def behind_nat(self) -> bool:
        """Whether datagrams come from another address than the one that the terminal has."""
        return bool(self.endpoint) and endpoint_address(self.endpoint) != mapped(self.care_of_address)

    @property
    def source(self) -> bytes:
        """What marks packets from there: outer source address (16 octets), or endpoint (18)."""
        return self.endpoint or mapped(self.care_of_address).packed

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready; whose it is, `BindingCache.snapshot` says."""
        return {
            "identifier": self.identifier,
            "care_of_address": str(self.care_of_address),
            "way": "native" if self.native else "udp",
            "endpoint": None if self.native else describe_endpoint(self.endpoint),
            "link": None if self.native else self.link,
            "nat": self.behind_nat,
            "lifetime": self.lifetime,
            "remaining": round(max(self.expires - now, 0.0), 3),
            "sequence": self.sequence,
            "mobile_networks": [str(network) for network in self.mobile_networks],
        }


class CacheFull(Exception):
    """The cache holds as many bindings as it may; the update is answered with status 130."""


def newer(sequence: int, last: int) -> bool:
    """Whether ``sequence`` lies ahead of ``last`` modulo 2**16, by at most 2**15 (RFC 6275 section 9.5.1)."""
    return 0 < (sequence - last) & 0xFFFF <= 0x8000


class BindingCache:
    """Rows by home address and binding identifier; ``limit`` counts home addresses. Knows no time.

    The primary binding of a home address is the one to send to: that of the last update.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self._by_home: dict[bytes, dict[int, Binding]] = {}  # in the order of their updates: the primary is the last
        self._primary: dict[bytes, Binding] = {}
        self.find = self._primary.get
        "The primary binding of a home address (16 bytes), or None."

    def __len__(self) -> int:
        """Home addresses that are bound."""
        return len(self._primary)

    def get(self, home_address: bytes, identifier: int) -> Binding | None:
        """One row."""
        rows = self._by_home.get(home_address)
        return None if rows is None else rows.get(identifier)

    def of(self, home_address: bytes) -> list[Binding]:
        """All rows of a home address, the primary first, then by the time of their last update."""
        return list(reversed(self._by_home.get(home_address, {}).values()))

    def bindings(self) -> list[Binding]:
        """All rows."""
        return [row for home_address in self._by_home for row in self.of(home_address)]

    def put(self, binding: Binding) -> None:
        """Add or replace the row with this identifier; it becomes the primary. Raises `CacheFull`."""
        key = binding.home_address.packed
        rows = self._by_home.get(key)
        if rows is None:
            if len(self._by_home) >= self.limit:
                raise CacheFull(f"{self.limit} bindings; raise the limit of the binding cache to admit more terminals")
            rows = self._by_home[key] = {}
        elif binding.identifier not in rows and len(rows) >= BINDINGS_PER_HOME:
            raise CacheFull(f"{binding.home_address} has {BINDINGS_PER_HOME} bindings already")
        rows.pop(binding.identifier, None)
        rows[binding.identifier] = binding
        self._primary[key] = binding

    def put_alone(self, binding: Binding) -> list[Binding]:
        """The binding instead of all others of its home address, which are returned. Raises `CacheFull`."""
        replaced = [row for row in self.of(binding.home_address.packed) if row.identifier != binding.identifier]
        if replaced:
            self._by_home[binding.home_address.packed].clear()
        self.put(binding)
        return replaced

    def put_behind(self, binding: Binding) -> None:
        """As `put`, but whichever binding is the primary stays it: for an update that others have overtaken."""
        key = binding.home_address.packed
        primary = self._primary.get(key)
        self.put(binding)
        if primary is not None and primary.identifier != binding.identifier:
            rows = self._by_home[key]
            rows[primary.identifier] = rows.pop(primary.identifier)
            self._primary[key] = primary

    def amend(self, binding: Binding) -> None:
        """Other values for a row that exists, whose rank stays what it is."""
        key = binding.home_address.packed
        self._by_home[key][binding.identifier] = binding
        if self._primary[key].identifier == binding.identifier:
            self._primary[key] = binding

    def remove(self, home_address: bytes, identifier: int) -> Binding | None:
        """Remove and return one row, if there is one; the one updated last before is primary then."""
        rows = self._by_home.get(home_address, {})
        binding = rows.pop(identifier, None)
        if binding is None:
            return None
        if rows:
            self._primary[home_address] = next(reversed(rows.values()))
        else:
            del self._by_home[home_address], self._primary[home_address]
        return binding

    def delete(self, home_address: bytes) -> list[Binding]:
        """Remove and return all rows of a home address, the primary first."""
        removed = self.of(home_address)
        self._by_home.pop(home_address, None)
        self._primary.pop(home_address, None)
        return removed

    def clear(self) -> None:
        """Forget everything."""
        self._by_home.clear()
        self._primary.clear()

    def snapshot(
        self, now: float, address4: Callable[[IPv6Address], IPv4Address | None] | None = None
    ) -> list[dict[str, object]]:
        """The table for people, JSON-ready; ``address4``: who knows the IPv4 home addresses."""
        rows: list[dict[str, object]] = []
        for home_address, primary in self._primary.items():
            held = None if address4 is None else address4(primary.home_address)
            shared = {
                "home_address": str(primary.home_address),
                "home_address4": None if held is None else str(held),
            }
            for rank, row in enumerate(self.of(home_address)):
                rows.append({**shared, "primary": rank == 0, **row.snapshot(now)})
        return rows
