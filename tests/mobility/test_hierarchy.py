"""A terminal in the domain of a MAP, in simulated time: the sixth embodiment (Figs. 27 to 33)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.hmipv6.map_events import RegionalBindingCreated, RegionalBindingMoved
from mobility.hmipv6.regional_events import MapBound, RegionalHandover, RegionalRegistration
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.movement import CareOfAddressChanged, HandoverFinished
from mobility.mipv6.registration import Bound
from mobility.mipv6.route_events import RouteOptimized
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.terminal import Terminal
from mobility.wire import ip6
from tests.mobility.domain import MAP, MAP2, DomainNetwork, option
from tests.mobility.whole import HA, MAC_MN, MN

KINDS = (1, 2, 3)
WITHIN = (1, 2)
"Types with which the home agent hears nothing of moves within the domain."


def started(kind: int = 1, form: TunnelForm = TunnelForm.ESP, **more: object) -> DomainNetwork:
    """A network with a terminal that is bound at the MAP and at home."""
    network = DomainNetwork(kind, form, **more)  # type: ignore[arg-type]
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert network.terminal.mobile_node.registration.bound
    return network


def present(network: DomainNetwork) -> str:
    place = network.terminal.mobile_node.present
    assert place is not None
    return place.link


def rcoa(network: DomainNetwork) -> str:
    snapshot = network.terminal.snapshot(network.world.now)["regional"]
    assert isinstance(snapshot, dict)
    return str(snapshot["domains"][0]["rcoa"])


@pytest.mark.parametrize("kind", KINDS)
def test_binds_at_the_map_and_then_at_home_by_type(kind: int) -> None:
    """Figs. 31 to 33, steps 601 to 611, 621, 622, 631, 632."""
    network = started(kind)
    station = network.world.stations["mn"]
    ((map_bound_at, map_bound),) = station.events_of(MapBound)
    ((handed_on_at, handed_on),) = station.events_of(RegionalRegistration)
    ((bound_at, bound),) = station.events_of(Bound)
    assert map_bound_at == handed_on_at < bound_at
    assert map_bound.registration_type == handed_on.registration_type == kind
    assert (handed_on.rcoa, handed_on.lcoa, handed_on.anchor) == (map_bound.rcoa, map_bound.lcoa, MAP)
    assert bound.care_of_address == (handed_on.rcoa if kind in WITHIN else handed_on.lcoa)
    assert [event.rcoa for _, event in network.world.stations["map"].events_of(RegionalBindingCreated)] == [
        handed_on.rcoa
    ]
    rows = {row["number"]: row["in_use"] for row in network.terminal.scenarios.snapshot()}
    assert [number for number in (10031, 10032, 10033) if rows[number]] == [10030 + kind]
    # The two parts have a list each.
    lists = network.terminal.snapshot(network.world.now)
    assert [row["destination"] for row in lists["regional"]["binding_update_list"]] == [str(MAP)]  # type: ignore[index]
    assert [row["destination"] for row in lists["mobile_node"]["binding_update_list"]] == [str(HA)]  # type: ignore[index]


@pytest.mark.parametrize("regional_form", [None, TunnelForm.PLAIN, TunnelForm.ESP, TunnelForm.ESP_MOBILE])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_within_the_domain_loses_nothing(kind: int, regional_form: TunnelForm | None) -> None:
    """Break before make, four times: steps 612, 613, 623, 624, 633, 634."""
    network = started(kind, regional_form=regional_form)
    network.home_agent_heard()
    network.talk(9)
    for place in (network.b, network.c, network.a, network.b):
        network.run(1.5)
        network.move(place)
    network.run(4)
    station = network.world.stations["mn"]
    assert len(network.to_cn.sent) == len(network.to_mn.sent) == 450
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    handovers = station.events_of(RegionalHandover)
    assert len(handovers) == len(network.world.stations["map"].events_of(RegionalBindingMoved)) == 4
    assert all(event.since_update_ms < 50 and not event.make_before_break for _, event in handovers)
    assert network.home_agent_heard() == (0 if kind in WITHIN else 4)
    assert len(station.events_of(HandoverFinished)) == (0 if kind in WITHIN else 4)
    assert len(station.events_of(RegionalRegistration)) == 1  # step 96: the RCoA has not changed
    # What was sent twice is removed, and said to be.
    assert "replayed" not in network.discards("mn")


@pytest.mark.parametrize("form", list(TunnelForm))
def test_forms_of_the_home_tunnel_do_not_mind(form: TunnelForm) -> None:
    network = started(1, form)
    network.talk(4)
    network.run(1.5)
    network.move(network.b)
    network.run(4)
    # Without ESP there is nothing that removes what comes twice, so nothing is sent again.
    spared = 2 if form is TunnelForm.PLAIN else 0
    assert len(network.to_cn.lost()) <= spared
    assert len(network.to_mn.lost()) <= spared
    assert network.to_cn.repeated == network.to_mn.repeated == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_access_link_shows(kind: int) -> None:
    network = started(kind)
    network.talk(0.2)
    network.a.frames.clear()
    network.run(1)
    place, own = rcoa(network), network.terminal.mobile_node.present
    assert own is not None
    up = [f.packet for f in network.a.frames if f.source == MAC_MN and f.packet[6] in (ip6.IPV6, ip6.ESP)]
    down = [f.packet for f in network.a.frames if f.source != MAC_MN and f.packet[6] in (ip6.IPV6, ip6.ESP)]
    assert (len(up), len(down)) == (10, 10)
    through_map = {True: ip6.IPV6, False: ip6.ESP}
    assert {packet[6] for packet in up} == {through_map[kind == 1]}
    assert {packet[6] for packet in down} == {through_map[kind in WITHIN]}
    for packet, tunnelled in [(p, kind == 1) for p in up] + [(p, kind in WITHIN) for p in down]:
        ends = {packet[8:24], packet[24:40]}
        if tunnelled:
            assert MAP.packed in ends
            ends = {packet[48:64], packet[64:80]}
            assert packet[46] == ip6.ESP
        assert HA.packed in ends
        assert (IPv6Address(place).packed in ends) is (kind in WITHIN)
    # 320 octets is the form esp; the MAP's header has 40 more.
    assert {len(packet) for packet in up} == {360 if kind == 1 else 320}
    assert {len(packet) for packet in down} == {360 if kind in WITHIN else 320}


def test_make_before_break_between_two_access_links_of_one_domain() -> None:
    network = started(1)
    network.home_agent_heard()
    network.talk(6)
    network.run(1)
    network.plug(network.b, "wlan1")
    network.run(1)
    station = network.world.stations["mn"]
    station.carry_out(network.terminal.command("move wlan1", network.world.now))
    network.run(1)
    network.world.detach("mn", "wlan0")
    network.run(5)
    ((_, handover),) = station.events_of(RegionalHandover)
    assert handover.make_before_break
    assert (handover.from_link, handover.to_link) == ("wlan0", "wlan1")
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    assert "duplicates-removed" not in network.terminal.counters
    assert network.home_agent_heard() == 0
    assert present(network) == f"map-{MAP}"


def test_another_map_is_a_handover_of_the_mobile_ipv6_part_made_before_broken() -> None:
    network = started(1)
    network.tell("r-b", option(1, MAP2))
    network.talk(8)
    network.run(1)
    network.plug(network.b, "wlan1")
    network.run(1)
    station = network.world.stations["mn"]
    station.carry_out(network.terminal.command("move wlan1", network.world.now))
    network.run(8)
    assert present(network) == f"map-{MAP2}"
    ((_, finished),) = station.events_of(HandoverFinished)
    assert finished.make_before_break
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_mn.repeated == 0
    # The first MAP was told goodbye.
    engine = network.anchors[MAP].engine
    assert engine is not None
    assert len(engine.cache) == 0
    assert len(station.events_of(RegionalRegistration)) == 2


def test_another_map_by_breaking_first() -> None:
    network = started(1)
    network.tell("r-b", option(1, MAP2))
    network.talk(5)
    network.run(1)
    network.move(network.b)
    network.run(5)
    assert present(network) == f"map-{MAP2}"
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_into_the_domain_and_out_of_it() -> None:
    network = DomainNetwork(1)
    network.tell("r-a")
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert present(network) == "wlan0"
    network.talk(10)
    network.run(1)
    network.move(network.b)  # into it
    network.run(2)
    assert present(network) == f"map-{MAP}"
    network.move(network.a)  # out of it
    network.run(2)
    assert present(network) == "wlan0"
    network.move(network.home)
    network.run(7)
    place = network.terminal.mobile_node.present
    assert place is not None
    assert place.at_home
    assert len(network.to_cn.lost()) <= 3
    assert network.to_cn.repeated == 0


def test_out_of_the_domain_into_a_hotspot_and_back() -> None:
    network = started(1)
    network.talk(10)
    network.run(1)
    network.join(network.hotspot)
    network.run(1)
    assert present(network) == f"map-{MAP}"
    lost_at = network.world.now
    network.world.detach("mn", "wlan0")
    network.run(3)
    assert present(network) == "wlan1/udp4"
    finished_at, _ = network.world.stations["mn"].events_of(HandoverFinished)[-1]
    assert finished_at - lost_at < 0.1
    network.plug(network.b)
    network.run(8)
    assert present(network) == f"map-{MAP}"
    assert len(network.to_cn.lost()) <= 1
    assert len(network.to_mn.lost()) <= 1
    assert network.to_cn.repeated == network.to_mn.repeated == 0


def test_a_machine_that_slept_finds_its_domain_again() -> None:
    network = started(1)
    station = network.world.stations["mn"]
    network.run(300)
    station.carry_out(network.terminal.resumed(network.world.now))
    network.talk(2)
    network.run(4)
    assert present(network) == f"map-{MAP}"
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_a_map_that_is_heard_of_late_is_gone_over_to_without_loss() -> None:
    network = DomainNetwork(1)
    network.tell("r-a")
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    network.talk(4)
    network.run(1)
    network.tell("r-a", option(1))
    network.advertise("r-a")
    network.run(4)
    assert present(network) == f"map-{MAP}"
    assert network.to_cn.lost() == network.to_mn.lost() == []
    ((_, finished),) = network.world.stations["mn"].events_of(HandoverFinished)
    assert finished.make_before_break


def test_programs_are_told_what_fits() -> None:
    network = started(1)
    plain, through = started(3).terminal.host_mtu, network.terminal.host_mtu
    assert plain - through == 40
    network.talk(0.1, size=through - 48)
    network.run(1)
    assert network.to_cn.lost() == []


@pytest.mark.parametrize("regional_form", [TunnelForm.PLAIN, TunnelForm.ESP])
@pytest.mark.parametrize("kind", KINDS)
def test_what_every_link_carries_goes_through_the_narrowest_one(kind: int, regional_form: TunnelForm) -> None:
    """1280 octets of a program where the link has no more: fragments of the outer packets."""
    network = DomainNetwork(kind, regional_form=regional_form)
    edge = network.routers["r-a"].interfaces["edge"]
    edge.mtu, edge.advertise_mtu = 1280, True
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert network.terminal.host_mtu == 1280
    network.talk(0.5, size=400)
    network.run(1)
    for size in (1232, 1150):
        network.talk(0.2, size=size)
        network.run(1)
    assert max(network.to_cn.received) == len(network.to_cn.sent) - 1
    assert network.to_cn.lost() == []


def test_the_binding_is_refreshed_and_nobody_else_is_bothered() -> None:
    network = started(1)
    network.home_agent_heard()
    network.run(1300)
    bound = network.world.stations["mn"].events_of(MapBound)
    assert len(bound) == 4  # each time just before the home binding, which must not last longer
    assert [event.sent_again for _, event in network.world.stations["map"].events_of(RegionalBindingMoved)] == []
    assert len(network.world.stations["mn"].events_of(CareOfAddressChanged)) == 1


class OptimizedDomain(DomainNetwork):
    """With a terminal that optimizes routes."""

    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        plain = super()._terminal(home_address, mac, application, associations)
        settings = replace(plain.settings, route_optimization=RouteRules(RoutePolicy.ALWAYS))
        return Terminal(settings, application, associations, self.world.random_bytes(str(home_address)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_correspondent_hears_nothing_of_moves_within_the_domain_either(kind: int) -> None:
    """Route optimization with the RCoA: the MAP carries what the correspondent sends directly."""
    network = OptimizedDomain(kind)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(9)
    network.run(2)
    place = network.terminal.mobile_node.present
    correspondent = network.correspondent.optimization
    assert place is not None
    assert correspondent is not None
    assert correspondent.confirms(MN.packed, place.address.packed)
    made = len(network.world.stations["mn"].events_of(RouteOptimized))
    for segment in (network.b, network.c):
        network.move(segment)
        network.run(1.5)
    network.run(6)
    assert network.to_cn.lost() == network.to_mn.lost() == []
    if kind in WITHIN:
        assert len(network.world.stations["mn"].events_of(RouteOptimized)) == made
        assert correspondent.confirms(MN.packed, place.address.packed)
