"""Scenarios 10000 and 10010: programs speak IPv4 (embodiments 1 and 3, Figs. 10, 15 and 19)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.outputs import Event, Output
from mobility.scenario.no_translation import set_tunnel
from mobility.scenario.situation import Situation, Tunnels


@dataclass(frozen=True, slots=True)
class HomeAddressTranslated(Event):
    """Steps 64 and 82: the translation table has this home address for the lifetime of the binding."""

    home_address: IPv6Address
    lifetime: int
    "Seconds."


def acknowledged(situation: Situation, tunnels: Tunnels) -> list[Output]:
    """Steps 62 to 64, 81, 82 and 67, which both scenarios consist of."""
    outputs = set_tunnel(situation, tunnels)  # steps 62, 63, 81
    return [*outputs, HomeAddressTranslated(situation.home_address, situation.acknowledgement.lifetime)]


class Translation:
    """Fig. 10: acknowledged by the home agent without IPsec."""

    number = 10000
    substance = "IPv4-IPv6 translation, no IPsec"

    def applies(self, situation: Situation) -> bool:
        return situation.from_home_agent and situation.translated and not situation.under_ipsec

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return acknowledged(situation, tunnels)


class TranslationIpsec:
    """Figs. 15, 19, 21 and 22: acknowledged by the home agent under IPsec."""

    number = 10010
    substance = "IPv4-IPv6 translation (IPsec)"

    def applies(self, situation: Situation) -> bool:
        return situation.from_home_agent and situation.translated and situation.under_ipsec

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return acknowledged(situation, tunnels)


TRANSLATING = frozenset((Translation.number, TranslationIpsec.number))
"Numbers of the scenarios in which packets are translated."
