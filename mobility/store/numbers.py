"""Sequence numbers of security associations that several home agents use one after the other.

Outbound numbers are nonces: none may ever be used twice. So a home agent has a range set aside for it in the shared
store *before* it uses one, and the next one long before the range is used up; what it had left is lost when another
takes over. Inbound, the highest number received is published every few hundredths of a second; what came after the last
time could be replayed to the home agent that takes over.
"""

from __future__ import annotations

from pathlib import Path

from mobility.discards import Discard, Reason
from mobility.ipsec.sa import LAST_SEQUENCE, RESERVATION, SequenceState
from mobility.sequences import SequenceFile, digest
from mobility.settings import Association

GRANT = 1 << 16
"Numbers set aside at once: 11 minutes and more without the store at 50 packets/s; 65536 takeovers until new keys."
REFILL = GRANT // 2
"Fewer left than this: more are asked for."
SLACK = 4 * GRANT
"Left out where the store has forgotten a number: more than another home agent can have set aside since we last looked."


class GrantedState(SequenceState):
    """Hands out numbers only as far as they were set aside in the shared store."""

    __slots__ = ("granted",)

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory)
        self.granted = 0
        "The last number that may be used."

    def reserve(self, last: int) -> int:
        """The numbers after ``last``, a part of those granted. Raises `Discard` SEQUENCE_NOT_GRANTED."""
        if last >= LAST_SEQUENCE:
            raise Discard(Reason.SEQUENCE_EXHAUSTED, "needs new keys")
        reserved = min(last + RESERVATION, self.granted)
        if reserved <= last:
            raise Discard(Reason.SEQUENCE_NOT_GRANTED, f"{last} was the last one")
        self.cells[0] = reserved
        return reserved

    @property
    def wanting(self) -> bool:
        """Whether it is time to ask for more."""
        return self.granted - self.cells[0] < REFILL and self.granted < LAST_SEQUENCE

    def grant(self, base: int, last: int) -> None:
        """A new range, from after ``base`` to ``last``; the association has to `resume` there."""
        self.cells[0] = base
        self.granted = last


class SharedSequences(SequenceFile):
    """A `SequenceFile` whose outbound states need grants. The file remembers what this home agent knows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.outbound: dict[str, GrantedState] = {}
        "By name in the shared store."
        self.inbound: dict[str, SequenceState] = {}

    def state(self, association: Association, direction: str) -> SequenceState:
        """As `SequenceFile.state`; the same object for the same association."""
        key = digest(association, direction)
        name = key.hex()
        if direction == "outbound":
            if name not in self.outbound:
                self.outbound[name] = GrantedState(self.memory(key))
            return self.outbound[name]
        if name not in self.inbound:
            self.inbound[name] = SequenceState(self.memory(key))
        return self.inbound[name]
