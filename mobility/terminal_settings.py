"""What a terminal has to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.hmipv6.regional_settings import RegionalSettings
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.links import MOBILITY_PORT, LinkSettings
from mobility.mipv6.route_optimization import RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.scenario.situation import Scenario


@dataclass(frozen=True, slots=True)
class TerminalSettings:
    """What a terminal has to know."""

    home_address: IPv6Address
    home_agent: IPv6Address
    links: tuple[LinkSettings, ...] = ()
    "Interfaces that it has a link of its own on (packet socket); UDP comes by `Terminal.udp_changed`."
    interfaces: tuple[str, ...] = ()
    "In order of preference; empty: as in ``links``."
    home_prefix_length: int = 64
    tunnel: TunnelForm = TunnelForm.ESP
    lifetime: int = 420
    "Seconds that binding updates ask for; a multiple of four."
    key_management: bool = False
    scenarios: frozenset[int] | None = None
    "Numbers of the enabled rows of the scenario policy table; None: all."
    more_scenarios: tuple[Scenario, ...] = ()
    "Of third parties, beside ours."
    home_agent4: IPv4Address | None = None
    "Where the home agent is reached through IPv4; None: not at all."
    udp_port: int = MOBILITY_PORT
    overlap: float = 0.5
    "Seconds for which an old place is kept beside a new one; 0: always break before make."
    home_address4: IPv4Address | None = None
    "IPv4 home address to ask for; 0.0.0.0: any; None: none is wanted."
    keepalive: float = 20.0
    "Seconds of silence after which the home agent is asked through UDP, so that NAT keeps its mapping."
    route_optimization: RouteRules = field(default_factory=RouteRules)
    "With whom packets may go directly."
    regional: RegionalSettings | None = None
    "Mobility anchor points; None: none are used."
    mobile_networks: tuple[IPv6Network, ...] = ()
    "That it takes along as a mobile router (RFC 3963); empty: it is a mobile host."
    keys: KeySource | None = None
    "Where the keys of the mobile associations come from; None: they have them."
    application_keys: ApplicationKeySettings | None = None
    "Of the application's IPsec; None: none are negotiated."
    explicit: bool = False
    "Whether binding updates name them."
