"""The whole network of Fig. 23 in simulated time: calls that survive handovers, returns home and bad links."""

from __future__ import annotations

from time import process_time

import pytest

from mobility.mipv6.home_agent import BindingCreated, BindingRemoved
from mobility.mipv6.movement import HandoverFinished, HandoverStarted
from mobility.mipv6.registration import Bound, HomeAgentUnreachable, ReturnedHome
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Port
from mobility.wire import ip6
from tests.mobility.whole import CN, HA, MAC_MN, MAC_MN2, MN, MN2, Network, Traffic, application_pair, mobile_pair, udp

FORMS = list(TunnelForm)
PROTOCOLS = {
    # What an observer of the visited link sees in each form: the outer next header.
    TunnelForm.PLAIN: ip6.IPV6,
    TunnelForm.ESP_MOBILE: ip6.ESP,
    TunnelForm.ESP: ip6.ESP,
}


def outside_handovers(network: Network, traffic: Traffic) -> list[int]:
    """Numbers of lost packets that were sent at another time than during a handover."""
    station = network.world.stations["mn"]
    starts = [time for time, _ in station.events_of(HandoverStarted)]
    ends = [time for time, _ in station.events_of(HandoverFinished)]
    # A packet takes 15 ms at most: what was sent so long before may still be under way.
    spans = [(start - 0.02, end + 0.02) for start, end in zip(starts, ends, strict=True)]
    return [n for n in traffic.lost() if not any(start <= traffic.sent[n] <= end for start, end in spans)]


@pytest.mark.parametrize("form", FORMS)
def test_call_with_handovers_loses_nothing_outside_them(form: TunnelForm) -> None:
    network = Network(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(9)
    for place in (network.b, network.a, network.home, network.b):
        network.run(1.5)
        network.move(place)
    network.run(4)

    station = network.world.stations["mn"]
    assert len(station.events_of(HandoverFinished)) == 4
    assert len(network.to_cn.sent) == len(network.to_mn.sent) == 450
    assert outside_handovers(network, network.to_cn) == []
    assert outside_handovers(network, network.to_mn) == []
    # One packet is on the link when it breaks; the others wait for the acknowledgement or are tunnelled after it.
    assert len(network.to_cn.lost()) <= 4
    assert len(network.to_mn.lost()) <= 8
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    assert [event.since_update_ms < 50 for _, event in station.events_of(HandoverFinished)] == [True] * 4


@pytest.mark.parametrize("form", FORMS)
def test_the_visited_link_shows_the_form_of_the_tunnel_and_nothing_of_the_call(form: TunnelForm) -> None:
    network = Network(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(0.2)
    network.a.frames.clear()
    network.run(1)
    data = [f.packet for f in network.a.frames if f.packet[6] in (ip6.IPV6, ip6.ESP)]
    assert len(data) == 20
    care_of = network.terminal.mobile_node.present
    assert care_of is not None
    for packet in data:
        assert packet[6] == PROTOCOLS[form]
        assert {packet[8:24], packet[24:40]} == {HA.packed, care_of.address.packed}
        inside = packet[40:]
        assert (MN.packed in inside) is (form is TunnelForm.PLAIN)
        if form is TunnelForm.PLAIN:
            assert inside[6] == ip6.ESP  # the application's
    # 160 octets of speech: 208 as UDP, 244 with the application's ESP, and then the tunnel.
    assert {len(packet) for packet in data} == {
        {TunnelForm.PLAIN: 284, TunnelForm.ESP: 320, TunnelForm.ESP_MOBILE: 360}[form]
    }


@pytest.mark.parametrize("form", FORMS)
def test_bad_network_with_home_agent_down_at_start(form: TunnelForm) -> None:
    began = process_time()
    network = Network(form, seed=7)
    for segment in (network.core, network.a, network.b):
        segment.loss, segment.duplication, segment.reordering, segment.jitter = 0.01, 0.02, 0.03, 0.004
    network.plug(network.a)
    network.run(6)
    station = network.world.stations["mn"]
    assert [event.home_agent for _, event in station.events_of(HomeAgentUnreachable)] == [HA]
    assert station.events_of(Bound) == []
    network.start_agent()
    network.run(7)
    assert station.events_of(Bound)
    network.talk(24)
    for place in (network.b, network.a, network.b, network.home, network.a):
        network.run(4)
        network.move(place, gap=0.05)
    network.run(10)

    assert len(station.events_of(ReturnedHome)) == 1
    assert network.terminal.mobile_node.registration.bound
    assert len(network.to_cn.sent) == len(network.to_mn.sent) == 1200
    # Two or three impaired segments each way, 1 % each; a lost binding update costs a second more.
    for traffic in (network.to_cn, network.to_mn):
        assert 0 < len(outside_handovers(network, traffic)) < 90
        assert traffic.repeated == 0  # both IPsec layers know what they have seen
    assert network.discards("cn").get("replayed", 0) > 0
    assert set(network.discards("ha")) <= {
        "replayed", "not-ours", "ndisc-unexpected", "outer-source-wrong", "binding-unknown", "address-unreachable",
    }  # fmt: skip
    assert process_time() - began < 2.0


def test_home_agent_that_comes_up_late_is_found() -> None:
    network = Network()
    network.plug(network.a)
    network.run(100)
    station = network.world.stations["mn"]
    told = station.events_of(HomeAgentUnreachable)
    assert len(told) == 1  # said once, soon; and it goes on trying
    assert told[0][0] < 5
    network.start_agent()
    network.run(33)
    assert station.events_of(Bound)


def test_lifetime_is_refreshed_and_a_silent_terminal_forgotten() -> None:
    network = Network(lifetime=20)
    network.start_agent()
    network.plug(network.a)
    network.run(100)
    station, agent = network.world.stations["mn"], network.world.stations["ha"]
    assert len(station.events_of(Bound)) == 7  # every 16 s
    assert len(agent.events_of(BindingCreated)) == 1
    network.world.remove("mn")
    network.run(30)
    assert [event.why for _, event in agent.events_of(BindingRemoved)] == ["lifetime over"]
    assert len(network.agent.engine.cache) == 0


def test_packets_wait_for_the_end_of_a_handover_in_order_and_not_for_ever() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.world.detach("mn", "wlan0")
    station = network.world.stations["mn"]
    for number in range(10):
        station.send(udp(MN, CN, number.to_bytes(4)))
    network.plug(network.b)
    network.run(1)
    assert list(network.to_cn.received) == list(range(10))
    assert network.discards("mn").get("handover-queue", 0) == 0

    network.world.detach("mn", "wlan0")
    for number in range(100, 618):
        station.send(udp(MN, CN, number.to_bytes(4)))
    assert network.discards("mn")["handover-queue"] == 6  # more than 512
    network.run(1.1)
    assert network.discards("mn")["handover-queue"] == 518  # longer than a second


def test_make_before_break_loses_nothing() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a, "wlan0")
    network.run(2)
    network.plug(network.b, "wlan1")
    network.talk(4)
    network.run(1)
    station = network.world.stations["mn"]
    for link in ("wlan1", "wlan0"):
        station.carry_out(network.terminal.command(f"move {link}", network.world.now))
        network.run(1)
        present = network.terminal.mobile_node.present
        assert present is not None
        assert present.link == link
    network.run(3)
    assert network.to_cn.lost() == []
    assert network.to_mn.lost() == []


def test_terminals_of_one_home_agent_talk_to_each_other() -> None:
    network = Network(second_terminal=True)
    first, second = application_pair(MN, MN2, 0x300)
    network.terminal.application.replace(first.spd)
    other = network._terminal(MN2, MAC_MN2, second, network.pair2.terminal)
    network.world.add("mn2", other)
    network.start_agent()
    network.plug(network.a)
    network.world.attach("mn2", "wlan0", network.b, MAC_MN2)
    network.run(2)
    network.world.stations["mn"].send(udp(MN, MN2, b"hello"))
    network.world.stations["mn2"].send(udp(MN2, MN, b"there"))
    network.world.run(network.world.now + 1)
    assert [packet[48:53] for _, packet in network.world.stations["mn2"].delivered] == [b"hello"]
    assert [packet[48:53] for _, packet in network.world.stations["mn"].delivered] == [b"there"]
    hops = network.world.stations["mn2"].delivered[0][1][7]
    assert hops == 63  # one hop: the home agent


@pytest.mark.parametrize("form", FORMS)
def test_killed_terminal_goes_on_within_two_seconds(form: TunnelForm) -> None:
    """A new process: numbers of the associations come from the file, that of the binding update begins at zero."""
    network = Network(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    for place in (network.b, network.a):
        network.move(place)
        network.run(1)
    network.talk(0.5)
    network.run(1)
    old_frames = [frame for frame in network.a.frames if frame.packet[24:40] != HA.packed and len(frame.packet) > 250]
    network.world.remove("mn")
    again = mobile_pair(form, sequences=network.sequences)
    application, _ = application_pair(sequences=network.sequences)
    network.terminal = network._terminal(MN, MAC_MN, application, again.terminal)
    station = network.world.add("mn", network.terminal)
    began = network.world.now
    network.plug(network.a)
    network.run(1)
    ((bound, _),) = station.events_of(Bound)
    assert bound - began < 2
    assert network.terminal.mobile_node.registration.sequence > 3
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []

    delivered = network.terminal.receiving.delivered
    for frame in old_frames:
        station.receive("wlan0", frame.packet, frame.source)
    assert len(old_frames) > 20
    assert network.terminal.receiving.delivered == delivered
    assert network.discards("mn")["replayed"] == len(old_frames)


def test_restarted_home_agent_knows_its_terminals_again_within_a_second_or_two() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(6)
    network.run(2)
    network.restart_agent()
    network.run(6)
    station = network.world.stations["mn"]
    assert len(station.events_of(Bound)) == 2
    for traffic in (network.to_cn, network.to_mn):
        assert max(traffic.sent[number] for number in traffic.lost()) < 4.5


@pytest.mark.parametrize("form", FORMS)
def test_terminal_that_starts_at_home_and_leaves(form: TunnelForm) -> None:
    network = Network(form)
    network.start_agent()
    network.run(2)
    network.plug(network.home)
    network.run(1)
    assert network.terminal.forwarding.at_home
    network.talk(3)
    network.run(1)
    network.move(network.a)
    network.run(3)
    assert outside_handovers(network, network.to_cn) == []
    assert outside_handovers(network, network.to_mn) == []


def test_home_without_a_home_agent() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.world.remove("ha")
    network.move(network.home)
    network.run(10)
    assert network.world.stations["mn"].events_of(HomeAgentUnreachable)
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_return_is_heard_although_its_first_announcement_is_lost() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(6)
    network.run(1)
    carry = network.home.transmit
    dropped: list[float] = []

    def lossy(sender: Port, packet: bytes, to: bytes) -> None:
        advertised = packet[6] == ip6.ICMPV6 and packet[40] == 136 and packet[48:64] == MN.packed
        if advertised and sender.mac == MAC_MN and not dropped:
            dropped.append(network.world.now)
        else:
            carry(sender, packet, to)

    network.home.transmit = lossy  # type: ignore[method-assign]
    network.move(network.home)
    network.run(7)
    assert len(dropped) == 1
    lost = [network.to_mn.sent[number] for number in network.to_mn.lost()]
    assert dropped[0] + 0.5 < max(lost) < dropped[0] + 1.1


@pytest.mark.parametrize("signalling", [True, False])
def test_scenario_follows_the_protection_of_the_acknowledgement(signalling: bool) -> None:
    network = Network(TunnelForm.PLAIN, signalling=signalling)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    assert network.terminal.scenarios.present == (10020 if signalling else 10001)
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []
