"""Scenarios of third parties: what installed packages register as ``roamphone.scenarios`` (docs/scenarios.md).

What is wrong with one is told in the log, and the terminal does without it: neither a package that cannot be imported
nor a scenario that fails on an acknowledgement stops a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mobility.discards import Discard, Reason
from mobility.outputs import Event, Output
from mobility.scenario.policy import SCENARIOS
from mobility.scenario.situation import Scenario, Situation, Tunnels

log = logging.getLogger(__name__)

GROUP = "roamphone.scenarios"
NUMBERS = range(1, 1 << 16)
"The number is handed on as a UDP port in the source (Fig. 11)."


class Unsuitable(ValueError):
    """What an entry point names is no scenario; the text says why."""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What was found."""

    scenarios: tuple[Scenario, ...] = ()
    refused: tuple[str, ...] = ()
    "One sentence each."

    def enabled(self, wanted: frozenset[int] | None) -> frozenset[int] | None:
        """The rows to enable, ``wanted`` by a configuration; None: all.

        A number that nobody has is left in, as a mistake, unless a package that is refused may have had it.
        """
        if wanted is None or not self.refused:
            return wanted
        known = frozenset(scenario.number for scenario in (*SCENARIOS, *self.scenarios))
        for number in sorted(wanted - known):
            log.warning("mobile_node.scenarios: there is no scenario %d; %s", number, "; ".join(self.refused))
        return wanted & known


class Guarded:
    """A scenario of somebody else; whatever it raises, the terminal goes on."""

    def __init__(self, scenario: Scenario, origin: str) -> None:
        """``origin``: the package and its entry point, for people. Raises `Unsuitable`."""
        self.number = _number(scenario)
        self.substance = _substance(scenario)
        self._scenario = scenario
        self._origin = origin
        self._told: set[str] = set()

    def applies(self, situation: Situation) -> bool:
        """Its answer; if it has none, it does not apply."""
        try:
            return bool(self._scenario.applies(situation))
        except Exception as error:
            self._failed("applies", error)
            return False

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        """What it does. Raises `Discard`; also when it fails, or does what is not its business."""
        try:
            outputs = list(self._scenario.acknowledged(situation, tunnels))
        except Discard:
            raise
        except Exception as error:
            self._failed("acknowledged", error)
            raise Discard(Reason.SCENARIO_FAILED, f"{self._origin}: {_words(error)}") from error
        if not all(isinstance(output, Event) for output in outputs):
            self._failed("acknowledged", TypeError("it may return events only"))
            raise Discard(Reason.SCENARIO_FAILED, f"{self._origin}: it returned something that is no event")
        return list(outputs)

    def _failed(self, where: str, error: Exception) -> None:
        if where not in self._told:  # once is enough: acknowledgements come as long as the terminal runs
            self._told.add(where)
            log.error("scenario %d of %s failed in %s: %s", self.number, self._origin, where, _words(error))


def scenarios_of_third_parties(found: Iterable[EntryPoint] | None = None) -> Extensions:
    """All that fit; ``found``: the entry points, by default those of the packages that are installed.

    The order is that of the packages' names, so that of two with the same number it is always the same one that counts.
    """
    taken = {scenario.number: "this product" for scenario in SCENARIOS}
    scenarios: list[Scenario] = []
    refused: list[str] = []
    try:
        points = list(entry_points(group=GROUP) if found is None else found)
    except Exception as error:  # the metadata of whatever is installed, by whomever
        points = []
        refused.append(f"scenarios of third parties cannot be looked for: {_words(error)}")
        log.warning("%s", refused[-1])
    for point in sorted(points, key=lambda point: (_origin(point), point.value)):
        origin = _origin(point)
        try:
            scenario = _load(point, origin)
            if scenario.number in taken:
                by = taken[scenario.number]
                raise Unsuitable(f"the number {scenario.number} is taken by {by}; choose a free one")
        except Unsuitable as error:
            refused.append(f"the scenario of {origin} is not used: {error}")
            log.warning("%s", refused[-1])
        else:
            taken[scenario.number] = origin
            scenarios.append(scenario)
    return Extensions(tuple(scenarios), tuple(refused))


def _load(point: EntryPoint, origin: str) -> Guarded:
    """Raises `Unsuitable`."""
    try:
        made = point.load()
    except (Exception, SystemExit) as error:
        raise Unsuitable(f"{point.value} cannot be imported: {_words(error)}") from error
    if not callable(made):
        raise Unsuitable(f"{point.value} is neither a class nor a function that makes a scenario")
    maker: Callable[[], Scenario] = made
    try:
        scenario = maker()
        for needed in ("applies", "acknowledged"):
            if not callable(getattr(scenario, needed, None)):
                raise Unsuitable(f"{point.value} has no method {needed}; see docs/scenarios.md")
        return Guarded(scenario, origin)
    except Unsuitable:
        raise
    except (Exception, SystemExit) as error:
        raise Unsuitable(f"{point.value} makes no scenario: {_words(error)}") from error


def _number(scenario: Scenario) -> int:
    number: object = getattr(scenario, "number", None)
    if not isinstance(number, int) or isinstance(number, bool) or number not in NUMBERS:
        raise Unsuitable(f"its number is {number!r}; it has to be one from {NUMBERS[0]} to {NUMBERS[-1]}")
    return int(number)


def _substance(scenario: Scenario) -> str:
    substance: object = getattr(scenario, "substance", None)
    if not isinstance(substance, str) or not substance.strip() or not substance.isprintable():
        raise Unsuitable(f"its substance is {substance!r}; it has to say in one line what the scenario is about")
    return substance


def _origin(point: EntryPoint) -> str:
    package = "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"{package} ({point.name})"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
