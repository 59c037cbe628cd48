"""Scenario 10500: the tunnel is used from networks of the company only."""

from __future__ import annotations

from ipaddress import IPv6Network

from mobility.outputs import Output
from mobility.scenario.no_translation import set_tunnel
from mobility.scenario.situation import Situation, Tunnels

NETWORKS = (IPv6Network("2001:db8:a::/48"), IPv6Network("2001:db8:b::/48"))


class CompanyNetworks:
    """As scenario 10020, but only for a terminal that is in one of the networks."""

    number = 10500
    substance = "IPsec, from networks of the company only"

    def applies(self, situation: Situation) -> bool:
        """Whether this is the scenario of such an acknowledgement; the status is looked at later."""
        here = any(situation.care_of_address in network for network in NETWORKS)
        return situation.from_home_agent and situation.under_ipsec and here

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        """Sets the tunnel. Raises `Discard` if the home agent refused."""
        return set_tunnel(situation, tunnels)
