"""What an engine answers with.

Engines take bytes or values and a monotonic ``now`` (seconds, float) and return a list of these. The hot ones are
named tuples (cheap to make), the rest are frozen dataclasses that derive from :class:`Event`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

from mobility.discards import Discard, Reason


class Transmit(NamedTuple):
    """Put an IPv6 packet on a link."""

    packet: bytes
    to: bytes
    "Link-layer destination (six bytes on Ethernet)."
    link: str
    "Name of the link, as the node was given it."


class Deliver(NamedTuple):
    """Give a packet to the host OS (interface 19 of the source)."""

    packet: bytes


class Arrived(NamedTuple):
    """A packet for this node that the IPv6 host does not handle itself; goes up to the node that owns the host."""

    packet: bytes
    link: str


class Discarded(NamedTuple):
    """A packet that was dropped: counted by ``reason``, traced, visible."""

    reason: Reason
    where: str
    "The part that dropped it, for example ``app-ipsec`` or ``receive-routine``."
    detail: str

    @classmethod
    def of(cls, discard: Discard, where: str) -> Discarded:
        return cls(discard.reason, where, discard.detail)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and that the outside may want to know."""

    def describe(self) -> dict[str, object]:
        """The event as JSON-ready values: ``{"event": "ClassName", field: value, ...}``."""
        values: dict[str, object] = {"event": type(self).__name__}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = value if isinstance(value, int | float | str | bool | None) else str(value)
        return values


Output = Transmit | Deliver | Arrived | Discarded | Event
