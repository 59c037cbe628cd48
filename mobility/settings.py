"""What a configuration says: the values that `mobility.config` reads from files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Literal

from mobility.gateway.settings import GatewayAccess, GatewaySettings
from mobility.host.advertiser import Advertising
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.spd import Action
from mobility.key_settings import WHICHEVER, KeyExchanges
from mobility.key_settings import CallKeys as CallKeys
from mobility.key_settings import KeyExchange as KeyExchange
from mobility.key_settings import KeyUse as KeyUse
from mobility.mipv6.home_advertising import INTERVAL
from mobility.mipv6.home_prefixes import MAX_INTERVAL, MIN_INTERVAL
from mobility.mipv6.route_rules import RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.translation.settings import TranslationSettings

ANY_INTERFACE = "*"


class Role(StrEnum):
    MOBILE_NODE = "mn"
    MOBILE_ROUTER = "router"
    HOME_AGENT = "ha"
    CORRESPONDENT = "cn"
    MAP = "map"
    GATEWAY = "gateway"


class Signalling(StrEnum):
    """How binding updates and acknowledgements are protected."""

    ESP = "esp"
    "ESP transport mode (RFC 3776)."
    AH = "ah"
    "AH transport mode: authentic, and readable by everybody (Fig. 19)."
    AH_ESP = "ah+esp"
    "ESP with AH around it (Fig. 20)."
    NONE = "none"


class Access(StrEnum):
    """How a mobile node reaches its home agent."""

    AUTO = "auto"
    "Mobile IPv6 itself where that is permitted and possible, UDP elsewhere."
    NATIVE = "native"
    UDP = "udp"
    "In datagrams (RFC 5555), without any privilege."


class LogFormat(StrEnum):
    """What a line of the log looks like."""

    TEXT = "text"
    JSON = "json"
    "One object a line."


class WithoutStore(StrEnum):
    """What the home agent that serves does when the shared store does not answer until its lease is over."""

    STOP = "stop"
    "Another one may have the lease by then."
    SERVE = "serve"
    "Goes on. If another home agent can reach the store, both serve until one hears the other on the home link."


class HomeLink(StrEnum):
    """What the home network of a home agent is."""

    ETHERNET = "ethernet"
    "A link on which the home agent is one of the hosts."
    ROUTED = "routed"
    "None: its prefix is routed to the machine of the home agent."


class StoreKind(StrEnum):
    """Where a home agent keeps its bindings."""

    SQLITE = "sqlite"
    REDIS = "redis"
    "Shared by several home agents."
    NONE = "none"


class Use(StrEnum):
    """What a pair of security associations is for."""

    SIGNALLING = "signalling"
    SIGNALLING_AH = "signalling-ah"
    TUNNEL = "tunnel"
    HOME_TEST = "home-test"
    "Home tests of a tunnel whose data is not protected (RFC 4877)."
    APPLICATION = "application"


MOBILE_USES = (Use.SIGNALLING, Use.SIGNALLING_AH, Use.TUNNEL, Use.HOME_TEST)
"What is between a terminal and its home agent."


class KeyLife(StrEnum):
    """How long keys are used."""

    STATIC = "static"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Association:
    """One direction of a pair: an SPI with its keys."""

    spi: int
    algorithm: Algorithm
    keys: Keys


@dataclass(frozen=True, slots=True)
class AssociationPair:
    """Two security associations, there and back. ``outbound`` is what this node sends with."""

    name: str
    use: Use
    peer: IPv6Address
    "The other end: home agent, home address of a terminal, or correspondent."
    outbound: Association
    inbound: Association
    session_keys: bool
    "The keys are made for this session, never used in another: the condition for AEAD algorithms."
    where: str = field(default="", compare=False)
    "File and key, for messages."
    home: IPv6Address | None = None
    "Of a terminal: the home address that it is for; None: the first."


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A row of the application's security policy database, seen from this node."""

    name: str
    remote: IPv6Network
    protocol: int | None
    local_port: int | range | None
    remote_port: int | range | None
    action: Action
    association: str | None
    "Name of the pair that protects."


class When(StrEnum):
    """From when on a home address is used."""

    ALWAYS = "always"
    RENUMBERED = "renumbered"
    "When the home agent tells that the home network has other addresses now."


@dataclass(frozen=True, slots=True)
class FurtherHome:
    """A home address beside the first, with a binding of its own."""

    address: IPv6Interface
    agent: IPv6Address | None
    "None: it is discovered."
    when: When = When.ALWAYS

    def may_have(self, agent: IPv6Address) -> bool:
        """Whether this may be its home agent."""
        return agent == self.agent or (self.agent is None and agent in self.address.network)


class MapChoice(StrEnum):
    """Whether a terminal uses mobility anchor points, and which of several (as `MapPolicy`)."""

    OFF = "off"
    FARTHEST = "farthest"
    NEAREST = "nearest"
    PREFERRED = "preferred"


@dataclass(frozen=True, slots=True)
class KnownMap:
    """A mobility anchor point that a terminal has keys with, or may use without."""

    address: IPv6Address
    tunnel: TunnelForm
    signalling: Signalling


@dataclass(frozen=True, slots=True)
class MapUse:
    """What a terminal does about mobility anchor points."""

    choice: MapChoice = MapChoice.OFF
    unknown: bool = False
    "Those that routers tell of may be used: without protection, unless keys are negotiated with all MAPs."
    lifetime: int = 600
    "Seconds asked for in local binding updates."
    known: tuple[KnownMap, ...] = ()
    tunnel: TunnelForm = TunnelForm.PLAIN
    "With those that are not known."


@dataclass(frozen=True, slots=True)
class MobileNodeSettings:
    home_address: IPv6Interface
    home_agent: IPv6Address | None
    "None: it is discovered."
    interfaces: tuple[str, ...]
    "Those that are named, in order of preference."
    others: bool
    "All other interfaces with a default route are used as well, after those (by UDP)."
    access: Access
    home_agent4: IPv4Address | None
    "The home agent's IPv4 address, where it listens for datagrams."
    udp_port: int
    home_address4: IPv4Address | Literal["request"] | None
    overlap: float
    "Seconds for which the former access stays in use after a handover; 0: break before make."
    keepalive: float
    "Seconds between signs of life over UDP."
    tunnel: TunnelForm
    signalling: Signalling
    lifetime: int
    "Seconds asked for in binding updates."
    scenarios: frozenset[int] | None
    "Numbers of the enabled rows of the scenario policy table; None: all."
    route_optimization: RouteRules
    "With whom packets may go without the tunnel."
    maps: MapUse = field(default_factory=MapUse)
    further: tuple[FurtherHome, ...] = ()
    "Home addresses beside the first."

    @property
    def homes(self) -> tuple[FurtherHome, ...]:
        """All home addresses, the first one first."""
        return (FurtherHome(self.home_address, self.home_agent), *self.further)


@dataclass(frozen=True, slots=True)
class MobileNetwork:
    """A network that a mobile router takes along."""

    prefix: IPv6Network
    "64 bits."
    interface: str
    "On whose link it is."


@dataclass(frozen=True, slots=True)
class MobileRouterSettings:
    networks: tuple[MobileNetwork, ...]
    explicit: bool
    "Whether binding updates name them; otherwise the home agent knows them."

    @property
    def interfaces(self) -> dict[str, tuple[IPv6Network, ...]]:
        """The networks by interface."""
        found: dict[str, tuple[IPv6Network, ...]] = {}
        for network in self.networks:
            found[network.interface] = (*found.get(network.interface, ()), network.prefix)
        return found


@dataclass(frozen=True, slots=True)
class ServedTerminal:
    """A mobile node that the home agent serves."""

    home_address: IPv6Address
    tunnel: TunnelForm
    signalling: Signalling
    name: str
    "Unique; for displays and commands."
    home_address4: IPv4Address | None
    "Always this one from the pool."
    admitted: bool
    "False: known, but refused."
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    "That it may talk to; None: all."
    mobile_networks: tuple[IPv6Network, ...] = ()
    "That it may take along as a mobile router."
    implicit: bool = True
    "Whether it takes all of them along where it names none."
    where: str = field(default="", compare=False)
    "File and key, for messages."


@dataclass(frozen=True, slots=True)
class HomeAgentSettings:
    address: IPv6Interface
    interface: str
    "On the home link; if that is routed, the name of the TUN device by which the kernel hands packets over."
    max_lifetime: int
    "Seconds; longer wishes are granted this much."
    udp: tuple[IPv4Address | IPv6Address, ...]
    "Addresses of the kernel to listen at for datagrams."
    udp_port: int
    "0: no UDP at all."
    udp_interface: str | None
    "Has the IPv4 addresses of ``udp`` while this home agent serves; None: they are there anyway."
    overlap: float
    "Seconds for which packets go to the former access as well after a handover."
    ipv4_pool: IPv4Network | None
    "IPv4 home addresses are taken from here."
    ipv4_interface: str
    "Name of the TUN device behind which the kernel routes the pool."
    directory: Path
    "Where further files of terminals are; it need not exist."
    terminals: tuple[ServedTerminal, ...]
    preference: int = 0
    "Among the home agents of the home link."
    advertise: float = INTERVAL
    "Seconds between two messages that tell the home link of this home agent; 0: none."
    prefix_intervals: tuple[float, float] = (MIN_INTERVAL, MAX_INTERVAL)
    "Seconds between which terminals hear that the home network is renumbered."
    home_link: HomeLink = HomeLink.ETHERNET
    prefixes: tuple[IPv6Network, ...] = ()
    "That are routed to this machine; empty if the home link is one of Ethernet."


@dataclass(frozen=True, slots=True)
class CorrespondentSettings:
    interface: str
    address: IPv6Interface
    route_optimization: bool
    "Whether terminals may tell where they are, and are spoken to directly."


@dataclass(frozen=True, slots=True)
class RegionalTerminal:
    """A terminal that a mobility anchor point serves."""

    home_address: IPv6Address
    "Names it in associations; never sent, and the MAP does not use it."
    name: str
    tunnel: TunnelForm
    signalling: Signalling
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class AdvertisedLink:
    """What is advertised on an interface."""

    interface: str
    router: IPv6Address | None
    "Link-local address of the router in whose name; None: an own address."
    advertising: Advertising


@dataclass(frozen=True, slots=True)
class AnchorPointSettings:
    """A mobility anchor point, or who only advertises others."""

    address: IPv6Address | None
    interface: str | None
    max_lifetime: int
    open: bool
    "Terminals without keys are served, too."
    certified: bool
    "So are those that a certificate shows to be who they say."
    tunnel: TunnelForm
    "Form of the tunnel of these."
    terminals: tuple[RegionalTerminal, ...]
    advertised: tuple[AdvertisedLink, ...]


@dataclass(frozen=True, slots=True)
class HostOsSettings:
    """The network namespace in which programs run."""

    namespace: str | None
    interface: str
    mtu: int | None
    "At most this; None: as much as goes through both layers of IPsec."
    address4: IPv4Address | None
    dns: tuple[IPv4Address | IPv6Address, ...]
    "Servers that programs ask, through the home network."


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where a home agent keeps its bindings."""

    kind: StoreKind
    path: Path
    "The file of the kind ``sqlite``."
    url: str | None = field(repr=False)
    "The server of the kind ``redis``; may hold a password."
    unreachable: WithoutStore = WithoutStore.STOP


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where metrics can be fetched by HTTP."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """One node. Exactly one of the four role settings is present, the one of ``role``."""

    path: Path
    role: Role
    runtime: Path
    "Directory of ``control.sock`` and ``host.sock``."
    state: Path
    "Directory of what outlives a reboot: the sequence numbers of security associations."
    mobile_node: MobileNodeSettings | None
    home_agent: HomeAgentSettings | None
    correspondent: CorrespondentSettings | None
    host_os: HostOsSettings | None
    associations: tuple[AssociationPair, ...]
    policies: tuple[PolicyRow, ...]
    store: StoreSettings | None
    "Of a home agent."
    metrics: MetricsSettings | None
    log: LogFormat = LogFormat.TEXT
    translation: TranslationSettings | None = None
    "Of a terminal whose programs speak IPv4."
    anchor_point: AnchorPointSettings | None = None
    gateway: GatewaySettings | None = None
    gateways: tuple[GatewayAccess, ...] = ()
    "Those that a terminal uses."
    mobile_router: MobileRouterSettings | None = None
    "Of a mobile router, which is a mobile node as well."
    key_exchanges: tuple[KeyExchange, ...] = ()
    "In place of associations."
    call_keys: CallKeys | None = None
    "None: phones get none from this node."
    _pairs: dict[tuple[Use, IPv6Address, IPv6Address | None], AssociationPair] = field(
        init=False, repr=False, compare=False
    )
    _exchanges: KeyExchanges = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The first of a kind counts; a home agent looks up thousands.
        pairs = {(pair.use, pair.peer, pair.home): pair for pair in reversed(self.associations)}
        object.__setattr__(self, "_pairs", pairs)
        object.__setattr__(self, "_exchanges", KeyExchanges(self.key_exchanges))

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Names of all interfaces that are named, and that are there already."""
        if self.mobile_node is not None:
            behind = () if self.mobile_router is None else self.mobile_router.interfaces
            return (*self.mobile_node.interfaces, *behind)
        if self.home_agent is not None:
            return (self.home_agent.interface,) if self.home_agent.home_link is HomeLink.ETHERNET else ()
        if self.anchor_point is not None:
            own = () if self.anchor_point.interface is None else (self.anchor_point.interface,)
            return tuple(dict.fromkeys((*own, *(each.interface for each in self.anchor_point.advertised))))
        return () if self.correspondent is None else (self.correspondent.interface,)

    @property
    def host_address(self) -> IPv6Address | None:
        """What programs in the host OS have as their address; None for a node without host OS."""
        if self.mobile_node is not None:
            return self.mobile_node.home_address.ip
        return None if self.correspondent is None else self.correspondent.address.ip

    def key_exchange(self, terminal: IPv6Address) -> KeyExchange | None:
        """How the associations of a home agent, or MAP, with a terminal get their keys; None: they are written down."""
        return self._exchanges.of_terminal(terminal)

    def home_key_exchange(self, home: IPv6Address, agent: IPv6Address) -> KeyExchange | None:
        """The same of a terminal's home address with a home agent."""
        named = None if self.host_address == home else home
        typed = any(self.pair(use, agent, named) is not None for use in MOBILE_USES)
        return None if typed else self._exchanges.of_home(home, agent)

    def map_key_exchange(self, known: KnownMap | None) -> KeyExchange | None:
        """The same of a terminal with a MAP that is known, or with all others."""
        if known is None:
            return self._exchanges.of_map(WHICHEVER)
        typed = any(self.pair(use, known.address) is not None for use in MOBILE_USES)
        if typed or known.signalling is not Signalling.ESP:
            return None
        return self._exchanges.of_map(known.address) or self._exchanges.of_map(WHICHEVER)

    def pair(self, use: Use, peer: IPv6Address, home: IPv6Address | None = None) -> AssociationPair | None:
        """The pair for a use, a peer, and a home address that is not the first; or None."""
        return self._pairs.get((use, peer, home))
