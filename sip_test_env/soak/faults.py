"""What goes wrong in a call of the soak test: made from the seed alone, so that the same seed does the same again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sip_test_env.impairment import Impairment

WIRES = ("ha", "visited-a", "visited-b")
KILLED = ("mn", "ha", "cn")
PLACES = ("visited-a", "visited-b")


@dataclass(frozen=True, slots=True)
class Move:
    """The terminal's cable is plugged into another link."""

    link: str


@dataclass(frozen=True, slots=True)
class Flap:
    """A loose contact."""

    times: int


@dataclass(frozen=True, slots=True)
class BadWire:
    """A wire of a router, or of the home agent, becomes bad."""

    where: str
    forth: Impairment
    back: Impairment

    def __str__(self) -> str:
        return f"the wire of {self.where}: {self.forth}; back: {self.back}"


@dataclass(frozen=True, slots=True)
class Kill:
    """The data plane of a node gets SIGKILL."""

    role: str


@dataclass(frozen=True, slots=True)
class Strangers:
    """Somebody without keys sends everything that he can think of; ``seed`` says what."""

    seed: int


Fault = Move | Flap | BadWire | Kill | Strangers


def faults(seed: int, number: int, seconds: float, location: str = PLACES[0]) -> list[tuple[float, Fault]]:
    """Those of call ``number``, with their time since its beginning. ``location``: where the terminal is then."""
    dice = Random(f"{seed}/{number}")
    at, planned = dice.uniform(0.5, 1.5), []
    while at < seconds:
        fault, pause = _fault(dice, location)
        if isinstance(fault, Move):
            location = fault.link
        planned.append((at, fault))
        at += pause + dice.uniform(0.2, 1.5)
    return planned


def _fault(dice: Random, location: str) -> tuple[Fault, float]:
    """And how long it takes, in seconds, until another may come."""
    match dice.choices(("move", "wire", "kill", "flap", "strangers"), (5, 4, 2, 1, 2))[0]:
        case "move":
            return Move(dice.choice([place for place in PLACES if place != location])), 0.8
        case "wire":
            return BadWire(dice.choice(WIRES), _impairment(dice), _impairment(dice)), 0.5
        case "kill":
            return Kill(dice.choice(KILLED)), 2.5
        case "flap":
            return Flap(dice.randint(2, 4)), 1.5
        case _:
            return Strangers(dice.getrandbits(32)), 0.1


def _impairment(dice: Random) -> Impairment:
    return Impairment(
        delay_ms=dice.uniform(0, 40),
        jitter_ms=dice.uniform(0, 15),
        loss=dice.choice((0, 0.01, 0.05)),
        duplicate=dice.choice((0, 0.05, 0.2)),
        reorder=dice.choice((0, 0.05, 0.2)),
        reorder_ms=dice.uniform(2, 20),
        rate=dice.choice((0, 0, 2e6)),
    )
