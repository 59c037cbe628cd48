"""A child SA's life within its IKE SA (RFC 7296 section 2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

from mobility.ipsec.ike.events import ChildSa
from mobility.ipsec.ike.settings import ChildSettings


class ChildState(Enum):
    """What is happening to a child SA."""

    INSTALLED = auto()
    REKEYING = auto()
    "We have asked for another one in its place, or are about to."
    DELETING = auto()
    "We have told the other end that it ends, or are about to."
    RETIRED = auto()
    "Both ends know that it has ended; it only takes what is still on its way."
    GONE = auto()


@dataclass(slots=True, eq=False)
class Child:
    """One child SA."""

    sa: ChildSa
    settings: ChildSettings
    lowest_nonce: bytes
    "Of the exchange that made it: decides which one stays when both ends rekey at once."
    rekey_at: float | None
    expires_at: float | None
    state: ChildState = ChildState.INSTALLED
    told: bool = False
    "Its owner knows of it; not if it lost against another one at once."
    sending: bool = False
    "Our packets go by it."
    successor: Self | None = None
    rival: Self | None = None
    "What the other end has made to replace it while we were at it, too."
    closes_at: float | None = None

    @property
    def alarms(self) -> tuple[float | None, ...]:
        """When something is due."""
        if self.state is ChildState.RETIRED:
            return (self.closes_at,)
        return self.rekey_at, self.expires_at
