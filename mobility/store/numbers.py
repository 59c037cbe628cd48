"""Sequence numbers of security associations that several home agents use one after the other.

Outbound numbers are nonces: none may ever be used twice. So a home agent has a range set aside for it in the shared
store *before* it uses one, and the next one long before the range is used up; what it had left is lost when another
takes over. Inbound, the highest number received is published every few hundredths of a second; what came after the last
time could be replayed to the home agent that takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mobility.discards import Discard, Reason
from mobility.ipsec.sa import LAST_SEQUENCE, RESERVATION, SequenceState
from mobility.sequences import SLOT, SequenceFile, digest
from mobility.settings import Association

GRANT = 1 << 16
"Numbers set aside at once: 11 minutes and more without the store at 50 packets/s; 65536 takeovers until new keys."
REFILL = GRANT // 2
"Fewer left than this: more are asked for."
SLACK = 4 * GRANT
"Left out where the store has forgotten a number: more than another home agent can have set aside since we last looked."
_BLOCK = 4 * SLOT


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
        self._by_slot: dict[int, str] = {}
        self._seen = b""

    def state(self, association: Association, direction: str) -> SequenceState:
        """As `SequenceFile.state`; the same object for the same association."""
        key = digest(association, direction)
        name = key.hex()
        known = self.outbound.get(name) or self.inbound.get(name)
        if known is not None:
            return known
        memory = self.memory(key)
        self._by_slot[self.slot(key)] = name
        if direction == "outbound":
            return self.outbound.setdefault(name, GrantedState(memory))
        return self.inbound.setdefault(name, SequenceState(memory))

    def changed(self) -> Iterator[str]:
        """Names of the states whose numbers moved since the last call.

        The four of a terminal lie side by side, and memory is compared in their size: with a thousand terminals that
        takes a tenth of a millisecond, and looking at each number two.
        """
        before, now = self._seen, self.content()
        self._seen = now
        if before == now:
            return
        for at in range(0, len(now), _BLOCK):
            if before[at : at + _BLOCK] != now[at : at + _BLOCK]:
                for slot in range(at // SLOT, (at + _BLOCK) // SLOT):
                    here = slice(slot * SLOT, (slot + 1) * SLOT)
                    if before[here] != now[here] and slot in self._by_slot:
                        yield self._by_slot[slot]
