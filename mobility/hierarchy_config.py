"""Tables of a configuration about mobility anchor points, read into checked values (docs/configuration.md)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

from mobility import values
from mobility.host.advertiser import Advertising
from mobility.mipv6.tunnel import TunnelForm
from mobility.settings import (
    AdvertisedLink,
    AnchorPointSettings,
    KnownMap,
    MapChoice,
    MapUse,
    RegionalTerminal,
    Signalling,
)
from mobility.values import Table
from mobility.wire.map_option import HIGHEST_PREFERENCE, MapOption, RegistrationType
from mobility.wire.ndisc import PrefixInformation


def map_use(table: Table) -> MapUse:
    """The keys of ``[mobile_node]`` about MAPs. Raises ConfigurationError."""
    known = tuple(_known_map(row) for row in table.tables("map"))
    use = MapUse(
        choice=table.optional("maps", values.one_of(MapChoice), MapChoice.OFF),
        unknown=table.optional("unknown_maps", values.truth, False),
        lifetime=table.optional("map_lifetime", values.lifetime, 600),
        known=known,
        tunnel=table.optional("map_tunnel", values.one_of(TunnelForm), TunnelForm.PLAIN),
    )
    addresses = [each.address for each in known]
    for row in known:
        if addresses.count(row.address) > 1:
            raise table.error("map", f"{row.address} is there twice")
    if use.choice is MapChoice.OFF and (known or use.unknown):
        raise table.error("maps", 'has to say which of the MAPs is taken, for example "farthest"')
    if use.choice is not MapChoice.OFF and not (known or use.unknown):
        raise table.error("maps", "needs a table [[mobile_node.map]] for each MAP, or unknown_maps = true")
    return use


def _known_map(table: Table) -> KnownMap:
    known = KnownMap(
        address=table.required("address", values.address),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.PLAIN),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
    )
    table.end()
    return known


def anchor_point(table: Table) -> AnchorPointSettings:
    """The table ``[map]``. Raises ConfigurationError."""
    address = table.optional("address", values.address, None)
    interface = table.optional("interface", values.interface, None)
    settings = AnchorPointSettings(
        address=address,
        interface=interface,
        max_lifetime=table.optional("max_lifetime", values.lifetime, 600),
        open=table.optional("open", values.truth, False),
        certified=table.optional("certified", values.truth, False),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.PLAIN),
        terminals=tuple(_terminal(row) for row in table.tables("terminal")),
        advertised=tuple(_advertised(row) for row in table.tables("advertise")),
    )
    table.end()
    if (address is None) != (interface is None):
        raise table.error("interface", "goes with address: both for a MAP, neither for one that only advertises others")
    if address is None and not settings.advertised:
        raise table.error("address", "is missing; or say with [[map.advertise]] what is advertised")
    if address is None and (settings.terminals or settings.open or settings.certified):
        raise table.error("terminal", "is for a MAP, which needs an address")
    if address is not None and not (settings.terminals or settings.open or settings.certified):
        raise table.error(
            "terminal",
            "is missing: a MAP serves terminals with keys, with certified = true, or all with open = true",
        )
    if settings.tunnel is not TunnelForm.PLAIN and not settings.certified:
        raise table.error("tunnel", "goes with certified = true; other terminals have one of their own")
    _no_doubles(table, "terminal", [str(each.home_address) for each in settings.terminals])
    _no_doubles(table, "terminal", [each.name for each in settings.terminals])
    _no_doubles(table, "advertise", [each.interface for each in settings.advertised])
    return settings


def _no_doubles(table: Table, key: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise table.error(key, f"{name} is there twice")


def _terminal(table: Table) -> RegionalTerminal:
    home_address = table.required("home_address", values.address)
    terminal = RegionalTerminal(
        home_address=home_address,
        name=table.optional("name", values.text, str(home_address)),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.PLAIN),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
        where=table.where,
    )
    table.end()
    if terminal.signalling is Signalling.NONE:
        raise table.error("signalling", "needs keys; terminals without any are let in by open = true in [map]")
    return terminal


def _advertised(table: Table) -> AdvertisedLink:
    router = table.optional("router", values.link_local, None)
    valid = table.optional("valid_lifetime", values.seconds, 7200)
    preferred = table.optional("preferred_lifetime", values.seconds, 3600)
    none: tuple[IPv6Network, ...] = ()
    prefixes = table.optional("prefixes", values.prefixes, none)
    shortest, longest = table.optional("interval", values.interval, (1.0, 3.0))
    lifetime = table.optional("router_lifetime", values.router_lifetime, 0 if router is None else 1800)
    interface = table.required("interface", values.interface)
    mtu = table.optional("mtu", values.mtu, None)
    maps = tuple(_map_option(row) for row in table.tables("map"))
    table.end()
    if preferred > valid:
        raise table.error("preferred_lifetime", "is longer than valid_lifetime")
    if router is None and (lifetime or prefixes):
        raise table.error("router", "has to be the link-local address of the router that forwards for these hosts")
    try:
        advertising = Advertising(
            router_lifetime=lifetime,
            prefixes=tuple(
                PrefixInformation(each.network_address, each.prefixlen, valid, preferred) for each in prefixes
            ),
            max_interval=longest,
            min_interval=shortest,
            shortest_gap=0.03,
            mtu=mtu,
            tell_interval=True,
            options=maps,
        )
    except ValueError as error:
        raise table.error("interval", str(error)) from error
    return AdvertisedLink(interface, router, advertising)


def _map_option(table: Table) -> MapOption:
    kind = RegistrationType(table.optional("type", values.registration_type, 1))
    option = MapOption(
        table.required("address", values.address),
        table.optional("lifetime", values.seconds, 1800),
        table.optional("distance", values.distance, 2),
        table.optional("preference", values.map_preference, HIGHEST_PREFERENCE),
        must_use_source=kind is not RegistrationType.DIRECT,
        reverse_tunnel=kind is RegistrationType.TUNNEL,
    )
    table.end()
    return option
