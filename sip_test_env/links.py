"""The cables and addresses of the test network: bridges, veth pairs, addresses, routes, kernel settings."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import subprocess
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.plan import (
    BACKBONE_INTERFACE,
    CABLES,
    HOME_AGENT_PORT,
    INTERFACE,
    ROUTER_INTERFACE,
    AccessLink,
    HotspotLink,
    Pair,
    Plan,
)

# ioctl numbers and commands of <linux/sockios.h> and <linux/ethtool.h>
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_STSO = 0x1F
_ETHTOOL_SGSO = 0x24
_ETHTOOL_SGRO = 0x2C


def _cables(plan: Plan) -> list[Pair]:
    cables = [
        *(Pair((("links", cable.port), (cable.node, cable.interface))) for cable in CABLES.values()),
        Pair((("links", HOME_AGENT_PORT), ("ha", INTERFACE))),
        Pair((("core", "to-proxy"), ("proxy", INTERFACE))),
        Pair((("core", "to-cn"), ("cn", INTERFACE))),
    ]
    for link in plan.links:
        upstream = link.upstream if isinstance(link, AccessLink) else "core"
        cables.append(Pair((("links", link.router), (link.router, ROUTER_INTERFACE))))
        cables.append(Pair(((upstream, f"to-{link.router}"), (link.router, BACKBONE_INTERFACE))))
    return [*cables, *plan.extension.cables]


def set_kernel(path: str, value: int) -> None:
    Path("/proc/sys/net", path).write_text(f"{value}\n")


def switch_offloads_off(interface: str) -> None:
    """No half-checksummed and no giant frames: a packet socket must see what would be on a wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO):
            value = array.array("B", struct.pack("=II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, _SIOCETHTOOL, request)


def index_of(netlink: IPRoute, name: str) -> int:
    return int(netlink.link_lookup(ifname=name)[0])


def _lay_cables(plan: Plan) -> None:
    """Runs in ``links``. All pairs are made here and sent away: so every interface has an index of its own in all
    of the network, and the kernel sees at once (and not up to a second later) that a carrier came or went: it treats
    an interface whose peer has the same index as if it had no peer.
    """
    with IPRoute() as netlink:
        set_kernel("ipv6/conf/default/disable_ipv6", 1)  # a bridge is a cable, not a node
        descriptors = {}
        for link in plan.places:
            netlink.link("add", ifname=link.bridge, kind="bridge", br_stp_state=0, br_mcast_snooping=0)
            netlink.link("set", index=index_of(netlink, link.bridge), state="up")
        try:
            for number, cable in enumerate(_cables(plan)):
                here = (f"v{number}a", f"v{number}b")
                netlink.link("add", ifname=here[0], kind="veth", peer={"ifname": here[1]})
                for name, (node, final) in zip(here, cable.ends, strict=True):
                    switch_offloads_off(name)
                    index = index_of(netlink, name)
                    if node == "links":
                        netlink.link("set", index=index, ifname=final)
                        continue
                    if node not in descriptors:
                        descriptors[node] = open(namespace.NAMED / plan.namespace(node), "rb")
                    netlink.link("set", index=index, ifname=final, net_ns_fd=descriptors[node].fileno())
        finally:
            for descriptor in descriptors.values():
                descriptor.close()
        ports = {HOME_AGENT_PORT: plan.home.bridge} | {link.router: link.bridge for link in plan.links}
        for port, bridge in ports.items():
            index = index_of(netlink, port)
            netlink.link("set", index=index, master=index_of(netlink, bridge))
            netlink.link("set", index=index, state="up")


Interface = IPv4Interface | IPv6Interface


def _configure(
    addresses: dict[str, tuple[Interface, ...]], routes: dict[str, str], *, router: bool = False, ipv6: bool = True
) -> None:
    """Runs in a node: kernel settings before any interface comes up, then addresses, then routes."""
    set_kernel("ipv6/conf/all/forwarding", int(router))
    set_kernel("ipv6/conf/default/forwarding", int(router))
    set_kernel("ipv4/ip_forward", int(router))
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")
        for interface, values in addresses.items():
            # no duplicate address detection by the kernel's nodes: a second of waiting for addresses known to be unique
            set_kernel(f"ipv6/conf/{interface}/accept_dad", 0)
            set_kernel(f"ipv6/conf/{interface}/dad_transmits", 0)
            set_kernel(f"ipv6/conf/{interface}/accept_ra", 0)
            set_kernel(f"ipv6/conf/{interface}/disable_ipv6", int(not ipv6))
            index = index_of(netlink, interface)
            netlink.link("set", index=index, state="up")
            for value in values:
                netlink.addr("add", index=index, address=str(value.ip), prefixlen=value.network.prefixlen)
        for destination, gateway in routes.items():
            netlink.route("add", dst=destination, gateway=gateway)


def build(plan: Plan) -> None:
    """Cables, addresses and routes of the whole network; the terminals' cables hang out.

    Raises `EnvironmentFailure` where the kernel cannot do it.
    """
    try:
        _build(plan)
        plan.extension.configure(plan)
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
    routes = {str(network): str(plan.home_backbone4[2]) for network in (plan.home_network4, plan.pool4)}
    for link in plan.basic_links:
        core_end, router_end = link.backbone[1], link.backbone[2]
        at_home = link is plan.home
        core[f"to-{link.router}"] = (
            IPv6Interface(f"{core_end}/64"),
            *([_interface4(plan.home_backbone4, 1)] if at_home else []),
        )
        routes[str(link.prefix)] = str(router_end)
        in_node(
            plan,
            link.router,
            {
                ROUTER_INTERFACE: (
                    IPv6Interface(f"{link.router_address}/64"),
                    *([IPv4Interface(f"{plan.home_router4}/{plan.home_network4.prefixlen}")] if at_home else []),
                ),
                BACKBONE_INTERFACE: (
                    IPv6Interface(f"{router_end}/64"),
                    *([_interface4(plan.home_backbone4, 2)] if at_home else []),
                ),
            },
            {"::/0": str(core_end)}
            | ({"0.0.0.0/0": str(plan.home_backbone4[1]), str(plan.pool4): str(plan.home_agent4)} if at_home else {}),
            router=True,
        )
    hotspot = plan.hotspot
    core[f"to-{hotspot.router}"] = (_interface4(hotspot.backbone, 1),)
    in_node(
        plan,
        hotspot.router,
        {
            ROUTER_INTERFACE: (IPv4Interface(f"{hotspot.router_address}/{hotspot.network.prefixlen}"),),
            BACKBONE_INTERFACE: (_interface4(hotspot.backbone, 2),),
        },
        {"0.0.0.0/0": str(hotspot.backbone[1])},
        router=True,
        ipv6=False,
    )
    namespace.run_in(plan.namespace(hotspot.router), lambda: _configure_nat(hotspot))
    in_node(plan, "core", core, routes, router=True)
    in_node(
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
    in_node(plan, "mn", {INTERFACE: ()}, {}, ipv6=False)
    in_node(
        plan,
        "ha",
        {INTERFACE: (IPv4Interface(f"{plan.home_agent4}/{plan.home_network4.prefixlen}"),)},
        {"0.0.0.0/0": str(plan.home_router4)},
        router=True,
        ipv6=False,
    )
    in_node(
        plan,
        "cn",
        {INTERFACE: (IPv4Interface(f"{plan.cn4}/{plan.cn_network4.prefixlen}"),)},
        {"0.0.0.0/0": str(plan.cn_router4)},
        ipv6=False,
    )
    namespace.run_in(plan.namespace("laptop"), _configure_laptop)


def _configure_laptop() -> None:
    """A kernel as on a laptop, except that it does not wait a second for each of its addresses: not what is tested."""
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")
        for cable in CABLES.values():
            if cable.node == "laptop":
                settings = f"ipv6/conf/{cable.interface}"
                for name in ("accept_dad", "dad_transmits", "router_solicitation_delay"):
                    set_kernel(f"{settings}/{name}", 0)
                set_kernel(f"{settings}/ra_defrtr_metric", cable.metric)
                netlink.link("set", index=index_of(netlink, cable.interface), state="up")


def _configure_nat(link: HotspotLink) -> None:
    """Ports are chosen anew for each mapping, as by NATs of mobile operators."""
    rules = f"""\
table ip nat {{
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {link.network} oifname "{BACKBONE_INTERFACE}" masquerade fully-random
  }}
}}
"""
    nft(rules)


def nft(rules: str) -> None:
    """Hands rules to nft, in the namespace of the calling thread. Raises `EnvironmentFailure`."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"{error}; `make setup` installs what is missing") from None
    if done.returncode:
        raise EnvironmentFailure(f"nft refused the rules ({done.stderr.strip()}); the kernel needs nf_tables and NAT")


def _interface4(network: IPv4Network, host: int) -> IPv4Interface:
    return IPv4Interface(f"{network[host]}/{network.prefixlen}")


def in_node(
    plan: Plan,
    node: str,
    addresses: dict[str, tuple[Interface, ...]],
    routes: dict[str, str],
    *,
    router: bool = False,
    ipv6: bool = True,
) -> None:
    """Gives a node its kernel settings, the addresses of its interfaces (and no others), and routes (destination:
    gateway). More can be added to a node by a second call, with the same ``router`` and ``ipv6``.
    """
    namespace.run_in(plan.namespace(node), lambda: _configure(addresses, routes, router=router, ipv6=ipv6))
