"""Links, addresses and routes of the kernel by rtnetlink: what there is, and requests to change it.

pyroute2 supplies the message classes; the sockets are our own, because the data plane reads them in its epoll loop
and pyroute2's monitors bring an asyncio loop with them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

NETLINK_ROUTE = 0
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
ARPHRD_ETHER = 1
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1
IFA_F_TEMPORARY, IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x01, 0x02, 0x08, 0x20, 0x40
RTM_F_CLONED = 0x200
ADDR_GEN_MODE_NONE = 1

LARGEST_ANSWER = 1 << 17


@dataclass(frozen=True, slots=True)
class LinkState:
    """One interface of the kernel."""

    index: int
    name: str
    address: bytes
    "Link-layer address; empty where the interface has none."
    mtu: int
    up: bool
    "Administratively up and with carrier: packets can go."
    ethernet: bool
    removed: bool = False
    "The interface has gone (unplugged, deleted, moved to another namespace)."
    carrier_losses: int = 0
    "How often it has lost its carrier. Only this tells of a short loss: the kernel folds messages that come too fast."


def read_links() -> dict[str, LinkState]:
    """All interfaces of the current network namespace, by name. Raises OSError."""
    with RouteSocket() as route:
        return {link.name: link for link in route.links()}


@dataclass(frozen=True, slots=True)
class AddressState:
    """One address of an interface of the kernel."""

    index: int
    "Of the interface."
    address: IPv4Address | IPv6Address
    prefix_length: int
    universal: bool
    "Of global scope: not link-local, not valid only on this machine. Private ones are of it, too."
    tentative: bool = False
    "Duplicate address detection is still going on: the kernel does not use it."
    dad_failed: bool = False
    deprecated: bool = False
    "Its preferred lifetime is over: not for what is new, where there is another."
    temporary: bool = False
    removed: bool = False

    @property
    def usable(self) -> bool:
        """Whether a socket may be bound to it to reach others."""
        return self.universal and not (self.tentative or self.dad_failed or self.removed)


@dataclass(frozen=True, slots=True)
class RouteState:
    """One unicast route of the kernel's main table; one of several ways is a route of its own."""

    index: int
    "Of the interface."
    destination: IPv4Network | IPv6Network
    metric: int
    "The lower the better."
    gateway: IPv4Address | IPv6Address | None = None
    removed: bool = False

    @property
    def default(self) -> bool:
        return self.destination.prefixlen == 0


class RouteSocket:
    """Requests to rtnetlink, one after the other, in the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.settimeout(5.0)
        self._socket.bind((0, 0))
        self._marshal = MarshalRtnl()
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def links(self) -> list[LinkState]:
        """All interfaces. Raises OSError."""
        messages = self._ask(ifinfmsg(), RTM_GETLINK, NLM_F_DUMP)
        return [link for message in messages if (link := link_of(message)) is not None]

    def addresses(self) -> list[AddressState]:
        """All addresses of IPv4 and IPv6. Raises OSError."""
        messages = self._ask(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP)
        return [address for message in messages if (address := address_of(message)) is not None]

    def routes(self) -> list[RouteState]:
        """All unicast routes of the main table, IPv4 and IPv6. Raises OSError."""
        found: list[RouteState] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = rtmsg()
            request["family"] = family
            for message in self._ask(request, RTM_GETROUTE, NLM_F_DUMP):
                found += routes_of(message)
        return found

    def set_up(self, index: int) -> None:
        """Brings an interface up."""
        message = ifinfmsg()
        message["index"], message["flags"], message["change"] = index, IFF_UP, IFF_UP
        self._tell(message, RTM_NEWLINK, 0)

    def set_properties(self, index: int, *, mtu: int) -> None:
        """Sets the MTU of an interface and bars a link-local address. Effective only before it is up."""
        message = ifinfmsg()
        message["index"] = index
        inet6 = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", ADDR_GEN_MODE_NONE]]}
        message["attrs"] = [["IFLA_MTU", mtu], ["IFLA_AF_SPEC", {"attrs": [["AF_INET6", inet6]]}]]
        self._tell(message, RTM_NEWLINK, 0)

    def add_address(self, index: int, address: str, prefix_length: int) -> None:
        """Gives an interface an address; IPv6 without duplicate address detection. One that exists is no error."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        message = ifaddrmsg()
        message["family"], message["prefixlen"], message["index"] = family, prefix_length, index
        message["flags"] = IFA_F_NODAD if family == socket.AF_INET6 else 0
        message["attrs"] = [["IFA_LOCAL", address], ["IFA_ADDRESS", address]]
        self._tell(message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, tolerated=errno.EEXIST)

    def remove_address(self, index: int, address: str, prefix_length: int) -> None:
        """Takes an address from an interface. One that is not there is no error."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET6 if ":" in address else socket.AF_INET
        message["prefixlen"], message["index"] = prefix_length, index
        message["attrs"] = [["IFA_LOCAL", address], ["IFA_ADDRESS", address]]
        self._tell(message, RTM_DELADDR, 0, tolerated=errno.EADDRNOTAVAIL)

    def add_route(self, index: int, destination: IPv4Network | IPv6Network) -> None:
        """Sends what is for a network out of the interface. A route that exists is no error."""
        self._route(index, socket.AF_INET if destination.version == 4 else socket.AF_INET6, destination)

    def add_default_route(self, index: int, family: socket.AddressFamily) -> None:
        """Sends everything of the address family out of the interface. A route that exists is no error."""
        self._route(index, family, None)

    def _route(self, index: int, family: socket.AddressFamily, destination: IPv4Network | IPv6Network | None) -> None:
        message = rtmsg()
        message["family"], message["table"], message["proto"] = family, RT_TABLE_MAIN, RTPROT_STATIC
        message["scope"], message["type"] = RT_SCOPE_UNIVERSE, RTN_UNICAST
        message["attrs"] = [["RTA_OIF", index]]
        if destination is not None:
            message["dst_len"] = destination.prefixlen
            message["attrs"].append(["RTA_DST", str(destination.network_address)])
        self._tell(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, tolerated=errno.EEXIST)

    def _tell(self, message: Any, kind: int, flags: int, *, tolerated: int = 0) -> None:
        try:
            for _ in self._ask(message, kind, NLM_F_ACK | flags):
                pass
        except OSError as error:
            if error.errno != tolerated:
                raise

    def _ask(self, message: Any, kind: int, flags: int) -> Iterator[Any]:
        self._sequence += 1
        header = message["header"]
        header["type"], header["flags"] = kind, NLM_F_REQUEST | flags
        header["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(bytes(message.data))
        while True:
            data = self._socket.recv(LARGEST_ANSWER)
            for answer in self._marshal.parse(data):
                if answer["header"]["sequence_number"] != self._sequence:
                    continue
                if answer["header"]["type"] == NLMSG_DONE:
                    return
                if answer["header"]["type"] == NLMSG_ERROR:
                    failure = answer["header"]["error"]
                    if failure is not None:
                        raise OSError(failure.code, f"rtnetlink: {os.strerror(failure.code)}")
                    return
                yield answer


def link_of(message: Any) -> LinkState | None:
    """The link that a message is about; None: it is about none."""
    kind = message["header"]["type"]
    # Bridges announce their ports in messages of family AF_BRIDGE, a port leaving its bridge looks like a removal.
    if kind not in (RTM_NEWLINK, RTM_DELLINK) or message["family"] != socket.AF_UNSPEC:
        return None
    name, address, mtu = (message.get_attr(a) for a in ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU"))
    if name is None:
        return None
    wanted = IFF_UP | IFF_LOWER_UP
    ethernet = message["ifi_type"] == ARPHRD_ETHER
    return LinkState(
        index=message["index"],
        name=name,
        address=bytes.fromhex(address.replace(":", "")) if address and ethernet else b"",
        mtu=mtu or 0,
        up=kind == RTM_NEWLINK and message["flags"] & wanted == wanted,
        ethernet=ethernet,
        removed=kind == RTM_DELLINK,
        carrier_losses=message.get_attr("IFLA_CARRIER_DOWN_COUNT") or 0,
    )


def address_of(message: Any) -> AddressState | None:
    """The address that a message is about; None: it is about none, or of another family."""
    kind, family = message["header"]["type"], message["family"]
    if kind not in (RTM_NEWADDR, RTM_DELADDR) or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    # With a peer at the other end of the link IFA_ADDRESS is the peer's.
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if own is None:
        return None
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    six = family == socket.AF_INET6
    return AddressState(
        index=message["index"],
        address=IPv6Address(own) if six else IPv4Address(own),
        prefix_length=message["prefixlen"],
        universal=message["scope"] == RT_SCOPE_UNIVERSE,
        tentative=six and bool(flags & IFA_F_TENTATIVE),
        dad_failed=six and bool(flags & IFA_F_DADFAILED),
        deprecated=bool(flags & IFA_F_DEPRECATED),
        temporary=six and bool(flags & IFA_F_TEMPORARY),  # IPv4 has another meaning for this bit
        removed=kind == RTM_DELADDR,
    )


def routes_of(message: Any) -> list[RouteState]:
    """The unicast routes of the main table that a message is about: one for each way."""
    kind, family = message["header"]["type"], message["family"]
    if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or family not in (socket.AF_INET, socket.AF_INET6):
        return []
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != RT_TABLE_MAIN or message["type"] != RTN_UNICAST or message["flags"] & RTM_F_CLONED:
        return []
    six = family == socket.AF_INET6
    anywhere, length = "::" if six else "0.0.0.0", message["dst_len"]
    written = f"{message.get_attr('RTA_DST') or anywhere}/{length}"
    destination = IPv6Network(written) if six else IPv4Network(written)
    several = message.get_attr("RTA_MULTIPATH")
    ways = [(message.get_attr("RTA_OIF"), message)] if not several else [(way["oif"], way) for way in several]
    return [
        RouteState(
            index,
            destination,
            message.get_attr("RTA_PRIORITY") or 0,
            _gateway(way.get_attr("RTA_GATEWAY")),
            removed=kind == RTM_DELROUTE,
        )
        for index, way in ways
        if index is not None
    ]


def _gateway(value: str | None) -> IPv4Address | IPv6Address | None:
    if value is None:
        return None
    return IPv6Address(value) if ":" in value else IPv4Address(value)
