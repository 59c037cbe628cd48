"""The table ``[mobile_router]`` of a configuration (RFC 3963)."""

from __future__ import annotations

from enum import StrEnum

from mobility import values
from mobility.settings import MapChoice, MobileNetwork, MobileNodeSettings, MobileRouterSettings
from mobility.values import Table


class Mode(StrEnum):
    """Who says which networks a mobile router takes along."""

    IMPLICIT = "implicit"
    "The configuration of the home agent."
    EXPLICIT = "explicit"
    "Each binding update."


def mobile_router(table: Table, node: MobileNodeSettings) -> MobileRouterSettings:
    """Raises ConfigurationError."""
    settings = MobileRouterSettings(
        networks=tuple(_network(row, node) for row in table.tables("network")),
        explicit=table.optional("mode", values.one_of(Mode), Mode.IMPLICIT) is Mode.EXPLICIT,
    )
    table.end()
    if not settings.networks:
        raise table.error("network", "is missing: a mobile router has at least one [[mobile_router.network]]")
    if node.home_agent is None or node.further:
        raise table.error("network", "needs one home address, and a home agent that is named (in [mobile_node])")
    if node.maps.choice is not MapChoice.OFF:
        raise table.error("network", "does not go with mobility anchor points: leave out mobile_node.maps")
    prefixes = [network.prefix for network in settings.networks]
    for at, prefix in enumerate(prefixes):
        if any(prefix.overlaps(other) for other in prefixes[:at]):
            raise table.error(f"network[{at}].prefix", f"{prefix} is there already")
    return settings


def _network(table: Table, node: MobileNodeSettings) -> MobileNetwork:
    network = MobileNetwork(
        table.required("prefix", values.mobile_network), table.required("interface", values.interface)
    )
    table.end()
    if network.prefix.overlaps(node.home_address.network):
        raise table.error("prefix", f"{network.prefix} is the home network; a mobile network has a prefix of its own")
    if network.interface in node.interfaces:
        raise table.error(
            "interface", f"{network.interface} leads to the outside (mobile_node.interfaces); name one of the network's"
        )
    return network
