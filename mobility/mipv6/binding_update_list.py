"""Binding update list 210: to whom the terminal has said where it is (RFC 6275 section 11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.links import unmapped


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One row. Times are monotonic seconds."""

    destination: IPv6Address
    "To whom binding updates go: the home agent or a correspondent."
    home_address: IPv6Address
    care_of_address: IPv6Address
    lifetime: int
    "Seconds, as granted by the acknowledgement, or as asked for while there is none."
    expires: float
    sequence: int
    "Of the last binding update sent, modulo 2**16."
    state: str
    "Name of the state of the registration."
    home_registration: bool = True
    "Such an entry never means route optimization: data to the home agent goes through the tunnel."
    sent_at: float = 0.0
    retransmissions: int = 0
    identifier: int = 0
    "Of the binding, when the destination has several (RFC 5648); 0: it has this one."
    link: str = ""
    "Where the care-of address is."


class BindingUpdateList:
    """Rows by destination and identifier. An expired row is deleted the next time anybody looks (`expire`)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[IPv6Address, int], ListEntry] = {}
        self._routes: dict[bytes, ListEntry] = {}
        self.generation = 0
        "Counts changes, so that whoever caches a decision notices that it is stale."

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, destination: IPv6Address, identifier: int = 0) -> ListEntry | None:
        """The row of a binding with ``destination``."""
        return self._entries.get((destination, identifier))

    def route(self, destination: bytes) -> ListEntry | None:
        """The row that sends packets for these 16 bytes directly (step 102), never the home registration."""
        return self._routes.get(destination)

    def put(self, entry: ListEntry) -> None:
        """Add a row or replace the one with the same destination and identifier (step 75)."""
        key = (entry.destination, entry.identifier)
        if self._entries.get(key) == entry:
            return
        self._entries[key] = entry
        if entry.home_registration:
            self._routes.pop(entry.destination.packed, None)
        else:
            self._routes[entry.destination.packed] = entry
        self.generation += 1

    def delete(self, destination: IPv6Address, identifier: int = 0) -> None:
        """Forget the row, if there is one."""
        if self._entries.pop((destination, identifier), None) is not None:
            self._routes.pop(destination.packed, None)
            self.generation += 1

    @property
    def timer(self) -> float | None:
        """When the next row expires."""
        return min((entry.expires for entry in self._entries.values()), default=None)

    def expire(self, now: float) -> list[ListEntry]:
        """Delete the rows whose lifetime is over, and return them."""
        over = [entry for entry in self._entries.values() if entry.expires <= now]
        for entry in over:
            self.delete(entry.destination, entry.identifier)
        return over

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """The table for people, JSON-ready."""
        return [
            {
                "destination": str(entry.destination),
                "home_address": str(entry.home_address),
                "care_of_address": str(unmapped(entry.care_of_address)),
                "identifier": entry.identifier,
                "link": entry.link,
                "lifetime": entry.lifetime,
                "remaining": round(max(entry.expires - now, 0.0), 3),
                "sequence": entry.sequence,
                "state": entry.state,
                "home_registration": entry.home_registration,
                "retransmissions": entry.retransmissions,
            }
            for entry in self._entries.values()
        ]
