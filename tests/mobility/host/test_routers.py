"""Router discovery, choice of the router, and movement (RFC 4861, 4191, 6059, 7559, 8028)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import pytest

from mobility.discards import Reason
from mobility.host import AddressLost, AddressReady, MapsHeard, PathMtuChanged, RouterFound, RouterLost
from mobility.host.routers import mask
from mobility.wire import icmp6, ip6, ndisc
from tests.mobility.host.rig import (
    FAR,
    OTHER_MAC,
    OTHER_PREFIX,
    OTHER_ROUTER,
    ROUTER,
    ROUTER_MAC,
    STRANGER,
    Rig,
    settled,
    udp,
)


def test_solicitations_back_off_and_end_with_an_advertisement() -> None:
    rig = Rig()
    times: list[float] = [0.0]
    while len(times) < 8:
        timer = rig.host.timer
        assert timer is not None
        rig.run(timer - rig.now)
        if rig.discovery(ndisc.RouterSolicitation):
            times.append(rig.now)
    gaps = [b - a for a, b in pairwise(times)]
    assert 0.45 <= gaps[0] <= 0.55
    assert all(1.9 <= b / a <= 2.1 for a, b in pairwise(gaps))
    rig.run(100_000.0)
    assert len(rig.discovery(ndisc.RouterSolicitation)) < 40  # an hour apart at last
    rig.advertise()
    rig.run(1000.0)
    assert rig.discovery(ndisc.RouterSolicitation) == []


def test_an_advertisement_configures_router_prefix_and_parameters() -> None:
    rig = Rig()
    rig.advertise(options=[ndisc.Mtu(1400)], hop_limit=33)
    assert rig.events(RouterFound) == [RouterFound("wlan0", ROUTER, (IPv6Network("2001:db8:a::/64"),))]
    assert rig.host.path_mtu(FAR.packed) == 1400
    address = rig.events(AddressReady)[0].address
    rig.send(udp(address))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]
    rig.receive(icmp6.packet(FAR, address, icmp6.Echo(1, 1)))
    assert [output.packet[7] for output in rig.transmitted] == [33]
    for silly in (1279, 1501, 0):
        rig.advertise(options=[ndisc.Mtu(silly)])
        assert rig.host.path_mtu(FAR.packed) == 1400
    rig.link(True)
    assert rig.host.path_mtu(FAR.packed) == 1500


def test_neighbours_of_an_on_link_prefix_are_reached_directly() -> None:
    rig, address = settled()
    neighbour = IPv6Address("2001:db8:a::99")
    rig.send(udp(address, neighbour))
    assert rig.solicited_targets() == [neighbour]
    rig.advertise(OTHER_PREFIX, on_link=False)
    rig.send(udp(address, IPv6Address("2001:db8:b::99")))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]


def test_a_prefix_stops_being_on_link_when_it_expires() -> None:
    rig = Rig()
    rig.advertise(valid=50, preferred=50)
    rig.run(51.0)
    rig.send(udp(rig.link_local, IPv6Address("2001:db8:a::99")))
    assert rig.solicited_targets() == []
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]


def test_the_router_ends_with_its_lifetime_or_by_its_own_word() -> None:
    rig = Rig()
    rig.advertise(lifetime=100)
    rig.run(101.0)
    assert rig.events(RouterLost) == [RouterLost("wlan0", ROUTER, "expired")]
    assert len(rig.discovery(ndisc.RouterSolicitation)) >= 1
    address = rig.all_events(AddressReady)[0].address
    rig.send(udp(address))
    assert rig.reasons == [Reason.NO_ROUTE]
    rig.advertise()
    assert len(rig.events(RouterFound)) == 1
    rig.advertise(lifetime=0)
    assert rig.events(RouterLost) == [RouterLost("wlan0", ROUTER, "withdrawn")]
    rig.advertise(lifetime=0)
    assert rig.events(RouterLost) == []
    rig.advertise()
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    assert rig.events(RouterLost) == []
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=False)
    assert rig.events(RouterLost) == [RouterLost("wlan0", ROUTER, "is no router any more")]


def test_preference_and_source_prefix_choose_the_router() -> None:
    rig = Rig()
    rig.advertise(preference=ndisc.Preference.LOW)
    first = rig.events(AddressReady)[0].address
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC, preference=ndisc.Preference.HIGH)
    second = rig.events(AddressReady)[0].address
    for source, mac in ((first, ROUTER_MAC), (second, OTHER_MAC), (IPv6Address("2001:db8:c::1"), OTHER_MAC)):
        rig.send(udp(source))
        assert [output.to for output in rig.transmitted] == [mac]
        assert rig.host.next_hop(FAR.packed) == mac
    rig.note(rig.host.send(udp(second), rig.now, source=first.packed))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]


def test_advertisements_of_strangers_change_nothing() -> None:
    rig, address = settled()
    before = rig.tables
    message = ndisc.RouterAdvertisement(1800, options=(ndisc.PrefixInformation(OTHER_PREFIX, 64, 600, 600),))
    good = ndisc.packet(OTHER_ROUTER, ndisc.ALL_NODES, message)
    bad = [
        ndisc.packet(IPv6Address("2001:db8::1"), ndisc.ALL_NODES, message),
        ndisc.packet(IPv6Address("2001:db8::1"), address, message),
        good[:7] + b"\xfe" + good[8:],
        good[:42] + b"\0\0" + good[44:],
    ]
    for packet in bad:
        rig.receive(packet, OTHER_MAC)
        assert rig.reasons[0] in (Reason.NDISC_INVALID, Reason.CHECKSUM_WRONG)
        assert rig.tables == before


def test_many_routers_fill_the_table_and_no_more() -> None:
    rig = Rig()
    for number in range(40):
        rig.advertise(None, router=IPv6Address(f"fe80::{number + 1:x}"), mac=bytes((2, 0, 0, 0, 2, number)))
    assert len(rig.entries("routers")) == 16
    assert rig.reasons == [Reason.TABLE_FULL]


def test_coming_back_to_a_known_network_needs_one_answer_of_its_router() -> None:
    rig, address = settled()
    rig.link(False)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    assert rig.events(RouterLost) == [RouterLost("wlan0", ROUTER, "link down")]
    rig.run(10.0)
    rig.link(True)
    probes = [(m, o) for m, o in rig.discovery(ndisc.NeighborSolicitation) if any(o.packet[8:24])]
    assert [(m.target, o.to) for m, o in probes if isinstance(m, ndisc.NeighborSolicitation)] == [(ROUTER, ROUTER_MAC)]
    assert [ndisc.link_address(m) for m, _ in probes] == [None]  # our address is optimistic
    assert len(rig.discovery(ndisc.RouterSolicitation)) == 1  # in parallel
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    assert [event.address for event in rig.events(AddressReady)] == [address]
    assert [event.router for event in rig.events(RouterFound)] == [ROUTER]
    rig.send(udp(address))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]
    rig.advertise()
    assert rig.events(AddressReady) == []


def test_the_right_address_from_the_wrong_machine_is_another_network() -> None:
    rig, _ = settled()
    rig.link(True)
    before = rig.tables
    rig.neighbour_advertises(ROUTER, OTHER_MAC, router=True)
    assert rig.reasons == [Reason.NDISC_UNEXPECTED]
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, sender=OTHER_MAC, router=True)
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, solicited=False, router=True)
    assert rig.tables == before


def test_a_known_router_with_new_prefixes_replaces_the_remembered_ones() -> None:
    rig, address = settled()
    rig.link(True)
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    rig.advertise(OTHER_PREFIX)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    (ready,) = rig.events(AddressReady)
    assert ready.address in IPv6Network("2001:db8:b::/64")


def test_an_unknown_network_is_recognised_by_its_advertisement_and_probes_end() -> None:
    rig, address = settled()
    rig.link(True)
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    (ready,) = rig.events(AddressReady)
    assert ready.router == OTHER_ROUTER
    rig.run(5.0)
    assert len([t for t in rig.solicited_targets() if t == ROUTER]) == 2  # three in all, then it rests
    assert rig.state_of(address) is None


def test_remembered_networks_are_bounded_and_expire() -> None:
    rig = Rig()
    for number in range(30):
        rig.link(True)
        rig.advertise(IPv6Address(f"2001:db8:{number:x}::"), mac=bytes((2, 0, 0, 0, 3, number)), valid=9000)
    assert len(rig.entries("known_networks")) == 16
    rig.link(True)
    assert len(rig.solicited_targets()) == 6
    rig.run(9001.0)
    rig.link(True)
    assert rig.solicited_targets() == []
    assert rig.entries("known_networks") == []


def test_a_new_router_and_a_silent_old_one_mean_movement() -> None:
    rig, address = settled()
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    (ready,) = rig.events(AddressReady)  # usable before the old one is given up
    assert rig.solicited_targets() == [ROUTER]
    rig.run(1.0)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    assert [(event.router, event.why) for event in rig.events(RouterLost)] == [(ROUTER, "unreachable")]
    rig.send(udp(ready.address))
    assert [output.to for output in rig.transmitted] == [OTHER_MAC]


def test_two_routers_that_both_answer_are_two_routers() -> None:
    rig, address = settled()
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    for _ in range(20):
        rig.run(60.0)
        rig.advertise()
        rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    assert rig.all_events(AddressLost) == []
    assert len(rig.all_events(AddressReady)) == 2
    assert rig.state_of(address) == "preferred"


def test_a_router_that_never_told_its_link_address_is_asked_too_before_it_is_left() -> None:
    rig = Rig()
    rig.advertise(tell_mac=False)
    rig.run(3.0)
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    assert rig.events(AddressLost) == []
    assert rig.solicited_targets() == [ROUTER]
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    rig.run(30.0)
    assert rig.all_events(AddressLost) == []


def test_an_answer_after_the_advertisement_adds_nothing() -> None:
    rig, _ = settled()
    rig.link(True)
    rig.advertise()
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    assert (rig.events(RouterFound), rig.events(AddressReady)) == ([], [])
    rig.run(2.0)
    assert rig.solicited_targets() == []


def test_advertised_times_are_used_within_reason() -> None:
    rig, address = settled()
    message = ndisc.RouterAdvertisement(1800, reachable_time=2000, retransmission_time=1)
    rig.receive(ndisc.packet(ROUTER, ndisc.ALL_NODES, message))
    neighbour = IPv6Address("2001:db8:a::99")
    rig.send(udp(address, neighbour))
    rig.run(0.25)
    assert rig.solicited_targets() == [neighbour] * 2  # a tenth of a second apart, not a millisecond
    rig.send(udp(address, neighbour))
    rig.neighbour_advertises(neighbour, OTHER_MAC)
    rig.run(3.1)
    assert rig.neighbour(neighbour) == "stale"


def test_an_address_that_only_a_lost_router_stood_for_goes_with_it_even_when_withdrawn() -> None:
    rig, address = settled()
    rig.advertise(valid=0, preferred=0)
    assert rig.state_of(address) == "deprecated"
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    rig.send(udp(address))
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    assert rig.state_of(address) == "deprecated"
    rig.run(60.0)
    rig.send(udp(address))
    rig.run(10.0)  # the router no longer answers
    assert rig.state_of(address) is None


def test_routers_of_one_prefix_do_not_doubt_each_other() -> None:
    rig, _ = settled()
    rig.advertise(router=OTHER_ROUTER, mac=OTHER_MAC)
    assert rig.solicited_targets() == []
    rig.advertise(None, router=IPv6Address("fe80::3"), mac=bytes.fromhex("0200000000cc"))
    assert rig.solicited_targets() == []


def test_the_same_router_address_with_another_machine_and_prefix_is_a_move() -> None:
    rig, address = settled()
    rig.advertise(OTHER_PREFIX, router=ROUTER, mac=OTHER_MAC)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    (ready,) = rig.events(AddressReady)
    assert len(rig.events(RouterFound)) == 1
    rig.send(udp(ready.address))
    assert [output.to for output in rig.transmitted] == [OTHER_MAC]


def test_an_unreachable_only_router_is_told_asked_for_and_taken_back() -> None:
    rig, address = settled()
    rig.send(udp(address))
    rig.run(10.0)  # 5 s of delay, 3 probes
    assert [(event.router, event.why) for event in rig.events(RouterLost)] == [(ROUTER, "unreachable")]
    assert len(rig.discovery(ndisc.RouterSolicitation)) >= 1
    assert rig.state_of(address) == "preferred"  # nothing better is known
    rig.send(udp(address))
    assert rig.solicited_targets() == [ROUTER]
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    assert [event.router for event in rig.events(RouterFound)] == [ROUTER]
    assert [output.packet[6] for output in rig.transmitted] == [ip6.UDP]


def test_an_unreachable_router_is_left_at_once_when_another_comes() -> None:
    rig, address = settled()
    rig.send(udp(address))
    rig.run(10.0)
    rig.advertise(OTHER_PREFIX, router=OTHER_ROUTER, mac=OTHER_MAC)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    assert len(rig.events(AddressReady)) == 1


def test_progress_of_upper_layers_spares_the_probes() -> None:
    rig, address = settled()
    for _ in range(20):
        rig.send(udp(address))
        rig.run(4.0)
        assert rig.solicited_targets() == []
        rig.note(rig.host.confirm(FAR.packed, rig.now, address.packed))
    assert rig.neighbour(ROUTER) == "reachable"


def test_another_link_forgets_the_path_mtus() -> None:
    rig, address = settled()
    rig.receive(icmp6.packet(ROUTER, address, icmp6.PacketTooBig(1300, udp(address))))
    assert [event.mtu for event in rig.events(PathMtuChanged)] == [1300]
    rig.link(True)
    assert rig.host.path_mtu(FAR.packed) == 1500


@pytest.mark.parametrize(
    ("length", "expected"), [(0, "::"), (13, "2000::"), (64, "2001:db8:a:b::"), (128, "2001:db8:a:b:c:d:e:f")]
)
def test_mask(length: int, expected: str) -> None:
    assert IPv6Address(mask(IPv6Address("2001:db8:a:b:c:d:e:f").packed, length)) == IPv6Address(expected)


def test_a_router_host_hands_solicitations_up_and_ignores_advertisements() -> None:
    rig = Rig(router=True, duplicate_detection=False)
    assert rig.discovery(ndisc.RouterSolicitation) == []
    solicitation = ndisc.packet(STRANGER, ndisc.ALL_ROUTERS, ndisc.RouterSolicitation())
    rig.receive(solicitation)
    assert rig.arrived == [solicitation]
    rig.advertise()
    assert rig.reasons == [Reason.NDISC_UNEXPECTED]
    assert rig.entries("routers") == []
    rig.neighbour_asks(rig.link_local)
    ((message, _),) = rig.discovery(ndisc.NeighborAdvertisement)
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert message.router
    plain, _ = settled()
    plain.receive(solicitation)
    assert plain.reasons == [Reason.NOT_OURS]


MAP = ndisc.MapOption(IPv6Address("2001:db8:9::9"), 400)
OTHER_MAP = ndisc.MapOption(IPv6Address("2001:db8:7::7"), 400)


def test_maps_are_told_when_they_change_and_before_their_lifetimes_end() -> None:
    rig = Rig()
    rig.advertise(options=[MAP])
    assert rig.events(MapsHeard) == [MapsHeard("wlan0", ROUTER, (MAP,))]
    rig.run(50.0)
    rig.advertise(options=[MAP])
    assert rig.events(MapsHeard) == []
    rig.advertise(options=[MAP, OTHER_MAP])
    assert rig.events(MapsHeard) == [MapsHeard("wlan0", ROUTER, (MAP, OTHER_MAP))]
    rig.run(100.0)
    rig.advertise(options=[MAP, OTHER_MAP])
    assert len(rig.events(MapsHeard)) == 1
    rig.advertise()
    assert rig.events(MapsHeard) == [MapsHeard("wlan0", ROUTER, ())]
    rig.advertise()
    assert rig.events(MapsHeard) == []


def test_maps_go_with_their_link_and_are_remembered_with_their_network() -> None:
    rig = Rig()
    rig.advertise(options=[MAP])
    rig.run(30.0)
    rig.link(False)
    assert rig.events(MapsHeard) == [MapsHeard("wlan0", ROUTER, ())]
    rig.run(70.0)
    rig.link(True)
    rig.neighbour_advertises(ROUTER, ROUTER_MAC, router=True)
    (heard,) = rig.events(MapsHeard)
    assert [(option.address, option.lifetime) for option in heard.maps] == [(MAP.address, 300)]
    names = [type(output).__name__ for output in rig.latest]
    assert names.index("MapsHeard") < names.index("AddressReady")  # so that nobody acts on half of it
