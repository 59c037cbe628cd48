"""The domain of a MAP with three access routers (Fig. 27)::

    core --- map-router --- anchor --- map
                 |
                 +--- ar-1 --- domain-a
                 +--- ar-2 --- domain-b
                 +--- ar-3 --- domain-c

The access routers do not run radvd, which cannot say where a MAP is, but ``mobility map``.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from pyroute2 import IPRoute

from sip_test_env import namespace
from sip_test_env.links import in_node, index_of
from sip_test_env.plan import BACKBONE_INTERFACE, INTERFACE, ROUTER_INTERFACE, AccessLink, Extension, Pair, Plan

MAP = IPv6Address("2001:db8:9::9")
ROUTER = IPv6Address("fe80::1")
"Link-local address of each access router on its link, in whose name it is advertised."
_MAP_PORT = "map0"

ANCHOR = AccessLink(
    "anchor",
    IPv6Network("2001:db8:9::/64"),
    "map-router",
    IPv6Address("2001:db8:9::1"),
    IPv6Network("2001:db8:f:9::/64"),
)
DOMAIN = tuple(
    AccessLink(
        f"domain-{letter}",
        IPv6Network(f"2001:db8:d{number}::/64"),
        f"ar-{number}",
        IPv6Address(f"2001:db8:d{number}::1"),
        IPv6Network(f"2001:db8:f:d{number}::/64"),
        upstream="map-router",
    )
    for number, letter in enumerate("abc", 1)
)
"Where the terminal moves."


def _configure(plan: Plan) -> None:
    namespace.run_in(plan.namespace("links"), _plug_in_map)
    core_end, router_end = ANCHOR.backbone[1], ANCHOR.backbone[2]
    behind = [network for link in DOMAIN for network in (link.prefix, link.backbone)]
    in_node(
        plan,
        "core",
        {f"to-{ANCHOR.router}": (IPv6Interface(f"{core_end}/64"),)},
        {str(network): str(router_end) for network in (ANCHOR.prefix, *behind)},
        router=True,
    )
    ends = {f"to-{link.router}": (IPv6Interface(f"{link.backbone[1]}/64"),) for link in DOMAIN}
    in_node(
        plan,
        ANCHOR.router,
        {
            ROUTER_INTERFACE: (IPv6Interface(f"{ANCHOR.router_address}/64"),),
            BACKBONE_INTERFACE: (IPv6Interface(f"{router_end}/64"),),
            **ends,
        },
        {"::/0": str(core_end)} | {str(link.prefix): str(link.backbone[2]) for link in DOMAIN},
        router=True,
    )
    for link in DOMAIN:
        in_node(
            plan,
            link.router,
            {
                ROUTER_INTERFACE: (IPv6Interface(f"{link.router_address}/64"), IPv6Interface(f"{ROUTER}/64")),
                BACKBONE_INTERFACE: (IPv6Interface(f"{link.backbone[2]}/64"),),
            },
            {"::/0": str(link.backbone[1])},
            router=True,
        )
    # As for the home agent: IPv6 of the MAP is ours, in user space.
    in_node(plan, "map", {INTERFACE: ()}, {}, ipv6=False)


def _plug_in_map() -> None:
    with IPRoute() as netlink:
        port = index_of(netlink, _MAP_PORT)
        netlink.link("set", index=port, master=index_of(netlink, ANCHOR.bridge))
        netlink.link("set", index=port, state="up")


HMIP = Extension(
    "hmip",
    "a MAP domain with three access routers (Fig. 27)",
    ("map", ANCHOR.router, *(link.router for link in DOMAIN)),
    (ANCHOR, *DOMAIN),
    (Pair((("links", _MAP_PORT), ("map", INTERFACE))),),
    _configure,
    frozenset(link.router for link in DOMAIN),
)
