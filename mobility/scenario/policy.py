"""Scenario policy 21 with its management table 220: which methods of communication exist and may be used (Fig. 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mobility.discards import Discard, Reason
from mobility.outputs import Event, Output
from mobility.scenario.no_translation import NoTranslation, NoTranslationIpsec
from mobility.scenario.regional import MAP_TYPE_1, MAP_TYPE_2, MAP_TYPE_3
from mobility.scenario.route_optimization import RouteOptimized, TranslationRouteOptimized
from mobility.scenario.situation import HandedOn, Scenario, Situation, Tunnels
from mobility.scenario.translation import Translation, TranslationIpsec

SCENARIOS: tuple[Scenario, ...] = (
    Translation(),
    TranslationIpsec(),
    NoTranslation(),
    NoTranslationIpsec(),
    TranslationRouteOptimized(),
    RouteOptimized(),
    MAP_TYPE_1,
    MAP_TYPE_2,
    MAP_TYPE_3,
)
"All of ours. A new scenario is added here and nowhere else; those of third parties: docs/scenarios.md."


@dataclass(frozen=True, slots=True)
class NoScenario(Event):
    """The home agent accepted, but no enabled row of the table fits: the tunnel is gone (steps 61, 67)."""

    why: str
    "And what to do about it, for people."


class ScenarioPolicy:
    """Table 220 and routine 60. ``enabled``: numbers whose status is *enabled*; None: all."""

    def __init__(self, scenarios: Iterable[Scenario] = SCENARIOS, enabled: Iterable[int] | None = None) -> None:
        self._scenarios: dict[int, Scenario] = {}
        for scenario in sorted(scenarios, key=lambda each: each.number):
            if scenario.number in self._scenarios:
                raise ValueError(f"scenario {scenario.number} is registered twice; give each a number of its own")
            self._scenarios[scenario.number] = scenario
        self._enabled = set(self._scenarios) if enabled is None else set(enabled)
        for number in self._enabled:
            self._known(number)
        self.present: int | None = None
        "Number of the scenario in use, as of the last acknowledgement of the home agent; None: no tunnel."
        self.lacking: str | None = None
        "Why no scenario is in use although the home agent accepted, for people."
        self.translates = False
        "There is a translation table; without one the scenarios with translation do not apply."
        self.of_correspondents: int | None = None
        "The same of the correspondents; None: none has acknowledged."
        self.of_map: int | None = None
        "The same of the MAP in use."

    def enable(self, number: int, status: bool) -> None:
        """Switch a row on or off; the next acknowledgement is judged by it. Raises `ValueError`: no such row."""
        self._known(number)
        if status:
            self._enabled.add(number)
        else:
            self._enabled.discard(number)
            if number == self.of_correspondents:
                self.of_correspondents = None

    def number(self, text: str) -> int:
        """The row that a user means. Raises `ValueError`."""
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number of a scenario; `mobility scenario list` shows them") from None

    def choose(self, situation: Situation) -> HandedOn:
        """The number for this acknowledgement (step 76). Raises `Discard` when no enabled row fits."""
        if self.translates and situation.from_home_agent:
            situation = replace(situation, translated=True)
        for number, scenario in self._scenarios.items():
            if number in self._enabled and scenario.applies(situation):
                return HandedOn(number, situation)
        raise Discard(Reason.SCENARIO_DISABLED, self._why_none(situation))

    def _why_none(self, situation: Situation) -> str:
        who = "home agent" if situation.from_home_agent else "correspondent"
        if situation.registration is not None:
            who = f"MAP of type {int(situation.registration)}"
        how = "under IPsec" if situation.under_ipsec else "without IPsec"
        none = f"no enabled scenario for an acknowledgement of the {who} {how}"
        fitting = [number for number, scenario in self._scenarios.items() if scenario.applies(situation)]
        if not fitting:
            return f"{none}: the table has no row for it"
        rows = " and ".join(f"{number} ({self._scenarios[number].substance})" for number in fitting)
        verb = "would fit but is disabled" if len(fitting) == 1 else "would fit but are disabled"
        return f"{none}: {rows} {verb}; enable it with `mobility scenario enable {fitting[0]}`"

    def none_fits(self, why: str) -> NoScenario:
        """The home agent accepted, and `choose` found no row because of ``why``: nothing is in use any more."""
        self.present, self.lacking = None, why
        return NoScenario(why)

    def process(self, handed_on: HandedOn, tunnels: Tunnels) -> list[Output]:
        """Routine 60: run the scenario with this number (step 61). Raises `Discard` (step 67)."""
        outputs = self._known(handed_on.number).acknowledged(handed_on.situation, tunnels)
        if handed_on.situation.from_home_agent:
            self.present, self.lacking = handed_on.number, None
        elif handed_on.situation.registration is not None:
            self.of_map = handed_on.number
        else:
            self.of_correspondents = handed_on.number
        return outputs

    def is_enabled(self, number: int) -> bool:
        """Whether the row may be used."""
        return number in self._enabled

    def fits(self, situation: Situation) -> bool:
        """Whether an enabled row would apply to such an acknowledgement."""
        return any(
            number in self._enabled and scenario.applies(situation) for number, scenario in self._scenarios.items()
        )

    def _known(self, number: int) -> Scenario:
        try:
            return self._scenarios[number]
        except KeyError:
            known = ", ".join(map(str, self._scenarios))
            raise ValueError(f"there is no scenario {number}; choose one of {known}") from None

    def snapshot(self) -> list[dict[str, object]]:
        """Table 220 for people, JSON-ready."""
        return [
            {
                "number": number,
                "substance": scenario.substance,
                "status": "enabled" if number in self._enabled else "disabled",
                "in_use": number in (self.present, self.of_correspondents, self.of_map),
            }
            for number, scenario in self._scenarios.items()
        ]
