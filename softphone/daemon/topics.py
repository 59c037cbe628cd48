"""What clients may subscribe to, and what becomes of it for those that read too slowly."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Protocol

from softphone.daemon.protocol import RequestError


class Topic(StrEnum):
    """A kind of news."""

    EVENTS = "events"
    LEVELS = "levels"
    QUALITY = "quality"
    SIP = "sip"
    LOG = "log"
    MOBILITY = "mobility"
    PACKETS = "packets"


class Delivery(Enum):
    """What happens to news for which a client has no room."""

    EVERY = "it gets them all, or is disconnected"
    COUNTED = "they are left out, and it is told how many"
    LATEST = "they are left out: the next ones say the same anew"


DELIVERY = {
    Topic.EVENTS: Delivery.EVERY, Topic.LEVELS: Delivery.LATEST, Topic.QUALITY: Delivery.LATEST,
    Topic.SIP: Delivery.COUNTED, Topic.LOG: Delivery.COUNTED, Topic.MOBILITY: Delivery.COUNTED,
    Topic.PACKETS: Delivery.COUNTED,
}  # fmt: skip


def topics(names: list[str]) -> frozenset[Topic]:
    """Raises RequestError for a name that is none."""
    known = set(Topic)
    if wrong := [name for name in names if name not in known]:
        raise RequestError(f"there is no topic {wrong[0]!r}; there are {', '.join(Topic)}")
    return frozenset(map(Topic, names))


class Audience(Protocol):
    """Whoever listens, as those see it who have something to tell."""

    def tell(self, topic: Topic, event: dict[str, object]) -> None:
        """One JSON object to all who subscribed to the topic. Never waits."""

    def wants(self, topic: Topic) -> bool:
        """Whether anybody subscribed to it: what costs something is made only then."""

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call this whenever somebody subscribed."""
