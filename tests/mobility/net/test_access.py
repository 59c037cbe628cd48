"""Which sockets of UDP a terminal has, as the kernel's tables change. The kernel is made up here."""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest

from mobility.net import namespace
from mobility.net.access import Access, AccessSettings, Address, Change, Reach, filters_strictly
from mobility.net.netlink import AddressState, LinkState, RouteState
from mobility.net.udp_socket import UdpSocket

from .networks import run

AGENT4, AGENT6 = IPv4Address("198.51.100.10"), IPv6Address("2001:db8:f::a")
WLAN, WWAN, DOCKER = 3, 4, 5


def link(index: int, name: str, *, up: bool = True, mtu: int = 1500) -> LinkState:
    return LinkState(index, name, bytes(6), mtu, up, ethernet=name.startswith("wlan"))


class Machine:
    """A kernel with its tables, and what it would answer."""

    def __init__(self) -> None:
        self.links = [
            link(1, "lo", mtu=65536),
            link(WLAN, "wlan0"),
            link(WWAN, "wwan0", mtu=1400),
            link(DOCKER, "docker0"),
        ]
        self.addresses: list[AddressState] = []
        self.routes: list[RouteState] = []
        self.opened: list[UdpSocket] = []
        self.fails: OSError | None = None
        self.path_mtu = 65535
        self.has(1, "127.0.0.1/8", universal=False)
        self.has(WLAN, "192.168.0.2/24")
        self.has(WLAN, "2001:db8:a::2/64")
        self.has(WLAN, "fe80::2/64", universal=False)
        self.has(WWAN, "10.7.7.7/32")
        self.has(DOCKER, "172.17.0.1/16")
        self.leads(WLAN, "0.0.0.0/0", 600)
        self.leads(WLAN, "::/0", 1024)
        self.leads(WWAN, "0.0.0.0/0", 700)
        self.leads(DOCKER, "172.17.0.0/16", 0)

    def has(self, index: int, address: str, *, universal: bool = True, deprecated: bool = False) -> None:
        written, _, length = address.partition("/")
        state = AddressState(index, ip_address(written), int(length), universal, deprecated=deprecated)
        self.addresses.append(state)

    def alter(self, address: str, **flags: bool) -> None:
        wanted = ip_address(address)
        self.addresses = [
            replace(state, **flags) if state.address == wanted else state  # type: ignore[arg-type]
            for state in self.addresses
        ]

    def lacks(self, address: str) -> None:
        self.addresses = [state for state in self.addresses if state.address != ip_address(address)]

    def leads(self, index: int, network: str, metric: int) -> None:
        destination = ip_network(network)
        assert isinstance(destination, IPv4Network | IPv6Network)
        self.routes.append(RouteState(index, destination, metric))

    def alter_link(self, name: str, **fields: object) -> None:
        self.links = [replace(one, **fields) if one.name == name else one for one in self.links]  # type: ignore[arg-type]

    def probe(self, interface: str, agent: Address, port: int) -> Reach | None:
        """As a kernel does it: the first address that is not tentative; with IPv4 also where no route leads."""
        assert port == 4191
        index = next(one.index for one in self.links if one.name == interface)
        own = [state for state in self.addresses if state.index == index and state.address.version == agent.version]
        own.sort(key=lambda state: (state.deprecated, not state.universal))
        return Reach(own[0].address, self.path_mtu) if own else None

    def open(self, made: UdpSocket) -> None:
        if self.fails is not None:
            raise self.fails
        self.opened.append(made)


def access(machine: Machine, **fields: object) -> Access:
    """Everything is to be used, but for what ``fields`` of the settings say."""
    settings = replace(AccessSettings((), True, (AGENT4, AGENT6)), **fields)  # type: ignore[arg-type]
    return Access(settings, machine, probe=machine.probe, open_socket=machine.open, strict=lambda _: False)


def seen(changes: list[Change]) -> list[tuple[str, str | None, int]]:
    return [
        (change.link, None, 0) if change.socket is None else (change.link, str(change.socket.local), change.socket.mtu)
        for change in changes
    ]


def closed(changes: list[Change]) -> list[str]:
    return [str(change.former.local) for change in changes if change.former is not None]


def test_all_interfaces_with_a_default_route_by_metric() -> None:
    machine = Machine()
    made = access(machine)
    assert made.order() == ("wlan0", "wwan0")
    assert seen(made.follow()) == [
        ("wlan0/udp4", "192.168.0.2", 1500),
        ("wlan0/udp6", "2001:db8:a::2", 1500),
        ("wwan0/udp4", "10.7.7.7", 1400),
    ]
    assert made.follow() == []
    machine.leads(WWAN, "::/0", 50)
    assert made.order() == ("wwan0", "wlan0")
    assert made.follow() == []  # it has no address of IPv6


def test_named_interfaces_come_first_whether_they_are_there_or_not() -> None:
    machine = Machine()
    made = access(machine, interfaces=("eth7", "wwan0"))
    assert made.order() == ("eth7", "wwan0", "wlan0")
    assert [name for name, _, _ in seen(made.follow())] == ["wwan0/udp4", "wlan0/udp4", "wlan0/udp6"]
    machine.links.append(link(9, "eth7"))
    machine.has(9, "192.0.2.9/24")
    assert made.follow() == []  # no way from there
    machine.leads(9, "198.51.100.0/24", 0)  # no default route, but one that leads to the home agent
    assert seen(made.follow()) == [("eth7/udp4", "192.0.2.9", 1500)]


def test_only_the_named_ones() -> None:
    made = access(Machine(), interfaces=("wwan0",), others=False)
    assert made.order() == ("wwan0",)
    assert [name for name, _, _ in seen(made.follow())] == ["wwan0/udp4"]


def test_loopback_is_none_although_a_default_route_leads_there() -> None:
    machine = Machine()
    machine.leads(1, "0.0.0.0/0", 0)
    machine.has(1, "192.0.2.1/32")
    assert access(machine).order() == ("wlan0", "wwan0")


def test_one_version_of_ip_where_the_home_agent_has_one_and_none_natively() -> None:
    machine = Machine()
    assert {name for name, _, _ in seen(access(machine, agents=(AGENT6,)).follow())} == {"wlan0/udp6"}
    native = access(machine, interfaces=("wlan0",), native=frozenset({"wlan0"}))
    assert {name for name, _, _ in seen(native.follow())} == {"wlan0/udp4", "wwan0/udp4"}


def test_a_lost_route_closes_and_another_opens() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    machine.routes = [route for route in machine.routes if route.index != WLAN]
    gone = made.follow()
    assert seen(gone) == [("wlan0/udp4", None, 0), ("wlan0/udp6", None, 0)]
    assert closed(gone) == ["192.168.0.2", "2001:db8:a::2"]
    assert made.order() == ("wwan0",)
    machine.leads(WLAN, "198.51.100.0/24", 0)
    assert made.follow() == []  # not the home agent's default route: the interface is not one of those to be used
    machine.leads(WLAN, "0.0.0.0/0", 600)
    assert seen(made.follow()) == [("wlan0/udp4", "192.168.0.2", 1500)]


def test_renumbering_replaces_the_socket() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    machine.lacks("192.168.0.2")
    machine.has(WLAN, "192.168.7.9/24")
    changes = made.follow()
    assert seen(changes) == [("wlan0/udp4", "192.168.7.9", 1500)]
    assert closed(changes) == ["192.168.0.2"]
    machine.lacks("192.168.7.9")
    changes = made.follow()
    assert seen(changes) == [("wlan0/udp4", None, 0)]
    assert closed(changes) == ["192.168.7.9"]


def test_an_address_in_use_stays_until_it_is_deprecated_and_another_is_there() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    machine.addresses.insert(0, AddressState(WLAN, IPv6Address("2001:db8:a::1"), 64, True, temporary=True))
    assert made.follow() == []
    machine.alter("2001:db8:a::2", deprecated=True)
    assert seen(made.follow()) == [("wlan0/udp6", "2001:db8:a::1", 1500)]
    machine.alter("2001:db8:a::1", deprecated=True)
    assert made.follow() == []
    machine.lacks("2001:db8:a::1")
    assert seen(made.follow()) == [("wlan0/udp6", "2001:db8:a::2", 1500)]


@pytest.mark.parametrize("flag", ["tentative", "dad_failed"])
def test_an_address_in_doubt_is_not_used(flag: str) -> None:
    machine = Machine()
    machine.alter("2001:db8:a::2", **{flag: True})
    made = access(machine)
    assert "wlan0/udp6" not in {name for name, _, _ in seen(made.follow())}
    machine.alter("2001:db8:a::2", **{flag: False})
    assert seen(made.follow()) == [("wlan0/udp6", "2001:db8:a::2", 1500)]


def test_link_local_addresses_are_of_no_use() -> None:
    machine = Machine()
    machine.lacks("2001:db8:a::2")
    machine.lacks("192.168.0.2")
    machine.has(WLAN, "169.254.3.4/16", universal=False)
    assert {name for name, _, _ in seen(access(machine).follow())} == {"wwan0/udp4"}


def test_another_mtu_of_link_or_path_is_told_and_the_socket_stays() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    count = len(machine.opened)
    machine.alter_link("wlan0", mtu=1300)
    changes = made.follow()
    assert seen(changes) == [("wlan0/udp4", "192.168.0.2", 1300), ("wlan0/udp6", "2001:db8:a::2", 1300)]
    assert closed(changes) == []
    machine.path_mtu = 1280
    assert [mtu for _, _, mtu in seen(made.follow())] == [1280, 1280, 1280]
    assert len(machine.opened) == count


def test_an_interface_that_goes_down_or_comes_back_as_another() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    machine.alter_link("wwan0", up=False)
    assert seen(made.follow()) == [("wwan0/udp4", None, 0)]
    machine.alter_link("wwan0", up=True)
    assert seen(made.follow()) == [("wwan0/udp4", "10.7.7.7", 1400)]
    # Unplugged and plugged in again between two looks: the name is the same, the kernel's interface is not.
    machine.alter_link("wwan0", index=77)
    machine.addresses = [replace(state, index=77) if state.index == WWAN else state for state in machine.addresses]
    machine.routes = [replace(route, index=77) if route.index == WWAN else route for route in machine.routes]
    changes = made.follow()
    assert seen(changes) == [("wwan0/udp4", "10.7.7.7", 1400)]
    assert closed(changes) == ["10.7.7.7"]


def test_sockets_of_an_interface_that_lost_its_carrier_are_given_up_and_opened_anew() -> None:
    machine = Machine()
    made = access(machine)
    made.follow()
    assert seen(made.drop("wlan0")) == [("wlan0/udp4", None, 0), ("wlan0/udp6", None, 0)]
    assert made.drop("wlan0") == []
    assert [name for name, _, _ in seen(made.follow())] == ["wlan0/udp4", "wlan0/udp6"]


def test_a_socket_that_cannot_be_opened_is_tried_again_at_the_next_change() -> None:
    machine = Machine()
    machine.fails = OSError(errno.EADDRNOTAVAIL, "gone")
    made = access(machine)
    assert made.follow() == []
    machine.fails = None
    assert len(made.follow()) == 3
    machine.lacks("10.7.7.7")
    machine.has(WWAN, "10.7.7.8/32")
    machine.fails = OSError(errno.EADDRNOTAVAIL, "gone")
    changes = made.follow()
    assert (seen(changes), closed(changes)) == ([("wwan0/udp4", None, 0)], ["10.7.7.7"])
    machine.fails = None
    assert seen(made.follow()) == [("wwan0/udp4", "10.7.7.8", 1400)]


def test_strict_filtering_is_warned_of_where_it_matters(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()

    def made(settings: AccessSettings) -> Access:
        return Access(
            settings,
            machine,
            probe=machine.probe,
            open_socket=machine.open,
            strict=lambda interface: interface == "wwan0",
        )

    made(AccessSettings(("wwan0",), False, (AGENT4,))).follow()
    assert caplog.text == ""
    both = made(AccessSettings((), True, (AGENT4, AGENT6)))
    both.follow()
    both.drop("wwan0")
    both.follow()
    assert caplog.text.count("what comes by wwan0 is dropped") == 1
    assert "wlan0" not in caplog.text


@pytest.mark.root
def test_the_kernel_says_whether_it_filters_strictly() -> None:
    name = f"rnet-{os.getpid()}-{secrets.token_hex(2)}"
    run("ip", "netns", "add", name)
    try:
        with namespace.inside(name):
            for everywhere, here, strict in ((0, 0, False), (1, 0, True), (0, 1, True), (2, 1, False), (1, 2, False)):
                for path, value in (("all", everywhere), ("lo", here)):
                    Path(f"/proc/sys/net/ipv4/conf/{path}/rp_filter").write_text(str(value))
                assert filters_strictly("lo") is strict
            assert not filters_strictly("eth7")
    finally:
        run("ip", "netns", "del", name)


def test_a_kernel_that_sees_no_way_is_believed() -> None:
    machine = Machine()
    made = Access(AccessSettings((), True, (AGENT4, AGENT6)), machine, probe=lambda *_: None, open_socket=machine.open)
    assert made.follow() == []
