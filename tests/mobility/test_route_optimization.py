"""Route optimization in the whole network: half the way, handovers, homecoming, failure, and beside other parts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from mobility.mipv6 import direct
from mobility.mipv6.correspondent_node import Correspondent
from mobility.mipv6.route_events import RouteEnded, RouteOptimized
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Port, Segment
from mobility.outputs import Transmit
from mobility.pcapng import PcapngWriter
from mobility.translating import TranslatingTerminal
from mobility.translation.settings import TranslationSettings
from mobility.translation.translation import Translation
from mobility.wire import ip6, mh
from mobility.wire.udp import packet as udp_packet
from tests.mobility.optimized import Optimized, events, intact, signalling
from tests.mobility.whole import CN, CORRESPONDENT, HA, MN, Traffic, randomness, udp

FORMS = list(TunnelForm)
DIRECT = (ip6.DEST_OPTIONS, ip6.ROUTING, ip6.MOBILITY)
"Next headers of what goes between care-of address and correspondent."


def delays(traffic: Traffic) -> set[float]:
    return {round(time - traffic.sent[number], 6) for number, time in traffic.received.items()}


def swallow(segment: Segment, unwanted: Callable[[bytes], bool]) -> list[bytes]:
    """Packets that vanish on this segment from now on; what has vanished."""
    carry, gone = segment.transmit, []

    def transmit(sender: Port, packet: bytes, to: bytes) -> None:
        if unwanted(packet):
            gone.append(packet)
        else:
            carry(sender, packet, to)

    segment.transmit = transmit  # type: ignore[method-assign]
    return gone


@pytest.mark.parametrize("form", FORMS)
def test_way_is_half_as_long_and_needs_fewer_octets(form: TunnelForm) -> None:
    network = Optimized(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(3)
    network.run(1)
    assert network.is_direct()
    network.core.frames.clear()
    network.run(3)
    assert intact(network)
    first, later = 10, 40
    for traffic in (network.to_cn, network.to_mn):
        slow = traffic.received[first] - traffic.sent[first] if traffic is network.to_cn else 0.0
        quick = traffic.received[later] - traffic.sent[later]
        assert round(quick, 6) == 0.0065
        assert slow == 0.0 or quick <= slow
    assert max(delays(network.to_cn)) > 2 * 0.0065 - 0.003
    (one_way,) = {round(network.to_mn.received[n] - network.to_mn.sent[n], 6) for n in range(30, 150)}
    assert one_way == 0.0065
    assert network.through_the_agent() == 0
    data = [frame.packet for frame in network.core.frames if len(frame.packet) > 200]
    assert len(data) == 200
    assert {packet[6] for packet in data} == {ip6.DEST_OPTIONS, ip6.ROUTING}
    # 160 octets of speech: 208 as UDP, 244 with the application's ESP, and 24 of option or routing header.
    assert {len(packet) for packet in data} == {268}
    assert {packet[40] for packet in data} == {ip6.ESP}
    assert network.terminal.scenarios.present in (10020, 10001)
    assert network.terminal.scenarios.of_correspondents == 10021


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_break_before_make_loses_nothing(form: TunnelForm, gap: float) -> None:
    network = Optimized(form)
    network.start()
    network.talk(9)
    for place in (network.b, network.a, network.b):
        network.run(2)
        assert network.is_direct()
        network.move(place, gap=gap)
    network.run(5)
    assert network.is_direct()
    if form is not TunnelForm.PLAIN:
        assert intact(network)
    else:
        # What is in the tunnel while the place changes has no numbers there, and nobody sends it again.
        assert len(network.to_cn.lost()) + len(network.to_mn.lost()) <= 3
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert correspondent.sent_directly.sent_again > 0
    # It sends directly again a round trip and a half after the new place is there: 13 ms each, and one of discovery.
    for _, event in network.world.stations["mn"].events_of(RouteOptimized)[1:]:
        assert event.milliseconds < 60


def test_what_a_dying_link_swallows_is_sent_again_by_both() -> None:
    network = Optimized()
    network.start()
    network.talk(4)
    network.run(1)
    # The radio is gone for 100 ms before anybody notices.
    network.a.loss = 1.0
    network.run(0.1)
    network.move(network.b)
    network.a.loss = 0.0
    network.run(5)
    assert intact(network)
    assert network.optimization.sent_directly.sent_again >= 5


@pytest.mark.parametrize("form", FORMS)
def test_make_before_break_loses_nothing(form: TunnelForm) -> None:
    network = Optimized(form)
    network.start()
    network.plug(network.b, "wlan1")
    network.run(1)
    network.talk(5)
    station = network.world.stations["mn"]
    for link in ("wlan1", "wlan0", "wlan1"):
        network.run(1)
        assert network.is_direct()
        station.carry_out(network.terminal.command(f"move {link}", network.world.now))
    network.run(4)
    assert network.is_direct()
    assert intact(network)


def test_return_home_ends_the_binding_and_leaving_makes_it_anew() -> None:
    network = Optimized()
    network.start()
    network.talk(2)
    network.run(1)
    network.move(network.home)
    network.run(3)
    assert intact(network)
    assert network.terminal.forwarding.at_home
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert len(correspondent) == 0
    assert events(network, RouteEnded) == ["moved"]
    network.move(network.a)
    network.run(1)
    network.talk(0.5)
    network.run(2)
    assert network.is_direct()


def test_udp_has_the_tunnel_only_and_the_correspondent_is_told_through_it() -> None:
    network = Optimized()
    network.start()
    network.talk(8)
    network.run(1)
    network.join(network.cafe)
    network.run(1)
    network.world.detach("mn", "wlan0")
    network.run(2)
    assert network.terminal.mobile_node.present is not None
    assert network.terminal.mobile_node.present.udp
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert len(correspondent) == 0
    assert network.terminal.updates.route(CN.packed) is None
    network.plug(network.a)
    network.run(6)
    assert network.is_direct()
    assert intact(network)


def test_correspondent_that_forgot_says_so_and_is_asked_anew() -> None:
    network = Optimized()
    network.start()
    network.talk(4)
    network.run(1)
    node = network.correspondent
    node.optimization = Correspondent(
        CN, network.world.random_bytes("cn again"), node.host.send, node.host.report, node._heard
    )
    forgot = network.world.now
    network.run(5)
    assert network.is_direct()
    assert events(network, RouteEnded) == ["binding error"]
    (anew,) = [time for time in network.optimized() if time > forgot]
    assert anew - forgot < 0.2
    # The packets that were told about by the binding error, and those that were under way.
    assert len(network.to_cn.lost()) <= 3
    assert network.to_mn.lost() == []
    assert network.discards("cn")["home-address-unverified"] <= 3
    # Its nonces are others: the first update was refused with a status, not believed and not ignored.
    assert network.discards("cn")["nonce-expired"] == 1


@pytest.mark.parametrize("way", [(ip6.DEST_OPTIONS, ip6.ROUTING, ip6.MOBILITY), (ip6.DEST_OPTIONS,), (ip6.ROUTING,)])
def test_direct_way_that_breaks_is_left_at_once(way: tuple[int, ...]) -> None:
    """Both directions, only what the terminal sends, only what it receives."""
    network = Optimized()
    network.start()
    network.talk(6)
    network.run(1)
    care_of = network.care_of
    assert care_of is not None

    def unwanted(packet: bytes) -> bool:
        direct = {packet[8:24], packet[24:40]} == {care_of.packed, CN.packed}
        if ip6.DEST_OPTIONS not in way:
            direct = direct and packet[24:40] == care_of.packed
        elif ip6.ROUTING not in way:
            direct = direct and packet[24:40] == CN.packed
        return direct

    broke = network.world.now
    gone = swallow(network.core, unwanted)
    network.run(6)
    assert gone
    station = network.world.stations["mn"]
    ended = [time for time, event in station.events_of(RouteEnded) if time > broke]
    assert ended
    deaf = way == (ip6.DEST_OPTIONS,)
    "It still hears the correspondent."
    assert ended[0] - broke < (2.9 if deaf else 1.2)
    later = [n for n, sent in network.to_cn.sent.items() if sent > ended[0] + 0.05]
    assert later
    assert not set(later) & set(network.to_cn.lost())
    assert not {n for n, sent in network.to_mn.sent.items() if sent > ended[0] + 0.1} & set(network.to_mn.lost())
    assert events(network, RouteEnded)[0] == ("nothing arrives directly" if deaf else "nothing comes directly any more")


# ---------------------------------------------------------------- beside other parts


def test_programs_that_speak_ipv4_go_directly_too() -> None:
    """Scenario 10011: translated, and then directly."""
    here = IPv4Address("198.18.0.1")
    network = Optimized()
    network.world.remove("mn")
    translation = Translation(TranslationSettings(MN, here, HA), randomness("translation"))
    terminal = TranslatingTerminal(network.terminal, translation)
    network.world.add("mn", terminal)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    peer = IPv4Address(translation.table.of_ipv6(CN.packed, network.world.now, asked=True).ipv4)
    mn, cn = network.world.stations["mn"], network.world.stations["cn"]
    for number in range(40):
        body = number.to_bytes(4) + bytes(100)
        mn.send(bytes(IP(src=str(here), dst=str(peer)) / UDP(sport=40000, dport=4000) / Raw(body)))
        cn.send(udp_packet(CN.packed + MN.packed, (4000, 40000), body))
        network.world.run(network.world.now + 0.02)
    network.world.run(network.world.now + 0.5)
    assert network.is_direct()
    assert [row["number"] for row in network.terminal.scenarios.snapshot() if row["in_use"]] == [10010, 10011]
    assert len(cn.delivered) == len(mn.delivered) == 40
    assert {packet[0] >> 4 for _, packet in mn.delivered} == {4}
    network.terminal.scenarios.enable(10011, False)
    network.world.run(network.world.now + 3)
    assert not network.is_direct()


@pytest.mark.parametrize("form", FORMS)
def test_tunnel_stays_for_everybody_else(form: TunnelForm) -> None:
    network = Optimized(form, rules=RouteRules(RoutePolicy.ALWAYS, ((CORRESPONDENT, RoutePolicy.ALWAYS),)))
    network.start()
    other = IPv6Address("2001:db8:c::77")
    network.a.frames.clear()
    station = network.world.stations["mn"]
    station.send(udp(MN, other, bytes(160)))
    station.send(udp(MN, CN, bytes(160)))
    network.run(0.1)
    (first, second) = (frame.packet for frame in network.a.frames if len(frame.packet) > 200)
    assert first[24:40] == HA.packed
    assert first[6] == (ip6.IPV6 if form is TunnelForm.PLAIN else ip6.ESP)
    assert (second[24:40], second[6], second[40]) == (CN.packed, ip6.DEST_OPTIONS, ip6.ESP)


def test_home_test_goes_through_the_tunnel_under_esp_and_the_care_of_test_does_not() -> None:
    network = Optimized()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.a.frames.clear()
    network.talk(0.1)
    network.run(1)
    care_of = network.care_of
    assert care_of is not None
    seen = [frame.packet for frame in network.a.frames if frame.packet[6] == ip6.MOBILITY]
    types = {packet[42] for packet in seen}
    assert types == {mh.Type.CARE_OF_TEST_INIT, mh.Type.CARE_OF_TEST}
    # Between home agent and correspondent nobody protects them: that is what the two ways are for.
    outside = {packet[42] for packet in (f.packet for f in network.office.frames) if packet[6] == ip6.MOBILITY}
    assert {mh.Type.HOME_TEST_INIT, mh.Type.HOME_TEST} <= outside


@pytest.mark.interop
def test_tshark_has_nothing_to_complain_of(tmp_path: Path) -> None:
    """Every message and every form of data of route optimization, with refusals and errors."""
    network = Optimized(TunnelForm.PLAIN)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(4, interval=0.1)
    network.run(2)
    network.move(network.b)
    network.run(1)
    network.move(network.home)
    network.run(2)
    node = network.correspondent
    now = network.world.now
    peer = Correspondent(CN, randomness("other"), node.host.send, node.host.report, node._heard)
    care_of = IPv6Address("2001:db8:a::1")
    packets = [frame.packet for segment in (network.core, network.a, network.b) for frame in segment.frames]
    stray = direct.to_correspondent(udp(MN, CN, bytes(8)), care_of.packed, MN.packed)
    unknown = ip6.packet(care_of, CN, ip6.MOBILITY, mh.payload(mh.UnknownMessage(99, bytes(2)), care_of, CN))
    for packet in (stray, unknown):
        packets += [output.packet for output in peer.receive(packet, now)[0] if isinstance(output, Transmit)]
    request = ip6.packet(CN, MN, ip6.MOBILITY, mh.payload(mh.BindingRefreshRequest(), CN, MN))
    packets.append(direct.to_terminal(request, care_of.packed))
    path = tmp_path / "all.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file)
        for packet in packets:
            writer.write("eth0", packet, 1_700_000_000.0)
        writer.flush()
    done = subprocess.run(
        ["tshark", "-r", str(path), "-o", "esp.do_esp_sequence_analysis:FALSE", "-T", "fields", "-e", "mip6.mhtype",
         "-e", "_ws.malformed", "-e", "_ws.expert.message"],
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(packets)
    kinds = {int(row[0].split(",")[0]) for row in rows if row[0]}
    assert kinds >= set(range(8))
    complaints = {complaint for row in rows for complaint in row[1:] if complaint}
    assert complaints == set()


def test_stream_in_one_direction_is_confirmed_every_two_seconds_and_not_oftener() -> None:
    network = Optimized()
    network.start()
    network.office.frames.clear()
    station = network.world.stations["mn"]
    network.world.every(0.02, lambda: station.send(udp(MN, CN, bytes(8))), until=network.world.now + 40)
    network.run(41)
    assert network.is_direct()
    asked = signalling(network).count(mh.Type.CARE_OF_TEST_INIT)
    assert 18 <= asked <= 22


def test_dead_home_agent_ends_no_call_that_goes_directly() -> None:
    network = Optimized()
    network.start()
    network.world.remove("ha")
    network.talk(390, interval=0.2)
    network.run(391)
    assert intact(network)
    assert events(network, RouteEnded) == []


def test_return_home_beside_a_place_that_still_works_loses_nothing() -> None:
    network = Optimized()
    network.start()
    network.plug(network.home, "wlan1")
    network.run(2)
    assert network.is_direct()
    network.talk(3)
    network.run(1)
    network.world.stations["mn"].carry_out(network.terminal.command("return-home", network.world.now))
    network.run(4)
    assert network.terminal.forwarding.at_home
    assert intact(network)
