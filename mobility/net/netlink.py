"""Links of the kernel by rtnetlink: what there is now, and what changes.

pyroute2 supplies the message classes; the sockets are our own, because the data plane reads them in its epoll loop
and pyroute2's monitors bring an asyncio loop with them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

NETLINK_ROUTE = 0
RTMGRP_LINK = 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 18, 20, 24
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
ARPHRD_ETHER = 1
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1
IFA_F_NODAD = 0x02
ADDR_GEN_MODE_NONE = 1

_LARGEST_ANSWER = 1 << 17


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


class LinkMonitor:
    """Tells of changes of interfaces as a readable descriptor; the namespace is that of the call to `open`."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._marshal = MarshalRtnl()
        self._known: dict[str, LinkState] = {}
        self.overruns = 0
        "How often the kernel had more to tell than the socket could hold; each is answered by a new full reading."

    def open(self) -> list[LinkState]:
        """Begins to listen; returns the interfaces there are now. No change is lost in between. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, RTMGRP_LINK))
        return self._read_all()

    def fileno(self) -> int:
        if self._socket is None:
            raise RuntimeError("the link monitor is not open")
        return self._socket.fileno()

    def read(self) -> list[LinkState]:
        """The changes since the last call, oldest first. Never blocks."""
        if self._socket is None:
            return []
        changes: list[LinkState] = []
        while True:
            try:
                data, (sender, _groups) = self._socket.recvfrom(_LARGEST_ANSWER)
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                changes.extend(self._read_all())
                continue
            if sender == 0:  # only the kernel tells the truth about links
                for link in _links_in(self._marshal, data):
                    self._note(link)
                    changes.append(link)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _note(self, link: LinkState) -> None:
        if link.removed:
            self._known.pop(link.name, None)
        else:
            self._known[link.name] = link

    def _read_all(self) -> list[LinkState]:
        present = read_links()
        gone = [replace(link, up=False, removed=True) for name, link in self._known.items() if name not in present]
        self._known = present
        return gone + list(present.values())


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
        self._socket.close()

    def links(self) -> list[LinkState]:
        """All interfaces. Raises OSError."""
        return list(self._ask(ifinfmsg(), RTM_GETLINK, NLM_F_DUMP))

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

    def add_default_route(self, index: int, family: socket.AddressFamily) -> None:
        """Sends everything of the address family out of the interface. A route that exists is no error."""
        message = rtmsg()
        message["family"], message["table"], message["proto"] = family, RT_TABLE_MAIN, RTPROT_STATIC
        message["scope"], message["type"] = RT_SCOPE_UNIVERSE, RTN_UNICAST
        message["attrs"] = [["RTA_OIF", index]]
        self._tell(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, tolerated=errno.EEXIST)

    def _tell(self, message: Any, kind: int, flags: int, *, tolerated: int = 0) -> None:
        try:
            for _ in self._ask(message, kind, NLM_F_ACK | flags):
                pass
        except OSError as error:
            if error.errno != tolerated:
                raise

    def _ask(self, message: Any, kind: int, flags: int) -> Iterator[LinkState]:
        self._sequence += 1
        header = message["header"]
        header["type"], header["flags"] = kind, NLM_F_REQUEST | flags
        header["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(bytes(message.data))
        while True:
            data = self._socket.recv(_LARGEST_ANSWER)
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
                link = _link_of(answer)
                if link is not None:
                    yield link


def _links_in(marshal: Any, data: bytes) -> Iterator[LinkState]:
    for message in marshal.parse(data):
        link = _link_of(message)
        if link is not None:
            yield link


def _link_of(message: Any) -> LinkState | None:
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
