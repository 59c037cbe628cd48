"""Send routine 100 and receive routine 120, form by form, and every way to be discarded."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.forwarding import Forwarding, TunnelInformation
from mobility.ipsec.sa import Mode, OutboundSA
from mobility.mipv6.binding_update_list import BindingUpdateList, ListEntry
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm, agent_policies, encapsulate, terminal_policies
from mobility.wire import ip6
from tests.mobility.whole import CN, HA, MN, MN2, Pair, association, mobile_pair, udp

COA = IPv6Address("2001:db8:a::1")
STRANGER = IPv6Address("2001:db8:666::6")
FORMS = list(TunnelForm)
SECURED = [TunnelForm.ESP, TunnelForm.ESP_MOBILE]


class Bench:
    """Forwarding away from home, and the other end of its tunnel."""

    def __init__(self, form: TunnelForm) -> None:
        self.form = form
        self.pair: Pair = mobile_pair(form)
        self.updates = BindingUpdateList()
        self.forwarding = Forwarding(MN, HA, form, terminal_policies(MN, HA, form, self.pair.terminal), self.updates)
        self.forwarding.set_tunnel(HA, COA)
        self.agent = agent_policies(HA, [(MN, form, self.pair.agent, ())])

    def tunnelled(self, inner: bytes, ends: bytes = HA.packed + COA.packed) -> bytes:
        return encapsulate(inner, ends, self.form, self.agent)

    def sealed(self, body: bytes, next_header: int = ip6.IPV6) -> bytes:
        """Whatever the home agent might put into ESP."""
        sa = self.pair.agent.tunnel_out
        assert sa is not None
        return ip6.fast_packet(HA.packed + COA.packed, ip6.ESP, sa.seal(next_header, body))

    def rejects(self, packet: bytes, *reasons: Reason) -> None:
        with pytest.raises(Discard) as caught:
            self.forwarding.receive(packet)
        assert caught.value.reason in reasons


@pytest.mark.parametrize(
    ("form", "inner_offset"), [(TunnelForm.PLAIN, 40), (TunnelForm.ESP, None), (TunnelForm.ESP_MOBILE, None)]
)
def test_there_and_back(form: TunnelForm, inner_offset: int | None) -> None:
    bench = Bench(form)
    packet = udp(MN, CN, b"hello")
    outer = bench.forwarding.send(packet)
    assert outer[8:40] == COA.packed + HA.packed
    if inner_offset is not None:
        assert outer[inner_offset:] == packet
    else:
        assert packet[8:40] not in outer
    answer = udp(CN, MN, b"hello")
    assert bench.forwarding.receive(bench.tunnelled(answer)) == answer


def test_mobile_header_is_there_in_its_form_only() -> None:
    sizes = {form: len(Bench(form).forwarding.send(udp(MN, CN, bytes(96)))) for form in FORMS}
    # 144 octets; ESP with AES-GCM adds 8 + 8 + 16 and pads 146 to 148, or 186 to 188.
    assert sizes == {TunnelForm.PLAIN: 184, TunnelForm.ESP: 40 + 32 + 148, TunnelForm.ESP_MOBILE: 40 + 32 + 188}


@pytest.mark.parametrize("form", FORMS)
def test_at_home_packets_are_left_alone(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.forwarding.arrived_home()
    assert bench.forwarding.ready
    packet = udp(MN, CN, b"x")
    assert bench.forwarding.send(packet) is packet
    assert bench.forwarding.receive(udp(CN, MN, b"x")) == udp(CN, MN, b"x")
    bench.forwarding.left_home()
    assert not bench.forwarding.ready


def test_no_tunnel_no_sending() -> None:
    bench = Bench(TunnelForm.ESP)
    assert bench.forwarding.tunnel == TunnelInformation(HA, COA, TunnelForm.ESP)
    bench.forwarding.clear_tunnel()
    assert not bench.forwarding.ready
    with pytest.raises(Discard) as caught:
        bench.forwarding.send(udp(MN, CN, b"x"))
    assert caught.value.reason is Reason.NO_BINDING


def test_home_registration_in_the_list_is_no_route() -> None:
    bench = Bench(TunnelForm.PLAIN)
    bench.updates.put(ListEntry(HA, MN, COA, 420, 420.0, 1, "bound"))
    assert bench.forwarding.send(udp(MN, HA, b"x"))[6] == ip6.IPV6
    bench.updates.put(ListEntry(CN, MN, COA, 420, 420.0, 1, "bound", home_registration=False))
    outer = bench.forwarding.send(udp(MN, CN, b"x"))
    assert (outer[6], outer[8:24], outer[24:40]) == (ip6.DEST_OPTIONS, COA.packed, CN.packed)
    bench.updates.put(ListEntry(CN, MN, STRANGER, 420, 420.0, 1, "bound", home_registration=False))
    assert bench.forwarding.send(udp(MN, CN, b"x"))[6] == ip6.IPV6  # of another place than the tunnel's


@pytest.mark.parametrize("form", SECURED)
def test_source_without_a_policy_is_discarded(form: TunnelForm) -> None:
    with pytest.raises(Discard) as caught:
        Bench(form).forwarding.send(udp(MN2, CN, b"x"))
    assert caught.value.reason is Reason.POLICY_DISCARD


@pytest.mark.parametrize("form", FORMS)
def test_outer_source_must_be_the_home_agent(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.rejects(bench.tunnelled(udp(CN, MN, b"x"), STRANGER.packed + COA.packed), Reason.OUTER_SOURCE_WRONG)


@pytest.mark.parametrize("form", FORMS)
def test_inner_destination_must_be_the_home_address(form: TunnelForm) -> None:
    bench = Bench(form)
    stray = udp(CN, MN2, b"x")
    if form is TunnelForm.PLAIN:
        packet = ip6.packet(HA, COA, ip6.IPV6, stray)
    elif form is TunnelForm.ESP:
        packet = bench.sealed(stray)
    else:
        packet = bench.sealed(ip6.packet(HA, COA, ip6.IPV6, stray))
    bench.rejects(packet, Reason.HOME_ADDRESS_NOT_OURS, Reason.POLICY_DISCARD)


@pytest.mark.parametrize("form", SECURED)
def test_plain_packet_where_the_policy_wants_esp(form: TunnelForm) -> None:
    Bench(form).rejects(ip6.packet(HA, COA, ip6.IPV6, udp(CN, MN, b"x")), Reason.POLICY_VIOLATED)


def test_esp_where_there_is_no_association() -> None:
    Bench(TunnelForm.PLAIN).rejects(ip6.packet(HA, COA, ip6.ESP, bytes(64)), Reason.SA_UNKNOWN)


@pytest.mark.parametrize("form", SECURED)
def test_signalling_association_does_not_open_the_tunnel(form: TunnelForm) -> None:
    bench = Bench(form)
    sa = bench.pair.agent.signalling_out
    assert isinstance(sa, OutboundSA)
    inner = udp(CN, MN, b"x")
    packet = ip6.fast_packet(HA.packed + COA.packed, ip6.ESP, sa.seal(ip6.IPV6, inner))
    bench.rejects(packet, Reason.POLICY_VIOLATED)


@pytest.mark.parametrize("form", SECURED)
def test_tampered_and_replayed(form: TunnelForm) -> None:
    bench = Bench(form)
    packet = bench.tunnelled(udp(CN, MN, b"x"))
    bench.rejects(packet[:-1] + bytes((packet[-1] ^ 1,)), Reason.AUTHENTICATION_FAILED)
    bench.forwarding.receive(packet)
    bench.rejects(packet, Reason.REPLAYED)


def test_esp_mobile_insists_on_its_mobile_header() -> None:
    bench = Bench(TunnelForm.ESP_MOBILE)
    bench.rejects(bench.sealed(udp(CN, MN, b"x")), Reason.NOT_TUNNELLED)
    bench.rejects(bench.sealed(ip6.packet(STRANGER, COA, ip6.IPV6, udp(CN, MN, b"x"))), Reason.OUTER_SOURCE_WRONG)
    bench.rejects(bench.sealed(b"nonsense" * 8), Reason.MALFORMED)
    bench.rejects(bench.sealed(udp(CN, MN, b"x"), ip6.UDP), Reason.POLICY_VIOLATED)


def test_home_address_outside_the_tunnel() -> None:
    Bench(TunnelForm.ESP).rejects(udp(CN, MN, b"x"), Reason.NOT_TUNNELLED)


@pytest.mark.parametrize("form", FORMS)
def test_routing_header(form: TunnelForm) -> None:
    bench = Bench(form)
    for home, reason in ((STRANGER, Reason.HOME_ADDRESS_NOT_OURS), (MN, Reason.NOT_TUNNELLED)):
        packet = ip6.insert(udp(CN, COA, b"x"), ip6.routing_header(home, ip6.UDP), ip6.ROUTING)
        bench.rejects(packet, reason)


@pytest.mark.parametrize("form", FORMS)
def test_destination_options_around_the_tunnel_are_skipped(form: TunnelForm) -> None:
    bench = Bench(form)
    answer = udp(CN, MN, b"x")
    packet = bench.tunnelled(answer)
    padded = ip6.insert(packet, bytes((packet[6], 0, 1, 4, 0, 0, 0, 0)), ip6.DEST_OPTIONS)
    assert bench.forwarding.receive(padded) == answer


@pytest.mark.parametrize("form", FORMS)
def test_every_truncation(form: TunnelForm) -> None:
    bench = Bench(form)
    packet = bench.tunnelled(udp(CN, MN, b"some speech"))
    for length in range(len(packet)):
        bench.rejects(packet[:length], Reason.MALFORMED)
        if length >= 40:
            body = packet[40:length]
            bench.rejects(
                ip6.fast_packet(packet[8:40], packet[6], body),
                Reason.MALFORMED,
                Reason.ESP_MALFORMED,
                Reason.SA_UNKNOWN,
                Reason.AUTHENTICATION_FAILED,
            )
    bench.forwarding.receive(packet)  # nothing of all that has moved the replay window


@settings(max_examples=300)
@given(st.sampled_from(FORMS), st.binary(max_size=150), st.integers(0, 255))
def test_noise_is_discarded_by_name(form: TunnelForm, body: bytes, protocol: int) -> None:
    forwarding = _noise[form].forwarding
    with pytest.raises(Discard):
        forwarding.receive(ip6.packet(HA, COA, protocol, body))


_noise = {form: Bench(form) for form in FORMS}


@pytest.mark.parametrize(
    ("form", "associations", "why"),
    [
        (TunnelForm.PLAIN, mobile_pair(TunnelForm.ESP).terminal, "plain has no associations"),
        (TunnelForm.ESP, mobile_pair(TunnelForm.PLAIN).terminal, "esp needs associations"),
        (TunnelForm.PLAIN, MobileAssociations(association(0x500, Mode.TRANSPORT)[0]), "in both directions"),
        (
            TunnelForm.PLAIN,
            MobileAssociations(*association(0x500, Mode.TUNNEL)),
            "signalling must be in transport mode",
        ),
    ],
)
def test_configuration_that_cannot_work(form: TunnelForm, associations: MobileAssociations, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        terminal_policies(MN, HA, form, associations)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mtu", [1280, 1400, 1499, 1500, 9000])
def test_room_is_exact(form: TunnelForm, mtu: int) -> None:
    forwarding = Bench(form).forwarding
    room = forwarding.tunnel_room(mtu)
    assert len(forwarding.send(udp(MN, CN, bytes(room - 48)))) <= mtu
    assert len(forwarding.send(udp(MN, CN, bytes(room - 47)))) > mtu


def with_traffic_class(packet: bytes, value: int) -> bytes:
    return b"%c%c%b" % (0x60 | value >> 4, (value & 0xF) << 4 | 0x5, packet[2:])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0, 0xB8, 0xB9, 0xBA, 0xBB, 0xFF])
def test_outer_header_has_the_traffic_class_and_not_the_flow_label(form: TunnelForm, value: int) -> None:
    outer = Bench(form).forwarding.send(with_traffic_class(udp(MN, CN, b"hello"), value))
    assert int.from_bytes(outer[:4]) == 0x60000000 | value << 20


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("inside", "outside", "seen"),
    [(0xBA, 0xBB, 0xBB), (0xB9, 0xBB, 0xBB), (0xB8, 0xBB, 0xB8), (0xBB, 0xBA, 0xBB), (0xBA, 0x02, 0xBA)],
)
def test_congestion_mark_comes_inside(form: TunnelForm, inside: int, outside: int, seen: int) -> None:
    bench = Bench(form)
    inner = with_traffic_class(udp(CN, MN, b"hello"), inside)
    outer = with_traffic_class(bench.tunnelled(inner), outside)
    assert bench.forwarding.receive(outer) == with_traffic_class(inner, seen)


@pytest.mark.parametrize("form", FORMS)
def test_packet_that_is_too_large_for_the_tunnel_is_discarded(form: TunnelForm) -> None:
    with pytest.raises(Discard) as caught:
        Bench(form).forwarding.send(udp(MN, CN, bytes(65500)))
    assert caught.value.reason is Reason.MALFORMED
