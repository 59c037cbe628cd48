"""Tunnels inside tunnels (Fig. 36): headers 352 and 353, loops, depth, what fits, and handovers inside a nest."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.mipv6.again import Loss
from mobility.mipv6.binding_events import BindingCreated, UpdateRefused
from mobility.mipv6.tunnel import TunnelForm, decapsulate
from mobility.nemo.nest import NESTING_LIMIT
from mobility.wire import icmp6, ip6, mh
from tests.mobility.nemo.rig import VISITED, Member, Rig, hopped, network, reasons, sent
from tests.mobility.whole import CN, HA, udp

ESP, PLAIN, ESP_MOBILE = TunnelForm.ESP, TunnelForm.PLAIN, TunnelForm.ESP_MOBILE
FORMS = list(TunnelForm)
PLACE = VISITED.network_address + 0x77


def inside(number: int, host: int = 0x77) -> IPv6Address:
    return network(number).network_address + host


@pytest.mark.parametrize("outer", FORMS)
@pytest.mark.parametrize("inner", FORMS)
def test_one_header_for_each_binding_both_ways(outer: TunnelForm, inner: TunnelForm) -> None:
    rig = Rig(outer, inner)
    terminal = rig.nest(1)
    router = rig.members[0]
    down, up = udp(CN, terminal.home, b"351"), udp(terminal.home, CN, b"up")
    down = bytes((0x6B, 0x80)) + down[2:]  # expedited forwarding
    (packet,) = sent(rig.arrives(down))
    assert packet[8:40] == HA.packed + router.care_of.packed  # header 353
    assert packet[:2] == b"\x6b\x80"
    assert packet[7] == 64
    assert packet[6] == (ip6.IPV6 if outer is PLAIN else ip6.ESP)
    within = decapsulate(packet, outer, router.security)
    assert within[8:40] == HA.packed + terminal.care_of.packed  # header 352
    assert within[6] == (ip6.IPV6 if inner is PLAIN else ip6.ESP)
    assert decapsulate(within, inner, terminal.security) == hopped(down)
    assert sent(rig.arrives(terminal.up(up))) == [hopped(up)]
    assert rig.agent.reversed == 3  # with the binding update, which came through the router's tunnel


@pytest.mark.parametrize("depth", range(NESTING_LIMIT + 1))
def test_as_many_times_as_bindings_nest(depth: int) -> None:
    rig = Rig(*[ESP, PLAIN, ESP_MOBILE, ESP, PLAIN][:depth], ESP)
    terminal = rig.nest(depth)
    packet = udp(CN, terminal.home, b"x")
    (outer,) = sent(rig.arrives(packet))
    assert len(terminal.inside) == depth
    assert terminal.down(outer) == hopped(packet)
    assert sent(rig.arrives(terminal.up(udp(terminal.home, CN, b"y")))) == [hopped(udp(terminal.home, CN, b"y"))]


def test_two_terminals_of_one_train_talk_through_both_nests() -> None:
    rig = Rig(ESP, ESP, ESP)
    router, other, terminal = rig.members
    rig.asks(router, PLACE)
    rig.asks(other, inside(1, 2), (router,))
    rig.asks(terminal, inside(1, 3), (router,))
    packet = udp(terminal.home, other.home, b"x")
    (outer,) = sent(rig.arrives(terminal.up(packet)))
    assert other.down(outer) == hopped(packet)


# ---------------------------------------------------------------- loops and depth


def refusal(rig: Rig, member: Member, place: IPv6Address) -> str:
    """Why a place is refused. The update arrives as if there were another way; the answer goes into the nest."""
    outputs = rig.arrives(rig.update(member, place))
    (refused,) = [each for each in outputs if isinstance(each, UpdateRefused)]
    assert refused.status == "invalid-care-of-address"
    return refused.why


def test_two_routers_inside_each_other_are_refused() -> None:
    rig = Rig(ESP, ESP, ESP)
    first, second, _ = rig.members
    rig.asks(first, PLACE)
    assert rig.asks(second, inside(1), (first,))[0].accepted
    assert "loop" in refusal(rig, first, inside(2))
    # The binding that it had goes on.
    (outer,) = sent(rig.arrives(udp(CN, second.home, b"x")))
    assert second.down(outer)[24:40] == second.home.packed


def test_a_router_inside_itself_is_refused() -> None:
    rig = Rig(ESP, ESP)
    answer, _ = rig.asks(rig.members[0], inside(1))
    assert answer.status == mh.Status.INVALID_CARE_OF_ADDRESS


def test_a_loop_over_three_routers_is_refused() -> None:
    rig = Rig(ESP, ESP, ESP, ESP)
    first, second, third, _ = rig.members
    rig.asks(first, PLACE)
    rig.asks(second, inside(1), (first,))
    rig.asks(third, inside(2), (second, first))
    assert "loop" in refusal(rig, first, inside(3))


def test_a_loop_of_networks_that_were_not_bound_before_is_refused() -> None:
    """The second router is in the network of the first, which is at home; then the first one moves into the second."""
    rig = Rig(ESP, ESP, ESP)
    first, second, _ = rig.members
    assert rig.asks(second, inside(1))[0].accepted
    assert "loop" in refusal(rig, first, inside(2))


def test_a_loop_that_nobody_refused_ends_at_the_first_packet() -> None:
    """Bindings of another process, under another configuration."""
    rig = Rig(ESP, ESP, ESP)
    first, second, _ = rig.members
    rig.asks(first, PLACE)
    rig.asks(second, inside(1), (first,))
    records = {record.home_address: record for record in rig.agent.bindings(0.0)}
    wrong = records[first.home]
    wrong = replace(wrong, bindings=(replace(wrong.bindings[0], care_of_address=inside(2)),))
    rig.agent.reconfigure((), 6.0)
    rig.agent.reconfigure(rig.authorised(), 6.0)
    rig.agent.restore([wrong, records[second.home]], 0.0, 6.0)
    for home in (first.home, second.home, inside(1, 1), inside(2, 1)):
        outputs = rig.arrives(udp(CN, home, b"x"), 7.0)
        assert sent(outputs) == []
        assert reasons(outputs) == [Reason.TUNNEL_LOOP]


def test_too_deep_is_refused_and_dropped_where_it_came_about_later() -> None:
    rig = Rig(*[ESP] * (NESTING_LIMIT + 2))
    around = rig.nest(NESTING_LIMIT).inside
    one_more = rig.members[NESTING_LIMIT]
    assert rig.asks(one_more, inside(NESTING_LIMIT, 5), around)[0].accepted
    terminal = rig.members[-1]
    assert (
        refusal(rig, terminal, inside(NESTING_LIMIT + 1)) == f"it is inside more than {NESTING_LIMIT} mobile networks"
    )
    # The outermost router moves into the network of another one: those inside are too deep from now on.
    rig = Rig(*[ESP] * (NESTING_LIMIT + 2))
    terminal = rig.nest(NESTING_LIMIT)
    another = rig.members[NESTING_LIMIT]
    rig.asks(another, PLACE + 1)
    assert rig.asks(rig.members[0], inside(NESTING_LIMIT + 1), (another,))[0].accepted
    outputs = rig.arrives(udp(CN, terminal.home, b"x"))
    assert (sent(outputs), reasons(outputs)) == ([], [Reason.NESTING_LIMIT])


def test_packets_packed_too_often_are_not_opened_to_the_end() -> None:
    rig = Rig(*[PLAIN] * (NESTING_LIMIT + 2))
    rig.asks(rig.members[0], PLACE)
    (record,) = rig.agent.bindings(0.0)
    # Bindings that no registration would have brought about: each node is at the home address of the one before.
    places = [member.home for member in rig.members]
    for member, place in zip(rig.members[1:], places, strict=False):
        row = replace(record.bindings[0], home_address=member.home, care_of_address=place, mobile_networks=())
        rig.agent.restore([replace(record, home_address=member.home, bindings=(row,))], 0.0, 6.0)

    def packed(depth: int) -> bytes:
        packet = udp(places[depth], CN, b"x")
        for place in reversed([PLACE, *places[:depth]]):
            packet = ip6.packet(place, HA, ip6.IPV6, packet)
        return packet

    assert sent(rig.arrives(packed(NESTING_LIMIT))) == [hopped(udp(places[NESTING_LIMIT], CN, b"x"))]
    outputs = rig.arrives(packed(NESTING_LIMIT + 1))
    assert (sent(outputs), reasons(outputs)) == ([], [Reason.NESTING_LIMIT])


# ---------------------------------------------------------------- what fits


@pytest.mark.parametrize("form", [ESP, PLAIN])
def test_the_sender_is_told_what_fits_through_the_whole_nest(form: TunnelForm) -> None:
    rig = Rig(form, form)
    terminal = rig.nest(1)
    outputs = rig.arrives(udp(CN, terminal.home, bytes(1452)))
    assert reasons(outputs) == [Reason.TOO_BIG]
    (told,) = sent(outputs)
    message = icmp6.parse(told[40:])
    assert isinstance(message, icmp6.PacketTooBig)
    fits = udp(CN, terminal.home, bytes(message.mtu - 48))
    (outer,) = sent(rig.arrives(fits))
    assert 1500 - 32 < len(outer) <= 1500
    assert terminal.down(outer) == hopped(fits)


def test_deep_inside_outer_packets_are_split_and_put_together() -> None:
    rig = Rig(*[ESP] * (NESTING_LIMIT + 1))
    terminal = rig.nest(NESTING_LIMIT)
    packet = udp(CN, terminal.home, bytes(1232))  # what every link of IPv6 has to carry
    outers = sent(rig.arrives(packet))
    assert len(outers) > 1
    assert max(len(each) for each in outers) <= 1500
    pieces = outers
    for member in reversed(terminal.inside):
        pieces = joined([decapsulate(each, member.form, member.security) for each in joined(pieces)])
    (whole,) = joined(pieces)
    assert decapsulate(whole, terminal.form, terminal.security) == hopped(packet)


def joined(packets: list[bytes]) -> list[bytes]:
    """Packets put together where they are fragments (in order, of one packet at a time)."""
    result: list[bytes] = []
    body = b""
    for packet in packets:
        if packet[6] != ip6.FRAGMENT:
            result.append(packet)
            continue
        body += packet[48:]
        if not packet[43] & 1:
            result.append(ip6.packet(IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), packet[40], body))
            body = b""
    return result


def test_a_router_on_the_way_inside_the_nest_says_what_fits() -> None:
    """Packet Too Big about the home agent's own outer packet comes through the tunnel of the network around."""
    rig = Rig(ESP, ESP)
    terminal = rig.nest(1)
    before = room(rig, terminal.home)
    quoted = ip6.packet(HA, terminal.care_of, ip6.ESP, bytes(1300))
    told = icmp6.packet(inside(1, 1), HA, icmp6.PacketTooBig(1400, quoted))
    rig.arrives(rig.members[0].up(told))
    assert room(rig, terminal.home) < before
    (outer,) = sent(rig.arrives(udp(CN, terminal.home, bytes(room(rig, terminal.home) - 48))))
    assert len(decapsulate(outer, ESP, rig.members[0].security)) <= 1400


def room(rig: Rig, home: IPv6Address) -> int:
    outputs = rig.arrives(udp(CN, home, bytes(1452)))
    message = icmp6.parse(sent(outputs)[0][40:])
    assert isinstance(message, icmp6.PacketTooBig)
    return message.mtu


# ---------------------------------------------------------------- handovers inside


def test_what_the_train_lost_at_its_handover_is_sent_again_with_the_nest_around_it() -> None:
    rig = Rig(ESP, ESP)
    terminal = rig.nest(1)
    router = rig.members[0]
    association = router.pair.terminal.tunnel_in
    assert association is not None
    packet = udp(CN, terminal.home, b"lost")
    assert len(sent(rig.arrives(packet, 5.1))) == 1  # never arrives
    told = Loss(association.top, 1, router.care_of).option()
    _, outputs = rig.asks(router, PLACE + 1, now=5.2, options=(told,))
    (created,) = [each for each in outputs if isinstance(each, BindingCreated)]
    assert created.sent_again == 1
    _, again = sent(outputs)
    assert terminal.down(again) == hopped(packet)


def test_a_terminal_that_moves_inside_the_train_is_followed() -> None:
    """From the network of the train to the network of the second router in it."""
    rig = Rig(ESP, ESP, ESP)
    router, second, terminal = rig.members
    rig.asks(router, PLACE)
    rig.asks(second, inside(1, 2), (router,))
    rig.asks(terminal, inside(1, 3), (router,))
    packet = udp(CN, terminal.home, b"x")
    assert terminal.down(sent(rig.arrives(packet))[0]) == hopped(packet)
    rig.asks(terminal, inside(2, 3), (second, router))
    (outer,) = sent(rig.arrives(packet))
    assert terminal.down(outer) == hopped(packet)
    # From the place that it left nothing is taken any more.
    late = replace(terminal, care_of=inside(1, 3), inside=(router,))
    outputs = rig.arrives(late.up(udp(terminal.home, CN, b"late")))
    assert (sent(outputs), reasons(outputs)) == ([], [Reason.OUTER_SOURCE_WRONG])
