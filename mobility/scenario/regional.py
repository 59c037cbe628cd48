"""Scenarios 10031, 10032 and 10033: a MAP acknowledged (embodiment 6, Fig. 30)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mobility.discards import Discard, Reason
from mobility.hmipv6.options import registration_option
from mobility.hmipv6.regional_events import RegionalRegistration
from mobility.mipv6.registration import status_name
from mobility.outputs import Output
from mobility.scenario.situation import Situation, Tunnels
from mobility.wire.map_option import RegistrationType


def acknowledged(situation: Situation, tunnels: Tunnels) -> list[Output]:
    """Steps 95/98/99, 96, 97 and 67, which all three scenarios consist of."""
    acknowledgement, kind = situation.acknowledgement, situation.registration
    anchor, rcoa, lcoa = situation.acknowledger, situation.home_address, situation.care_of_address
    if not acknowledgement.accepted:
        raise Discard(Reason.BINDING_REFUSED, f"MAP {anchor}: {status_name(acknowledgement.status)}")  # step 67
    if kind is None or rcoa.packed[:8] != anchor.packed[:8] or lcoa == rcoa:
        raise Discard(Reason.SCENARIO_FAILED, f"MAP {anchor}: {rcoa} at {lcoa} makes no sense")  # step 67
    if not tunnels.set_regional(anchor, rcoa, lcoa):  # steps 95, 98, 99; 96
        return []
    options = (*acknowledgement.options, registration_option(kind))
    return [RegionalRegistration(anchor, rcoa, lcoa, int(kind), replace(acknowledgement, options=options))]  # step 97


@dataclass(frozen=True, slots=True)
class MapScenario:
    """One of the three, which differ in what goes through the tunnel to the MAP."""

    number: int
    substance: str
    kind: RegistrationType

    def applies(self, situation: Situation) -> bool:
        return situation.registration is self.kind

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return acknowledged(situation, tunnels)


MAP_TYPE_1 = MapScenario(10031, "MAP type 1", RegistrationType.TUNNEL)
"Fig. 31: both ways through the tunnel to the MAP."
MAP_TYPE_2 = MapScenario(10032, "MAP type 2", RegistrationType.REGIONAL_SOURCE)
"Fig. 32: directly there, back through the tunnel from the MAP."
MAP_TYPE_3 = MapScenario(10033, "MAP type 3", RegistrationType.DIRECT)
"Fig. 33: directly both ways, with the LCoA."
