"""A train: mobile routers as whole nodes, one inside the other, with ordinary hosts and a terminal inside (Fig. 34)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.agent import AgentSettings, HomeAgentNode
from mobility.discards import Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.links import LinkSettings
from mobility.mipv6.binding_events import BindingCreated
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.movement import HandoverFinished
from mobility.mipv6.registration import BindingRefused, Bound, ReturnedHome
from mobility.mipv6.tunnel import TunnelForm
from mobility.mobile_router import GRACE, MobileRouter, NetworkClosed, NetworkOpened
from mobility.net.memory import EndHost
from mobility.terminal import Terminal, TerminalSettings
from mobility.wire import icmp6, ip6, mh, ndisc
from tests.mobility.nemo.train import CARRIAGE, MR1, MR2, PASSENGER, TRAIN, Train, ride_behind_a_nat
from tests.mobility.whole import CN, CORRESPONDENT, HA, MN, mobile_pair, udp

ESP, PLAIN = TunnelForm.ESP, TunnelForm.PLAIN
FORMS = list(TunnelForm)
PROTECTED = [TunnelForm.ESP, TunnelForm.ESP_MOBILE]


@pytest.mark.parametrize("form", FORMS)
def test_a_terminal_and_an_ordinary_host_inside_two_networks(form: TunnelForm) -> None:
    train = Train(form)
    train.whole()
    train.talk(1.0)
    train.run(2.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert (train.to_mn.repeated, train.to_cn.repeated) == (0, 0)
    assert train.seat in CARRIAGE
    train.ping(CN)
    train.run(1.0)
    assert len(train.passenger.replies) == 1
    # On the air: three tunnels around the terminal's speech, of which only the outermost can be seen under ESP.
    overhead = {PLAIN: 3 * 40, TunnelForm.ESP: 3 * 76, TunnelForm.ESP_MOBILE: 3 * 116}[form]
    speech = 40 + 8 + 160 + 36  # under the application's ESP
    ((on_air, _),) = Counter(len(frame.packet) for frame in train.a.frames).most_common(1)
    assert abs(on_air - speech - overhead) <= 12


@pytest.mark.parametrize("explicit", [False, True])
def test_the_router_says_what_it_is(explicit: bool) -> None:
    train = Train(explicit=explicit)
    train.start_agent()
    train.couple("mr1", train.a)
    train.run(2.0)
    (created,) = [event for _, event in train.world.stations["ha"].events_of(BindingCreated)]
    assert created.mobile_networks == str(TRAIN)
    status = train.router.snapshot(train.world.now)
    assert status["role"] == "mobile-router"
    assert status["mobile_router"]["open"] is True  # type: ignore[index]
    assert [event.networks for _, event in train.world.stations["mr1"].events_of(NetworkOpened)] == [str(TRAIN)]


@pytest.mark.parametrize("form", PROTECTED)
def test_nobody_in_the_train_notices_that_it_moves(form: TunnelForm) -> None:
    """Break before make, in mid call: what the old place lost is sent again, with the nest inside of it."""
    train = Train(form)
    train.whole()
    registered = len(train.world.stations["mn"].events_of(Bound))
    train.talk(3.0)
    train.run(1.0)
    train.world.move("mr1", "wlan0", train.b, gap=0.0)
    train.run(4.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert (train.to_mn.repeated, train.to_cn.repeated) == (0, 0)
    assert len(train.world.stations["mn"].events_of(Bound)) == registered
    assert len(train.world.stations["mr2"].events_of(Bound)) == 1
    assert len(train.world.stations["mr1"].events_of(HandoverFinished)) == 1
    assert train.world.stations["mr1"].events_of(NetworkClosed) == []


def test_a_train_with_two_interfaces_makes_before_it_breaks() -> None:
    train = Train()
    train.whole()
    train.talk(3.0)
    train.run(0.5)
    train.couple("mr1", train.b, "wlan1")
    train.run(0.5)
    train.world.stations["mr1"].carry_out(train.router.command("move wlan1", train.world.now))
    train.run(3.0)
    ((_, finished),) = train.world.stations["mr1"].events_of(HandoverFinished)
    assert finished.make_before_break
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert (train.to_mn.repeated, train.to_cn.repeated) == (0, 0)


def test_a_terminal_walks_from_one_network_of_the_train_to_the_other() -> None:
    train = Train()
    train.whole()
    train.talk(3.0)
    train.run(1.0)
    train.move(train.train)
    train.run(4.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert train.terminal.mobile_node.present is not None
    assert train.terminal.mobile_node.present.address in TRAIN


def test_a_train_behind_a_nat() -> None:
    """Its only network is an IPv4 hotspot: the tunnel of the networks goes through UDP."""
    ride_behind_a_nat(Train())


# ---------------------------------------------------------------- at home


def test_a_router_comes_home_and_leaves_again() -> None:
    train = Train()
    train.with_passenger()
    train.ping(CN, 1)
    train.run(1.0)
    train.world.move("mr1", "wlan0", train.home, gap=0.0)
    train.run(4.0)
    assert len(train.world.stations["mr1"].events_of(ReturnedHome)) == 1
    for sequence in (2, 3):
        train.ping(CN, sequence)
        train.run(1.0)
    assert not any(frame.packet[6] == ip6.ESP for frame in train.home.frames if frame.time > train.world.now - 1.5)
    train.world.move("mr1", "wlan0", train.b, gap=0.0)
    train.run(3.0)
    train.ping(CN, 4)
    train.run(1.0)
    assert [echo.sequence for _, echo in train.passenger.replies] == [1, 2, 3, 4]


# ---------------------------------------------------------------- what nodes inside are told


def advertised(train: Train) -> list[ndisc.RouterAdvertisement]:
    found = []
    for frame in train.train.frames:
        if frame.packet[6] == ip6.ICMPV6 and frame.packet[40] == ndisc.ROUTER_ADVERTISEMENT:
            message = ndisc.parse(frame.packet)
            assert isinstance(message, ndisc.RouterAdvertisement)
            found.append(message)
    return found


def test_nodes_are_told_when_there_is_no_way_out_for_a_while() -> None:
    train = Train()
    train.start_agent()
    train.run(1.0)
    assert advertised(train)[-1].router_lifetime == 0
    train.couple("mr1", train.a)
    train.run(2.0)
    last = advertised(train)[-1]
    assert last.router_lifetime == 1800
    (mtu,) = [option.mtu for option in last.options if isinstance(option, ndisc.Mtu)]
    assert mtu == train.router.terminal.network_mtu
    train.world.detach("mr1", "wlan0")
    train.run(GRACE - 1.0)
    assert advertised(train)[-1].router_lifetime == 1800
    train.run(2.0)
    last = advertised(train)[-1]
    assert last.router_lifetime == 0
    # The prefix is the network's own: addresses, and so connections, outlive a tunnel.
    (prefix,) = [option for option in last.options if isinstance(option, ndisc.PrefixInformation)]
    assert (prefix.preferred_lifetime, prefix.valid_lifetime) == (14400, 86400)
    assert len(train.world.stations["mr1"].events_of(NetworkClosed)) == 1
    train.couple("mr1", train.b)
    train.run(2.0)
    assert advertised(train)[-1].router_lifetime == 1800


def test_what_does_not_fit_is_told_inside_and_outside() -> None:
    train = Train()
    train.with_passenger()
    passenger, correspondent = train.world.stations["passenger"], train.world.stations["cn"]
    # Its own host knows what fits, from the advertisement, and splits; one that has not heard it would not.
    train.world.stations["mr1"].receive("lan0", udp(train.seat, CN, bytes(1452)), PASSENGER)
    train.run(0.5)
    told = [packet for _, packet in passenger.delivered if packet[6] == ip6.ICMPV6 and packet[40] == 2]
    assert [icmp6.PacketTooBig.parse(packet[40:]).mtu for packet in told] == [train.router.terminal.network_mtu]
    correspondent.send(udp(CN, train.seat, bytes(1382)))
    train.run(0.5)
    assert train.discards("ha")["too-big"] == 1
    correspondent.send(udp(CN, train.seat, bytes(1372)))
    train.run(0.5)
    assert [len(packet) for _, packet in passenger.delivered if packet[6] == ip6.UDP] == [1420]


def test_spoofed_sources_do_not_leave_the_train() -> None:
    train = Train()
    train.with_passenger()
    passenger = train.world.stations["passenger"]
    before = len(train.a.frames)
    for source in (CN, HA, MR1, CARRIAGE.network_address + 1):
        passenger.send(udp(source, CN, b"spoofed"))
    passenger.send(ip6.packet(train.seat, CN, ip6.UDP, bytes(8), 1))
    train.run(0.5)
    assert len(train.a.frames) == before
    assert train.router.counters[f"discarded-{Reason.SOURCE_NOT_OF_NETWORK}"] == 4
    assert train.router.counters[f"discarded-{Reason.HOP_LIMIT}"] == 1


def test_packets_past_the_tunnel_do_not_enter_the_train() -> None:
    train = Train()
    train.with_passenger()
    forged = udp(CN, train.seat, b"past the tunnel")
    router = train.world.stations["mr1"]
    router.receive("wlan0", forged, b"\x02\0\0\0\0\x66")
    assert router.discards[-1][1].reason is Reason.NOT_TUNNELLED
    train.run(0.5)
    assert not any(packet[6] == ip6.UDP for _, packet in train.world.stations["passenger"].delivered)


def test_the_router_answers_at_its_own_address_and_to_nothing_else() -> None:
    train = Train()
    train.whole()
    correspondent = train.world.stations["cn"]
    own = TRAIN.network_address + 1
    correspondent.send(icmp6.packet(CN, own, icmp6.Echo(7, 1, b"x")))
    correspondent.send(icmp6.packet(CN, own, icmp6.Echo(7, 1, b"x", reply=True)))
    correspondent.send(udp(CN, own, b"x"))
    correspondent.send(icmp6.packet(CN, own, icmp6.Echo(7, 1, b"broken"))[:-1] + b"?")
    correspondent.send(ip6.packet(CN, train.seat, ip6.UDP, bytes(8), 5))  # too few hops for the carriage
    train.run(1.0)
    answers = [packet for packet in train.other_packets["cn"] if packet[8:24] == own.packed]
    assert [packet[40] for packet in answers] == [icmp6.ECHO_REPLY]
    for reason in (Reason.ICMP_IGNORED, Reason.NOT_OURS, Reason.MALFORMED):
        assert train.router.counters[f"discarded-{reason}"] >= 1


def test_two_passengers_of_two_networks_and_a_program_of_the_router() -> None:
    train = Train()
    train.whole()
    other = EndHost("eth0", PASSENGER[:5] + b"\x02", train.world.random_bytes("other"))
    train.world.add("other", other)
    train.world.attach("other", "eth0", train.train, PASSENGER[:5] + b"\x02")
    train.run(2.0)
    seat = other.host.source_for(HA.packed)
    assert seat is not None
    train.ping(IPv6Address(seat))
    train.run(1.0)
    assert len(train.passenger.replies) == 1
    # A program of the router itself has its home address, and reaches its own network by way of the home agent.
    train.world.stations["mr1"].send(icmp6.packet(MR1, IPv6Address(seat), icmp6.Echo(9, 1, b"x")))
    train.run(1.0)
    assert [packet[40] for _, packet in train.world.stations["mr1"].delivered] == [icmp6.ECHO_REPLY]


# ---------------------------------------------------------------- refusals and loops


def test_a_home_agent_that_does_not_serve_routers_is_noticed() -> None:
    """It accepts the binding as that of a host: nothing would come for the network (RFC 3963 section 5.3)."""
    train = Train()
    train.start_agent()
    agent = train.agent.engine.registrar
    acknowledge = agent._acknowledge

    def as_before_rfc_3963(request, status, *rest):  # type: ignore[no-untyped-def]
        return acknowledge(replace(request, flags=request.flags & ~mh.UpdateFlag.MOBILE_ROUTER), status, *rest)

    agent._acknowledge = as_before_rfc_3963  # type: ignore[method-assign]
    train.couple("mr1", train.a)
    train.run(2.0)
    ((_, refused),) = train.world.stations["mr1"].events_of(BindingRefused)
    assert refused.status == "mobile-router-not-permitted"
    assert train.world.stations["mr1"].events_of(NetworkOpened) == []


def test_a_router_that_comes_into_its_own_train_gets_out_again() -> None:
    train = Train()
    train.whole()
    train.world.move("mr1", "wlan0", train.carriage, gap=0.0)
    train.run(20.0)
    train.talk(0.5)
    train.run(2.0)
    assert train.to_mn.received == {}
    train.world.move("mr1", "wlan0", train.a, gap=0.0)
    train.run(40.0)
    train.talk(0.5)
    train.run(2.0)
    assert len(train.to_mn.received) >= 20


def test_its_own_network_is_no_place_for_a_router() -> None:
    train = Train()
    train.start_agent()
    train.couple("mr1", train.a)
    train.run(1.0)
    train.couple("mr1", train.train, "wlan1")
    train.run(2.0)
    assert train.router.terminal.mobile_node.present is not None
    assert train.router.terminal.mobile_node.present.link == "wlan0"
    assert "2001:db8:9:1:" not in str(train.router.terminal.mobile_node.movement.snapshot(train.world.now))


def test_each_link_belongs_to_the_outside_or_to_a_network() -> None:
    train = Train()
    assert isinstance(train.router, MobileRouter)
    assert train.router.from_link("none0", b"", b"", 0.0)
    assert MN != MR2


def test_a_terminal_of_another_home_agent_in_the_train() -> None:
    """Neither home agent knows of the other's binding: each puts its own header on."""
    train = Train()
    train.start_agent()
    train.couple("mr1", train.a)
    train.run(2.0)
    world = train.world
    agent2, home2 = CORRESPONDENT.network_address + 0xA, CORRESPONDENT.network_address + 0x100
    pair, mac_agent, mac = mobile_pair(ESP, 0x5000), b"\x02\0\0\0\0\xa2", b"\x02\0\0\0\0\xb2"
    settings = HomeAgentSettings(agent2, (AuthorisedTerminal(home2, ESP, pair.agent),))
    world.add("ha2", HomeAgentNode(AgentSettings(settings, LinkSettings("home0", mac_agent)), world.random_bytes("2")))
    world.attach("ha2", "home0", train.office, mac_agent)
    nothing = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
    terminal = Terminal(
        TerminalSettings(home2, agent2, (LinkSettings("wlan0", mac),)), nothing, pair.terminal, world.random_bytes("t")
    )
    station = world.add("mn2", terminal)
    world.attach("mn2", "wlan0", train.train, mac)
    train.run(3.0)
    assert terminal.mobile_node.registration.bound
    assert terminal.mobile_node.registration.care_of_address in TRAIN
    for number in range(5):
        station.send(udp(home2, CN, number.to_bytes(4)))
        train.run(0.1)
    assert sorted(train.to_cn.received) == list(range(5))
    world.stations["cn"].send(udp(CN, home2, b"back"))
    train.run(0.2)
    assert udp(CN, home2, b"back")[40:] in [packet[40:] for _, packet in station.delivered]
    world.move("mr1", "wlan0", train.b, gap=0.0)
    world.stations["cn"].send(udp(CN, home2, b"after"))
    train.run(1.0)
    assert udp(CN, home2, b"after")[40:] in [packet[40:] for _, packet in station.delivered]
