"""A train: a mobile router with a network in it, and in that network another mobile router with another one (Fig. 34).

::

    visited-a --+-- mr1 --- train --+-- mr2 --- carriage
    visited-b --+                   |
                                    +-- seat (an ordinary IPv6 host)

The two links in the train have no router but ours. The home network's router sends their prefixes to the home agent.
"""

from __future__ import annotations

import time
from ipaddress import IPv6Address, IPv6Network

from pyroute2 import IPRoute

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.links import in_node, index_of, set_kernel
from sip_test_env.plan import INTERFACE, VISITED_A, Cable, Extension, Pair, Plan, Segment

TRAIN, CARRIAGE = Segment("train"), Segment("carriage")
TRAIN_PREFIX = IPv6Network("2001:db8:9:1::/64")
CARRIAGE_PREFIX = IPv6Network("2001:db8:9:2::/64")
ROUTERS = {"mr1": TRAIN_PREFIX, "mr2": CARRIAGE_PREFIX}
"The network of each mobile router."
HOMES = {"mr1": IPv6Address("2001:db8:1::1001"), "mr2": IPv6Address("2001:db8:1::1002")}
SEAT = "seat"
PATIENCE = 10.0
"Seconds within which it has an address."
OUTSIDE, INSIDE = "out0", "lan0"
"The interfaces of a mobile router."

TRAINS_CABLE = Cable("mr1", OUTSIDE, "mr1-out")
"By which the train is in a visited network."


def _configure(plan: Plan) -> None:
    namespace.run_in(plan.namespace("links"), _plug)
    for router in ROUTERS:
        in_node(plan, router, {OUTSIDE: (), INSIDE: ()}, {}, ipv6=False)
    namespace.run_in(plan.namespace(SEAT), _configure_seat)
    in_node(plan, "home-router", {}, {str(each): str(plan.home_agent) for each in ROUTERS.values()}, router=True)
    in_node(plan, "core", {}, {str(each): str(plan.home.backbone[2]) for each in ROUTERS.values()}, router=True)


def _plug() -> None:
    """Runs in ``links``."""
    places = {
        "mr1-out": VISITED_A.bridge,
        "mr1-in": TRAIN.bridge,
        "mr2-out": TRAIN.bridge,
        "mr2-in": CARRIAGE.bridge,
        "seat0": TRAIN.bridge,
    }
    with IPRoute() as netlink:
        for port, bridge in places.items():
            netlink.link("set", index=index_of(netlink, port), master=index_of(netlink, bridge), state="up")


def _configure_seat() -> None:
    """A host as they come, but that it does not wait a second for its address: that is not what is tested."""
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")
        for name in ("accept_dad", "dad_transmits", "router_solicitation_delay"):
            set_kernel(f"ipv6/conf/{INTERFACE}/{name}", 0)
        netlink.link("set", index=index_of(netlink, INTERFACE), state="up")


def seat_address(plan: Plan) -> IPv6Address | None:
    """What the ordinary host has made of the router's advertisements; None: nothing yet."""

    def run() -> IPv6Address | None:
        with IPRoute() as netlink:
            for address in netlink.get_addr(index=index_of(netlink, INTERFACE)):
                found = IPv6Address(address.get_attr("IFA_ADDRESS"))
                if found in TRAIN_PREFIX:
                    return found
        return None

    return namespace.run_in(plan.namespace(SEAT), run)


def wait_for_seat(plan: Plan) -> IPv6Address:
    """The same, once there is one. Blocks; raises `EnvironmentFailure`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = seat_address(plan)
        if found is not None:
            return found
        time.sleep(0.05)
    raise EnvironmentFailure(f"the ordinary host in the train heard no router within {PATIENCE:g} s")


NEMO = Extension(
    "nemo",
    "a train with two networks inside, one in the other, each with a mobile router (Fig. 34)",
    nodes=("mr1", "mr2", SEAT),
    segments=(TRAIN, CARRIAGE),
    cables=(
        Pair((("links", "mr1-out"), ("mr1", OUTSIDE))),
        Pair((("links", "mr1-in"), ("mr1", INSIDE))),
        Pair((("links", "mr2-out"), ("mr2", OUTSIDE))),
        Pair((("links", "mr2-in"), ("mr2", INSIDE))),
        Pair((("links", "seat0"), (SEAT, INTERFACE))),
    ),
    configure=_configure,
)
