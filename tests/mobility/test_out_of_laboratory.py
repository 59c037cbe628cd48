"""UDP through NAT, make before break, networks that pass nothing: terminal and home agent in simulated time."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address

import pytest

from mobility.agent import HomeAgentNode
from mobility.links import MOBILITY_PORT, LinkSettings, endpoint, mapped
from mobility.mipv6.movement import HandoverAbandoned, HandoverFinished, PathDead
from mobility.mipv6.place_binding import HomeAddress4Assigned, NatFound
from mobility.mipv6.registration import BindingRequested
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Internet
from mobility.wire import ip4
from tests.mobility.whole import HA4, POOL4, Network

FORMS = list(TunnelForm)


def ipv4(source: IPv4Address, destination: IPv4Address, body: bytes) -> bytes:
    """An IPv4 packet with a protocol for experiments."""
    size = 20 + len(body)
    header = b"\x45\0%b\0\0\0\0\x40\xfd\0\0%b%b" % (size.to_bytes(2), source.packed, destination.packed)
    return header[:10] + ip4.checksum(header).to_bytes(2) + header[12:] + body


def started(form: TunnelForm = TunnelForm.ESP, **options: int) -> Network:
    network = Network(form, **options)  # type: ignore[arg-type]
    network.start_agent()
    network.run(1)
    return network


def link_of(network: Network) -> str:
    present = network.terminal.mobile_node.present
    return "" if present is None else present.link


def handovers(network: Network) -> list[HandoverFinished]:
    return [event for _, event in network.world.stations["mn"].events_of(HandoverFinished)]


def nothing_lost(network: Network) -> None:
    for traffic in (network.to_mn, network.to_cn):
        assert traffic.sent
        assert traffic.lost() == []
        assert traffic.repeated == 0


@pytest.mark.parametrize("form", FORMS)
def test_through_nat(form: TunnelForm) -> None:
    network = started(form)
    network.join(network.hotspot)
    network.run(1)
    assert link_of(network) == "wlan1/udp4"
    network.talk(2)
    network.run(3)
    nothing_lost(network)
    assert [event.link for _, event in network.world.stations["mn"].events_of(NatFound)] == ["wlan1/udp4"]


@pytest.mark.parametrize("form", FORMS)
def test_through_udp_over_ipv6_without_nat(form: TunnelForm) -> None:
    network = started(form)
    network.join(network.cafe)
    network.run(1)
    assert link_of(network) == "wlan1/udp6"
    network.talk(2)
    network.run(3)
    nothing_lost(network)
    assert network.terminal.mobile_node.nat is None


@pytest.mark.parametrize("form", FORMS)
def test_make_before_break_between_all_kinds_of_links(form: TunnelForm) -> None:
    network = started(form)
    network.join(network.hotspot)
    network.run(1)
    network.talk(20)
    for _ in range(2):
        network.plug(network.a)
        network.run(5)
        assert link_of(network) == "wlan0"
        network.world.stations["mn"].carry_out(network.terminal.command("move wlan1", network.world.now))
        network.run(2)
        assert link_of(network) == "wlan1/udp4"
        network.world.detach("mn", "wlan0")
        network.world.stations["mn"].carry_out(network.terminal.command("move wlan0", network.world.now))
        network.run(2)
    network.run(6)
    nothing_lost(network)
    moves = handovers(network)
    assert len(moves) == 4
    assert all(move.make_before_break for move in moves)
    assert len(network.agent.engine.cache.bindings()) == 1


def test_the_home_agent_sends_on_both_ways_for_a_while() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(4)
    network.run(1)
    network.plug(network.a)
    network.run(5)
    nothing_lost(network)
    assert network.terminal.counters["duplicates-removed"] > 10
    assert "replayed" not in network.discards("mn")


def test_lost_link_while_another_is_there() -> None:
    network = started()
    network.join(network.hotspot)
    network.plug(network.a)
    network.run(3)
    assert link_of(network) == "wlan0"
    network.talk(4)
    network.run(1)
    network.world.detach("mn", "wlan0")
    network.run(5)
    assert link_of(network) == "wlan1/udp4"
    nothing_lost(network)


def test_old_link_is_lost_while_the_new_one_is_being_registered() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(4)
    network.run(1)
    network.plug(network.a)
    updates = network.world.stations["mn"].events_of(BindingRequested)
    assert network.world.run_until(
        lambda: len(network.world.stations["mn"].events_of(BindingRequested)) > len(updates), limit=5
    )
    network.part(network.hotspot)
    network.run(5)
    assert link_of(network) == "wlan0"
    nothing_lost(network)


def test_captive_network_is_tried_and_not_used() -> None:
    network = started()
    network.join(network.hotspot, "wlan1")
    network.run(1)
    network.talk(10)
    network.cafe.blocked = True
    network.join(network.cafe, "wlan0")  # preferred, and passes nothing
    network.run(12)
    assert link_of(network) == "wlan1/udp4"
    nothing_lost(network)
    station = network.world.stations["mn"]
    assert station.events_of(PathDead)
    assert station.events_of(HandoverAbandoned)
    network.cafe.blocked = False  # the user has logged in
    network.talk(30)
    network.run(32)
    assert link_of(network) == "wlan0/udp6"
    nothing_lost(network)


def test_captive_network_at_the_start() -> None:
    network = started()
    network.cafe.blocked = True
    network.join(network.cafe, "wlan0")
    network.join(network.hotspot, "wlan1")
    network.run(6)
    assert link_of(network) == "wlan1/udp4"
    assert network.terminal.forwarding.tunnel is not None


@pytest.mark.parametrize("kind", ["udp", "native"])
def test_network_that_stops_passing_anything_in_mid_call(kind: str) -> None:
    network = started()
    first: Internet | None = network.cafe if kind == "udp" else None
    if first is not None:
        network.join(first, "wlan0")
    else:
        network.plug(network.a)
    network.join(network.hotspot, "wlan1")
    network.run(3)
    assert link_of(network).startswith("wlan0")
    network.talk(6)
    network.run(1)
    if first is not None:
        first.blocked = True
    else:
        network.a.loss = 1.0
    network.run(3)
    assert link_of(network) == "wlan1/udp4"
    network.run(5)
    for traffic in (network.to_mn, network.to_cn):
        assert traffic.repeated == 0
        assert len(traffic.lost()) < 25  # half a second: noticed after so long, and the last second is sent again


def test_nat_rebinding_in_mid_call() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(4)
    network.run(2)
    network.hotspot.rebind()
    network.run(4)
    assert network.to_cn.lost() == []
    assert len(network.to_mn.lost()) <= 3  # under way to the old port
    assert network.to_mn.repeated == network.to_cn.repeated == 0


def test_keepalive_keeps_a_mapping_and_finds_a_new_one() -> None:
    network = started()
    network.hotspot.timeout = 30.0
    network.join(network.hotspot)
    network.run(200)
    network.talk(1)
    network.run(2)
    nothing_lost(network)
    network.hotspot.rebind()
    network.run(25)  # nothing is sent but keepalives
    cn = network.world.stations["cn"]
    assert cn is not None
    network.talk(1)
    network.run(2)
    nothing_lost(network)


def test_all_networks_gone_and_back() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.part(network.hotspot)
    network.run(30)
    assert network.terminal.mobile_node.present is None
    network.join(network.hotspot)
    network.run(2)
    network.talk(1)
    network.run(2)
    nothing_lost(network)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("kind", ["native", "udp"])
def test_machine_that_was_asleep(kind: str, elsewhere: bool) -> None:
    """Its binding is over, and perhaps it woke up in another network."""
    network = started(lifetime=60)
    if kind == "udp":
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(2)
    station = network.world.stations["mn"]
    network.agent.engine.handle_timer(network.world.now + 100)  # the home agent was awake
    if elsewhere and kind == "native":
        network.world.move("mn", "wlan0", network.b, silent=True)
    elif elsewhere:
        network.hotspot.rebind()
    station.carry_out(network.terminal.resumed(network.world.now))
    network.run(2)
    network.talk(2)
    network.run(3)
    nothing_lost(network)


def test_flapping_link_is_not_followed() -> None:
    network = started()
    network.join(network.hotspot, "wlan1")
    network.run(1)
    network.talk(40)
    for _ in range(20):
        network.join(network.cafe, "wlan0")
        network.run(0.8)
        network.part(network.cafe, "wlan0")
        network.run(0.8)
    network.run(10)
    assert len(handovers(network)) <= 4
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert network.to_mn.lost() == network.to_cn.lost() == []


def test_home_agent_is_restarted_in_mid_call_through_nat() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(6)
    network.run(1)
    network.restart_agent()
    network.run(6)
    assert len(network.to_mn.lost()) < 60
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert network.to_cn.received[max(network.to_cn.sent)]


@pytest.mark.parametrize("kind", ["native", "udp"])
def test_restarted_home_agent_with_its_bindings_is_not_noticed(kind: str) -> None:
    network = started()
    if kind == "udp":
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(2)
    network.talk(4)
    network.run(1)
    updates = len(network.world.stations["mn"].events_of(BindingRequested))
    died = network.world.now
    network.restart_agent(gap=0.2, restored=True)
    network.run(5)
    assert len(network.world.stations["mn"].events_of(BindingRequested)) == updates
    for traffic in (network.to_mn, network.to_cn):
        assert traffic.repeated == 0
        assert {round(traffic.sent[number] - died, 1) for number in traffic.lost()} <= {-0.0, 0.1, 0.2}


@pytest.mark.parametrize("form", FORMS)
def test_ipv4_home_address_wherever_the_terminal_is(form: TunnelForm) -> None:
    network = Network(form, home_address4=IPv4Address("0.0.0.0"))
    network.start_agent()
    network.run(1)
    server = IPv4Address("192.0.2.80")
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    network.plug(network.a)
    network.run(2)
    ((_, assigned),) = mn.events_of(HomeAddress4Assigned)
    assert assigned.address in POOL4
    for place in ("native", "hotspot"):
        if place == "hotspot":
            network.world.detach("mn", "wlan0")
            network.join(network.hotspot)
            network.run(2)
        there, back = ipv4(assigned.address, server, b"there"), ipv4(server, assigned.address, b"back")
        mn.send(there)
        network.world.run(network.world.now + 0.5)
        assert [packet[20:] for _, packet in ha.delivered] == [b"there"]
        ha.send(back)
        network.world.run(network.world.now + 0.5)
        assert [packet[20:] for _, packet in mn.delivered] == [b"back"]
        ha.delivered.clear()
        mn.delivered.clear()
        mn.send(ipv4(IPv4Address("10.20.0.99"), server, b"not mine"))
        network.world.run(network.world.now + 0.5)
        assert ha.delivered == []
    assert len(mn.events_of(HomeAddress4Assigned)) == 1
    assert network.discards("mn")["source-not-host-address"] == 2


def test_strangers_cannot_move_a_binding_that_goes_through_nat() -> None:
    """Neither what they make up, nor what they copied from the way, sent from an endpoint of their own."""
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(1)
    network.run(2)
    (binding,) = network.agent.engine.cache.bindings()
    station, link = network.world.stations["ha"], f"udp/{HA4}"
    stranger = endpoint(IPv4Address("203.0.113.66"), 4191)
    copied = [each.payload for each in network.internet.datagrams if each.destination[:16] == mapped(HA4).packed]
    assert len(copied) > 50
    for payload in (*copied, b"", b"\xff", b"\x60" + bytes(60), b"\x45" + bytes(40), bytes(100), copied[-1][:-1]):
        station.receive(link, payload, stranger)
    network.run(1)
    assert network.agent.engine.cache.bindings() == [binding]
    assert network.discards("ha")["replayed"] >= 50
    mn = network.world.stations["mn"]
    before = network.terminal.receiving.delivered
    for payload in [each.payload for each in network.internet.datagrams][-100:]:
        mn.receive("wlan1/udp4", payload, stranger)
    assert network.terminal.receiving.delivered == before


def test_standby_takes_over_in_mid_call() -> None:
    network = started()
    network.join(network.hotspot)
    network.run(1)
    network.talk(4)
    network.run(1)
    records = network.agent.bindings(0.0)
    mac = bytes.fromhex("02000000110b")
    settings = dataclasses.replace(network.agent.settings, link=LinkSettings("home0", mac), standby=True)
    standby = HomeAgentNode(settings, network.world.random_bytes("standby"))
    network.world.add("standby", standby)
    network.world.attach("standby", "home0", network.home, mac)
    network.run(0.5)
    died = network.world.now
    network.world.remove("ha")
    network.run(0.3)
    other = network.world.stations["standby"]
    network.world.attach_udp("standby", f"udp/{HA4}", network.internet, HA4, MOBILITY_PORT)
    other.carry_out(standby.restore(records, 0.0, network.world.now))
    other.carry_out(standby.activate(network.world.now))
    updates = len(network.world.stations["mn"].events_of(BindingRequested))
    network.run(4)
    assert len(network.world.stations["mn"].events_of(BindingRequested)) == updates
    for traffic in (network.to_mn, network.to_cn):
        assert traffic.repeated == 0
        assert {round(traffic.sent[number] - died, 1) for number in traffic.lost()} <= {-0.0, 0.1, 0.2, 0.3}


@pytest.mark.parametrize("seed", [1, 4, 8])
def test_duplicated_reordered_and_delayed_packets_at_the_handover(seed: int) -> None:
    """Nothing is repeated, and what was not overtaken is not lost: each end tells the highest number it had received,
    so a packet that a later one overtook is not sent again if the place is lost before it arrives."""
    network, overtaking, moved = started(seed=seed), 0.03, []
    for carrier in (network.internet, network.a, network.core):
        carrier.duplication = 0.2
        carrier.reordering = 0.2
        carrier.reordering_delay = overtaking
    network.join(network.hotspot)
    network.run(1)
    network.talk(10)
    for _ in range(3):
        network.plug(network.a)
        network.run(2)
        moved.append(network.world.now)
        network.world.detach("mn", "wlan0")
        network.run(1.5)
    network.run(4)
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    longest = 3 * overtaking + 0.03  # three carriers may delay it, and the way itself takes a while
    for traffic in (network.to_mn, network.to_cn):
        assert len(traffic.lost()) <= 2
        for number in traffic.lost():
            assert any(0 <= when - traffic.sent[number] <= longest for when in moved)
