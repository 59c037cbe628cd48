"""What goes wrong in the domain of a MAP: absurd options, rogues, collisions, MAPs that die, restart or say goodbye."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import pytest

from mobility.discards import Reason
from mobility.hmipv6.map_list import MapPolicy
from mobility.hmipv6.regional_events import LocalUpdateSent, MapBound, MapLeft, MapRefused, RegionalHandover
from mobility.hmipv6.regional_settings import RegionalSettings
from mobility.mipv6.movement import HandoverFinished
from mobility.mipv6.signalling import UNPROTECTED, to_terminal
from mobility.net.memory import EndHost
from mobility.wire import ip6, mh
from mobility.wire.map_option import MapOption
from tests.mobility.domain import MAP, MAP2, DomainNetwork, option
from tests.mobility.test_hierarchy import present, started
from tests.mobility.whole import CN, VISITED_A

DOMAIN = f"map-{MAP}"


def bound(network: DomainNetwork) -> MapBound:
    return network.world.stations["mn"].events_of(MapBound)[-1][1]


def left(network: DomainNetwork) -> list[str]:
    return [event.why for _, event in network.world.stations["mn"].events_of(MapLeft)]


def hear(network: DomainNetwork, packet: bytes) -> list[Reason]:
    """The terminal gets a packet on its access link; why it is dropped."""
    station = network.world.stations["mn"]
    seen = len(station.discards)
    station.receive("wlan0", packet, network.routers["r-a"].interfaces["edge"].mac)
    network.run(0.01)
    return [discard.reason for _, discard in station.discards[seen:] if discard.reason is not Reason.NOT_OURS]


class TestOptions:
    """What routers may say."""

    @pytest.mark.parametrize(
        ("options", "counted"),
        [
            ((option(1, IPv6Address("fe80::9")),), 1),
            ((option(1, IPv6Address("ff02::9")),), 1),
            ((option(1, IPv6Address("::")),), 1),
            ((option(1, IPv6Address("::ffff:10.0.0.1")),), 1),
            ((option(1, distance=0),), 1),
            ((option(1), option(2)), 1),
            ((option(1, lifetime=0),), 0),
            ((option(1, preference=0),), 0),
            ((replace(option(1), prefix_usable=False),), 0),
            ((option(1, IPv6Address("2001:db8:66::1")),), 0),  # no keys with it
        ],
    )
    def test_that_cannot_be_used(self, options: tuple[MapOption, ...], counted: int) -> None:
        network = DomainNetwork(1)
        network.tell("r-a", *options)
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        assert present(network) == "wlan0"
        assert network.terminal.mobile_node.registration.bound
        assert network.discards("mn").get("map-option-invalid", 0) == counted
        assert network.world.stations["mn"].events_of(LocalUpdateSent) == []

    def test_the_same_twice_is_no_contradiction(self) -> None:
        network = DomainNetwork(1)
        network.tell("r-a", option(1), option(1))
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        assert present(network) == DOMAIN

    def test_a_lifetime_that_ends_without_being_renewed(self) -> None:
        network = DomainNetwork(1)
        network.tell("r-a", option(1, lifetime=10))
        network.routers["r-a"].interfaces["edge"].interval = 0.0
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        assert present(network) == DOMAIN
        network.run(10)
        assert present(network) == "wlan0"
        assert network.terminal.mobile_node.registration.bound

    @pytest.mark.parametrize(
        ("policy", "chosen"),
        [(MapPolicy.FARTHEST, MAP2), (MapPolicy.NEAREST, MAP), (MapPolicy.PREFERRED, MAP)],
    )
    def test_choice_among_several(self, policy: MapPolicy, chosen: IPv6Address) -> None:
        network = DomainNetwork(1, settings=RegionalSettings(policy))
        network.tell("r-a", option(1, MAP2, distance=5, preference=3), option(1, MAP, distance=1, preference=9))
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        assert present(network) == f"map-{chosen}"

    def test_who_has_a_map_stays_with_it(self) -> None:
        network = started(1)
        network.tell("r-a", option(1, MAP2, distance=9), option(1, MAP))
        network.advertise("r-a")
        network.run(2)
        assert present(network) == DOMAIN
        assert left(network) == []

    def test_a_map_that_wants_another_type_from_now_on(self) -> None:
        network = started(1)
        network.talk(6)
        network.run(1)
        for kind in (2, 3, 1):
            network.tell("r-a", option(kind))
            network.advertise("r-a")
            network.run(2)
            assert present(network) == ("wlan0" if kind == 3 else DOMAIN)
        network.run(3)
        assert network.to_cn.lost() == network.to_mn.lost() == []


class TestMapsThatGo:
    """The call goes on."""

    def test_one_that_says_goodbye_is_left_without_loss(self) -> None:
        network = started(1)
        network.talk(5)
        network.run(1)
        network.tell("r-a", option(1, lifetime=0))
        network.advertise("r-a")
        network.run(6)
        assert present(network) == "wlan0"
        assert network.to_cn.lost() == network.to_mn.lost() == []
        ((_, finished),) = network.world.stations["mn"].events_of(HandoverFinished)
        assert finished.make_before_break

    def test_one_that_dies_is_found_out_and_another_is_taken(self) -> None:
        network = DomainNetwork(1)
        network.tell("r-a", option(1), option(1, MAP2, distance=1))
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        network.talk(8)
        network.run(1)
        died = network.world.now
        network.world.remove("map")
        network.run(8)
        assert present(network) == f"map-{MAP2}"
        assert left(network) == ["it does not answer"]
        (finished_at, _), *_ = network.world.stations["mn"].events_of(HandoverFinished)
        assert finished_at - died < 4.0
        assert max(network.to_cn.received) == 399
        assert max(network.to_mn.received) == 399

    def test_without_another_one_the_lcoa_is_used_and_the_map_tried_again(self) -> None:
        network = started(1)
        network.talk(40)
        network.run(1)
        network.world.remove("map")
        network.run(6)
        assert present(network) == "wlan0"
        assert network.terminal.mobile_node.registration.bound
        network.start_map("map", MAP, network.anchor)
        network.run(35)
        assert present(network) == DOMAIN
        # What was lost was lost when the MAP died: coming back to it costs nothing.
        assert max(network.to_cn.lost()) < 250

    def test_one_that_does_not_answer_at_all_costs_half_a_second(self) -> None:
        network = DomainNetwork(1)
        network.world.remove("map")
        network.start_agent()
        network.plug(network.a)
        network.run(1)
        assert present(network) == "wlan0"
        assert network.terminal.mobile_node.registration.bound
        network.run(5)
        assert left(network) == ["it does not answer"]

    @pytest.mark.parametrize("kind", [1, 2])
    def test_one_that_was_restarted_is_told_again(self, kind: int) -> None:
        network = started(kind)
        network.home_agent_heard()
        network.talk(6)
        network.run(1)
        network.world.remove("map")
        network.start_map("map", MAP, network.anchor)
        restarted = network.world.now
        network.run(8)
        again = [at for at, _ in network.world.stations["mn"].events_of(MapBound) if at > restarted]
        # Type 1: a binding error answers the first packet. Type 2: the MAP sees none; silence tells after a second.
        assert again[0] - restarted < (0.2 if kind == 1 else 2.5)
        assert present(network) == DOMAIN
        # With type 2 the Mobile IPv6 part heard nothing for a second, and asks its home agent as well.
        assert network.home_agent_heard() == (0 if kind == 1 else 1)
        assert len([n for n in network.to_mn.lost() if network.to_mn.sent[n] > again[0]]) == 0

    def test_a_move_while_the_map_is_away(self) -> None:
        network = started(1)
        network.talk(8)
        network.run(1)
        network.world.remove("map")
        network.move(network.b)
        network.run(8)
        assert present(network) == "wlan0"
        assert max(network.to_cn.received) == 399


class TestRogues:
    """Nothing changes but by authentic messages."""

    def test_acknowledgements_that_were_not_asked_for(self) -> None:
        network = started(1, regional_form=None)
        here = bound(network)
        accepted = mh.BindingAcknowledgement(0, 77, 600)
        refused = mh.BindingAcknowledgement(mh.Status.ADMINISTRATIVELY_PROHIBITED, 1, 0)
        stranger = IPv6Address("2001:db8:66::66")
        for message, source, rcoa, reason in (
            (accepted, MAP, here.rcoa, Reason.ACKNOWLEDGEMENT_UNEXPECTED),  # nothing is under way
            (refused, MAP, here.rcoa, Reason.ACKNOWLEDGEMENT_UNEXPECTED),
            (accepted, MAP, IPv6Address("2001:db8:9::bad"), Reason.HOME_ADDRESS_NOT_OURS),
            (accepted, stranger, here.rcoa, Reason.HOME_ADDRESS_NOT_OURS),
        ):
            packet = to_terminal(message, source, rcoa, here.lcoa, UNPROTECTED)
            assert hear(network, packet) == [reason], message
        assert present(network) == DOMAIN
        assert left(network) == []

    def test_with_keys_nothing_without_them_counts(self) -> None:
        network = started(1)
        here = bound(network)
        network.world.stations["mn"].carry_out(network.terminal.command("move wlan0", network.world.now))
        packet = to_terminal(mh.BindingAcknowledgement(0, 1, 600), MAP, here.rcoa, here.lcoa, UNPROTECTED)
        assert hear(network, packet) == [Reason.NOT_PROTECTED]

    def test_forged_binding_errors_cause_few_updates_and_no_loss(self) -> None:
        network = started(1)
        here = bound(network)
        network.talk(6)
        error = mh.BindingError(mh.ErrorStatus.UNKNOWN_BINDING, here.rcoa)
        forged = ip6.packet(MAP, here.lcoa, ip6.MOBILITY, mh.payload(error, MAP, here.lcoa))
        sent = len(network.world.stations["mn"].events_of(LocalUpdateSent))
        for _ in range(300):
            network.world.stations["mn"].receive("wlan0", forged, network.routers["r-a"].interfaces["edge"].mac)
            network.run(0.01)
        network.run(5)
        assert len(network.world.stations["mn"].events_of(LocalUpdateSent)) - sent <= 3
        assert network.to_cn.lost() == network.to_mn.lost() == []
        assert present(network) == DOMAIN

    def test_packets_in_the_name_of_the_map_are_not_the_home_agents(self) -> None:
        network = started(1)
        here = bound(network)
        inside = ip6.packet(CN, here.rcoa, ip6.UDP, bytes(20))
        assert hear(network, ip6.packet(MAP, here.lcoa, ip6.IPV6, inside)) == [Reason.OUTER_SOURCE_WRONG]
        assert hear(network, ip6.packet(MAP, here.lcoa, ip6.IPV6, inside[:30])) == [Reason.MALFORMED]
        elsewhere = ip6.packet(CN, IPv6Address("2001:db8:9::7777"), ip6.UDP, bytes(20))
        assert hear(network, ip6.packet(MAP, here.lcoa, ip6.IPV6, elsewhere)) == [Reason.HOME_ADDRESS_NOT_OURS]

    def test_a_stranger_cannot_move_the_binding(self) -> None:
        network = started(1)
        here = bound(network)
        thief = IPv6Address(int(VISITED_A.network_address) + 0x666)
        host = EndHost("eth0", bytes.fromhex("020000006666"), network.world.random_bytes("thief"))
        host._addresses = (IPv6Interface((thief, 64)),)
        network.world.add("thief", host)
        network.world.attach("thief", "eth0", network.a, bytes.fromhex("020000006666"))
        network.run(2)
        update = mh.BindingUpdate(9999, mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.MAP_REGISTRATION, 600)
        option_and_body = ip6.home_address_option(here.rcoa, ip6.MOBILITY) + mh.payload(update, here.rcoa, MAP)
        network.world.stations["thief"].send(ip6.packet(thief, MAP, ip6.DEST_OPTIONS, option_and_body))
        network.run(1)
        engine = network.anchors[MAP].engine
        assert engine is not None
        row = engine.cache.find(here.rcoa.packed)
        assert row is not None
        assert row.local == here.lcoa
        assert network.discards("map")["not-protected"] == 1


def test_an_rcoa_that_another_node_has_is_replaced_by_the_next() -> None:
    first = bound(started(1)).rcoa
    network = DomainNetwork(1)
    other = EndHost(
        "eth0",
        bytes.fromhex("020000005555"),
        network.world.random_bytes("other"),
        addresses=(IPv6Interface((first, 64)),),
    )
    network.world.add("other", other)
    network.world.attach("other", "eth0", network.anchor, bytes.fromhex("020000005555"))
    network.start_agent()
    network.run(2)
    network.plug(network.a)
    network.run(5)
    assert bound(network).rcoa != first
    refused = [event for _, event in network.world.stations["mn"].events_of(MapRefused)]
    assert [(event.rcoa, event.status) for event in refused] == [(first, "dad-failed")]
    assert bound(network).rcoa in IPv6Network((MAP, 64), strict=False)
    place = network.terminal.mobile_node.present
    assert place is not None
    assert (place.link, place.address) == (DOMAIN, bound(network).rcoa)
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_a_scenario_that_is_disabled_leaves_the_lcoa() -> None:
    network = DomainNetwork(1)
    network.terminal.scenarios.enable(10031, False)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert present(network) == "wlan0"
    assert network.discards("mn")["scenario-disabled"] == 1
    assert "10031" in left(network)[0]


def test_a_map_that_refuses_is_left_for_a_minute() -> None:
    network = DomainNetwork(1)
    engine = network.anchors[MAP].engine
    assert engine is not None
    engine.cache._limit = 0
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert present(network) == "wlan0"
    ((_, refused),) = network.world.stations["mn"].events_of(MapRefused)
    assert refused.status == "insufficient-resources"
    engine.cache._limit = 10
    network.run(50)
    assert present(network) == "wlan0"
    network.run(15)
    assert present(network) == DOMAIN


def test_bad_links_and_many_moves() -> None:
    network = DomainNetwork(1, seed=5)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    for segment in (network.core, network.a, network.b, network.c):
        segment.loss, segment.duplication, segment.reordering, segment.jitter = 0.01, 0.02, 0.03, 0.004
    network.home_agent_heard()
    network.talk(24)
    for number in range(10):
        network.run(2)
        network.move((network.b, network.c, network.a)[number % 3], gap=0.05)
    network.run(10)
    assert len(network.world.stations["mn"].events_of(RegionalHandover)) == 10
    assert present(network) == DOMAIN
    assert network.home_agent_heard() <= 2  # asked when nothing came for a second
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    for traffic in (network.to_cn, network.to_mn):
        assert len(traffic.lost()) < 100  # 1 % on each of four hops
