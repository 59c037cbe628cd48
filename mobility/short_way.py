"""The short way of a terminal: what a packet needs to know while nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobility.forwarding import Forwarding
from mobility.hmipv6.domain import Domain
from mobility.links import is_udp
from mobility.mipv6.tunnel import TunnelForm
from mobility.uplinks import Uplinks
from mobility.wire import ip6


@dataclass(frozen=True, slots=True)
class ShortWay:
    """All that carrying a packet needs. Any change of place, binding or path makes a new one."""

    link: str
    outbound_ends: bytes
    inbound_ends: bytes
    agent: bytes
    mtu: int
    protocol: int
    "Next header of the outer header."
    inbound_spi: bytes | None
    "None: the tunnel is not protected."
    next_hop: Callable[[bytes], bytes | None]
    endpoint: bytes | None = None
    "Of the home agent, where the tunnel is UDP."
    below: Domain | None = None
    "Whose tunnel is around the home agent's; it knows itself which access link is below."


def short_way(forwarding: Forwarding, uplinks: Uplinks, link: str, spi: bytes | None) -> ShortWay | None:
    """The short way through the present tunnel on ``link``; None: there is none.

    ``spi``: that of what comes through the tunnel; None: it is not protected.
    """
    tunnel = forwarding.tunnel
    if tunnel is None:
        return None
    agent, home = tunnel.home_agent.packed, forwarding.home_address.packed
    protocol = ip6.IPV6 if forwarding.form is TunnelForm.PLAIN else ip6.ESP
    if is_udp(link):
        to = uplinks.endpoint_of(link)
        if to is None or spi is None:
            return None
        return ShortWay(link, home + agent, agent + home, agent, uplinks.path_mtu(link), protocol, spi, _nowhere, to)
    care_of = tunnel.care_of_address.packed
    station = uplinks.stations.get(link)
    if station is None:
        return None
    mtu = station.path_mtu(agent)
    if isinstance(station, Domain):
        ends = care_of + agent, agent + care_of
        return ShortWay(link, *ends, agent, mtu, protocol, spi, station.next_hop, below=station)
    return ShortWay(link, care_of + agent, agent + care_of, agent, mtu, protocol, spi, station.next_hop)


def _nowhere(_destination: bytes) -> bytes | None:
    """Where UDP carries, nobody asks for a link-layer address."""
    return None
