"""Several bindings of one home address: which is used, what overlaps, what is still taken from places left behind."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from mobility.discards import Discard, Reason
from mobility.mipv6.again import Loss
from mobility.mipv6.binding_cache import BINDINGS_PER_HOME
from mobility.mipv6.binding_events import BindingCreated, BindingEnded, BindingRefreshed, BindingRemoved
from mobility.mipv6.served_terminal import LATE, LOST_LIMIT
from mobility.mipv6.signalling import from_terminal
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate
from mobility.outputs import Arrived, Transmit
from mobility.wire import icmp6, ip6, mh
from tests.mobility.mipv6.agent_bench import AH, COA, COA2, NAT, Bench, hopped, ways
from tests.mobility.whole import CN, HA, MN, MN2, udp

FORMS = list(TunnelForm)
PROTECTED = [TunnelForm.ESP, TunnelForm.ESP_MOBILE]


def bid(identifier: int) -> tuple[mh.Option, ...]:
    return (mh.BindingIdentifier(identifier),)


def twice_bound(form: TunnelForm = TunnelForm.ESP) -> Bench:
    """First at `COA` as 1, then at `COA2` as 2, a hundred seconds ago."""
    bench = Bench(form)
    bench.bind(1, -100.0, options=bid(1))
    bench.bind(2, -100.0, source=COA2, options=bid(2))
    bench.link.sent.clear()
    return bench


def refused(bench: Bench, packet: bytes, now: float) -> Reason:
    with pytest.raises(Discard) as caught:
        bench.agent.reverse(packet, now)
    return caught.value.reason


def test_the_last_update_names_the_primary() -> None:
    bench = Bench()
    ack = bench.bind(1, options=bid(1))
    assert mh.BindingIdentifier(1) in ack.options
    outputs = bench.agent.signalling(bench.update(2, source=COA2, options=bid(2)), 5.0)
    assert BindingCreated(MN, COA2, COA, 400, identifier=2) in outputs
    assert bench.paths == [COA2.packed, COA.packed]
    outputs = bench.agent.signalling(bench.update(3, options=bid(1)), 6.0)
    assert BindingCreated(MN, COA, COA2, 400, identifier=1) in outputs
    assert bench.paths == [COA.packed, COA2.packed]
    outputs = bench.agent.signalling(bench.update(4, options=bid(1)), 7.0)
    assert BindingRefreshed(MN, 1, 400) in outputs
    assert [row["primary"] for row in bench.agent.cache.snapshot(7.0)] == [True, False]


def test_overlap_sends_the_same_esp_both_ways_for_its_time() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    bench.bind(2, 10.0, source=COA2, options=bid(2))
    packet = udp(CN, MN, b"hello")
    outputs = bench.agent.intercept(packet, 10.5)
    assert ways(outputs) == [COA2.packed, COA.packed]
    first, second = bench.link.sent[-2:]
    assert first[40:] == second[40:]
    assert bench.received(outputs[0]) == hopped(packet)
    with pytest.raises(Discard) as caught:
        bench.received(outputs[1])
    assert caught.value.reason is Reason.REPLAYED
    assert ways(bench.agent.intercept(packet, 11.0)) == [COA2.packed]


def test_overlap_where_a_link_gets_another_address() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    bench.bind(2, source=COA2, options=bid(1))
    bench.bind(3, 0.1, source=COA2, options=bid(1))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.9)) == [COA2.packed, COA.packed]
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 1.0)) == [COA2.packed]


def test_overlap_from_native_to_udp_and_back() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    bench.udp_bind(2, now=1.0, options=bid(2))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 1.1)) == [NAT, COA.packed]
    bench.bind(3, 1.2, options=bid(1))
    outputs = bench.agent.intercept(udp(CN, MN, b"x"), 1.3)
    assert ways(outputs) == [COA.packed, NAT]
    assert bench.received(outputs[1])[24:40] == MN.packed


@pytest.mark.parametrize("form", [TunnelForm.PLAIN, TunnelForm.ESP_MOBILE])
def test_no_overlap_where_duplicates_would_not_be_noticed(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.bind(1, options=bid(1))
    bench.bind(2, source=COA2, options=bid(2))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.1)) == [COA2.packed]


def test_no_overlap_with_a_terminal_of_one_binding() -> None:
    bench = Bench()
    bench.bind(1)
    bench.bind(2, source=COA2)
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.1)) == [COA2.packed]


def test_overlap_can_be_switched_off() -> None:
    bench = Bench()
    bench.configure(overlap=0.0)
    bench.bind(1, options=bid(1))
    bench.bind(2, source=COA2, options=bid(2))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.1)) == [COA2.packed]


@pytest.mark.parametrize("form", FORMS)
def test_packets_are_taken_from_every_bound_place(form: TunnelForm) -> None:
    bench = twice_bound(form)
    packet = udp(MN, CN, b"hello")
    for place in (COA, COA2, COA):
        bench.up(packet, place)
        assert bench.link.sent.pop() == hopped(packet)


def test_update_without_identifier_replaces_all() -> None:
    bench = twice_bound()
    coa3 = IPv6Address("2001:db8:c::3")
    outputs = bench.agent.signalling(bench.update(3, source=coa3), 0.0)
    assert bench.paths == [coa3.packed]
    assert [event.identifier for event in outputs if isinstance(event, BindingEnded)] == [2, 1]
    for place in (COA, COA2):
        inner = encapsulate(udp(MN, CN, b"x"), place.packed + HA.packed, bench.form, bench.security)
        assert refused(bench, inner, 0.1) is Reason.OUTER_SOURCE_WRONG


def test_update_with_an_identifier_ends_the_binding_without() -> None:
    bench = Bench()
    bench.bind(1)
    bench.bind(2, source=COA2, options=bid(2))
    assert bench.paths == [COA2.packed]


# ---------------------------------------------------------------- loss


def loss(bench: Bench, number: int) -> mh.Option:
    association = bench.pair.terminal.tunnel_in
    assert association is not None
    return Loss(association.top, number, COA).option()


def test_loss_replaces_all_others_and_sends_again() -> None:
    bench = twice_bound()
    told = loss(bench, 7)
    lost = [udp(CN, MN, bytes((number,))) for number in range(3)]
    for packet in lost:
        bench.agent.intercept(packet, 0.0)
    update = bench.update(3, options=(mh.BindingIdentifier(1), told))
    outputs = bench.agent.signalling(update, 0.1)
    again = [bench.received(each) for each in outputs if ways([each]) == [COA.packed]]
    assert again == [hopped(packet) for packet in lost]
    assert BindingEnded(MN, 2, COA2, "lost") in outputs
    assert bench.paths == [COA.packed]
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.2)) == [COA.packed]
    late = encapsulate(udp(MN, CN, b"x"), COA2.packed + HA.packed, bench.form, bench.security)
    assert refused(bench, late, 0.2) is Reason.CARE_OF_ADDRESS_LOST


def test_repeated_loss_takes_no_place_away_that_came_later() -> None:
    bench = twice_bound()
    told = loss(bench, 7)
    bench.bind(3, 0.0, options=(mh.BindingIdentifier(1), told))
    bench.bind(4, 0.1, source=COA2, options=bid(2))
    bench.bind(5, 0.2, options=(mh.BindingIdentifier(1), told))
    assert bench.paths == [COA.packed, COA2.packed]


def test_lost_place_counts_again_once_it_is_registered() -> None:
    bench = twice_bound()
    bench.bind(3, 0.0, options=(mh.BindingIdentifier(1), loss(bench, 7)))
    bench.bind(4, 0.1, source=COA2, options=bid(2))
    packet = udp(MN, CN, b"x")
    bench.up(packet, COA2, 0.2)
    assert bench.link.sent[-1] == hopped(packet)


def test_lost_places_are_forgotten_in_time() -> None:
    bench = Bench()
    for number in range(30):
        place = IPv6Address(int(COA) + number)
        bench.bind(number + 1, number / 10, source=place, options=(mh.BindingIdentifier(1), loss(bench, number)))
    terminal = bench.agent._terminals[MN.packed]
    assert len(terminal.lost) == LOST_LIMIT
    assert len(terminal.sources) == 1


def test_delayed_update_does_not_bring_a_lost_place_back() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    delayed = bench.update(2, options=bid(1))
    bench.bind(3, source=COA2, options=(mh.BindingIdentifier(2), loss(bench, 1)))
    bench.agent.signalling(delayed, 0.1)
    assert bench.paths == [COA2.packed]


# ---------------------------------------------------------------- reordered updates


def test_overtaken_update_is_taken_but_does_not_turn_the_traffic_back() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    refresh = bench.update(2, options=bid(1))
    bench.bind(3, source=COA2, options=bid(2))
    outputs = bench.agent.signalling(refresh, 0.3)
    assert BindingRefreshed(MN, 1, 400) in outputs
    assert bench.paths == [COA2.packed, COA.packed]
    row = bench.agent.cache.get(MN.packed, 1)
    assert row is not None
    assert row.sequence == 2
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 5.0)) == [COA2.packed]


def test_first_update_of_a_place_that_was_overtaken() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    slow = bench.update(2, source=COA2, options=bid(2))
    bench.bind(3, options=bid(1))
    bench.agent.signalling(slow, 0.3)
    assert bench.paths == [COA.packed, COA2.packed]


# ---------------------------------------------------------------- deregistration


def test_one_of_several_is_taken_away_by_any_path() -> None:
    bench = twice_bound()
    outputs = bench.agent.signalling(bench.update(3, lifetime=0, source=COA2, care_of=COA, options=bid(1)), 0.0)
    assert BindingEnded(MN, 1, COA, "deregistered") in outputs
    assert bench.replies[-1].packet[24:40] == COA2.packed
    assert bench.paths == [COA2.packed]
    assert bench.link.proxied == {MN}


def test_unknown_identifier() -> None:
    bench = twice_bound()
    assert bench.bind(3, lifetime=0, options=bid(9)).status == mh.Status.MCOA_UNKNOWN_COA
    assert bench.bind(4, lifetime=0, options=bid(1)).status == 0
    assert bench.bind(5, lifetime=0, options=bid(1)).status == mh.Status.MCOA_UNKNOWN_COA
    assert len(bench.paths) == 1


def test_what_was_on_its_way_from_a_deregistered_place_is_waited_for() -> None:
    bench = twice_bound()
    packet = udp(MN, CN, b"late")
    bench.bind(3, 10.0, lifetime=0, source=COA2, options=bid(1))
    bench.up(packet, COA, 10.0 + LATE - 0.1)
    assert bench.link.sent[-1] == hopped(packet)
    inner = encapsulate(packet, COA.packed + HA.packed, bench.form, bench.security)
    assert refused(bench, inner, 10.0 + LATE) is Reason.OUTER_SOURCE_WRONG


def test_withdrawn_place_is_sent_to_no_more_although_the_overlap_is_not_over() -> None:
    bench = Bench()
    bench.bind(1, options=bid(1))
    bench.bind(2, source=COA2, options=bid(2))
    bench.bind(3, 0.1, lifetime=0, source=COA2, options=bid(1))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.2)) == [COA2.packed]


def test_primary_taken_away_leaves_the_other() -> None:
    bench = twice_bound()
    bench.bind(3, lifetime=0, options=bid(2))
    assert ways(bench.agent.intercept(udp(CN, MN, b"x"), 0.1)) == [COA.packed]


def test_last_one_taken_away_is_a_deregistration() -> None:
    bench = twice_bound()
    bench.bind(3, lifetime=0, options=bid(2))
    outputs = bench.agent.signalling(bench.update(4, lifetime=0, options=bid(1)), 0.0)
    assert BindingRemoved(MN, "deregistered") in outputs
    assert bench.link.proxied == set()
    assert bench.agent.timer is None
    packet = udp(MN, CN, b"late")
    bench.up(packet, COA, 1.0)
    assert bench.link.sent[-1] == hopped(packet)


def test_no_identifier_takes_all_away() -> None:
    bench = twice_bound()
    outputs = bench.agent.signalling(bench.update(3, lifetime=0, source=MN), 0.0)
    assert BindingRemoved(MN, "deregistered") in outputs
    assert bench.paths == []
    assert bench.agent.timer is None


def test_delayed_update_does_not_bind_a_terminal_that_is_home() -> None:
    bench = Bench()
    bench.bind(1)
    delayed = bench.update(2)
    bench.bind(3, source=MN, lifetime=0)
    bench.agent.signalling(delayed, 0.1)
    assert bench.paths == []


def test_one_of_several_expires() -> None:
    bench = Bench()
    bench.bind(1, 0.0, lifetime=100, options=bid(1))
    bench.bind(2, 50.0, lifetime=200, source=COA2, options=bid(2))
    assert bench.agent.timer == 90.0
    bench.agent.handle_timer(90.0)
    assert bench.link.sent[-1][24:40] == COA.packed
    assert bench.agent.handle_timer(100.0) == [BindingEnded(MN, 1, COA, "lifetime over")]
    assert bench.paths == [COA2.packed]
    assert bench.agent.handle_timer(250.0)[-1] == BindingRemoved(MN, "lifetime over")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((mh.BindingIdentifier(0),), mh.Status.MCOA_MALFORMED),
        ((mh.BindingIdentifier(1), mh.BindingIdentifier(2)), 168),
        ((mh.BindingIdentifier(1, simultaneous_home=True),), 169),
    ],
)
def test_identifiers_that_make_no_sense(options: tuple[mh.Option, ...], status: int) -> None:
    bench = Bench()
    assert bench.bind(1, options=options).status == status
    assert bench.paths == []


def test_bindings_of_one_terminal_are_bounded() -> None:
    bench = Bench()
    for number in range(BINDINGS_PER_HOME):
        assert bench.bind(number + 1, source=IPv6Address(int(COA) + number), options=bid(number + 1)).status == 0
    ack = bench.bind(20, source=COA2, options=bid(99))
    assert ack.status == mh.Status.INSUFFICIENT_RESOURCES
    assert len(bench.paths) == BINDINGS_PER_HOME
    assert bench.bind(21, source=COA2).status == 0
    assert bench.paths == [COA2.packed]


def test_sequence_numbers_are_compared_within_one_binding() -> None:
    bench = twice_bound()
    ack = bench.bind(1, source=COA2, options=bid(1))
    assert (ack.status, ack.sequence) == (mh.Status.SEQUENCE_OUT_OF_WINDOW, 1)
    assert bench.bind(2, options=bid(1)).status == 0


@pytest.mark.parametrize("form", FORMS)
def test_echo_is_answered_by_the_path_that_it_came_once(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.bind(1, options=bid(1))
    bench.bind(2, source=COA2, options=bid(2))
    for place in (COA, COA2):
        bench.link.sent.clear()
        outputs = bench.up(icmp6.packet(MN, HA, icmp6.Echo(7, 1, b"data")), place, 0.1)
        assert ways(outputs) == [place.packed]
        assert icmp6.parse(bench.received(outputs[0])[ip6.HEADER_SIZE :]) == icmp6.Echo(7, 1, b"data", reply=True)


def test_what_the_home_agent_itself_does_not_answer() -> None:
    bench = twice_bound()
    echo = icmp6.packet(MN, HA, icmp6.Echo(7, 1, b"data"))
    broken = echo[:-1] + bytes((echo[-1] ^ 1,))
    answer = icmp6.packet(MN, HA, icmp6.Echo(7, 1, b"data", reply=True))
    outer = encapsulate(broken, COA.packed + HA.packed, bench.form, bench.security)
    assert refused(bench, outer, 0.0) is Reason.MALFORMED
    for inner in (answer, udp(MN, HA, b"x")):
        # It is received as if it had not come through a tunnel, and ignored there.
        outer = encapsulate(inner, COA.packed + HA.packed, bench.form, bench.security)
        assert bench.agent.reverse(outer, 0.0) == [Arrived(inner, "home0")]


def test_terminals_talk_to_each_other_through_both_tunnels() -> None:
    bench = twice_bound()
    care_of = IPv6Address("2001:db8:c::3")
    message = mh.BindingUpdate(1, AH, 400, (mh.AlternateCareOfAddress(care_of),))
    bench.agent.signalling(from_terminal(message, MN2, care_of, HA, bench.security2), 0.0)
    packet = udp(MN, MN2, b"x")
    outputs = bench.up(packet, COA, 0.1)
    assert ways(outputs) == [care_of.packed]
    (sent,) = outputs
    assert isinstance(sent, Transmit)
    assert decapsulate(sent.packet, bench.form, bench.security2) == hopped(packet)


@pytest.mark.parametrize("form", PROTECTED)
def test_what_was_lost_before_the_return_home_is_sent_there(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.bind(1)
    packet = udp(CN, MN, b"lost")
    bench.agent.intercept(packet, 0.1)
    association = bench.pair.terminal.tunnel_in
    assert association is not None
    told = Loss(association.top, 1, COA).option()
    bench.agent.signalling(bench.update(2, lifetime=0, source=MN, options=(told,)), 0.2)
    assert bench.replies[-1].packet == hopped(packet)
    assert bench.replies[-1].at_home
