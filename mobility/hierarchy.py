"""The terminal's regional part with scenario processing around it (steps 605 to 609): all that `Terminal` knows."""

from __future__ import annotations

from mobility.discards import Discard
from mobility.forwarding import Forwarding
from mobility.hmipv6.options import registration_in
from mobility.hmipv6.regional import Regional
from mobility.hmipv6.regional_events import MapLeft, RegionalRegistration
from mobility.ipsec.ike.events import IkeFailed
from mobility.map_keys import MapKeys
from mobility.outputs import Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import Situation
from mobility.terminal_keys import is_ike


class Hierarchy:
    """Hands acknowledgements of MAPs to scenario processing, and what that hands on to the regional part."""

    def __init__(self, regional: Regional, keys: MapKeys, scenarios: ScenarioPolicy, forwarding: Forwarding) -> None:
        self.regional = regional
        self.keys = keys
        self._scenarios = scenarios
        self._forwarding = forwarding

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min((time for time in (self.regional.timer, self.keys.timer) if time is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        outputs = self._noticed(self.regional.handle_timer(now))
        return outputs + self._keyed(self.keys.handle_timer(now), now)

    def settle(self, now: float) -> list[Output]:
        """To be called after everything that `Regional.hears` was told of. `Regional.moved` says what follows."""
        outputs = self._noticed(self.regional.settle(now))
        places = {domain.anchor: domain.target for domain in self.regional.domains()}
        return outputs + self._keyed(self.keys.follow(places, now), now)

    def packet(self, packet: bytes, link: str, now: float) -> list[Output] | None:
        """A packet that the host of an access link does not handle; None: it is not for the regional part."""
        regional = self.regional
        domain = regional.domain_of(packet[8:24])
        if domain is None or link == domain.link:
            return None
        keys = self.keys.of(domain.anchor)
        if keys is not None and is_ike(packet):
            try:
                return self._keyed(keys.packet(packet, now), now)
            except Discard as discard:
                return [Discarded.of(discard, "ike")]
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
            left = self._noticed(self.regional.unusable(situation.acknowledger, discard.detail, now))
            return [Discarded.of(discard, "scenario"), *left]
        for output in outputs:
            if isinstance(output, RegionalRegistration) and registration_in(output.acknowledgement.options) is not None:
                self.regional.registered(output)
        return outputs

    def rekey(self, now: float) -> list[Output]:
        """New keys of ESP with the MAPs with which any are negotiated."""
        agreed = [keys for keys in self.keys.all if keys.agreed]
        return [output for keys in agreed for output in self._keyed(keys.rekey(now), now)]

    def _keyed(self, outputs: list[Output], now: float) -> list[Output]:
        """What has become of keys: with those of a new IKE SA the terminal registers at once, without any it goes."""
        result = list(outputs)
        for output in outputs:
            domain = self.regional.domain
            if isinstance(output, IkeFailed) and domain is not None and output.peer == str(domain.anchor):
                if not domain.established:
                    result += self._noticed(self.regional.unusable(domain.anchor, f"no keys: {output.reason}", now))
        for anchor in self.keys.ready():
            domain = self.regional.domain_of(anchor.packed)
            result += [] if domain is None else domain.refresh(now)
        return result

    def _noticed(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, MapLeft):
                self._forwarding.clear_regional(output.rcoa)
                if self.regional.domain is None:
                    self._scenarios.of_map = None
        return outputs
