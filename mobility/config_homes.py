"""What a terminal's configuration says of its home addresses and home agents, and whose keys are whose.

Keys are for one home address and one home agent. A terminal that looks for its home agent has them for each that it
may find (``peer``), or one pair for whichever it finds: then the home agents have to share their sequence numbers.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility import values
from mobility.key_settings import WHICHEVER, KeyUse
from mobility.mipv6.home_agents_list import anycast
from mobility.settings import (
    MOBILE_USES,
    Access,
    Configuration,
    FurtherHome,
    MapChoice,
    MobileNodeSettings,
    When,
)
from mobility.values import Table


def further(table: Table, settings: MobileNodeSettings) -> tuple[FurtherHome, ...]:
    """The tables ``[[mobile_node.home]]``. Raises ConfigurationError."""
    found: list[FurtherHome] = []
    for row in table.tables("home"):
        home = FurtherHome(
            row.required("home_address", values.address_with_prefix),
            row.optional("home_agent", values.home_agent, settings.home_agent),
            row.optional("when", values.one_of(When), When.ALWAYS),
        )
        row.end()
        if home.address.ip in (settings.home_address.ip, *(each.address.ip for each in found)):
            raise row.error("home_address", f"{home.address.ip} is a home address already")
        found.append(home)
    return tuple(found)


def check(table: Table, settings: MobileNodeSettings) -> None:
    """Raises ConfigurationError: what does not go together."""
    agents = {home.agent for home in settings.homes}
    if any(home.address.ip in agents for home in settings.homes):
        raise table.error("home_agent", "is the home address itself")
    if None in agents and settings.access is Access.UDP:
        raise table.error("home_agent", 'can be discovered with native access only: name it, or choose access = "auto"')
    if settings.maps.choice is not MapChoice.OFF and (settings.further or None in agents):
        raise table.error("maps", "goes with one home address, and a home agent that is named")
    for home in settings.homes:
        if home.agent is None and home.address.network.prefixlen > 120:
            raise table.error("home_agent", f"{home.address.network} is too small a network to discover home agents in")


def ends(table: Table, settings: MobileNodeSettings) -> tuple[IPv6Address, IPv6Address | None]:
    """Home agent (or MAP) and home address of a pair; the anycast address stands for whichever home agent is found.

    The home address is None for the first one. Raises ConfigurationError.
    """
    first = settings.home_address.ip
    wanted = table.optional("home_address", values.address, first)
    home = next((each for each in settings.homes if each.address.ip == wanted), None)
    if home is None:
        known = ", ".join(str(each.address.ip) for each in settings.homes)
        raise table.error("home_address", f"has to be one of the home addresses {known}")
    implied = anycast(home.address.network) if home.agent is None else home.agent
    peer = table.optional("peer", values.address, implied)
    if wanted == first and peer in (known.address for known in settings.maps.known):
        return peer, None
    if home.agent is not None and peer != home.agent:
        raise table.error("peer", f"has to be the home agent {home.agent}, a MAP, or to be left out")
    if home.agent is None and peer not in home.address.network:
        raise table.error("peer", f"is no home agent of the home network {home.address.network}")
    return peer, None if wanted == first else wanted


def peers(settings: MobileNodeSettings, configuration: Configuration) -> list[tuple[IPv6Address, IPv6Address | None]]:
    """Home agents with the home address (None: the first) for which all keys have to be written down."""
    pairs = configuration.associations
    anchors = {known.address for known in settings.maps.known}
    mobile = [pair for pair in pairs if pair.use in MOBILE_USES and pair.peer not in anchors]
    known = list(dict.fromkeys((pair.peer, pair.home) for pair in mobile))
    needed: list[tuple[IPv6Address, IPv6Address | None]] = []
    for number, home in enumerate(settings.homes):
        named = home.address.ip if number else None
        if home.agent is not None:
            negotiated = configuration.home_key_exchange(home.address.ip, home.agent) is not None
            needed += [] if negotiated else [(home.agent, named)]
            continue
        written = [each for each in known if each[1] == named]
        negotiated = any(
            exchange.use is KeyUse.MOBILE
            and exchange.home in (None, home.address.ip)
            and (exchange.peer == WHICHEVER or home.may_have(exchange.peer))
            for exchange in configuration.key_exchanges
        )
        needed += written or ([] if negotiated else [(anycast(home.address.network), named)])
    return needed
