"""Links, addresses and routes of the kernel by rtnetlink: what there is, and requests to change it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from mobility.net import rtnetlink
from mobility.net.rtnetlink import Message, attribute, attributes, number

NETLINK_ROUTE = 0
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
ARPHRD_ETHER = 1
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1
IFA_F_TEMPORARY, IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x01, 0x02, 0x08, 0x20, 0x40
RTM_F_CLONED = 0x200
ADDR_GEN_MODE_NONE = 1
FIRST_METRIC = 1
"Of a route that goes before the one that the kernel makes for the network of an address (256)."
LARGEST_ANSWER = 1 << 17

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


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
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def links(self) -> list[LinkState]:
        """All interfaces. Raises OSError."""
        messages = self._ask(rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_DUMP, rtnetlink.LINK.pack(0, 0, 0, 0, 0))
        return [link for message in messages if (link := link_of(message)) is not None]

    def addresses(self) -> list[AddressState]:
        """All addresses of IPv4 and IPv6. Raises OSError."""
        messages = self._ask(rtnetlink.RTM_GETADDR, rtnetlink.NLM_F_DUMP, rtnetlink.ADDRESS.pack(0, 0, 0, 0, 0))
        return [address for message in messages if (address := address_of(message)) is not None]

    def routes(self) -> list[RouteState]:
        """All unicast routes of the main table, IPv4 and IPv6. Raises OSError."""
        found: list[RouteState] = []
        for family in _FAMILIES:
            body = rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for message in self._ask(rtnetlink.RTM_GETROUTE, rtnetlink.NLM_F_DUMP, body):
                found += routes_of(message)
        return found

    def set_up(self, index: int) -> None:
        """Brings an interface up."""
        self._tell(rtnetlink.RTM_NEWLINK, 0, rtnetlink.LINK.pack(0, 0, index, IFF_UP, IFF_UP))

    def set_properties(self, index: int, *, mtu: int, queue: int | None = None) -> None:
        """Sets the MTU of an interface, and how many packets may wait for it (None: as many as the kernel finds right),
        and bars a link-local address. Effective only before it is up."""
        mode = attribute(rtnetlink.IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_MODE_NONE]))
        inet6 = attribute(socket.AF_INET6, mode)
        what = attribute(rtnetlink.IFLA_MTU, mtu) + attribute(rtnetlink.IFLA_AF_SPEC, inet6)
        if queue is not None:
            what += attribute(rtnetlink.IFLA_TXQLEN, queue)
        self._tell(rtnetlink.RTM_NEWLINK, 0, rtnetlink.LINK.pack(0, 0, index, 0, 0) + what)

    def add_address(self, index: int, address: str, prefix_length: int) -> None:
        """Gives an interface an address; IPv6 without duplicate address detection. One that exists is no error."""
        body = _address(index, address, prefix_length)
        self._tell(rtnetlink.RTM_NEWADDR, _NEW, body, tolerated=errno.EEXIST)

    def lend_address(self, index: int, address: str, prefix_length: int, seconds: int) -> None:
        """Gives an interface an address for some seconds, or once more for so many: then the kernel takes it away."""
        loan = attribute(rtnetlink.IFA_CACHEINFO, rtnetlink.LIFETIMES.pack(seconds, seconds, 0, 0))
        body = _address(index, address, prefix_length) + loan
        self._tell(rtnetlink.RTM_NEWADDR, rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE, body)

    def age_address(self, index: int, address: str, prefix_length: int, *, deprecated: bool) -> None:
        """Gives an interface an address without end, or one that is not for new communication any more."""
        forever = 0xFFFFFFFF
        life = rtnetlink.LIFETIMES.pack(0 if deprecated else forever, forever, 0, 0)
        body = _address(index, address, prefix_length) + attribute(rtnetlink.IFA_CACHEINFO, life)
        self._tell(rtnetlink.RTM_NEWADDR, rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE, body)

    def remove_address(self, index: int, address: str, prefix_length: int) -> None:
        """Takes an address from an interface. One that is not there is no error."""
        body = _address(index, address, prefix_length)
        self._tell(rtnetlink.RTM_DELADDR, 0, body, tolerated=errno.EADDRNOTAVAIL)

    def add_route(self, index: int, destination: IPv4Network | IPv6Network, metric: int | None = None) -> None:
        """Sends what is for a network out of the interface. A route that exists is no error.

        ``metric``: the lower the better; None: what the kernel gives.
        """
        family, length = _family(destination.network_address), destination.prefixlen
        main = RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST
        body = rtnetlink.ROUTE.pack(family, length, 0, 0, *main, 0) + attribute(rtnetlink.RTA_OIF, index)
        if length:
            body += attribute(rtnetlink.RTA_DST, destination.network_address.packed)
        if metric is not None:
            body += attribute(rtnetlink.RTA_PRIORITY, metric)
        self._tell(rtnetlink.RTM_NEWROUTE, _NEW, body, tolerated=errno.EEXIST)

    def remove_route(self, index: int, destination: IPv4Network | IPv6Network, metric: int) -> None:
        """Takes a route of the main table away. One that is not there is no error."""
        family, length = _family(destination.network_address), destination.prefixlen
        body = rtnetlink.ROUTE.pack(family, length, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0)
        body += attribute(rtnetlink.RTA_OIF, index) + attribute(rtnetlink.RTA_PRIORITY, metric)
        if length:
            body += attribute(rtnetlink.RTA_DST, destination.network_address.packed)
        self._tell(rtnetlink.RTM_DELROUTE, 0, body, tolerated=errno.ESRCH)

    def add_default_route(self, index: int, family: socket.AddressFamily) -> None:
        """Sends everything of the address family out of the interface. A route that exists is no error."""
        self.add_route(index, IPv6Network("::/0") if family == socket.AF_INET6 else IPv4Network("0.0.0.0/0"))

    def _tell(self, kind: int, flags: int, body: bytes, *, tolerated: int = 0) -> None:
        try:
            for _ in self._ask(kind, rtnetlink.NLM_F_ACK | flags, body):
                pass
        except OSError as error:
            if error.errno != tolerated:
                raise

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[Message]:
        self._sequence += 1
        self._socket.send(rtnetlink.request(kind, flags, self._sequence, body))
        while True:
            for answer in rtnetlink.messages(self._socket.recv(LARGEST_ANSWER)):
                if answer.sequence != self._sequence:
                    continue
                if answer.kind == rtnetlink.NLMSG_DONE:
                    return
                if answer.kind == rtnetlink.NLMSG_ERROR:
                    failure = -int.from_bytes(answer.body[:4], sys.byteorder, signed=True)
                    if failure:
                        raise OSError(failure, f"rtnetlink: {os.strerror(failure)}")
                    return
                yield answer


def link_of(message: Message) -> LinkState | None:
    """The link that a message is about; None: it is about none."""
    if message.kind not in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
        return None
    family, kind, index, flags, _change = rtnetlink.LINK.unpack_from(message.body)
    found = attributes(message.body, rtnetlink.LINK.size)
    # Bridges announce their ports in messages of family AF_BRIDGE, a port leaving its bridge looks like a removal.
    if family != socket.AF_UNSPEC or rtnetlink.IFLA_IFNAME not in found:
        return None
    wanted, removed, ethernet = IFF_UP | IFF_LOWER_UP, message.kind == rtnetlink.RTM_DELLINK, kind == ARPHRD_ETHER
    return LinkState(
        index=index,
        name=os.fsdecode(found[rtnetlink.IFLA_IFNAME].rstrip(b"\0")),
        address=found.get(rtnetlink.IFLA_ADDRESS, b"") if ethernet else b"",
        mtu=number(found, rtnetlink.IFLA_MTU),
        up=not removed and flags & wanted == wanted,
        ethernet=ethernet,
        removed=removed,
        carrier_losses=number(found, rtnetlink.IFLA_CARRIER_DOWN_COUNT),
    )


def address_of(message: Message) -> AddressState | None:
    """The address that a message is about; None: it is about none, or of another family."""
    if message.kind not in (rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR):
        return None
    family, length, flags, scope, index = rtnetlink.ADDRESS.unpack_from(message.body)
    found = attributes(message.body, rtnetlink.ADDRESS.size)
    # With a peer at the other end of the link IFA_ADDRESS is the peer's.
    own = found.get(rtnetlink.IFA_LOCAL) or found.get(rtnetlink.IFA_ADDRESS)
    if own is None or family not in _FAMILIES:
        return None
    flags = number(found, rtnetlink.IFA_FLAGS, flags)
    six = family == socket.AF_INET6
    return AddressState(
        index=index,
        address=IPv6Address(own) if six else IPv4Address(own),
        prefix_length=length,
        universal=scope == RT_SCOPE_UNIVERSE,
        tentative=six and bool(flags & IFA_F_TENTATIVE),
        dad_failed=six and bool(flags & IFA_F_DADFAILED),
        deprecated=bool(flags & IFA_F_DEPRECATED),
        temporary=six and bool(flags & IFA_F_TEMPORARY),  # IPv4 has another meaning for this bit
        removed=message.kind == rtnetlink.RTM_DELADDR,
    )


def routes_of(message: Message) -> list[RouteState]:
    """The unicast routes of the main table that a message is about: one for each way."""
    if message.kind not in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
        return []
    family, length, _, _, table, _, _, kind, flags = rtnetlink.ROUTE.unpack_from(message.body)
    if kind != RTN_UNICAST or family not in _FAMILIES or flags & RTM_F_CLONED:
        return []
    found = attributes(message.body, rtnetlink.ROUTE.size)
    if number(found, rtnetlink.RTA_TABLE, table) != RT_TABLE_MAIN:
        return []
    six = family == socket.AF_INET6
    prefix = found.get(rtnetlink.RTA_DST, bytes(16 if six else 4)), length
    destination = IPv6Network(prefix) if six else IPv4Network(prefix)
    ways = list(rtnetlink.next_hops(found.get(rtnetlink.RTA_MULTIPATH, b"")))
    if rtnetlink.RTA_OIF in found:
        ways.append((number(found, rtnetlink.RTA_OIF), found))
    metric, removed = number(found, rtnetlink.RTA_PRIORITY), message.kind == rtnetlink.RTM_DELROUTE
    return [RouteState(index, destination, metric, _gateway(way), removed) for index, way in ways]


_NEW = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL


def _address(index: int, address: str, prefix_length: int) -> bytes:
    own = ip_address(address)
    flags = IFA_F_NODAD if own.version == 6 else 0
    fixed = rtnetlink.ADDRESS.pack(_family(own), prefix_length, flags, RT_SCOPE_UNIVERSE, index)
    return fixed + attribute(rtnetlink.IFA_LOCAL, own.packed) + attribute(rtnetlink.IFA_ADDRESS, own.packed)


def _family(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def _gateway(way: Mapping[int, bytes]) -> IPv4Address | IPv6Address | None:
    gateway = way.get(rtnetlink.RTA_GATEWAY)
    if gateway is None:
        return None
    return IPv6Address(gateway) if len(gateway) == 16 else IPv4Address(gateway)
