"""The cables and addresses of the test network: bridges, veth pairs, addresses, routes, kernel settings."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.plan import BACKBONE_INTERFACE, CABLE, INTERFACE, ROUTER_INTERFACE, Plan

# ioctl numbers and commands of <linux/sockios.h> and <linux/ethtool.h>
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_STSO = 0x1F
_ETHTOOL_SGSO = 0x24
_ETHTOOL_SGRO = 0x2C


@dataclass(frozen=True, slots=True)
class _Cable:
    """A veth pair: where each end goes and what it is called there."""

    ends: tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Move:
    """A change of link; monotonic seconds, comparable with ``time.monotonic()`` of every process on the machine."""

    source: str | None
    target: str
    cut: float
    "The carrier went away between this moment and `restored`."
    restored: float


def _cables(plan: Plan) -> list[_Cable]:
    cables = [
        _Cable((("links", CABLE), ("mn", INTERFACE))),
        _Cable((("links", "ha0"), ("ha", INTERFACE))),
        _Cable((("core", "to-proxy"), ("proxy", INTERFACE))),
        _Cable((("core", "to-cn"), ("cn", INTERFACE))),
    ]
    for link in plan.access_links:
        cables.append(_Cable((("links", link.router), (link.router, ROUTER_INTERFACE))))
        cables.append(_Cable((("core", f"to-{link.router}"), (link.router, BACKBONE_INTERFACE))))
    return cables


def _set(path: str, value: int) -> None:
    Path("/proc/sys/net", path).write_text(f"{value}\n")


def _switch_offloads_off(interface: str) -> None:
    """No half-checksummed and no giant frames: a packet socket must see what would be on a wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO):
            value = array.array("B", struct.pack("=II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, _SIOCETHTOOL, request)


def _index(netlink: IPRoute, name: str) -> int:
    return int(netlink.link_lookup(ifname=name)[0])


def _lay_cables(plan: Plan) -> None:
    """Runs in ``links``. All pairs are made here and sent away: so every interface has an index of its own in all
    of the network, and the kernel sees at once (and not up to a second later) that a carrier came or went: it treats
    an interface whose peer has the same index as if it had no peer.
    """
    with IPRoute() as netlink:
        _set("ipv6/conf/default/disable_ipv6", 1)  # a bridge is a cable, not a node
        descriptors = {}
        for link in plan.access_links:
            netlink.link("add", ifname=link.bridge, kind="bridge", br_stp_state=0, br_mcast_snooping=0)
            netlink.link("set", index=_index(netlink, link.bridge), state="up")
        try:
            for number, cable in enumerate(_cables(plan)):
                here = (f"v{number}a", f"v{number}b")
                netlink.link("add", ifname=here[0], kind="veth", peer={"ifname": here[1]})
                for name, (node, final) in zip(here, cable.ends, strict=True):
                    _switch_offloads_off(name)
                    index = _index(netlink, name)
                    if node == "links":
                        netlink.link("set", index=index, ifname=final)
                        continue
                    if node not in descriptors:
                        descriptors[node] = open(namespace.DIRECTORY / plan.namespace(node), "rb")
                    netlink.link("set", index=index, ifname=final, net_ns_fd=descriptors[node].fileno())
        finally:
            for descriptor in descriptors.values():
                descriptor.close()
        ports = {CABLE: plan.home.bridge, "ha0": plan.home.bridge}
        ports |= {link.router: link.bridge for link in plan.access_links}
        for port, bridge in ports.items():
            index = _index(netlink, port)
            netlink.link("set", index=index, master=_index(netlink, bridge))
            netlink.link("set", index=index, state="up")


Interface = IPv4Interface | IPv6Interface


def _configure(
    addresses: dict[str, tuple[Interface, ...]], routes: dict[str, str], *, router: bool = False, ipv6: bool = True
) -> None:
    """Runs in a node: kernel settings before any interface comes up, then addresses, then routes."""
    _set("ipv6/conf/all/forwarding", int(router))
    _set("ipv6/conf/default/forwarding", int(router))
    _set("ipv4/ip_forward", int(router))
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")
        for interface, values in addresses.items():
            # no duplicate address detection by the kernel's nodes: a second of waiting for addresses known to be unique
            _set(f"ipv6/conf/{interface}/accept_dad", 0)
            _set(f"ipv6/conf/{interface}/dad_transmits", 0)
            _set(f"ipv6/conf/{interface}/accept_ra", 0)
            _set(f"ipv6/conf/{interface}/disable_ipv6", int(not ipv6))
            index = _index(netlink, interface)
            netlink.link("set", index=index, state="up")
            for value in values:
                netlink.addr("add", index=index, address=str(value.ip), prefixlen=value.network.prefixlen)
        for destination, gateway in routes.items():
            netlink.route("add", dst=destination, gateway=gateway)


def build(plan: Plan) -> None:
    """Cables, addresses and routes of the whole network; the terminal's cable is in visited-a.

    Raises `EnvironmentFailure` where the kernel cannot do it.
    """
    try:
        _build(plan)
    except (NetlinkError, OSError) as error:
        raise EnvironmentFailure(
            f"the kernel refused to build the network ({error}); it needs IPv6, veth and bridge devices "
            "(`modprobe -a veth bridge` on the machine itself where this runs in a container), and /proc/sys writable"
        ) from error


def _build(plan: Plan) -> None:
    namespace.run_in(plan.namespace("links"), lambda: _lay_cables(plan))

    core: dict[str, tuple[Interface, ...]] = {
        "to-proxy": (
            IPv6Interface(f"{plan.proxy_router}/64"),
            IPv4Interface(f"{plan.proxy_router4}/{plan.proxy_network4.prefixlen}"),
        ),
        "to-cn": (
            IPv6Interface(f"{plan.cn_router}/64"),
            IPv4Interface(f"{plan.cn_router4}/{plan.cn_network4.prefixlen}"),
        ),
    }
    routes = {}
    for link in plan.access_links:
        core_end, router_end = link.backbone[1], link.backbone[2]
        core[f"to-{link.router}"] = (IPv6Interface(f"{core_end}/64"),)
        routes[str(link.prefix)] = str(router_end)
        _in_node(
            plan,
            link.router,
            {
                ROUTER_INTERFACE: (IPv6Interface(f"{link.router_address}/64"),),
                BACKBONE_INTERFACE: (IPv6Interface(f"{router_end}/64"),),
            },
            {"::/0": str(core_end)},
            router=True,
        )
    _in_node(plan, "core", core, routes, router=True)
    _in_node(
        plan,
        "proxy",
        {
            INTERFACE: (
                IPv6Interface(f"{plan.proxy}/64"),
                IPv4Interface(f"{plan.proxy4}/{plan.proxy_network4.prefixlen}"),
            )
        },
        {"::/0": str(plan.proxy_router), "0.0.0.0/0": str(plan.proxy_router4)},
    )
    # IPv6 of the terminal, the home agent and the correspondent is ours, in user space; the kernel keeps out of it.
    _in_node(plan, "mn", {INTERFACE: ()}, {}, ipv6=False)
    _in_node(plan, "ha", {INTERFACE: ()}, {}, ipv6=False)
    _in_node(
        plan,
        "cn",
        {INTERFACE: (IPv4Interface(f"{plan.cn4}/{plan.cn_network4.prefixlen}"),)},
        {"0.0.0.0/0": str(plan.cn_router4)},
        ipv6=False,
    )
    move(plan, plan.visited_a.name)


def _in_node(
    plan: Plan,
    node: str,
    addresses: dict[str, tuple[Interface, ...]],
    routes: dict[str, str],
    *,
    router: bool = False,
    ipv6: bool = True,
) -> None:
    namespace.run_in(plan.namespace(node), lambda: _configure(addresses, routes, router=router, ipv6=ipv6))


def _plugged_into(netlink: IPRoute, cable: int, bridges: dict[int, str]) -> str | None:
    link = netlink.get_links(cable)[0]
    master = link.get_attr("IFLA_MASTER")
    return bridges.get(master) if link["flags"] & 1 else None  # IFF_UP


def _bridges(plan: Plan, netlink: IPRoute) -> dict[int, str]:
    return {_index(netlink, link.bridge): link.name for link in plan.access_links}


def location(plan: Plan) -> str | None:
    """The link that the terminal is plugged into; None: the cable is pulled."""

    def run() -> str | None:
        with IPRoute() as netlink:
            return _plugged_into(netlink, _index(netlink, CABLE), _bridges(plan, netlink))

    return namespace.run_in(plan.namespace("links"), run)


def unplug(plan: Plan) -> float:
    """Pulls the terminal's cable; returns when (monotonic seconds)."""

    def run() -> float:
        with IPRoute() as netlink:
            cable = _index(netlink, CABLE)
            cut = time.monotonic()
            netlink.link("set", index=cable, state="down")
            return cut

    return namespace.run_in(plan.namespace("links"), run)


def move(plan: Plan, name: str) -> Move:
    """Pulls the terminal's cable and plugs it into the link ``name``: the carrier drops and returns.

    Takes 1 to 2 ms; measured, a netlink socket in ``mn`` hears of the lost carrier about 0.5 ms after the cut, and of
    the new one about 0.5 ms after `Move.restored`.
    """
    target = plan.access_link(name)

    def run() -> Move:
        with IPRoute() as netlink:
            cable = _index(netlink, CABLE)
            bridges = _bridges(plan, netlink)
            master = next(index for index, link in bridges.items() if link == name)
            source = _plugged_into(netlink, cable, bridges)
            cut = time.monotonic()
            netlink.link("set", index=cable, state="down")
            netlink.link("set", index=cable, master=master, state="up")
            return Move(source, target.name, cut, time.monotonic())

    return namespace.run_in(plan.namespace("links"), run)
