"""What changes in the cabling while the network stands: terminals plugged in and out, wires that are bad."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pyroute2 import IPRoute

from sip_test_env import namespace
from sip_test_env.links import index_of, set_kernel, switch_offloads_off
from sip_test_env.plan import Cable, HotspotLink, Link, Plan, Segment


@dataclass(frozen=True, slots=True)
class Move:
    """A change of link; monotonic seconds, comparable with ``time.monotonic()`` of every process on the machine."""

    source: str | None
    target: str
    cut: float
    "The carrier went away between this moment and `restored`."
    restored: float
    "The carrier is back; where the terminal's kernel is to have addresses, its network manager has done its part."


def _bridges(plan: Plan, netlink: IPRoute) -> dict[int, str]:
    return {index_of(netlink, link.bridge): link.name for link in plan.places}


def _plugged_into(netlink: IPRoute, port: int, bridges: dict[int, str]) -> str | None:
    link = netlink.get_links(port)[0]
    master = link.get_attr("IFLA_MASTER")
    return bridges.get(master) if link["flags"] & 1 else None  # IFF_UP


def location(plan: Plan, cable: Cable) -> str | None:
    """The link that the cable is plugged into; None: it hangs out."""

    def run() -> str | None:
        with IPRoute() as netlink:
            return _plugged_into(netlink, index_of(netlink, cable.port), _bridges(plan, netlink))

    return namespace.run_in(plan.namespace("links"), run)


def unplug(plan: Plan, cable: Cable) -> float:
    """Pulls the cable; returns when (monotonic seconds)."""

    def run() -> float:
        with IPRoute() as netlink:
            port = index_of(netlink, cable.port)
            cut = time.monotonic()
            netlink.link("set", index=port, state="down")
            return cut

    cut = namespace.run_in(plan.namespace("links"), run)
    _forget(plan, cable)
    return cut


def move(plan: Plan, cable: Cable, name: str) -> Move:
    """Pulls the cable and plugs it into the link ``name``: the carrier drops and returns.

    Takes 1 to 2 ms; measured, a netlink socket in ``mn`` hears of the lost carrier about 0.5 ms after the cut, and of
    the new one about 0.5 ms after `Move.restored`.
    """
    target = plan.place(name)

    def run() -> tuple[str | None, float]:
        with IPRoute() as netlink:
            port = index_of(netlink, cable.port)
            bridges = _bridges(plan, netlink)
            master = next(index for index, link in bridges.items() if link == name)
            source = _plugged_into(netlink, port, bridges)
            cut = time.monotonic()
            netlink.link("set", index=port, state="down")
            _forget(plan, cable)
            netlink.link("set", index=port, master=master, state="up")
            _learn(plan, cable, target)
            return source, cut

    source, cut = namespace.run_in(plan.namespace("links"), run)
    return Move(source, name, cut, time.monotonic())


def _forget(plan: Plan, cable: Cable) -> None:
    """As a laptop's network manager does when a network has gone: its addresses and routes go."""
    if not cable.metric:
        return

    def run() -> None:
        set_kernel(f"ipv6/conf/{cable.interface}/disable_ipv6", 1)
        with IPRoute() as netlink:
            netlink.flush_addr(index=index_of(netlink, cable.interface))

    namespace.run_in(plan.namespace(cable.node), run)


def _learn(plan: Plan, cable: Cable, link: Link | Segment) -> None:
    """As a laptop's network manager does in a new network: the kernel asks for router advertisements where there is
    IPv6; where there is IPv4, what a DHCP server would have said.
    """
    if not cable.metric:
        return

    def run() -> None:
        if not isinstance(link, HotspotLink):
            set_kernel(f"ipv6/conf/{cable.interface}/disable_ipv6", 0)
            return
        with IPRoute() as netlink:
            index = index_of(netlink, cable.interface)
            netlink.addr("add", index=index, address=str(link.network[cable.host]), prefixlen=link.network.prefixlen)
            netlink.route("add", dst="0.0.0.0/0", gateway=str(link.router_address), oif=index, priority=cable.metric)

    namespace.run_in(plan.namespace(cable.node), run)


def cut_open(plan: Plan, port: str, number: int) -> tuple[str, str]:
    """Takes a fixed port of ``links`` out of its bridge and puts the end of a new pair in its place; returns the two
    interfaces between which frames have to be carried from now on: the port and the other end of the pair.
    """

    def run() -> tuple[str, str]:
        inner, outer = f"wire{number}-in", f"wire{number}-out"
        with IPRoute() as netlink:
            netlink.link("add", ifname=inner, kind="veth", peer={"ifname": outer})
            index = index_of(netlink, port)
            bridge = netlink.get_links(index)[0].get_attr("IFLA_MASTER")
            netlink.link("set", index=index, master=0)
            for name in (inner, outer):
                switch_offloads_off(name)
                netlink.link("set", index=index_of(netlink, name), state="up")
            netlink.link("set", index=index_of(netlink, inner), master=bridge)
        return port, outer

    return namespace.run_in(plan.namespace("links"), run)
