"""What the kernel tells of links, addresses and routes."""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

import pytest

from mobility.net import namespace
from mobility.net.monitor import Change, LinkMonitor
from mobility.net.netlink import AddressState, LinkState, RouteSocket, RouteState

from .networks import run

root = pytest.mark.root
State = TypeVar("State", LinkState, AddressState, RouteState)
ANYWHERE4, ANYWHERE6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


class Watcher:
    """A monitor in a namespace."""

    def __init__(self, where: str, *, routes: bool = True) -> None:
        self.where = where
        self.monitor = LinkMonitor(routes=routes)
        with namespace.inside(where):
            self.start = self.monitor.open()
        self.told: list[Change] = []

    def ip(self, *commands: str) -> None:
        for command in commands:
            run("ip", "-n", self.where, *command.split())

    def until(self, kind: type[State], condition: Callable[[State], bool]) -> State:
        """The first change that fits, and forgets those before it."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            while self.told:
                change = self.told.pop(0)
                if isinstance(change, kind) and condition(change):
                    return change
            select.select([self.monitor], [], [], 0.5)
            self.told += self.monitor.read()
        raise AssertionError("was not told")

    def route(self, destination: str, index: int) -> list[RouteState]:
        """As they are now."""
        found = [route for route in self.monitor.routes if route.index == index]
        return [route for route in found if str(route.destination) == destination]


@pytest.fixture
def name() -> Iterator[str]:
    made = f"rnet-{os.getpid()}-{secrets.token_hex(2)}"
    run("ip", "netns", "add", made)
    yield made
    run("ip", "netns", "del", made)


@pytest.fixture
def watcher(name: str) -> Iterator[Watcher]:
    made = Watcher(name)
    yield made
    made.monitor.close()


@pytest.fixture
def eth0(watcher: Watcher) -> int:
    """A veth pair in the namespace, both ends up; the index of one."""
    with namespace.inside(watcher.where), open("/proc/sys/net/ipv6/conf/default/accept_dad", "w") as file:
        file.write("0")
    watcher.ip("link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up")
    return watcher.until(LinkState, lambda link: link.name == "eth0" and link.up).index


@root
def test_changes_of_links_are_told(watcher: Watcher) -> None:
    assert [link.name for link in watcher.start if isinstance(link, LinkState)] == ["lo"]
    watcher.ip("link add eth0 address 02:00:00:00:00:07 mtu 1400 type veth peer name eth1")
    seen = watcher.until(LinkState, lambda link: link.name == "eth0")
    assert (seen.address.hex(":"), seen.mtu, seen.up, seen.ethernet) == ("02:00:00:00:00:07", 1400, False, True)
    watcher.ip("link set eth0 up", "link set eth1 up")
    assert watcher.until(LinkState, lambda link: link.name == "eth0" and link.up).index == seen.index
    watcher.ip("link set eth1 down")
    watcher.until(LinkState, lambda link: link.name == "eth0" and not link.up)
    watcher.ip("link set eth0 mtu 1300")
    watcher.until(LinkState, lambda link: link.name == "eth0" and link.mtu == 1300)
    watcher.ip("link del eth0")
    assert watcher.until(LinkState, lambda link: link.name == "eth0" and link.removed).up is False
    assert [link.name for link in watcher.monitor.links] == ["lo"]
    watcher.monitor.read()
    assert watcher.monitor.read() == []


@root
def test_what_there_was_before_is_told_at_the_start(name: str) -> None:
    for command in (
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "link set eth1 up",
        "addr add 192.0.2.2/24 dev eth0",
        "addr add 2001:db8::2/64 dev eth0 nodad",
        "route add default via 192.0.2.1 metric 100",
        "route add default via 2001:db8::1 metric 200",
        "route add unreachable 203.0.113.0/24",
        "route add 198.51.100.0/24 via 192.0.2.1 table 77",
    ):
        run("ip", "-n", name, *command.split())
    watcher = Watcher(name)
    watcher.monitor.close()
    index = next(link.index for link in watcher.start if isinstance(link, LinkState) and link.name == "eth0")
    addresses = {state.address: state for state in watcher.start if isinstance(state, AddressState)}
    assert addresses[IPv4Address("192.0.2.2")] == AddressState(index, IPv4Address("192.0.2.2"), 24, True)
    assert addresses[IPv6Address("2001:db8::2")] == AddressState(index, IPv6Address("2001:db8::2"), 64, True)
    link_local = next(state for address, state in addresses.items() if address.is_link_local)
    assert not link_local.universal
    assert not link_local.usable
    routes = {route for route in watcher.start if isinstance(route, RouteState)}
    assert {route for route in routes if route.default} == {
        RouteState(index, ANYWHERE4, 100, IPv4Address("192.0.2.1")),
        RouteState(index, ANYWHERE6, 200, IPv6Address("2001:db8::1")),
    }
    others = {str(route.destination) for route in routes if not route.default}
    assert {"192.0.2.0/24", "2001:db8::/64"} <= others
    assert not others & {"203.0.113.0/24", "198.51.100.0/24"}


@root
def test_changes_of_addresses_are_told_with_their_flags(watcher: Watcher, eth0: int) -> None:
    watcher.ip("addr add 192.0.2.2/24 dev eth0")
    four = watcher.until(AddressState, lambda state: state.address == IPv4Address("192.0.2.2"))
    assert (four.index, four.prefix_length, four.usable, four.temporary) == (eth0, 24, True, False)
    watcher.ip("addr add 192.0.2.3/24 dev eth0")  # the kernel says "secondary" with the bit that IPv6 has for temporary
    assert not watcher.until(AddressState, lambda state: state.address == IPv4Address("192.0.2.3")).temporary
    watcher.ip("addr add 2001:db8::2/64 dev eth0 preferred_lft 0")
    assert watcher.until(AddressState, lambda state: state.address == IPv6Address("2001:db8::2")).deprecated
    watcher.ip("addr change 2001:db8::2/64 dev eth0 preferred_lft forever")
    watcher.until(AddressState, lambda state: state.address.version == 6 and state.universal and not state.deprecated)
    watcher.ip("addr add 192.0.2.77 peer 192.0.2.78 dev eth0")
    assert watcher.until(AddressState, lambda state: state.address == IPv4Address("192.0.2.77")).prefix_length == 32
    watcher.ip("addr del 192.0.2.3/24 dev eth0")
    assert watcher.until(AddressState, lambda state: state.removed).address == IPv4Address("192.0.2.3")
    assert IPv4Address("192.0.2.3") not in {state.address for state in watcher.monitor.addresses}


@root
def test_an_address_is_tentative_until_the_kernel_is_sure(watcher: Watcher) -> None:
    watcher.ip("link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up")
    own = IPv6Address("2001:db8::2")
    watcher.ip(f"addr add {own}/64 dev eth0")
    first = watcher.until(AddressState, lambda state: state.address == own)
    assert (first.tentative, first.usable) == (True, False)
    sure = watcher.until(AddressState, lambda state: state.address == own and not state.tentative)
    assert sure.usable


@root
def test_an_address_that_another_has_is_not_usable(watcher: Watcher) -> None:
    watcher.ip("link add eth0 type veth peer name eth1", "link set eth1 up")
    own = IPv6Address("2001:db8::2")
    watcher.ip(f"addr add {own}/64 dev eth1 nodad", "link set eth0 up", f"addr add {own}/64 dev eth0")
    failed = watcher.until(AddressState, lambda state: state.address == own and state.dad_failed)
    assert not failed.usable
    assert {state.usable for state in watcher.monitor.addresses if state.address == own} == {True, False}


@root
def test_a_renewed_lifetime_is_no_change(watcher: Watcher, eth0: int) -> None:
    command = "addr replace 2001:db8::2/64 dev eth0 valid_lft 4000 preferred_lft 3000"
    watcher.ip(command)
    watcher.until(AddressState, lambda state: state.index == eth0 and state.usable)
    watcher.ip(command, "addr add 192.0.2.2/24 dev eth0")
    told: list[AddressState] = []

    def last(state: AddressState) -> bool:
        told.append(state)
        return state.address.version == 4

    watcher.until(AddressState, last)
    assert [state.address for state in told if state.universal] == [IPv4Address("192.0.2.2")]


@root
def test_changes_of_routes_are_told(watcher: Watcher, eth0: int) -> None:
    watcher.ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1 metric 600")
    added = watcher.until(RouteState, lambda route: route.default)
    assert added == RouteState(eth0, ANYWHERE4, 600, IPv4Address("192.0.2.1"))
    watcher.ip("route replace default via 192.0.2.9 metric 600")
    replaced = watcher.until(RouteState, lambda route: route.default and not route.removed)
    assert replaced.gateway == IPv4Address("192.0.2.9")
    assert [route.gateway for route in watcher.monitor.routes if route.default] == [IPv4Address("192.0.2.9")]
    watcher.ip("route del default")
    assert watcher.until(RouteState, lambda route: route.removed and route.default).gateway == IPv4Address("192.0.2.9")


@root
def test_several_ways_are_several_routes(watcher: Watcher, eth0: int) -> None:
    watcher.ip("addr add 192.0.2.2/24 dev eth0", "addr add 198.51.100.2/24 dev eth1")
    watcher.ip("route add default nexthop via 192.0.2.1 nexthop via 198.51.100.1")
    watcher.until(RouteState, lambda route: route.default and route.index == eth0)
    ways = {(route.index, str(route.gateway)) for route in watcher.monitor.routes if route.default}
    assert ways == {(eth0, "192.0.2.1"), (eth0 - 1, "198.51.100.1")} or len({index for index, _ in ways}) == 2


@root
@pytest.mark.parametrize("end", ["link set eth0 down", "addr flush dev eth0", "link del eth0"])
def test_routes_that_the_kernel_drops_without_a_word_are_told(watcher: Watcher, eth0: int, end: str) -> None:
    watcher.ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1")
    watcher.until(RouteState, lambda route: route.default)
    watcher.ip(end)
    gone = watcher.until(RouteState, lambda route: route.default and route.removed)
    assert gone.index == eth0
    assert watcher.route("0.0.0.0/0", eth0) == []


@root
def test_who_does_not_ask_for_routes_hears_of_none(name: str) -> None:
    watcher = Watcher(name, routes=False)
    watcher.ip("link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up")
    watcher.ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1", "link set eth0 down")
    changes: list[Change] = []
    deadline = time.monotonic() + 5
    while not any(isinstance(change, LinkState) and change.name == "eth0" and not change.up for change in changes[6:]):
        assert time.monotonic() < deadline
        select.select([watcher.monitor], [], [], 0.5)
        changes += watcher.monitor.read()
    assert not [change for change in watcher.start + changes if isinstance(change, RouteState)]
    watcher.monitor.close()


@root
def test_after_an_overrun_the_state_is_read_anew(watcher: Watcher) -> None:
    watcher.ip("link add gone0 type veth peer name gone1", "addr add 192.0.2.2/24 dev gone0", "link set gone0 up")
    watcher.until(AddressState, lambda state: state.address == IPv4Address("192.0.2.2"))
    with namespace.inside(watcher.where), RouteSocket() as route:
        index = {link.name: link.index for link in route.links()}["gone0"]
        for number in range(3000):  # far more than the socket holds
            route.set_properties(index, mtu=1400 + number % 2)
        run("ip", "-n", watcher.where, *"link del gone0".split())
    assert watcher.until(LinkState, lambda link: link.name == "gone0" and link.removed).removed
    assert watcher.until(AddressState, lambda state: state.removed).address == IPv4Address("192.0.2.2")
    assert watcher.monitor.overruns >= 1


def test_a_monitor_that_is_not_open() -> None:
    monitor = LinkMonitor()
    assert monitor.read() == []
    monitor.close()
    with pytest.raises(RuntimeError, match="not open"):
        monitor.fileno()
