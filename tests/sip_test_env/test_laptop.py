"""The laptop's networks: Wi-Fi and hotspot, a NAT that forgets, captive networks, bad wires."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.faults import Access
from sip_test_env.impairment import Impairment
from sip_test_env.network import TestNetwork

pytestmark = [pytest.mark.root, pytest.mark.interop]

PORT = 4191


def bound(network: TestNetwork, node: str, address: object) -> socket.socket:
    """A UDP socket of a node's kernel."""

    def run() -> socket.socket:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.bind((str(address), 0 if node == "laptop" else PORT))
        opened.settimeout(0.3)
        return opened

    return namespace.run_in(network.plan.namespace(node), run)


def addresses(network: TestNetwork, interface: str) -> list[str]:
    """Global addresses of an interface of the laptop."""
    shown = json.loads(network.run("laptop", ["ip", "-j", "addr", "show", "dev", interface]).stdout)
    return [item["local"] for item in shown[0]["addr_info"] if item["scope"] == "global"]


def await_address(network: TestNetwork, interface: str) -> str:
    deadline = time.monotonic() + 5
    while not (found := addresses(network, interface)):
        assert time.monotonic() < deadline, f"{interface} got no address"
        time.sleep(0.01)
    return found[0]


@pytest.fixture
def laptop(network: TestNetwork) -> Iterator[TestNetwork]:
    """The network with the laptop plugged into nothing before and after."""
    yield network
    for interface in ("wlan0", "wwan0"):
        network.unplug(interface)
    for link in network.plan.links:
        network.set_access(link.name, Access.OPEN)


def ask(asker: socket.socket, server: socket.socket, to: object) -> tuple[str, int] | None:
    """Whom the server sees when the laptop sends; None: nothing arrives. The answer has to come back."""
    word = str(time.monotonic_ns()).encode()
    asker.sendto(word, (str(to), PORT))
    try:
        data, seen = server.recvfrom(100)
    except TimeoutError:
        return None
    assert data == word
    server.sendto(word, seen)
    assert asker.recv(100) == word
    return seen[0], seen[1]


def test_wifi_gives_ipv6_addresses_that_go_with_the_network(laptop: TestNetwork) -> None:
    plan = laptop.plan
    assert laptop.location_of("wlan0") is None
    for link in (plan.visited_a, plan.visited_b):
        laptop.move(link.name, "wlan0")
        assert laptop.location_of("wlan0") == link.name
        address = await_address(laptop, "wlan0")
        assert addresses(laptop, "wlan0") == [address], "those of the network before are gone"
        with closing(bound(laptop, "laptop", address)) as asker, closing(bound(laptop, "proxy", plan.proxy)) as server:
            assert ask(asker, server, plan.proxy) == (address, asker.getsockname()[1])
    laptop.unplug("wlan0")
    assert addresses(laptop, "wlan0") == []
    assert laptop.location == "visited-a", "the other terminal's cable is its own"


def test_the_hotspot_hides_the_laptop_behind_a_nat_that_can_forget(laptop: TestNetwork) -> None:
    plan = laptop.plan
    laptop.move("hotspot", "wwan0")
    assert await_address(laptop, "wwan0") == "192.168.77.101"
    with (
        closing(bound(laptop, "laptop", "192.168.77.101")) as asker,
        closing(bound(laptop, "ha", plan.home_agent4)) as server,
    ):
        seen = ask(asker, server, plan.home_agent4)
        assert seen is not None
        assert seen[0] == str(plan.hotspot.backbone[2])
        assert ask(asker, server, plan.home_agent4) == seen, "a mapping stays"
        laptop.nat_rebind()
        server.sendto(b"late", seen)
        with pytest.raises(TimeoutError):
            asker.recv(100)
        now = ask(asker, server, plan.home_agent4)
        assert now is not None
        assert now[0] == seen[0]
        assert now[1] != seen[1]


@pytest.mark.parametrize("access", [Access.CAPTIVE, Access.NO_UDP])
def test_a_router_that_lets_nothing_through_is_there_all_the_same(laptop: TestNetwork, access: Access) -> None:
    plan = laptop.plan
    laptop.set_access("visited-a", access)
    laptop.move("visited-a", "wlan0")
    address = await_address(laptop, "wlan0")
    with closing(bound(laptop, "laptop", address)) as asker, closing(bound(laptop, "proxy", plan.proxy)) as server:
        assert ask(asker, server, plan.proxy) is None
        laptop.set_access("visited-a", Access.OPEN)
        assert ask(asker, server, plan.proxy) is not None


def test_only_udp_is_blocked_where_only_udp_is_blocked(laptop: TestNetwork) -> None:
    laptop.set_access("hotspot", Access.NO_UDP)
    laptop.move("hotspot", "wwan0")
    await_address(laptop, "wwan0")

    def connect() -> None:
        socket.create_connection((str(laptop.plan.proxy4), laptop.plan.sip_port), timeout=1).close()

    namespace.run_in(laptop.plan.namespace("laptop"), connect)


def test_a_loose_contact(laptop: TestNetwork) -> None:
    with pytest.raises(EnvironmentFailure, match="not plugged in"):
        laptop.flap("wlan0")
    laptop.move("visited-a", "wlan0")
    laptop.flap("wlan0", times=3, out=0.01, back=0.01)
    assert laptop.location_of("wlan0") == "visited-a"
    await_address(laptop, "wlan0")


def test_unknown_links_and_cables_are_answered_with_the_known_ones(laptop: TestNetwork) -> None:
    with pytest.raises(ValueError, match="hotspot"):
        laptop.move("cafe", "wlan0")
    with pytest.raises(ValueError, match="wwan0"):
        laptop.move("hotspot", "wlan1")


def test_the_home_agents_wire_can_be_made_slow_and_quick_again() -> None:
    with TestNetwork("test-wire") as network:
        plan = network.plan
        with (
            closing(bound(network, "ha", plan.home_agent4)) as server,
            closing(bound(network, "proxy", plan.proxy4)) as asker,
        ):
            ask(asker, server, plan.home_agent4)
            trips = []
            for delay in (10.0, 40.0, 0.0):
                network.impair("ha", Impairment(delay_ms=delay))
                ask(asker, server, plan.home_agent4)  # neighbours find each other
                begin = time.monotonic()
                assert ask(asker, server, plan.home_agent4) == (str(plan.proxy4), PORT)
                trips.append((time.monotonic() - begin) * 1000)
            assert 20 <= trips[0] < 30
            assert 80 <= trips[1] < 90
            assert trips[2] < 10
            forth, back = network.impaired("ha")
            assert forth["frames"] >= 3
            assert back["frames"] >= 3
