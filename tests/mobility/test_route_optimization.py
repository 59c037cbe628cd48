"""Route optimization in the whole network: half the way, handovers, homecoming, failure, and what strangers send."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.mipv6.correspondent_node import Correspondent, DirectBinding, DirectBindingEnded
from mobility.mipv6.correspondent_registration import RouteEnded, RouteOptimized, RouteRefused
from mobility.mipv6.route_optimization import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Port, Segment
from mobility.wire import ip6, mh
from tests.mobility.optimized import Optimized
from tests.mobility.whole import CN, CORRESPONDENT, HA, MN, Traffic, udp

FORMS = list(TunnelForm)
DIRECT = (ip6.DEST_OPTIONS, ip6.ROUTING, ip6.MOBILITY)
"Next headers of what goes between care-of address and correspondent."


def delays(traffic: Traffic) -> set[float]:
    return {round(time - traffic.sent[number], 6) for number, time in traffic.received.items()}


def intact(network: Optimized) -> bool:
    """Nothing lost, nothing twice."""
    assert network.to_cn.sent
    assert (network.to_cn.lost(), network.to_mn.lost()) == ([], [])
    return network.to_cn.repeated == network.to_mn.repeated == 0


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


def events(network: Optimized, kind: type[RouteEnded] | type[RouteRefused]) -> list[str]:
    return [event.why for _, event in network.world.stations["mn"].events_of(kind)]


@pytest.mark.parametrize("form", FORMS)
def test_way_is_half_as_long_and_needs_fewer_octets(form: TunnelForm) -> None:
    network = Optimized(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(3)
    network.run(1)
    assert network.direct
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
        assert network.direct
        network.move(place, gap=gap)
    network.run(5)
    assert network.direct
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
        assert network.direct
        station.carry_out(network.terminal.command(f"move {link}", network.world.now))
    network.run(4)
    assert network.direct
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
    assert network.direct


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
    assert network.direct
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
    assert network.direct
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
