"""What of the machine's network a node is attached to, by its configuration and by what this process may do."""

from __future__ import annotations

import errno
import logging
import os
import socket
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from mobility.config import Access, Configuration, MobileNodeSettings
from mobility.mipv6.home_agents_list import anycast
from mobility.net import netlink, tun
from mobility.net.access import AccessSettings
from mobility.net.capabilities import Capability, has
from mobility.net.hindrances import RoutedPrefixes
from mobility.net.netlink import LinkState
from mobility.net.obstacles import Forbidden
from mobility.net.tun import Tunnel
from mobility.net.tun_link import TunLink

log = logging.getLogger(__name__)

TUN_MTU = 1500
"Of the TUN devices of a home agent, which knows what fits through each tunnel."


@dataclass(frozen=True, slots=True)
class Attachments:
    """Nothing of it is open yet."""

    interfaces: dict[str, LinkState]
    "With packet sockets."
    access: AccessSettings | None = None
    "What a terminal may use by UDP."
    listen: tuple[tuple[IPv4Address | IPv6Address, int], ...] = ()
    "Where a home agent listens for datagrams at addresses of the kernel."


def attachments(configuration: Configuration) -> Attachments:
    """Raises OSError: an interface that has to be one of Ethernet is not."""
    node, agent = configuration.mobile_node, configuration.home_agent
    if node is not None:
        attached = _of_terminal(configuration, node)
        router = configuration.mobile_router
        if router is None:
            return attached
        return replace(attached, interfaces=attached.interfaces | _ethernet(configuration, tuple(router.interfaces)))
    interfaces = _ethernet(configuration, configuration.interfaces)
    if agent is None:
        return Attachments(interfaces)
    return Attachments(interfaces, listen=tuple((address, agent.udp_port) for address in agent.udp))


def pool_tunnel(configuration: Configuration) -> Tunnel | None:
    """The TUN device of a home agent's IPv4 pool, behind which the kernel of the system routes.

    Raises OSError: not permitted, no such device, name taken.
    """
    agent = configuration.home_agent
    if agent is None or agent.ipv4_pool is None:
        return None
    return Tunnel(tun.create_for_pool(agent.ipv4_interface, agent.ipv4_pool, TUN_MTU))


def routed_prefixes(configuration: Configuration) -> RoutedPrefixes | None:
    """What a home agent without a home link wants of the kernel; None: the node is none."""
    agent = configuration.home_agent
    if agent is None or not agent.prefixes:
        return None
    # The home network on its own, too: where the kernel has an address of it, it believes it to be on that link.
    return RoutedPrefixes(
        agent.interface,
        tuple(dict.fromkeys((agent.address.network, *agent.prefixes))),
        frozenset((agent.address.ip, *(terminal.home_address for terminal in agent.terminals))),
        tuple((address, agent.udp_port) for address in agent.udp),
    )


def home_route(wanted: RoutedPrefixes) -> tuple[TunLink, LinkState]:
    """Makes the TUN device behind which the prefixes of a home agent are (`mobility.floating` routes them there).

    Raises OSError: not permitted, no such device, name taken; says what to do.
    """
    if not has(Capability.NET_ADMIN):
        raise PermissionError(
            errno.EPERM,
            'home_link = "routed" needs CAP_NET_ADMIN for its TUN device and the route to it:'
            " start this as root, or as a service with AmbientCapabilities=CAP_NET_ADMIN",
        )
    link = TunLink(wanted.interface, TUN_MTU)
    try:
        return link, link.open()
    except Forbidden as error:
        raise OSError(error.errno, str(error.obstacle)) from error


def may_open_packet_sockets() -> bool:
    """Whether this process may speak on a link past the kernel (CAP_NET_RAW)."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError:
        return False
    return True


def _of_terminal(configuration: Configuration, node: MobileNodeSettings) -> Attachments:
    if node.access is Access.NATIVE:
        return Attachments(_ethernet(configuration, node.interfaces))
    interfaces: dict[str, LinkState] = {}
    if node.access is Access.AUTO and node.interfaces:
        if may_open_packet_sockets():
            interfaces = {name: link for name, link in _present(node.interfaces).items() if link.ethernet}
        else:
            log.info("all interfaces are used by UDP: native Mobile IPv6 needs CAP_NET_RAW")
    # While the home agent is not known, the way to its network is the way to it.
    agent = anycast(node.home_address.network) if node.home_agent is None else node.home_agent
    agents = (agent,) if node.home_agent4 is None else (node.home_agent4, agent)
    access = AccessSettings(node.interfaces, node.others, agents, node.udp_port, frozenset(interfaces))
    return Attachments(interfaces, access)


def _ethernet(configuration: Configuration, names: tuple[str, ...]) -> dict[str, LinkState]:
    present = _present(names)
    for name, link in present.items():
        if not link.ethernet:
            raise OSError(f"interface {name} is not an Ethernet interface: choose another in {configuration.path}")
    return present


def _present(names: tuple[str, ...]) -> dict[str, LinkState]:
    """One that is not there yet gets a placeholder; when it comes, the data plane starts anew with the real one."""
    known = netlink.read_links()
    interfaces: dict[str, LinkState] = {}
    for name in names:
        link = known.get(name)
        if link is None:
            log.warning("interface %s is not there (yet)", name)
            link = LinkState(0, name, b"\x02" + os.urandom(5), 1500, up=False, ethernet=True)
        interfaces[name] = link
    return interfaces
