"""The network in memory: impairments, determinism, forwarding, movement."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from itertools import pairwise

import pytest

from mobility.discards import Reason
from mobility.host import AddressLost, AddressReady, PathMtuChanged
from mobility.net.memory import EndHost, RouterInterface, SimRouter, World
from mobility.outputs import Output
from mobility.wire import ip6

MN_MAC = bytes.fromhex("020000000001")
CN_MAC = bytes.fromhex("020000000002")
CN = IPv6Address("2001:db8:c::2")


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 1, number))


def network(seed: int = 1) -> World:
    """Visited links a and b behind their routers, a core, and a correspondent behind a third router."""
    world = World(seed)
    for name in ("visited-a", "visited-b", "core", "cn-link"):
        world.segment(name, delay=0.001)
    core = [IPv6Address(f"2001:db8:ffff::{number}") for number in (1, 2, 3)]
    nets = [IPv6Network(f"2001:db8:{letter}::/64") for letter in ("a", "b", "c")]
    for number, (name, link) in enumerate((("ra", "visited-a"), ("rb", "visited-b"), ("rc", "cn-link")), start=1):
        own = nets[number - 1]
        edge = RouterInterface("edge", mac(number), IPv6Interface(f"{own.network_address + 1}/64"), (own,))
        inside = RouterInterface(
            "core", mac(16 + number), IPv6Interface(f"{core[number - 1]}/64"), lifetime=0, interval=0
        )
        routes = {nets[i]: core[i] for i in range(3) if i != number - 1}
        world.add(name, SimRouter([edge, inside], world.random_bytes(name), routes))
        world.attach(name, "edge", link, edge.mac)
        world.attach(name, "core", "core", inside.mac)
    world.add("mn", EndHost("wlan0", MN_MAC, world.random_bytes("mn")))
    world.add("cn", EndHost("eth0", CN_MAC, world.random_bytes("cn"), addresses=[IPv6Interface(f"{CN}/64")]))
    world.attach("cn", "eth0", "cn-link", CN_MAC)
    world.run(until=2.0)
    return world


def mobile(world: World) -> EndHost:
    node = world.stations["mn"].node
    assert isinstance(node, EndHost)
    return node


def ping(world: World, sequence: int, size: int = 56) -> None:
    world.stations["mn"].carry_out(mobile(world).ping(CN, sequence, world.now, size))


def test_an_address_is_ready_and_a_ping_is_answered_within_milliseconds_of_the_link() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    assert world.run_until(lambda: bool(world.stations["mn"].events_of(AddressReady)), limit=3.0)
    assert world.now - 2.0 < 0.02  # solicitation, resolution of us by the router, advertisement
    ping(world, 1)
    world.run(until=world.now + 0.1)
    assert [echo.sequence for _, echo in mobile(world).replies] == [1]


def test_moving_replaces_the_address_and_coming_back_needs_no_advertisement() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=3.0)
    first = world.stations["mn"].events_of(AddressReady)[-1][1].address
    world.move("mn", "wlan0", "visited-b", gap=0.05)
    world.run(until=4.0)
    second = world.stations["mn"].events_of(AddressReady)[-1][1].address
    assert first in IPv6Network("2001:db8:a::/64")
    assert second in IPv6Network("2001:db8:b::/64")
    assert [event.address for _, event in world.stations["mn"].events_of(AddressLost)] == [first]
    # Back: the router's answer to the unicast probe is enough, its advertisements are lost.
    router = world.stations["ra"].node
    assert isinstance(router, SimRouter)
    router.advertise = lambda *_args, **_keys: []  # type: ignore[method-assign]
    world.move("mn", "wlan0", "visited-a")
    start = world.now
    assert world.run_until(lambda: len(world.stations["mn"].events_of(AddressReady)) >= 3, limit=5.0)
    assert world.stations["mn"].events_of(AddressReady)[-1][1].address == first
    assert world.now - start < 0.01
    ping(world, 7)
    world.run(until=world.now + 0.2)
    assert mobile(world).replies[-1][1].sequence == 7


def test_moving_without_a_link_event_is_noticed_by_the_new_router_and_the_silence_of_the_old() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=3.0)
    old = world.stations["mn"].events_of(AddressReady)[-1][1].address
    world.move("mn", "wlan0", "visited-b", silent=True)
    rb = world.stations["rb"]
    assert isinstance(rb.node, SimRouter)
    rb.carry_out(rb.node.advertise("edge", world.now))
    world.run(until=4.0)
    new = world.stations["mn"].events_of(AddressReady)[-1][1].address
    assert new in IPv6Network("2001:db8:b::/64")
    assert [event.address for _, event in world.stations["mn"].events_of(AddressLost)] == [old]
    ping(world, 1)
    world.run(until=4.5)
    assert len(mobile(world).replies) == 1


def test_two_routers_on_one_link_keep_both_addresses() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=3.0)
    extra = RouterInterface(
        "edge", mac(40), IPv6Interface("2001:db8:d::1/64"), (IPv6Network("2001:db8:d::/64"),), interval=2.0
    )
    world.add("rd", SimRouter([extra], world.random_bytes("rd")))
    world.attach("rd", "edge", "visited-a", extra.mac)
    world.run(until=100.0)
    station = world.stations["mn"]
    assert station.events_of(AddressLost) == []
    assert len(station.events_of(AddressReady)) == 2
    probes = [f for f in world.segments["visited-a"].frames if f.source == MN_MAC and f.packet[40:41] == b"\x87"]
    assert len(probes) < 20  # asked when the router was new, not at each of its advertisements


def test_packet_too_big_lowers_the_path_mtu_and_the_next_ping_comes_in_fragments() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    for name in ("ra", "rc"):
        node = world.stations[name].node
        assert isinstance(node, SimRouter)
        node.interfaces["core"].mtu = 1300
    world.run(until=3.0)
    ping(world, 1, 1400)
    world.run(until=3.5)
    assert mobile(world).replies == []
    changed = [event for _, event in world.stations["mn"].events_of(PathMtuChanged)]
    assert [(event.destination, event.mtu) for event in changed] == [(CN, 1300)]
    ping(world, 2, 1400)
    world.run(until=4.0)
    ping(world, 3, 1400)  # the first answer told the correspondent of its own path
    world.run(until=4.5)
    assert mobile(world).replies[-1][1].sequence == 3
    assert len(mobile(world).replies[-1][1].data) == 1400


def test_hop_limit_and_missing_routes_are_reported_to_the_sender() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=3.0)
    station = world.stations["mn"]
    own = station.events_of(AddressReady)[-1][1].address
    station.send(ip6.packet(own, CN, ip6.UDP, bytes(20), hop_limit=1))
    station.send(ip6.packet(own, IPv6Address("2001:db8:dead::1"), ip6.UDP, bytes(20)))
    world.run(until=3.5)
    assert [packet[40] for _, packet in station.delivered] == [3, 1]
    reasons = [discarded.reason for _, discarded in world.stations["ra"].discards]
    assert Reason.HOP_LIMIT in reasons
    assert Reason.NO_ROUTE in reasons


def test_two_runs_with_one_seed_are_alike_and_another_seed_differs() -> None:
    def run(seed: int) -> list[tuple[float, bytes]]:
        world = network(seed)
        link = world.segments["visited-a"]
        link.loss, link.jitter, link.duplication, link.reordering = 0.2, 0.003, 0.1, 0.1
        world.attach("mn", "wlan0", link, MN_MAC)
        for number in range(50):
            world.at(3.0 + number * 0.02, partial(ping, world, number))
        world.run(until=6.0)
        return [(frame.time, frame.packet) for frame in world.frames]

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("field", ["loss", "duplication", "reordering"])
def test_impairments_happen_as_often_as_they_should(field: str) -> None:
    world = World(7)
    link = world.segment("wire", delay=0.001)
    setattr(link, field, 0.25)
    received: list[bytes] = []

    class Sink(EndHost):
        def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
            received.append(packet)
            return []

    world.add("sink", Sink("l", CN_MAC, world.random_bytes("sink")))
    world.add("source", Sink("l", MN_MAC, world.random_bytes("source")))
    world.attach("sink", "l", link, CN_MAC)
    port = world.attach("source", "l", link, MN_MAC)
    world.run(until=5.0)
    received.clear()
    sent = [number.to_bytes(4) for number in range(1000)]
    for number, packet in enumerate(sent):
        world.at(5.0 + number * 0.001, partial(link.transmit, port, packet, CN_MAC))
    world.run(until=6.9)
    if field == "loss":
        assert 680 < len(received) < 820
        assert received == sorted(received)
    elif field == "duplication":
        assert 1180 < len(received) < 1320
        assert sorted(set(received)) == sent
    else:
        assert sorted(received) == sent
        overtaken = sum(a > b for a, b in pairwise(received))
        assert 100 < overtaken < 400


def test_jitter_alone_does_not_reorder_and_unplugged_ports_get_nothing() -> None:
    world = network()
    world.segments["visited-a"].jitter = 0.05
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=4.0)
    ping(world, 0)  # resolves every neighbour on the way
    world.run(until=4.5)
    for number in range(1, 20):
        ping(world, number)
    world.run(until=4.9)
    assert [echo.sequence for _, echo in mobile(world).replies] == list(range(20))
    ping(world, 99)
    world.detach("mn", "wlan0")
    lost = world.segments["visited-a"].lost
    world.run(until=5.5)
    assert [echo.sequence for _, echo in mobile(world).replies] == list(range(20))
    assert world.segments["visited-a"].lost >= lost


def test_time_runs_to_a_condition_or_to_its_limit_and_actions_repeat() -> None:
    world = World()
    ticks: list[float] = []
    world.every(0.5, lambda: ticks.append(world.now), until=2.0)
    assert world.run_until(lambda: len(ticks) == 2, limit=10.0)
    assert world.now == 0.5
    assert not world.run_until(lambda: len(ticks) == 9, limit=10.0)
    assert ticks == [0.0, 0.5, 1.0, 1.5]
    assert world.now == 10.0
    world.after(1.0, lambda: ticks.append(world.now))
    world.run(until=11.0)
    assert ticks[-1] == 11.0


def test_a_node_that_dies_is_silent_and_frames_longer_than_the_mtu_vanish() -> None:
    world = network()
    world.attach("mn", "wlan0", "visited-a", MN_MAC)
    world.run(until=3.0)
    world.segments["visited-a"].mtu = 1300
    lost = world.segments["visited-a"].lost
    ping(world, 1, 1400)
    world.run(until=3.5)
    assert world.segments["visited-a"].lost == lost + 1
    world.remove("cn")
    ping(world, 2)
    world.run(until=8.0)
    assert mobile(world).replies == []
    reasons = [discarded.reason for _, discarded in world.stations["rc"].discards]
    assert Reason.ADDRESS_UNREACHABLE in reasons


def test_misuse_is_told() -> None:
    world = network()
    with pytest.raises(ValueError, match="another name"):
        world.segment("core")
    with pytest.raises(ValueError, match="another name"):
        world.add("mn", EndHost("x", MN_MAC, world.random_bytes("x")))
    with pytest.raises(ValueError, match="detach it first"):
        world.attach("cn", "eth0", "core", CN_MAC)
    with pytest.raises(ValueError, match="is over"):
        world.at(1.0, lambda: None)


def test_frames_are_captured_with_their_addresses() -> None:
    world = network()
    world.segments["core"].capturing = False
    world.run(until=50.0)
    assert [frame for frame in world.segments["core"].frames if frame.time > 2.0] == []
    frames = world.segments["cn-link"].frames
    assert frames[-1].time > 2.0  # the router advertises every now and then
    assert frames
    assert {frame.source for frame in frames} == {CN_MAC, mac(3)}
    assert [frame.time for frame in world.frames] == sorted(frame.time for frame in world.frames)
    assert replace(frames[0], time=0.0).segment == "cn-link"
