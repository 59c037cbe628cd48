"""What is told about every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Outcome(StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"
    "With a final response; 408 or 503 also where none came."
    FAILED = "failed"
    "It could not begin, or the agreement failed."
    TIMEOUT = "timeout"
    "Not answered in time."
    INTERRUPTED = "interrupted"
    "Not answered yet when the run was ended."


class Role(StrEnum):
    CALLER = "caller"
    ANSWERER = "answerer"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One end of one call. Times are seconds since the run began, in the process that made the call."""

    role: Role
    outcome: Outcome
    began: float
    ended: float
    status: int = 0
    "Of the final response; 0: none."
    reason: str = ""
    post_dial_delay: float | None = None
    "Seconds from the INVITE until the other side rang, or was heard, or answered (ITU-T E.721)."
    answer_delay: float | None = None
    "Seconds from the INVITE until the answer."
    dropped: bool = False
    "It ended although nobody here wanted that."
    received: int = 0
    lost: int = 0
    late: int = 0
    "Packets."
    mos: float | None = None
    "What this end heard: mean of the estimates; None: less than a second was to be heard."
    digits: bool | None = None
    "Answerers: whether the digits came; None: there were to be none."

    def as_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "role": Role(values["role"]), "outcome": Outcome(values["outcome"])})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a process is: what it has begun so far, and what it has under way."""

    begun: int
    at_once: int
    held_back: int
    idle: bool = False
    "All its calls are over; what others call may still be answered here."
