"""Names and addresses of the test network (the source's Fig. 23); everything is out of documentation prefixes.

::

    mn --- cable --+-- home      --- home-router --+          +-- proxy (Kamailio)
                   |   ha ---+                     |          |
                   +-- visited-a --- ar-a ---------+-- core --+
                   |                               |          |
                   +-- visited-b --- ar-b ---------+          +-- cn

Several instances stand side by side with the same addresses: each node is a network namespace of its own, named
``roam-<instance>-<node>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

NODES = ("links", "home-router", "ha", "ar-a", "ar-b", "core", "proxy", "cn", "mn")
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

    @property
    def bridge(self) -> str:
        """Name of the bridge in ``links``: the place for a capture of the whole link."""
        return f"br-{self.name}"


def _access_link(name: str, digit: str, router: str) -> AccessLink:
    return AccessLink(
        name,
        IPv6Network(f"2001:db8:{digit}::/64"),
        router,
        IPv6Address(f"2001:db8:{digit}::1"),
        IPv6Network(f"2001:db8:f:{digit}::/64"),
    )


HOME = _access_link("home", "1", "home-router")
VISITED_A = _access_link("visited-a", "a", "ar-a")
VISITED_B = _access_link("visited-b", "b", "ar-b")

INTERFACE = "eth0"
"""The one interface of ``mn``, ``ha``, ``cn`` and ``proxy``."""

ROUTER_INTERFACE = "link0"
"""The interface of an access or home router on its link."""

BACKBONE_INTERFACE = "core0"
"""The interface of an access or home router towards the core."""

CABLE = "mn0"
"""The other end of the terminal's ``eth0``: a port in ``links``, moved from bridge to bridge."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All names and addresses of one instance."""

    instance: str = "default"

    home: AccessLink = HOME
    visited_a: AccessLink = VISITED_A
    visited_b: AccessLink = VISITED_B

    home_agent: IPv6Address = IPv6Address("2001:db8:1::a")
    home_address: IPv6Address = IPv6Address("2001:db8:1::100")
    "The terminal's."

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
        """The links that the terminal can be plugged into."""
        return (self.home, self.visited_a, self.visited_b)

    def access_link(self, name: str) -> AccessLink:
        """The link called ``name``; ValueError names those that exist."""
        for link in self.access_links:
            if link.name == name:
                return link
        raise ValueError(f"no link {name!r}; choose one of {', '.join(link.name for link in self.access_links)}")

    def namespace(self, node: str) -> str:
        """Name of the network namespace of ``node``; ValueError names the nodes that exist."""
        if node not in NODES:
            raise ValueError(f"no node {node!r}; choose one of {', '.join(NODES)}")
        return f"roam-{self.instance}-{node}"

    def host_namespace(self, node: str) -> str:
        """Where the programs of a mobility process of ``node`` live (its host OS); the mobility process makes it."""
        return f"{self.namespace(node)}-host"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the network is made of."""
        return tuple(self.namespace(node) for node in NODES)

    @property
    def host_namespaces(self) -> tuple[str, ...]:
        """Namespaces that mobility processes may have made, and left if they were killed."""
        return tuple(self.host_namespace(node) for node in NODES)
