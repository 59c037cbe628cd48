"""Scenario policy 21 with its management table 220: which methods of communication exist and may be used (Fig. 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mobility.discards import Discard, Reason
from mobility.outputs import Output
from mobility.scenario.no_translation import NoTranslation, NoTranslationIpsec
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
)
"All that exist. A new scenario is added here and nowhere else."


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
        "Number of the scenario in use, as of the last acknowledgement of the home agent."
        self.translates = False
        "There is a translation table; without one the scenarios with translation do not apply."
        self.of_correspondents: int | None = None
        "The same of the correspondents; None: none has acknowledged."

    def enable(self, number: int, status: bool) -> None:
        """Switch a row on or off; the next acknowledgement is judged by it. Raises `ValueError`: no such row."""
        self._known(number)
        if status:
            self._enabled.add(number)
        else:
            self._enabled.discard(number)

    def choose(self, situation: Situation) -> HandedOn:
        """The number for this acknowledgement (step 76). Raises `Discard` when no enabled row fits."""
        if self.translates and situation.from_home_agent:
            situation = replace(situation, translated=True)
        for number, scenario in self._scenarios.items():
            if number in self._enabled and scenario.applies(situation):
                return HandedOn(number, situation)
        who = "home agent" if situation.from_home_agent else "correspondent"
        how = "under IPsec" if situation.under_ipsec else "without IPsec"
        raise Discard(Reason.SCENARIO_DISABLED, f"no enabled scenario for an acknowledgement of the {who} {how}")

    def process(self, handed_on: HandedOn, tunnels: Tunnels) -> list[Output]:
        """Routine 60: run the scenario with this number (step 61). Raises `Discard` (step 67)."""
        outputs = self._known(handed_on.number).acknowledged(handed_on.situation, tunnels)
        if handed_on.situation.from_home_agent:
            self.present = handed_on.number
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
                "in_use": number in (self.present, self.of_correspondents),
            }
            for number, scenario in self._scenarios.items()
        ]
