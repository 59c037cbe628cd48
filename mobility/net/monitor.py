"""What changes in the kernel's links, addresses and routes, as a readable descriptor."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from mobility.net.netlink import (
    LARGEST_ANSWER,
    NETLINK_ROUTE,
    AddressState,
    LinkState,
    RouteSocket,
    RouteState,
    address_of,
    link_of,
)
from mobility.net.rtnetlink import RTM_DELROUTE, RTM_NEWROUTE, messages

Change = LinkState | AddressState | RouteState

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = (
    0x1,
    0x10,
    0x40,
    0x100,
    0x400,
)
_Key = TypeVar("_Key")
_State = TypeVar("_State", LinkState, AddressState)


class LinkMonitor:
    """Tells of changes of links, addresses and routes; the network namespace is that of the call to `open`.

    ``routes`` False: nothing of routes (a router may have many).
    """

    def __init__(self, *, routes: bool = True) -> None:
        self._with_routes = routes
        self._socket: socket.socket | None = None
        self._requests: RouteSocket | None = None
        self._links: dict[int, LinkState] = {}
        self._addresses: dict[tuple[int, IPv4Address | IPv6Address], AddressState] = {}
        self._routes: frozenset[RouteState] = frozenset()
        self.overruns = 0
        "How often the kernel had more to tell than the socket could hold; each is answered by a new full reading."

    @property
    def links(self) -> Iterable[LinkState]:
        """Those that there are, as far as `read` has told."""
        return self._links.values()

    @property
    def addresses(self) -> Iterable[AddressState]:
        return self._addresses.values()

    @property
    def routes(self) -> Iterable[RouteState]:
        return self._routes

    def open(self) -> list[Change]:
        """Begins to listen; returns what there is now. No change is lost in between. Raises OSError."""
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
        if self._with_routes:
            groups |= RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, groups))
        self._requests = RouteSocket()
        return self._read_all()

    def fileno(self) -> int:
        if self._socket is None:
            raise RuntimeError("the link monitor is not open")
        return self._socket.fileno()

    def read(self) -> list[Change]:
        """The changes since the last call, oldest first, routes last. Does not wait for any."""
        if self._socket is None:
            return []
        changes: list[Change] = []
        routes_changed = False
        while True:
            try:
                data, (sender, _groups) = self._socket.recvfrom(LARGEST_ANSWER)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                changes += self._read_all()
                continue
            if sender != 0:  # only the kernel tells the truth about links
                continue
            for message in messages(data):
                if message.kind in (RTM_NEWROUTE, RTM_DELROUTE):
                    routes_changed = True
                elif (link := link_of(message)) is not None:
                    self._note(self._links, link.index, link)
                    changes.append(link)
                elif (address := address_of(message)) is not None:
                    key = address.index, address.address
                    if self._addresses.get(key) != address:  # each router advertisement renews the lifetimes
                        self._note(self._addresses, key, address)
                        changes.append(address)
        if routes_changed or _silently_without_routes(changes):
            changes += self._read_routes()
        return changes

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _note(self, table: dict[_Key, _State], key: _Key, state: _State) -> None:
        if state.removed:
            table.pop(key, None)
        else:
            table[key] = state

    def _read_all(self) -> list[Change]:
        if self._requests is None:
            return []
        links = {link.index: link for link in self._requests.links()}
        addresses = {(address.index, address.address): address for address in self._requests.addresses()}
        changes: list[Change] = [
            replace(link, up=False, removed=True) for index, link in self._links.items() if index not in links
        ]
        changes += links.values()
        changes += _gone(self._addresses, addresses)
        changes += addresses.values()
        self._links, self._addresses = links, addresses
        return changes + self._read_routes()

    def _read_routes(self) -> list[Change]:
        """All of them each time: replaced ones and those of interfaces that go down are not told of one by one."""
        if self._requests is None or not self._with_routes:
            return []
        before, self._routes = self._routes, frozenset(self._requests.routes())
        gone = [replace(route, removed=True) for route in before - self._routes]
        return [*gone, *(self._routes - before)]


def _gone(before: Mapping[_Key, AddressState], now: Mapping[_Key, AddressState]) -> list[AddressState]:
    return [replace(address, removed=True) for key, address in before.items() if key not in now]


def _silently_without_routes(changes: Iterable[Change]) -> bool:
    """Whether the kernel may have dropped routes of IPv4 without a word."""
    return any(
        (isinstance(change, LinkState) and not change.up) or (isinstance(change, AddressState) and change.removed)
        for change in changes
    )
