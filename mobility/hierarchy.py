"""The terminal's regional part with scenario processing around it (steps 605 to 609): all that `Terminal` knows."""

from __future__ import annotations

from mobility.discards import Discard
from mobility.forwarding import Forwarding
from mobility.hmipv6.options import registration_in
from mobility.hmipv6.regional import Regional
from mobility.hmipv6.regional_events import MapLeft, RegionalRegistration
from mobility.outputs import Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import Situation


class Hierarchy:
    """Hands acknowledgements of MAPs to scenario processing, and what that hands on to the regional part."""

    def __init__(self, regional: Regional, scenarios: ScenarioPolicy, forwarding: Forwarding) -> None:
        self.regional = regional
        self._scenarios = scenarios
        self._forwarding = forwarding

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self.regional.timer

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        return self._noticed(self.regional.handle_timer(now))

    def settle(self, now: float) -> list[Output]:
        """To be called after everything that `Regional.hears` was told of. `Regional.moved` says what follows."""
        return self._noticed(self.regional.settle(now))

    def packet(self, packet: bytes, link: str, now: float) -> list[Output] | None:
        """A packet that the host of an access link does not handle; None: it is not for the regional part."""
        regional = self.regional
        domain = regional.domain_of(packet[8:24])
        if domain is None or link == domain.link:
            return None
        try:
            outputs, situation = regional.receive(domain, packet, link, now)
        except Discard as discard:
            return [Discarded.of(discard, "regional")]
        if situation is not None:
            outputs += self._acknowledged(situation, now)
        return outputs

    def _acknowledged(self, situation: Situation, now: float) -> list[Output]:
        """Steps 605 to 609."""
        try:
            handed_on = self._scenarios.choose(situation)
            outputs = self._scenarios.process(handed_on, self._forwarding)
        except Discard as discard:
            left = self._noticed(self.regional.not_taken(situation, discard.detail, now))
            return [Discarded.of(discard, "scenario"), *left]
        for output in outputs:
            if isinstance(output, RegionalRegistration) and registration_in(output.acknowledgement.options) is not None:
                self.regional.registered(output)
        return outputs

    def _noticed(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, MapLeft):
                self._forwarding.clear_regional(output.rcoa)
                if self.regional.domain is None:
                    self._scenarios.of_map = None
        return outputs
