"""Neighbour cache, redirects, proxy, multicast reports (RFC 4861, 6275 section 10.4.1, 3810)."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.host import AddressConflict, AddressReady, RouterLost
from mobility.host.neighbours import QUEUE_LIMIT, QUEUES_LIMIT
from mobility.host.redirect import Redirect
from mobility.wire import icmp6, ip6, mld, ndisc
from mobility.wire.errors import WireError
from tests.mobility.host.rig import (
    FAR,
    OTHER_MAC,
    OTHER_ROUTER,
    OWN_MAC,
    ROUTER,
    ROUTER_MAC,
    STRANGER,
    STRANGER_MAC,
    Rig,
    settled,
    udp,
)

NEIGHBOUR = IPv6Address("2001:db8:a::99")
NEIGHBOUR_MAC = bytes.fromhex("020000000099")
HOME = IPv6Address("2001:db8:a::77")
UNSPECIFIED = IPv6Address("::")


def test_packets_wait_for_resolution_and_leave_in_order() -> None:
    rig, address = settled()
    packets = [udp(address, NEIGHBOUR, size) for size in (1, 2, 3)]
    for packet in packets:
        rig.send(packet)
    assert rig.neighbour(NEIGHBOUR) == "incomplete"
    assert rig.host.next_hop(NEIGHBOUR.packed) is None
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC)
    assert [(output.packet, output.to) for output in rig.transmitted] == [(p, NEIGHBOUR_MAC) for p in packets]
    assert rig.neighbour(NEIGHBOUR) == "reachable"
    assert rig.host.next_hop(NEIGHBOUR.packed) == NEIGHBOUR_MAC


def test_the_question_comes_from_the_packets_source_to_the_solicited_node_group() -> None:
    rig, address = settled()
    rig.send(udp(address, NEIGHBOUR))
    ((message, output),) = rig.discovery()
    assert output.packet[8:24] == address.packed
    assert output.packet[24:40] == ndisc.solicited_node(NEIGHBOUR).packed
    assert output.to == bytes.fromhex("3333ff000099")
    assert ndisc.link_address(message) == OWN_MAC


def test_who_does_not_answer_three_times_is_unreachable_and_its_packets_are_given_back() -> None:
    rig, address = settled()
    for _ in range(2):
        rig.send(udp(address, NEIGHBOUR))
    rig.run(2.9)
    assert rig.solicited_targets() == [NEIGHBOUR, NEIGHBOUR]
    rig.run(0.2)
    assert rig.reasons == [Reason.ADDRESS_UNREACHABLE] * 2
    assert rig.neighbour(NEIGHBOUR) is None


def test_the_queue_of_one_neighbour_is_bounded_and_the_oldest_goes_first() -> None:
    rig, address = settled()
    for size in range(QUEUE_LIMIT + 4):
        rig.send(udp(address, NEIGHBOUR, size))
    assert set(rig.reasons) == {Reason.QUEUE_FULL}
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC)
    assert [len(output.packet) - 40 for output in rig.transmitted] == list(range(4, QUEUE_LIMIT + 4))


def test_the_queues_of_all_neighbours_together_are_bounded() -> None:
    rig, address = settled()
    for number in range(16):
        for _ in range(QUEUES_LIMIT // 8):
            rig.send(udp(address, IPv6Address(int(NEIGHBOUR) + 0x100 + number)))
    assert sum(len(each.queue) for each in rig.host._neighbours._neighbours.values()) == QUEUES_LIMIT
    assert set(rig.reasons) == {Reason.QUEUE_FULL}


def test_questions_wait_while_every_address_is_optimistic() -> None:
    rig = Rig()
    rig.advertise()
    rig.send(udp(rig.link_local, STRANGER))
    assert rig.solicited_targets() == []
    rig.run(1.0)
    assert rig.solicited_targets() == [STRANGER]


def test_while_optimistic_the_router_carries_packets_to_neighbours() -> None:
    rig = Rig()
    rig.advertise()
    address = rig.events(AddressReady)[0].address
    rig.send(udp(address, NEIGHBOUR))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]
    assert rig.host.next_hop(NEIGHBOUR.packed) == ROUTER_MAC
    rig.run(1.0)
    assert rig.host.next_hop(NEIGHBOUR.packed) is None
    rig.send(udp(address, NEIGHBOUR))
    assert rig.solicited_targets() == [NEIGHBOUR]


def test_a_reachable_neighbour_grows_stale_and_is_probed_only_when_used() -> None:
    rig, address = settled()
    rig.send(udp(address, NEIGHBOUR))
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC)
    rig.run(46.0)
    assert rig.neighbour(NEIGHBOUR) == "stale"
    assert rig.host.next_hop(NEIGHBOUR.packed) is None
    rig.run(100.0)
    assert rig.solicited_targets() == []
    rig.send(udp(address, NEIGHBOUR))
    assert len(rig.transmitted) == 1  # sent at once, verified later
    assert rig.neighbour(NEIGHBOUR) == "delay"
    assert rig.host.next_hop(NEIGHBOUR.packed) == NEIGHBOUR_MAC
    rig.run(5.0)
    assert rig.neighbour(NEIGHBOUR) == "probe"
    ((_, output),) = rig.discovery()
    assert (output.to, output.packet[24:40]) == (NEIGHBOUR_MAC, NEIGHBOUR.packed)
    rig.neighbour_advertises(NEIGHBOUR, None, sender=NEIGHBOUR_MAC)
    assert rig.neighbour(NEIGHBOUR) == "reachable"


def test_override_decides_whether_a_new_link_address_counts() -> None:
    rig, address = settled()
    rig.send(udp(address, NEIGHBOUR))
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC)
    rig.neighbour_advertises(NEIGHBOUR, OTHER_MAC, override=False, solicited=False)
    assert rig.neighbour(NEIGHBOUR) == "stale"
    rig.send(udp(address, NEIGHBOUR))
    assert [output.to for output in rig.transmitted] == [NEIGHBOUR_MAC]
    rig.neighbour_advertises(NEIGHBOUR, OTHER_MAC, override=True, solicited=False)
    assert rig.neighbour(NEIGHBOUR) == "stale"
    rig.send(udp(address, NEIGHBOUR))
    assert [output.to for output in rig.transmitted] == [OTHER_MAC]


def test_an_advertisement_of_somebody_unknown_changes_nothing() -> None:
    rig, _ = settled()
    before = rig.tables
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC)
    rig.neighbour_advertises(NEIGHBOUR, NEIGHBOUR_MAC, solicited=False)
    assert rig.reasons == [Reason.NDISC_UNEXPECTED]
    assert rig.tables == before


def test_a_question_teaches_the_askers_address_and_is_answered() -> None:
    rig, address = settled()
    rig.neighbour_asks(address, NEIGHBOUR, NEIGHBOUR_MAC)
    ((message, output),) = rig.discovery()
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.solicited, message.router) == (address, True, False)
    assert (output.to, output.packet[24:40]) == (NEIGHBOUR_MAC, NEIGHBOUR.packed)
    assert ndisc.link_address(message) == OWN_MAC
    assert rig.neighbour(NEIGHBOUR) == "stale"
    rig.neighbour_asks(NEIGHBOUR, STRANGER)
    assert rig.reasons == [Reason.NOT_OURS]


def test_an_asker_from_off_link_is_answered_but_not_learnt() -> None:
    rig, address = settled()
    before = rig.tables
    rig.neighbour_asks(address, FAR, STRANGER_MAC)
    assert [output.to for output in rig.transmitted] == [STRANGER_MAC]
    assert rig.tables == before


def test_a_flood_of_neighbours_stays_within_the_table_and_spares_the_router() -> None:
    rig, address = settled()
    rig.send(udp(address))
    for number in range(2000):
        rig.neighbour_asks(address, IPv6Address(f"fe80::5:{number:x}"), number.to_bytes(6))
    assert len(rig.entries("neighbours")) == 512
    assert rig.neighbour(ROUTER) is not None
    for number in range(600):
        rig.send(udp(address, IPv6Address(f"2001:db8:a::6:{number:x}")))
    assert rig.reasons == [Reason.TABLE_FULL]
    assert len(rig.entries("neighbours")) == 512
    rig.run(5.0)
    assert len(rig.entries("neighbours")) < 10


# ---------------------------------------------------------------- proxy


def test_a_proxy_announces_answers_and_intercepts() -> None:
    rig, _ = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    announcements = [(m, o) for m, o in rig.discovery(ndisc.NeighborAdvertisement)]
    ((message, output),) = announcements
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.override, message.solicited, message.router) == (HOME, True, False, False)
    assert output.packet[8:24] == rig.link_local.packed
    assert output.to == bytes.fromhex("333300000001")
    rig.run(5.0)
    assert len(rig.discovery(ndisc.NeighborAdvertisement)) == 2  # three in all
    for unicast in (False, True):
        rig.neighbour_asks(HOME, NEIGHBOUR, NEIGHBOUR_MAC, unicast=unicast)
        ((message, output),) = rig.discovery()
        assert isinstance(message, ndisc.NeighborAdvertisement)
        assert (message.target, message.override, message.solicited) == (HOME, False, True)
        assert ndisc.link_address(message) == OWN_MAC
        assert output.to == NEIGHBOUR_MAC
    for packet in (
        udp(FAR, HOME),
        icmp6.packet(FAR, HOME, icmp6.Echo(1, 1)),
        ip6.packet(FAR, HOME, 253, b"x"),
        ip6.packet(FAR, HOME, ip6.FRAGMENT, bytes(16)),
    ):
        rig.receive(packet)
        assert rig.arrived == [packet]
        assert rig.transmitted == []


def test_a_proxy_defends_the_address_and_hears_of_claims() -> None:
    rig, _ = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    own_probe = next(o.packet for m, o in rig.discovery(ndisc.NeighborSolicitation))
    rig.receive(own_probe, OWN_MAC)
    assert rig.discovery() == []
    rig.neighbour_asks(HOME, UNSPECIFIED)
    ((message, output),) = rig.discovery()
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.solicited, message.override) == (HOME, False, False)
    assert output.to == bytes.fromhex("333300000001")
    rig.neighbour_advertises(HOME, STRANGER_MAC, solicited=False)
    assert rig.events(AddressConflict) == [AddressConflict("wlan0", HOME, STRANGER_MAC.hex(":"))]


def test_a_home_agent_finds_the_node_that_is_back_while_it_still_stands_in() -> None:
    rig, address = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    rig.send(udp(address, HOME))
    rig.neighbour_advertises(HOME, NEIGHBOUR_MAC)
    assert [(output.to, output.packet[6]) for output in rig.transmitted] == [(NEIGHBOUR_MAC, ip6.UDP)]


def test_a_proxy_ends() -> None:
    rig, _ = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    rig.note(rig.host.add_proxy(HOME, rig.now))
    assert rig.latest == []
    rig.note(rig.host.remove_proxy(HOME, rig.now))
    rig.note(rig.host.remove_proxy(HOME, rig.now))
    rig.run(5.0)
    assert rig.discovery() == []
    rig.neighbour_asks(HOME)
    rig.receive(udp(FAR, HOME))
    assert rig.reasons == [Reason.NOT_OURS]


def test_proxies_are_announced_again_when_the_link_returns() -> None:
    rig, _ = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    rig.link(False)
    rig.run(5.0)
    assert rig.latest == []
    rig.link(True)
    assert HOME in [m.target for m, _ in rig.discovery() if isinstance(m, ndisc.NeighborAdvertisement)]


# ---------------------------------------------------------------- redirect


def redirected(source: IPv6Address, redirect: Redirect, to: IPv6Address, hop_limit: int = 255) -> bytes:
    return icmp6.packet(source, to, redirect, hop_limit)


def test_the_router_in_use_may_redirect_to_another_router_or_a_neighbour() -> None:
    rig, address = settled()
    rig.receive(redirected(ROUTER, Redirect(OTHER_ROUTER.packed, FAR.packed, OTHER_MAC), address))
    rig.send(udp(address))
    assert [output.to for output in rig.transmitted] == [OTHER_MAC]
    direct = IPv6Address("2001:db8:e::1")
    rig.receive(redirected(ROUTER, Redirect(direct.packed, direct.packed, NEIGHBOUR_MAC), address))
    rig.send(udp(address, direct))
    assert [output.to for output in rig.transmitted] == [NEIGHBOUR_MAC]
    rig.run(20.0)  # neither of them answers
    rig.send(udp(address))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]


@pytest.mark.parametrize(
    ("source", "target", "hop_limit", "reason"),
    [
        (STRANGER, OTHER_ROUTER, 255, Reason.NDISC_UNEXPECTED),
        (FAR, OTHER_ROUTER, 255, Reason.NDISC_INVALID),
        (ROUTER, OTHER_ROUTER, 254, Reason.NDISC_INVALID),
        (ROUTER, IPv6Address("2001:db8::1"), 255, Reason.NDISC_INVALID),
    ],
)
def test_redirects_of_others_change_nothing(
    source: IPv6Address, target: IPv6Address, hop_limit: int, reason: Reason
) -> None:
    rig, address = settled()
    before = rig.tables
    rig.receive(redirected(source, Redirect(target.packed, FAR.packed, STRANGER_MAC), address, hop_limit))
    assert rig.reasons == [reason]
    assert rig.tables == before
    rig.send(udp(address))
    assert [output.to for output in rig.transmitted] == [ROUTER_MAC]


def test_redirect_is_read_and_written_and_every_cut_is_refused() -> None:
    redirect = Redirect(OTHER_ROUTER.packed, FAR.packed, OTHER_MAC)
    data = bytes(redirect)
    assert Redirect.parse(data) == redirect
    assert Redirect.parse(data[:40]) == Redirect(OTHER_ROUTER.packed, FAR.packed, None)
    for size in [*range(40), *range(41, 48)]:
        with pytest.raises(WireError):
            Redirect.parse(data[:size])
    for wrong in (b"\x88" + data[1:], data[:1] + b"\1" + data[2:], data[:41] + b"\0" + data[42:]):
        with pytest.raises(WireError):
            Redirect.parse(wrong)
    with pytest.raises(WireError):
        Redirect.parse(bytes(Redirect(OTHER_ROUTER.packed, ndisc.ALL_NODES.packed, None)))


# ---------------------------------------------------------------- multicast


def query(
    group: IPv6Address, code: int, source: IPv6Address = ROUTER, hop_limit: int = 1, tail: bytes = bytes(4)
) -> bytes:
    body = icmp6.Unknown(130, 0, code.to_bytes(2) + bytes(2) + group.packed + tail)
    return icmp6.packet(source, ndisc.ALL_NODES, body, hop_limit)


def reports(rig: Rig) -> list[mld.Report]:
    found = [output for output in rig.transmitted if output.packet[6] == ip6.HOP_BY_HOP]
    assert all(output.to == bytes.fromhex("333300000016") for output in found)
    return [mld.Report.parse(output.packet[48:]) for output in found]


def test_group_membership_is_reported_repeated_and_withdrawn() -> None:
    rig, _ = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    group = ndisc.solicited_node(HOME)
    assert reports(rig) == [mld.Report((mld.Record(mld.RecordType.TO_EXCLUDE, group),))]
    rig.run(1.0)
    assert reports(rig) == [mld.Report((mld.Record(mld.RecordType.TO_EXCLUDE, group),))]
    rig.run(10.0)
    assert reports(rig) == []
    rig.note(rig.host.remove_proxy(HOME, rig.now))
    assert reports(rig) == [mld.Report((mld.Record(mld.RecordType.TO_INCLUDE, group),))]


def test_queries_are_answered_within_their_time() -> None:
    rig, address = settled()
    rig.receive(query(UNSPECIFIED, 1000))
    rig.receive(query(UNSPECIFIED, 1000))
    assert rig.transmitted == []
    rig.run(1.0)
    (report,) = reports(rig)
    groups = {record.group for record in report.records}
    assert groups == {ndisc.solicited_node(address), ndisc.solicited_node(rig.link_local)}
    rig.receive(query(ndisc.solicited_node(address), 0x8000))  # 32.768 s
    rig.run(33.0)
    assert [len(report.records) for report in reports(rig)] == [1]
    rig.receive(query(ndisc.solicited_node(HOME), 10))
    rig.run(1.0)
    assert rig.latest == []
    for bad in (query(UNSPECIFIED, 10, FAR), query(UNSPECIFIED, 10, hop_limit=2), query(UNSPECIFIED, 10)[:-8]):
        rig.receive(bad)
        rig.run(1.0)
        assert reports(rig) == []


def test_link_down_forgets_neighbours_and_gives_their_packets_back() -> None:
    rig, address = settled()
    rig.send(udp(address, NEIGHBOUR))
    rig.link(False)
    assert Reason.ADDRESS_UNREACHABLE in rig.reasons
    assert rig.entries("neighbours") == []
    assert len(rig.events(RouterLost)) == 1
    rig.send(udp(address))
    assert rig.reasons == [Reason.LINK_DOWN]
    rig.link(False)
    assert rig.latest == []
    rig.run(100.0)
    assert rig.transmitted == []
