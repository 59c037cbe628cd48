"""The MAP's binding cache: which RCoA is at which LCoA (step 602; RFC 5380 section 7). Nothing of the home agent's."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mobility.hmipv6.lately import Lately

OVERLAP = 2.0
"Seconds in which packets from the previous LCoA are still taken: they were on their way."


@dataclass(slots=True)
class RegionalBinding:
    """One row. Times are monotonic seconds."""

    regional: IPv6Address
    "RCoA."
    local: IPv6Address
    "LCoA."
    client: str
    "Name of the terminal by whose keys the binding was made; empty: nobody's."
    lifetime: int
    "Seconds granted."
    expires: float
    sequence: int
    made: float
    "When the RCoA was bound first."
    previous: IPv6Address | None = None
    previous_until: float = 0.0
    lately: Lately = field(default_factory=Lately)

    def takes(self, source: bytes, now: float) -> bool:
        """Whether packets from this outer source (16 octets) are the terminal's."""
        if source == self.local.packed:
            return True
        return self.previous is not None and now < self.previous_until and source == self.previous.packed

    def move(self, local: IPv6Address, now: float) -> None:
        """The terminal is at another LCoA."""
        if local != self.local:
            self.previous, self.previous_until = self.local, now + OVERLAP
            self.local = local

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "rcoa": str(self.regional),
            "lcoa": str(self.local),
            "terminal": self.client,
            "lifetime": self.lifetime,
            "remaining": round(max(self.expires - now, 0.0), 3),
            "sequence": self.sequence,
            "sent_again": self.lately.sent_again,
        }


class MapCache:
    """Rows by RCoA; bounded in all, and for each terminal."""

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._rows: dict[bytes, RegionalBinding] = {}
        self._limit = limit
        self._per_client = limit_per_client
        self.find = self._rows.get
        "The row of an RCoA (16 octets), or None."

    def __len__(self) -> int:
        return len(self._rows)

    def clients(self) -> set[str]:
        """Those that have rows."""
        return {row.client for row in self._rows.values()}

    def has_room(self, client: str) -> bool:
        """Whether one more may be made by this terminal."""
        if len(self._rows) >= self._limit:
            return False
        return not client or sum(row.client == client for row in self._rows.values()) < self._per_client

    def put(self, row: RegionalBinding) -> None:
        self._rows[row.regional.packed] = row

    def remove(self, regional: bytes) -> RegionalBinding | None:
        return self._rows.pop(regional, None)

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """The table for people, JSON-ready."""
        return [row.snapshot(now) for row in self._rows.values()]
