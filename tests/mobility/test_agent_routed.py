"""A home agent to whose machine a /56 is routed, with no home link behind it: a rented server, in simulated time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.agent import HomeAgentNode
from mobility.discards import Reason
from mobility.mipv6.binding_events import BindingRebound
from mobility.mipv6.home_agents_list import anycast
from mobility.mipv6.tunnel import TunnelForm
from mobility.outputs import Discarded
from mobility.wire import icmp6, ip6
from mobility.wire.mobile_icmp import HomeAgentsReply, HomeAgentsRequest
from tests.mobility.rented import BEHIND, LARGE, SERVER_MAC, TUN, Rented, RentedTrain
from tests.mobility.whole import CN, HA, HOME, MAC_MN2, MN, MN2, udp

UNUSED = IPv6Address("2001:db8:1::dead")


def unreachable(packets: list[bytes]) -> list[int]:
    """Codes of the Destination Unreachable among packets."""
    return [packet[41] for packet in packets if packet[6] == ip6.ICMPV6 and packet[40] == icmp6.DESTINATION_UNREACHABLE]


@pytest.mark.parametrize("form", list(TunnelForm))
def test_a_call_through_a_handover(form: TunnelForm) -> None:
    network = Rented(form)
    network.bound()
    network.talk(6.0)
    network.world.after(3.0, lambda: network.move(network.b))
    network.run(8.0)
    allowed = 10 if form is TunnelForm.PLAIN else 0  # nothing is sent again there
    assert len(network.to_mn.lost()) <= allowed
    assert len(network.to_cn.lost()) <= allowed
    assert len(network.to_mn.received) >= 290


def test_nothing_is_said_to_neighbours() -> None:
    network = Rented()
    network.bound()
    network.talk(1.0)
    network.run(60.0)
    said = [frame.packet for frame in network.home.frames if frame.source == SERVER_MAC]
    of_the_agent = [packet for packet in said if packet[8:24] == HA.packed or packet[8:24] == MN.packed]
    assert any(packet[6] != ip6.ICMPV6 for packet in of_the_agent)
    # Of neighbour discovery there is only what the machine's own kernel does for its own address.
    solicited = {packet[48:64] for packet in said if packet[6] == ip6.ICMPV6 and packet[40] in (135, 136)}
    assert not any(IPv6Address(target) in LARGE for target in solicited)
    assert network.agent.host.link == TUN


def test_the_home_agent_answers_echo_requests_and_is_discovered() -> None:
    network = Rented()
    network.start_agent()
    network.run(0.1)
    request = icmp6.Echo(7, 1, b"are you there")
    (reply,) = network.ask(icmp6.packet(CN, HA, request))
    assert icmp6.Echo.parse(reply[40:]).reply
    (reply,) = network.ask(icmp6.packet(CN, anycast(HOME), HomeAgentsRequest(9)))
    assert HomeAgentsReply.parse(reply[40:]).agents == (HA,)


def test_unused_addresses_are_told_so_and_not_too_often() -> None:
    network = Rented()
    network.bound()
    hello = udp(CN, UNUSED, b"hello")
    assert unreachable(network.ask(hello)) == [icmp6.ADDRESS_UNREACHABLE]
    elsewhere = udp(CN, IPv6Address("2001:db8:1:5::1"), b"hello")
    assert unreachable(network.ask(elsewhere)) == [icmp6.NO_ROUTE]
    behind = udp(CN, BEHIND[5], b"hello")
    assert unreachable(network.ask(behind)) == [icmp6.NO_ROUTE]  # its router is not away with it, nor can it be here
    assert network.discards("ha")[Reason.BINDING_UNKNOWN] == 3

    for _ in range(400):
        network.world.stations["cn"].send(hello)
    network.run(0.5)
    told = unreachable(network.other_packets["cn"][3:])
    assert 100 <= len(told) <= 150
    # Who scans the prefix takes nothing away from those who have to hear of something else.
    big = ip6.packet(CN, MN, ip6.UDP, bytes(1440))
    assert any(packet[40] == icmp6.PACKET_TOO_BIG for packet in network.ask(big))


def test_a_terminal_hears_of_an_unused_address_through_its_tunnel() -> None:
    network = Rented()
    network.bound()
    mn = network.world.stations["mn"]
    mn.send(udp(MN, UNUSED, b"hello"))
    network.run(1.0)
    assert unreachable(network.other_packets["mn"]) == [icmp6.ADDRESS_UNREACHABLE]


def test_errors_about_unused_addresses_end_there() -> None:
    network = Rented()
    network.bound()
    stray = udp(UNUSED, IPv6Address("2001:db8:1::beef"), b"nobody to nobody")
    network.world.stations["server"].send(stray)
    network.run(2.0)
    assert network.discards("ha")[Reason.BINDING_UNKNOWN] == 2  # the packet, and the error about it


def test_hop_limit_and_size() -> None:
    network = Rented()
    network.bound()
    packet = bytearray(udp(CN, MN, b"far"))
    packet[7] = 4  # three routers on the way, then the home agent
    (told,) = network.ask(bytes(packet))
    assert (told[40], IPv6Address(told[8:24])) == (icmp6.TIME_EXCEEDED, HA)
    (told,) = network.ask(ip6.packet(CN, MN, ip6.UDP, bytes(1440)))
    assert told[40] == icmp6.PACKET_TOO_BIG


def test_two_terminals_of_one_home_agent() -> None:
    network = Rented(second_terminal=True)
    network.bound()
    other = network._terminal(MN2, MAC_MN2, network.mn_application, network.pair2.terminal)
    network.world.add("mn2", other)
    network.world.attach("mn2", "wlan0", network.b, MAC_MN2)
    network.run(3.0)
    network.world.stations["mn"].send(icmp6.packet(MN, MN2, icmp6.Echo(1, 1, b"neighbours")))
    network.run(1.0)
    arrived = [packet for _, packet in network.world.stations["mn2"].delivered if packet[8:24] == MN.packed]
    assert len(arrived) == 1
    assert arrived[0][40] == icmp6.ECHO_REQUEST


@pytest.mark.parametrize("place", ["hotspot", "cafe"])
def test_udp(place: str) -> None:
    """Over IPv4, to an address of the server's kernel, and over IPv6, to the home agent's own."""
    network = Rented()
    network.start_agent()
    network.join(network.world.internets[place])
    network.run(3.0)
    assert network.agent.engine.is_bound(MN.packed)
    network.talk(1.0)
    network.run(2.0)
    assert network.to_mn.lost() == network.to_cn.lost() == []


def test_a_terminal_has_moved_even_if_its_packet_is_for_nobody() -> None:
    network = Rented()
    network.start_agent()
    network.join(network.hotspot)
    network.run(3.0)
    network.hotspot.rebind()  # the NAT has forgotten the terminal
    network.world.stations["mn"].send(udp(MN, BEHIND[5], b"hello"))
    network.run(1.0)
    assert len(network.world.stations["ha"].events_of(BindingRebound)) == 1
    assert unreachable(network.other_packets["mn"]) == [icmp6.NO_ROUTE]


def test_networks_that_move_out_of_the_routed_prefixes() -> None:
    train = RentedTrain()
    train.whole()
    train.talk(3.0)
    train.run(1.0)
    train.world.move("mr1", "wlan0", train.b, gap=0.0)
    train.run(4.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    train.ping(CN)
    train.run(1.0)
    assert len(train.passenger.replies) == 1
    # Its router has gone: nobody can be at home, so the network is nowhere.
    seat = train.seat
    for name in ("mr1", "mr2"):
        train.world.remove(name)
    train.run(700.0)
    train.world.stations["cn"].send(udp(CN, seat, b"hello"))
    train.run(1.0)
    assert unreachable(train.other_packets["cn"]) == [icmp6.NO_ROUTE]


def test_restarted_with_its_bindings() -> None:
    network = Rented()
    network.bound()
    network.talk(2.0)
    network.run(0.5)
    network.restart_agent(restored=True)
    network.run(3.0)
    assert network.to_mn.lost() == network.to_cn.lost() == []


def test_a_standby_says_nothing() -> None:
    network = Rented()
    settings = replace(network.agent.settings, standby=True)
    network.world.remove("ha")
    network.agent = HomeAgentNode(settings, network.world.random_bytes("standby"))
    station = network.world.add("ha", network.agent)
    network.start_agent()
    assert network.ask(udp(CN, UNUSED, b"hello")) == []
    assert network.ask(icmp6.packet(CN, HA, icmp6.Echo(7, 1, b"are you there"))) == []
    station.carry_out(network.agent.activate(network.world.now))
    network.run(5.0)
    (reply,) = network.ask(icmp6.packet(CN, HA, icmp6.Echo(7, 1, b"are you there")))
    assert icmp6.Echo.parse(reply[40:]).reply
    station.carry_out(network.agent.deactivate(network.world.now))
    assert network.ask(icmp6.packet(CN, HA, icmp6.Echo(7, 1, b"are you there"))) == []


def test_what_neighbours_would_say_is_not_believed() -> None:
    network = Rented()
    network.start_agent()
    link_local = bytes.fromhex("fe80") + bytes(13) + b"\x01"
    for kind in (133, 134, 135, 136, 137, 130):
        body = bytes((kind, 0, 0, 0)) + bytes(20)
        packet = ip6.packet(IPv6Address(link_local), HA, ip6.ICMPV6, body)
        check = ip6.checksum(packet[8:24], packet[24:40], ip6.ICMPV6, body)
        packet = packet[:42] + check.to_bytes(2) + packet[44:]
        packet = packet[:7] + b"\xff" + packet[8:]
        outputs = network.agent.from_link(TUN, packet, b"", network.world.now)
        assert [type(output) for output in outputs] == [Discarded]
