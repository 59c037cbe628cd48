"""Scenarios 10011 and 10021: a correspondent acknowledged, and packets go directly (embodiments 3 and 4, Fig. 20)."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.mipv6.registration import status_name
from mobility.outputs import Output
from mobility.scenario.situation import Situation, Tunnels


def acknowledged(situation: Situation, tunnels: Tunnels) -> list[Output]:
    """Steps 62, 83, 84/93 and 67, which both scenarios consist of."""
    status = situation.acknowledgement.status
    if status >= 128 or situation.route is None:  # step 62
        raise Discard(Reason.BINDING_REFUSED, f"{situation.acknowledger}: {status_name(status)}")  # step 67
    tunnels.set_route(situation.route)  # steps 84, 93
    return []


def binding_error(correspondent: IPv6Address, tunnels: Tunnels) -> None:
    """Steps 83 and 85/94: the mobility header is a binding error and no acknowledgement."""
    tunnels.clear_route(correspondent)


def _of_correspondent(situation: Situation) -> bool:
    return not situation.from_home_agent and situation.registration is None


class TranslationRouteOptimized:
    """Fig. 20: programs speak IPv4. Rows of the translation table live on by the packets that need them (step 82)."""

    number = 10011
    substance = "IPv4-IPv6 translation and route optimization"

    def applies(self, situation: Situation) -> bool:
        return _of_correspondent(situation) and situation.translated

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return acknowledged(situation, tunnels)


class RouteOptimized:
    """The same with programs that speak IPv6."""

    number = 10021
    substance = "no translation and route optimization"

    def applies(self, situation: Situation) -> bool:
        return _of_correspondent(situation) and not situation.translated

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return acknowledged(situation, tunnels)
