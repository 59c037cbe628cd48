"""A terminal and its home agent as users start them, with nothing but UDP between them, and an IPv4 home address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from mobility.client import ControlClient, HostClient, MobilityError
from mobility.net import namespace
from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BROADBAND, WIFI
from sip_test_env.users import OrdinaryUser

from .net.networks import run

pytestmark = [pytest.mark.root, pytest.mark.interop]

PORT = 4000


def amend(path: Path, after: str, lines: str) -> None:
    """Further lines behind the one that begins with ``after``."""
    old = path.read_text().splitlines()
    (at,) = (number for number, line in enumerate(old) if line.startswith(after))
    path.write_text("\n".join([*old[: at + 1], lines, *old[at + 1 :], ""]))


class Laptop:
    """The laptop of an ordinary user, and a program at the correspondent that speaks IPv4."""

    def __init__(self, stack: ExitStack) -> None:
        self.network = stack.enter_context(TestNetwork(f"rnet-{os.getpid()}"))
        user = stack.enter_context(OrdinaryUser())
        self.plan = self.network.plan
        self.laptop = self.plan.namespace("laptop")
        self.nodes = MobilityNodes(self.network, "esp", terminal=Terminal.laptop(user))
        amend(self.nodes.configurations["ha"], "udp = ", f'ipv4_pool = "{self.plan.pool4}"\n')
        amend(self.nodes.configurations["mn"], "home_agent4 = ", 'home_address4 = "request"\n')
        with namespace.inside(self.plan.namespace("ha")), open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")
        self.network.move("hotspot", BROADBAND)
        stack.callback(self.nodes.stop)
        self.nodes.start()
        with namespace.inside(self.plan.namespace("cn")):
            self.peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.peer.bind((str(self.plan.cn4), PORT))
        self.host_os = HostClient(self.nodes.runtime("mn") / "host.sock")

    def status(self, role: str) -> dict[str, Any]:
        async def ask() -> dict[str, object]:
            async with ControlClient(self.nodes.runtime(role) / "control.sock") as control:
                return await control.status()

        return asyncio.run(ask())

    def address4(self, seconds: float = 10.0) -> IPv4Address:
        """The IPv4 home address, once the host OS has it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(MobilityError):
                address = self.host_os.information()["address4"]
                if address is not None:
                    return IPv4Address(str(address))
            time.sleep(0.02)
        raise AssertionError(f"no IPv4 home address in {seconds} s")

    def there_and_back(self, ours: socket.socket, seconds: float) -> float:
        """Seconds until a datagram of a program in the host OS has come to the correspondent and been answered."""
        began = time.monotonic()
        mark = os.urandom(8)
        while time.monotonic() - began < seconds:
            with contextlib.suppress(OSError):
                ours.sendto(mark, (str(self.plan.cn4), PORT))
            if select.select([self.peer], [], [], 0.02)[0]:
                data, sender = self.peer.recvfrom(100)
                self.peer.sendto(data, sender)
            if select.select([ours], [], [], 0.02)[0] and ours.recv(100) == mark:
                return time.monotonic() - began
        raise AssertionError(f"nothing came back in {seconds} s: {self.status('mn')}")

    def links(self) -> dict[str, Any]:
        links: dict[str, Any] = self.status("mn")["links"]
        return links

    def ip(self, arguments: str) -> None:
        run("ip", "-n", self.laptop, *arguments.split())


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    with ExitStack() as stack:
        yield Laptop(stack)


@pytest.fixture
def program(laptop: Laptop) -> Iterator[socket.socket]:
    """A program's socket of IPv4 in the host OS."""
    with laptop.host_os.socket(family=socket.AF_INET, bind=(str(laptop.address4()), 0)) as made:
        yield made


def test_programs_of_ipv4_reach_others_through_the_home_network(laptop: Laptop, program: socket.socket) -> None:
    assert laptop.address4() in laptop.plan.pool4
    laptop.there_and_back(program, 5.0)
    laptop.peer.settimeout(5)
    program.sendto(b"who is this", (str(laptop.plan.cn4), PORT))
    data = b""
    while data != b"who is this":
        data, (sender, _) = laptop.peer.recvfrom(100)
    assert IPv4Address(sender) == laptop.address4()


def test_no_link_is_used_but_udp(laptop: Laptop) -> None:
    assert set(laptop.links()) == {f"{BROADBAND}/udp4"}
    assert set(laptop.status("ha")["links"]) == {"eth0", f"udp/{laptop.plan.home_agent4}"}


def test_a_new_address_of_the_interface_is_followed(laptop: Laptop, program: socket.socket) -> None:
    before = laptop.links()[f"{BROADBAND}/udp4"]["address"]
    cable = laptop.plan.cable(BROADBAND)
    hotspot = laptop.plan.hotspot
    new = hotspot.network[cable.host + 50]
    laptop.ip(f"addr flush dev {BROADBAND}")
    laptop.ip(f"addr add {new}/{hotspot.network.prefixlen} dev {BROADBAND}")
    laptop.ip(f"route add default via {hotspot.router_address} metric {cable.metric}")
    assert laptop.there_and_back(program, 3.0) < 3.0
    address = laptop.links()[f"{BROADBAND}/udp4"]["address"]
    assert address != before
    assert address.startswith(f"{new}:")


def test_a_lost_route_and_its_return(laptop: Laptop, program: socket.socket) -> None:
    hotspot, metric = laptop.plan.hotspot, laptop.plan.cable(BROADBAND).metric
    laptop.ip("route del default")
    deadline = time.monotonic() + 5
    while laptop.links():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    laptop.ip(f"route add default via {hotspot.router_address} metric {metric}")
    assert laptop.there_and_back(program, 3.0) < 3.0


def test_the_better_network_is_taken(laptop: Laptop, program: socket.socket) -> None:
    laptop.network.move("visited-a", WIFI)
    deadline = time.monotonic() + 10
    while laptop.status("mn")["node"]["mobile_node"]["registration"]["state"] != "bound" or not {
        name for name in laptop.links() if name.startswith(WIFI)
    }:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    laptop.there_and_back(program, 3.0)
    laptop.network.unplug(BROADBAND)
    assert laptop.there_and_back(program, 3.0) < 3.0
    assert not {name for name in laptop.links() if name.startswith(BROADBAND)}


def test_keepalives_and_counters_show_no_errors(laptop: Laptop) -> None:
    counters = laptop.status("mn")["counters"]
    assert counters["internal_errors"] == {}
    assert laptop.status("ha")["counters"]["internal_errors"] == {}
