"""Names and addresses of the test network (the source's Fig. 23); everything is out of documentation prefixes.

::

    mn --- eth0 ------+-- home      --- home-router --+          +-- proxy (Kamailio)
                      |   ha ---+                     |          |
    laptop --- wlan0 -+-- visited-a --- ar-a ---------+-- core --+
           |          |                               |          |
           +-- wwan0 -+-- visited-b --- ar-b ---------+          +-- cn
                      |                               |
                      +-- hotspot   --- nat ----------+

``mn`` is a terminal whose kernel keeps out of IPv6, for native Mobile IPv6. ``laptop`` is one as people have it: its
kernel makes addresses of its own on every network, and two cables hang out of it at first. ``hotspot`` has IPv4 only,
behind a NAT. IPv4 leads from there to the home agent, the proxy and the correspondent.

Several instances stand side by side with the same addresses: each node is a network namespace of its own, named
``roam-<instance>-<node>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

NODES = ("links", "home-router", "ha", "ar-a", "ar-b", "nat", "core", "proxy", "cn", "mn", "laptop")
"""``links`` holds one bridge a link; the other nodes are what their names say."""

INSTANCE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class AccessLink:
    """A link that the terminal can be plugged into: a bridge in the namespace ``links``, with a router on it."""

    name: str
    prefix: IPv6Network
    router: str
    "The node that routes for the link; its interface on the link is `ROUTER_INTERFACE`."
    router_address: IPv6Address
    backbone: IPv6Network
    "Between the router (``::2``) and the core (``::1``)."
    upstream: str = "core"
    "The node that the router is connected to. Its interface there is ``to-`` and the router's name."

    @property
    def bridge(self) -> str:
        """Name of the bridge in ``links``: the place for a capture of the whole link."""
        return f"br-{self.name}"


@dataclass(frozen=True, slots=True)
class HotspotLink:
    """A link with IPv4 only, whose router is a NAT."""

    name: str = "hotspot"
    network: IPv4Network = IPv4Network("192.168.77.0/24")
    router: str = "nat"
    router_address: IPv4Address = IPv4Address("192.168.77.1")
    backbone: IPv4Network = IPv4Network("203.0.113.128/30")
    "Between the router (``.130``, behind which all of the link hides) and the core (``.129``)."

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A link whose router, if there is one, is none of the test network's kernels: a bare bridge."""

    name: str

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"


Link = AccessLink | HotspotLink


def _access_link(name: str, digit: str, router: str) -> AccessLink:
    return AccessLink(
        name,
        IPv6Network(f"2001:db8:{digit}::/64"),
        router,
        IPv6Address(f"2001:db8:{digit}::1"),
        IPv6Network(f"2001:db8:f:{digit}::/64"),
    )


HOTSPOT = HotspotLink()
HOME = _access_link("home", "1", "home-router")
VISITED_A = _access_link("visited-a", "a", "ar-a")
VISITED_B = _access_link("visited-b", "b", "ar-b")

INTERFACE = "eth0"
"""The only interface of ``mn``, ``ha``, ``cn`` and ``proxy``."""

ROUTER_INTERFACE = "link0"
"""The interface of an access or home router on its link."""

BACKBONE_INTERFACE = "core0"
"""The interface of an access or home router towards the core."""

CABLE = "mn0"
"""The other end of the terminal's ``eth0``: a port in ``links``, moved from bridge to bridge."""


HOME_AGENT_PORT = "ha0"
"""The other end of the home agent's interface: a port in ``links``."""

WIFI, BROADBAND = "wlan0", "wwan0"
"""The interfaces of ``laptop``."""


@dataclass(frozen=True, slots=True)
class Cable:
    """A cable of a terminal, which can be plugged into any link."""

    node: str
    interface: str
    port: str
    "Its other end, in ``links``."
    metric: int = 0
    "Of the default routes that the node's own kernel has by it; 0: the kernel keeps out."
    host: int = 0
    "What the address that the hotspot hands out ends with."


CABLES = {
    cable.interface: cable
    for cable in (
        Cable("mn", INTERFACE, CABLE),
        Cable("laptop", WIFI, "laptop-wlan0", metric=600, host=100),
        Cable("laptop", BROADBAND, "laptop-wwan0", metric=700, host=101),
    )
}
"""By the name of the interface. Metrics as NetworkManager gives them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A cable of an extension: each end a node and the name of the interface there.

    An end in ``links`` is a port; it is plugged into nothing unless the extension's ``configure`` does it.
    """

    ends: tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Extension:
    """What a network has beside the basic one (`sip_test_env.extensions` has them all)."""

    name: str
    what: str
    "One line for people."
    nodes: tuple[str, ...] = ()
    "Further namespaces."
    links: tuple[AccessLink, ...] = ()
    "Further links that terminals can be plugged into: bridge, cables to the router and from there upstream, and radvd."
    cables: tuple[Pair, ...] = ()
    configure: Callable[[Plan], None] = lambda _plan: None
    "Runs when the basic network stands: addresses, routes, filters of what is new (`sip_test_env.links.in_node`)."
    without_radvd: frozenset[str] = frozenset()
    "Routers of further links that something else advertises."
    segments: tuple[Segment, ...] = ()
    "Further links without a router: bridges."


BASIC = Extension("basic", "home network, two visited networks, a hotspot behind a NAT (Fig. 23)")


@dataclass(frozen=True, slots=True)
class Plan:
    """All names and addresses of one instance."""

    instance: str = "default"
    extension: Extension = BASIC

    home: AccessLink = HOME
    visited_a: AccessLink = VISITED_A
    visited_b: AccessLink = VISITED_B
    hotspot: HotspotLink = HOTSPOT

    home_agent: IPv6Address = IPv6Address("2001:db8:1::a")
    home_address: IPv6Address = IPv6Address("2001:db8:1::100")
    "The terminal's."

    home_network4: IPv4Network = IPv4Network("203.0.113.0/25")
    "Of the home link. The home agent's kernel has an address in it."
    home_router4: IPv4Address = IPv4Address("203.0.113.1")
    home_agent4: IPv4Address = IPv4Address("203.0.113.10")
    home_backbone4: IPv4Network = IPv4Network("203.0.113.132/30")
    "Between the home router (``.134``) and the core (``.133``)."
    pool4: IPv4Network = IPv4Network("10.64.0.0/24")
    "IPv4 home addresses that the home agent hands out: the network routes them to it."

    cn_prefix: IPv6Network = IPv6Network("2001:db8:5::/64")
    cn_router: IPv6Address = IPv6Address("2001:db8:5::1")
    cn: IPv6Address = IPv6Address("2001:db8:5::5")
    cn_network4: IPv4Network = IPv4Network("192.0.2.0/24")
    cn_router4: IPv4Address = IPv4Address("192.0.2.1")
    cn4: IPv4Address = IPv4Address("192.0.2.5")

    proxy_prefix: IPv6Network = IPv6Network("2001:db8:8::/64")
    proxy_router: IPv6Address = IPv6Address("2001:db8:8::1")
    proxy: IPv6Address = IPv6Address("2001:db8:8::8")
    proxy_network4: IPv4Network = IPv4Network("198.51.100.0/24")
    proxy_router4: IPv4Address = IPv4Address("198.51.100.1")
    proxy4: IPv4Address = IPv4Address("198.51.100.8")

    sip_domain: str = "roamphone.test"
    sip_port: int = 5060
    "UDP and TCP."
    sips_port: int = 5061
    users: tuple[str, ...] = ("6001", "6002", "6003", "6004")

    def __post_init__(self) -> None:
        if not INSTANCE_NAME.fullmatch(self.instance):
            raise ValueError(
                f"instance name {self.instance!r}: use up to 32 lower-case letters, digits and hyphens, "
                "starting with a letter or digit"
            )

    @property
    def access_links(self) -> tuple[AccessLink, ...]:
        """The links with IPv6."""
        return (*self.basic_links, *self.extension.links)

    @property
    def basic_links(self) -> tuple[AccessLink, ...]:
        """Those that are there without any extension."""
        return (self.home, self.visited_a, self.visited_b)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return (*NODES, *self.extension.nodes)

    @property
    def links(self) -> tuple[Link, ...]:
        """The links that a terminal can be plugged into, and that have a router."""
        return (*self.access_links, self.hotspot)

    @property
    def places(self) -> tuple[Link | Segment, ...]:
        """All that a terminal can be plugged into."""
        return (*self.links, *self.extension.segments)

    def place(self, name: str) -> Link | Segment:
        """The one called ``name``; ValueError names those that exist."""
        for place in self.places:
            if place.name == name:
                return place
        raise ValueError(f"no link {name!r}; choose one of {', '.join(place.name for place in self.places)}")

    def link(self, name: str) -> Link:
        """The link called ``name``; ValueError names those that exist."""
        for link in self.links:
            if link.name == name:
                return link
        raise ValueError(f"no link {name!r}; choose one of {', '.join(link.name for link in self.links)}")

    def cable(self, interface: str) -> Cable:
        """The cable of the interface; ValueError names those that exist."""
        if interface not in CABLES:
            raise ValueError(f"no cable {interface!r}; choose one of {', '.join(CABLES)}")
        return CABLES[interface]

    def namespace(self, node: str) -> str:
        """Name of the network namespace of ``node``; ValueError names the nodes that exist."""
        if node not in self.nodes:
            raise ValueError(f"no node {node!r}; choose one of {', '.join(self.nodes)}")
        return f"roam-{self.instance}-{node}"

    def host_namespace(self, node: str) -> str:
        """Where the programs of a mobility process of ``node`` live (its host OS); the mobility process makes it."""
        return f"{self.namespace(node)}-host"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the network is made of."""
        return tuple(self.namespace(node) for node in self.nodes)

    @property
    def host_namespaces(self) -> tuple[str, ...]:
        """Namespaces that mobility processes may have made, and left if they were killed."""
        return tuple(self.host_namespace(node) for node in self.nodes)
