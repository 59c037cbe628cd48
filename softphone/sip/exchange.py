"""Whose turn it is in offer and answer of one dialog (RFC 3261 sections 13.2.1 and 14, RFC 3311), sans-IO."""

from __future__ import annotations

from enum import Enum

GLARE_STEP = 0.01
"Seconds; waits after a 491 are multiples of it (RFC 3261 section 14.1)."


class Turn(Enum):
    """What is open."""

    STABLE = "nothing was offered, or all was answered"
    OURS = "we have offered, the other side has to answer"
    THEIRS = "the other side has offered, we have to answer"


class Exchange:
    """Offers of one dialog: there is one at a time."""

    def __init__(self, turn: Turn = Turn.STABLE) -> None:
        self.turn = turn

    @property
    def free(self) -> bool:
        """Either side may offer."""
        return self.turn is Turn.STABLE

    def offered(self, by: Turn) -> None:
        """An offer went out (OURS) or came in (THEIRS)."""
        self.turn = by

    def settled(self) -> None:
        """The open offer was answered, or refused: then what was before holds (RFC 3261 section 14.1)."""
        self.turn = Turn.STABLE

    def refusal(self) -> int | None:
        """The status for an offer that comes in now, or None if it may (RFC 3311 section 5.2)."""
        match self.turn:
            case Turn.OURS:
                return 491
            case Turn.THEIRS:
                return 500  # with Retry-After
            case _:
                return None


def glare_wait(owner: bool, dice: float) -> float:
    """Seconds to wait after a 491. ``owner``: we made the Call-ID; ``dice``: from 0 to 1 (RFC 3261 section 14.1)."""
    least, most = (2.1, 4.0) if owner else (0.0, 2.0)
    return least + GLARE_STEP * round(dice * (most - least) / GLARE_STEP)
