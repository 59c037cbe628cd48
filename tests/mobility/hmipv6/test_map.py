"""The mobility anchor point by itself: what is bound, what is carried, what is refused."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random
from typing import TypeVar

import pytest

from mobility.anchor_point import AnchorPointNode, AnchorPointSettings
from mobility.discards import Reason
from mobility.hmipv6.map_events import (
    LocalUpdateRefused,
    RegionalBindingCreated,
    RegionalBindingMoved,
    RegionalBindingRemoved,
)
from mobility.hmipv6.map_settings import MapSettings, MapTerminal
from mobility.hmipv6.options import again_option
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.key_source import KeySource
from mobility.links import LinkSettings
from mobility.mipv6.signalling import UNPROTECTED, Protection, Received, from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate, terminal_policies
from mobility.outputs import Discarded, Event, Output, Transmit
from mobility.wire import icmp6, ip6, mh, ndisc
from tests.mobility.whole import Pair, mobile_pair

MAP = IPv6Address("2001:db8:9::9")
RCOA = IPv6Address("2001:db8:9::1:1")
OTHER_RCOA = IPv6Address("2001:db8:9::2:2")
LCOA = IPv6Address("2001:db8:a::1")
NEXT_LCOA = IPv6Address("2001:db8:b::1")
FAR = IPv6Address("2001:db8:1::a")
ROUTER, ROUTER_MAC = IPv6Address("fe80::1"), bytes.fromhex("0200000000aa")
REGISTER = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.MAP_REGISTRATION

_Event = TypeVar("_Event", bound=Event)


class Bench:
    """A MAP on a link with a router."""

    def __init__(self, settings: MapSettings | None = None, *, mtu: int = 1500) -> None:
        chosen = MapSettings(MAP, open=True) if settings is None else settings
        link = LinkSettings("eth0", bytes.fromhex("020000000009"), mtu)
        self.node = AnchorPointNode(AnchorPointSettings(chosen, link), Random(1).randbytes)
        self.now = 0.0
        self.latest: list[Output] = []
        self.node.start(0.0)
        self.node.link_changed("eth0", True, 0.0)
        advertisement = ndisc.RouterAdvertisement(1800, 64, options=(ndisc.SourceLinkAddress(ROUTER_MAC),))
        self.receive(ndisc.packet(ROUTER, ndisc.ALL_NODES, advertisement))
        self.run(3.0)

    def receive(self, packet: bytes) -> list[Output]:
        self.latest = self.node.from_link("eth0", packet, ROUTER_MAC, self.now)
        return self.latest

    def run(self, seconds: float) -> list[Output]:
        end, outputs = self.now + seconds, []
        while (timer := self.node.timer) is not None and timer <= end:
            self.now = max(self.now, timer)
            outputs += self._answered(self.node.handle_timer(self.now))
        self.now = end
        self.latest = outputs
        return outputs

    def _answered(self, outputs: list[Output]) -> list[Output]:
        """The router is still there, when it is asked."""
        for each in list(outputs):
            if isinstance(each, Transmit) and each.packet[40:41] == b"\x87" and each.packet[48:64] == ROUTER.packed:
                asked = IPv6Address(each.packet[8:24])
                answer = ndisc.NeighborAdvertisement(ROUTER, router=True, solicited=True)
                outputs += self.node.from_link("eth0", ndisc.packet(ROUTER, asked, answer), ROUTER_MAC, self.now)
        return outputs

    def update(
        self,
        number: int = 1,
        *,
        rcoa: IPv6Address = RCOA,
        lcoa: IPv6Address = LCOA,
        lifetime: int = 60,
        flags: mh.UpdateFlag = REGISTER,
        options: tuple[mh.Option, ...] = (),
        protection: Protection = UNPROTECTED,
    ) -> Received | None:
        """A local binding update, and what it is answered."""
        message = mh.BindingUpdate(number, flags, lifetime, options)
        self.receive(from_terminal(message, rcoa, lcoa, MAP, protection))
        answers = [each.packet for each in self.sent() if each.packet[6] in (ip6.ROUTING, ip6.ESP)]
        return open_message(answers[0], protection) if answers else None

    def status(self, number: int = 1, **wanted: object) -> int:
        answer = self.update(number, **wanted)  # type: ignore[arg-type]
        assert answer is not None
        assert isinstance(answer.message, mh.BindingAcknowledgement)
        assert answer.message.sequence == number
        return answer.message.status

    def sent(self) -> list[Transmit]:
        """Without neighbour discovery and listener reports."""
        transmits = [each for each in self.latest if isinstance(each, Transmit) and each.packet[24] != 0xFF]
        return [each for each in transmits if each.packet[6] != ip6.ICMPV6 or each.packet[40] not in range(133, 138)]

    def events(self, kind: type[_Event]) -> list[_Event]:
        return [each for each in self.latest if isinstance(each, kind)]

    @property
    def reasons(self) -> list[Reason]:
        return [each.reason for each in self.latest if isinstance(each, Discarded)]


def udp(source: IPv6Address, destination: IPv6Address, size: int = 100, hops: int = 64) -> bytes:
    return ip6.packet(source, destination, ip6.UDP, bytes(size), hop_limit=hops)


def up(inner: bytes, lcoa: IPv6Address = LCOA) -> bytes:
    """A packet of the terminal in its tunnel."""
    return ip6.packet(lcoa, MAP, ip6.IPV6, inner)


def test_binds_and_answers_with_the_rcoa_in_a_routing_header() -> None:
    bench = Bench()
    answer = bench.update()
    assert answer is not None
    assert answer.message == mh.BindingAcknowledgement(0, 1, 60)
    assert (answer.source, answer.destination) == (MAP, RCOA)
    assert (answer.outer_source, answer.outer_destination) == (MAP, LCOA)
    assert bench.events(RegionalBindingCreated) == [RegionalBindingCreated(RCOA, LCOA, "", 60)]
    # From now on it answers for the RCoA on its link.
    advertised = [each.packet for each in bench.latest if isinstance(each, Transmit) and each.packet[40:41] == b"\x88"]
    message = ndisc.parse(advertised[0])
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.override) == (RCOA, True)


def test_carries_packets_both_ways() -> None:
    bench = Bench()
    bench.update()
    bench.receive(udp(FAR, RCOA))
    (out,) = bench.sent()
    assert (out.packet[8:24], out.packet[24:40], out.packet[6]) == (MAP.packed, LCOA.packed, ip6.IPV6)
    assert out.packet[40:] == udp(FAR, RCOA, hops=63)
    bench.receive(up(udp(RCOA, FAR)))
    (out,) = bench.sent()
    assert out.packet == udp(RCOA, FAR, hops=63)


def test_two_terminals_of_one_domain_reach_each_other() -> None:
    bench = Bench()
    bench.update()
    bench.update(1, rcoa=OTHER_RCOA, lcoa=NEXT_LCOA)
    bench.receive(up(udp(RCOA, OTHER_RCOA)))
    (out,) = bench.sent()
    assert out.packet[24:40] == NEXT_LCOA.packed
    assert out.packet[40:] == udp(RCOA, OTHER_RCOA, hops=63)


def test_a_move_replaces_the_lcoa_and_takes_what_was_on_its_way() -> None:
    bench = Bench()
    bench.update(1)
    assert bench.status(2, lcoa=NEXT_LCOA) == 0
    assert bench.events(RegionalBindingMoved) == [RegionalBindingMoved(RCOA, NEXT_LCOA, LCOA, 0)]
    bench.receive(udp(FAR, RCOA))
    assert bench.sent()[0].packet[24:40] == NEXT_LCOA.packed
    bench.receive(up(udp(RCOA, FAR)))  # from the former LCoA, late
    assert len(bench.sent()) == 1
    bench.run(2.1)
    bench.receive(up(udp(RCOA, FAR)))
    assert bench.reasons == [Reason.OUTER_SOURCE_WRONG]


def test_what_the_lost_lcoa_did_not_get_is_sent_again_once() -> None:
    bench = Bench()
    bench.update(1)
    for size in (11, 12, 13, 14):
        bench.receive(udp(FAR, RCOA, size))
        bench.run(0.1)
    lost = (again_option(0.25),)
    assert bench.status(2, lcoa=NEXT_LCOA, options=lost) == 0
    tunnelled = [each.packet for each in bench.sent() if each.packet[6] == ip6.IPV6]
    assert [len(packet) - 80 for packet in tunnelled] == [13, 14]
    assert all(packet[24:40] == NEXT_LCOA.packed for packet in tunnelled)
    bench.update(3, lcoa=NEXT_LCOA, options=lost)  # the acknowledgement was lost
    assert [each for each in bench.sent() if each.packet[6] == ip6.IPV6] == []


def test_bindings_end_by_time_and_by_wish() -> None:
    bench = Bench()
    bench.update(1, lifetime=8)
    bench.run(8.0)
    assert bench.events(RegionalBindingRemoved) == [RegionalBindingRemoved(RCOA, "lifetime over")]
    bench.update(2)
    assert bench.status(3, lifetime=0) == 0
    assert bench.events(RegionalBindingRemoved) == [RegionalBindingRemoved(RCOA, "deregistered")]
    bench.receive(udp(FAR, RCOA))
    assert bench.reasons == [Reason.NOT_OURS]
    # An update that was delayed does not bring it back; the answer says from where to go on.
    answer = bench.update(2)
    assert answer is not None
    assert answer.message == mh.BindingAcknowledgement(mh.Status.SEQUENCE_OUT_OF_WINDOW, 3, 0)


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"rcoa": IPv6Address("2001:db8:8::1")}, mh.Status.NOT_HOME_SUBNET),
        ({"rcoa": MAP}, mh.Status.DAD_FAILED),
        ({"rcoa": IPv6Address("2001:db8:9::")}, mh.Status.DAD_FAILED),
        ({"flags": REGISTER | mh.UpdateFlag.HOME_REGISTRATION}, mh.Status.HOME_REGISTRATION_NOT_SUPPORTED),
        ({"lifetime": 0}, mh.Status.NOT_HOME_AGENT),
    ],
)
def test_refusals(wanted: dict[str, object], status: mh.Status) -> None:
    bench = Bench()
    assert bench.status(**wanted) == status  # type: ignore[arg-type]
    assert len(bench.events(LocalUpdateRefused)) == 1
    assert len(bench.node.engine.cache) == 0  # type: ignore[union-attr]


def test_an_lcoa_that_nothing_can_be_sent_to_binds_nothing() -> None:
    bench = Bench()
    for lcoa in ("ff02::1", "::", "fe80::7"):
        bench.update(lcoa=IPv6Address(lcoa))
        assert len(bench.node.engine.cache) == 0  # type: ignore[union-attr]


def test_an_update_for_a_correspondent_is_no_local_one() -> None:
    bench = Bench()
    assert bench.update(flags=mh.UpdateFlag.ACKNOWLEDGE) is None
    assert bench.reasons == [Reason.MESSAGE_UNEXPECTED]


def test_limits() -> None:
    bench = Bench(MapSettings(MAP, open=True, max_lifetime=40, cache_limit=2))
    answer = bench.update(lifetime=4000)
    assert answer is not None
    assert answer.message == mh.BindingAcknowledgement(0, 1, 40)
    bench.update(rcoa=OTHER_RCOA)
    assert bench.status(rcoa=IPv6Address("2001:db8:9::3:3")) == mh.Status.INSUFFICIENT_RESOURCES
    assert bench.status(2) == 0  # those that are there may go on


def test_an_rcoa_that_a_node_on_the_link_has_is_given_up() -> None:
    bench = Bench()
    bench.update()
    claim = ndisc.NeighborAdvertisement(RCOA, override=True, options=(ndisc.TargetLinkAddress(ROUTER_MAC),))
    bench.receive(ndisc.packet(RCOA, ndisc.ALL_NODES, claim))
    assert [event.why for event in bench.events(RegionalBindingRemoved)] == ["duplicate address on the link of the MAP"]
    (told,) = bench.sent()
    assert open_message(told.packet, UNPROTECTED).message == mh.BindingRefreshRequest()
    assert bench.status(2) == mh.Status.DAD_FAILED
    bench.run(61.0)
    assert bench.status(3) == 0
    bench.run(3.0)
    bench.receive(ndisc.packet(RCOA, ndisc.ALL_NODES, claim))  # too late to be a duplicate: an attack
    assert bench.events(RegionalBindingRemoved) == []


def test_packets_without_a_binding_are_answered_with_few_binding_errors() -> None:
    bench = Bench(MapSettings(MAP, open=True, error_rate=3.0))
    bench.receive(up(udp(RCOA, FAR)))
    (told,) = bench.sent()
    message = mh.parse(told.packet[40:], told.packet[8:24], told.packet[24:40])
    assert message == mh.BindingError(mh.ErrorStatus.UNKNOWN_BINDING, RCOA)
    assert told.packet[24:40] == LCOA.packed
    answered = 0
    for _ in range(100):
        bench.receive(up(udp(RCOA, FAR)))
        assert bench.reasons == [Reason.BINDING_UNKNOWN]
        answered += len(bench.sent())
    assert answered == 2
    bench.run(5.0)
    bench.receive(up(udp(FAR, RCOA)))  # no RCoA of this MAP: not even that
    assert bench.sent() == []


def test_sources_and_destinations_that_are_not_to_be_forwarded() -> None:
    bench = Bench()
    bench.update()
    bench.receive(up(udp(RCOA, IPv6Address("ff0e::1"))))
    assert bench.reasons == [Reason.NOT_FORWARDED]
    bench.receive(up(udp(RCOA, FAR), NEXT_LCOA))
    assert bench.reasons == [Reason.OUTER_SOURCE_WRONG]
    bench.receive(ip6.packet(LCOA, MAP, ip6.UDP, bytes(20)))
    assert bench.reasons == [Reason.MESSAGE_UNEXPECTED]
    bench.receive(up(udp(RCOA, FAR, hops=1)))
    assert bench.reasons == [Reason.HOP_LIMIT]
    (told,) = bench.sent()  # through the tunnel, to who sent it
    assert told.packet[24:40] == LCOA.packed


def test_too_big_for_the_tunnel() -> None:
    bench = Bench()
    bench.update()
    bench.receive(udp(FAR, RCOA, 1421))
    (told,) = bench.sent()
    assert icmp6.parse(told.packet[40:]) == icmp6.PacketTooBig(1460, udp(FAR, RCOA, 1421, 63)[:1232])
    narrow = Bench(mtu=1280)
    narrow.update()
    narrow.receive(udp(FAR, RCOA, 1240))  # what every link carries is carried, in two pieces
    assert [each.packet[6] for each in narrow.sent()] == [ip6.FRAGMENT] * 2


def test_echo_shows_whether_the_tunnel_works() -> None:
    bench = Bench()
    bench.update()
    bench.receive(up(icmp6.packet(RCOA, MAP, icmp6.Echo(7, 1, b"there?"))))
    (out,) = bench.sent()
    assert icmp6.parse(out.packet[80:]) == icmp6.Echo(7, 1, b"there?", reply=True)
    assert out.packet[24:40] == LCOA.packed


def test_nonsense_is_dropped_and_named() -> None:
    bench = Bench()
    for packet in (
        up(b"\x60"),
        up(bytes(60)),
        ip6.packet(LCOA, MAP, ip6.MOBILITY, bytes(8)),
        ip6.packet(LCOA, MAP, ip6.ESP, bytes(40)),
    ):
        bench.receive(packet)
        assert len(bench.reasons) == 1, packet
        assert bench.sent() == []


class TestWithKeys:
    """The MAP takes nothing but what keys have shown to be genuine."""

    def bench(self, form: TunnelForm = TunnelForm.ESP) -> tuple[Bench, IpsecProcessing, IpsecProcessing]:
        pairs: list[Pair] = [mobile_pair(form, 0x7000), mobile_pair(form, 0x8000)]
        terminals = tuple(MapTerminal(name, form, pair.agent) for name, pair in zip("ab", pairs, strict=True))
        bench = Bench(MapSettings(MAP, terminals))
        prefix = bench.node.engine.settings.prefix  # type: ignore[union-attr]
        a, b = (terminal_policies(prefix, MAP, form, pair.terminal) for pair in pairs)
        return bench, a, b

    @pytest.mark.parametrize("form", list(TunnelForm))
    def test_registers_and_carries(self, form: TunnelForm) -> None:
        bench, a, _ = self.bench(form)
        answer = bench.update(protection=a)
        assert answer is not None
        assert answer.under_ipsec
        bench.receive(encapsulate(udp(RCOA, FAR), LCOA.packed + MAP.packed, form, a))
        assert [each.packet for each in bench.sent()] == [udp(RCOA, FAR, hops=63)]
        bench.receive(udp(FAR, RCOA))
        (out,) = bench.sent()
        assert decapsulate(out.packet, form, a) == udp(FAR, RCOA, hops=63)

    def test_without_keys_nothing_changes(self) -> None:
        bench, a, _ = self.bench()
        assert bench.update() is None
        assert bench.reasons == [Reason.NOT_PROTECTED]
        bench.update(protection=a)
        bench.update(2, lcoa=NEXT_LCOA)  # forged
        assert bench.reasons == [Reason.NOT_PROTECTED]
        bench.receive(up(udp(RCOA, FAR)))
        assert bench.reasons == [Reason.NOT_PROTECTED]
        assert bench.sent() == []

    def test_a_terminal_cannot_take_the_rcoa_of_another(self) -> None:
        bench, a, b = self.bench()
        bench.update(protection=a)
        assert bench.status(2, lcoa=NEXT_LCOA, protection=b) == mh.Status.DAD_FAILED
        bench.receive(encapsulate(udp(RCOA, FAR), LCOA.packed + MAP.packed, TunnelForm.ESP, b))
        assert bench.reasons == [Reason.INNER_SOURCE_WRONG]

    def test_a_source_that_was_changed_on_the_way_is_noticed(self) -> None:
        bench, a, _ = self.bench()
        message = mh.BindingUpdate(1, REGISTER, 60, (mh.AlternateCareOfAddress(LCOA),))
        packet = bytearray(from_terminal(message, RCOA, LCOA, MAP, a))
        packet[8:24] = NEXT_LCOA.packed
        bench.receive(bytes(packet))
        assert bench.reasons == [Reason.OUTER_SOURCE_WRONG]

    def test_a_replayed_update_is_refused(self) -> None:
        bench, a, _ = self.bench()
        packet = from_terminal(mh.BindingUpdate(1, REGISTER, 60), RCOA, LCOA, MAP, a)
        bench.receive(packet)
        bench.receive(packet)
        assert bench.reasons == [Reason.REPLAYED]

    def test_each_terminal_may_bind_a_few(self) -> None:
        bench, a, b = self.bench()
        for number in range(1, 5):
            assert bench.status(number, rcoa=IPv6Address(f"2001:db8:9::1:{number}"), protection=a) == 0
        assert bench.status(9, rcoa=IPv6Address("2001:db8:9::1:9"), protection=a) == mh.Status.INSUFFICIENT_RESOURCES
        assert bench.status(9, rcoa=IPv6Address("2001:db8:9::1:9"), protection=b) == 0

    def test_keys_follow_only_where_they_are_negotiated(self) -> None:
        pairs = [mobile_pair(TunnelForm.ESP, 0x7000), mobile_pair(TunnelForm.ESP, 0x8000)]
        source = KeySource(SharedKey(bytes(32)), SharedKey(bytes(32)))
        typed = MapTerminal("a", TunnelForm.ESP, pairs[0].agent)
        bench = Bench(MapSettings(MAP, (typed, MapTerminal("b", TunnelForm.ESP, pairs[1].agent, FAR, source))))
        engine, known = bench.node.engine, pairs[1].agent.signalling_in
        assert engine is not None
        assert isinstance(known, InboundSA)
        engine.learn("b", known.spi, known)  # as if IKE had agreed on it
        prefix = engine.settings.prefix
        for number, (pair, follows) in enumerate(zip(pairs, (False, True), strict=True), 1):
            security = terminal_policies(prefix, MAP, TunnelForm.ESP, pair.terminal)
            rcoa = IPv6Address(f"2001:db8:9::1:{number}")
            answer = bench.update(1, rcoa=rcoa, flags=REGISTER | mh.UpdateFlag.KEY_MANAGEMENT, protection=security)
            assert answer is not None
            assert isinstance(answer.message, mh.BindingAcknowledgement)
            assert (mh.AckFlag.KEY_MANAGEMENT in answer.message.flags) is follows
        engine.forget(known.spi)
        assert not engine.knows(known.spi)

    def test_a_spi_or_name_twice_is_refused_at_once(self) -> None:
        pair = mobile_pair(TunnelForm.ESP, 0x7000)
        twice = MapTerminal("a", TunnelForm.ESP, pair.agent)
        with pytest.raises(ValueError, match="configured twice"):
            Bench(MapSettings(MAP, (twice, twice)))
        with pytest.raises(ValueError, match="two terminals"):
            Bench(MapSettings(MAP, (twice, MapTerminal("b", TunnelForm.ESP, pair.agent))))
