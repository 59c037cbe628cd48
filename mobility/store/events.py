"""What a home agent that is one of several tells."""

from __future__ import annotations

from dataclasses import dataclass

from mobility.outputs import Event


@dataclass(frozen=True, slots=True)
class LeaseTaken(Event):
    """This home agent is the one that serves from now on."""

    epoch: int
    "Counts those that served."
    bindings: int
    "Records that it goes on with."


@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """This home agent stands by from now on."""

    why: str


@dataclass(frozen=True, slots=True)
class ServingAlone(Event):
    """The store does not answer, and this home agent serves on without it."""

    why: str
