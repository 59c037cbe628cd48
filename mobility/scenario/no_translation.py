"""Scenarios 10001 and 10020: the program speaks IPv6 itself, from its home address (embodiments 2, 4 and 5)."""

from __future__ import annotations

from mobility.discards import Discard, Reason
from mobility.mipv6.refusals import why_refused
from mobility.mipv6.registration import status_name
from mobility.outputs import Output
from mobility.scenario.situation import Situation, Tunnels


def set_tunnel(situation: Situation, tunnels: Tunnels) -> list[Output]:
    """Steps 62, 63/91 and 67, which every scenario of the home agent begins with."""
    status = situation.acknowledgement.status
    if status >= 128:  # step 62
        raise Discard(Reason.BINDING_REFUSED, f"{status_name(status)}: {why_refused(status)}")  # step 67
    tunnels.set_tunnel(situation.acknowledger, situation.care_of_address)  # steps 63, 91
    return []


class NoTranslation:
    """Fig. 12: acknowledged by the home agent without IPsec."""

    number = 10001
    substance = "no translation, no IPsec"

    def applies(self, situation: Situation) -> bool:
        return situation.from_home_agent and not situation.under_ipsec

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return set_tunnel(situation, tunnels)


class NoTranslationIpsec:
    """Figs. 16 and 24 to 26: acknowledged by the home agent under IPsec."""

    number = 10020
    substance = "no translation (IPsec)"

    def applies(self, situation: Situation) -> bool:
        return situation.from_home_agent and situation.under_ipsec

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return set_tunnel(situation, tunnels)
