"""What a home agent has to know from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mobility.key_source import KeySource
from mobility.links import MOBILITY_PORT
from mobility.mipv6.home_advertising import INTERVAL
from mobility.mipv6.home_prefixes import MAX_INTERVAL, MIN_INTERVAL
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm


@dataclass(frozen=True, slots=True)
class AuthorisedTerminal:
    """A terminal that may register: its home address and the associations that prove who it is."""

    home_address: IPv6Address
    form: TunnelForm = TunnelForm.ESP
    associations: MobileAssociations = field(default_factory=MobileAssociations)
    admitted: bool = True
    "False: known, and refused with status 129 (administratively prohibited)."
    name: str = ""
    "For displays."
    home_address4: IPv4Address | None = None
    "Its IPv4 home address, if it shall always have the same; None: one of the pool when it asks."
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    "That it may talk to, and whose nodes may talk to it; None: all."
    mobile_networks: tuple[IPv6Network, ...] = ()
    "That it may take along as a mobile router (RFC 3963); empty: it is none."
    implicit: bool = True
    "Whether it takes along all of them where its update names none."
    keys: KeySource | None = None
    "Where the keys of its associations come from; None: they have them."


@dataclass(frozen=True, slots=True)
class HomeAgentSettings:
    """What a home agent has to know."""

    address: IPv6Address
    terminals: tuple[AuthorisedTerminal, ...] = ()
    prefix_length: int = 64
    "Of the home link."
    max_lifetime: int = 3600
    "Seconds; no binding is granted more."
    refresh_advice: int | None = None
    "Seconds; sent with acknowledgements as binding refresh advice."
    serving: bool = True
    "False: home registrations are refused with status 131."
    cache_limit: int = 4096
    "Home addresses that may be bound at a time."
    udp_port: int = MOBILITY_PORT
    "At which datagrams are taken that come to the home agent's own IPv6 address; 0: none are."
    overlap: float = 1.0
    "Seconds for which packets go to the former care-of address as well after another one became primary (form esp)."
    ipv4_pool: IPv4Network | None = None
    "IPv4 home addresses to hand out; the first host address is the home agent's own."
    preference: int = 0
    "Among the home agents of the home link, -32768 to 32767; more is better (RFC 6275 section 7.4)."
    advertise: float = INTERVAL
    "Seconds between two messages that tell the home link of this home agent; 0: none."
    key_management: bool = False
    "The keys come from IKE, whose associations follow the care-of address: the K flag of updates is granted."
    prefix_intervals: tuple[float, float] = (MIN_INTERVAL, MAX_INTERVAL)
    "Seconds between which terminals hear that the home network is renumbered (MinMobPfxAdvInterval, Max...)."
