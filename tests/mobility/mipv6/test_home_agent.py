"""The home agent's engine: who may bind, what it answers, and which packets it carries."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.ipsec.sa import LAST_SEQUENCE
from mobility.mipv6.again import Progress
from mobility.mipv6.home_agent import (
    AuthorisedTerminal,
    BindingCreated,
    BindingRemoved,
    HomeAgent,
    HomeAgentSettings,
    SenderTold,
    UpdateRefused,
)
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate
from mobility.outputs import Discarded, Output
from mobility.wire import icmp6, ip6, mh
from tests.mobility.mipv6.agent_bench import AH, AWAY, COA, COA2, STRANGER, A, Bench, H, K, Link
from tests.mobility.whole import CN, HA, MN, MN2, mobile_pair, udp


def test_first_binding() -> None:
    bench = Bench()
    outputs = bench.agent.signalling(bench.update(1), 0.0)
    assert BindingCreated(MN, COA, None, 400) in outputs
    assert bench.link.proxied == {MN}
    packet = bench.replies[0].packet
    headers = ip6.walk(packet)
    assert packet[24:40] == COA.packed
    assert headers.routing_address == MN.packed
    assert headers.protocol == ip6.ESP
    received = open_message(packet, bench.security)
    progress = Progress(highest=0, sent_again=0).option()
    assert received.message == mh.BindingAcknowledgement(0, 1, 400, options=(progress,))


def test_granted_lifetime_and_flags() -> None:
    bench = Bench()
    bench.configure(refresh_advice=100)
    ack = bench.bind(1, lifetime=4000, flags=AH | K)
    assert (ack.lifetime, ack.flags, ack.refresh_interval) == (600, mh.NO_FLAGS, 100)


@pytest.mark.parametrize(("asked", "granted"), [(AH, mh.NO_FLAGS), (AH | K, mh.AckFlag.KEY_MANAGEMENT)])
def test_key_management_that_follows_the_terminal(asked: mh.UpdateFlag, granted: mh.AckFlag) -> None:
    bench = Bench()
    bench.configure(key_management=True)
    assert bench.bind(1, flags=asked).flags == granted


def test_update_that_wants_no_acknowledgement_gets_none() -> None:
    bench = Bench()
    bench.agent.signalling(bench.update(1, flags=H), 0.0)
    assert bench.replies == []
    assert len(bench.agent.cache) == 1


@pytest.mark.parametrize(
    ("changes", "arguments", "status"),
    [
        ({"serving": False}, {}, mh.Status.HOME_REGISTRATION_NOT_SUPPORTED),
        ({"cache_limit": 0}, {}, mh.Status.INSUFFICIENT_RESOURCES),
        ({}, {"lifetime": 0}, mh.Status.NOT_HOME_AGENT),
        ({}, {"source": MN}, mh.Status.NOT_HOME_AGENT),
        ({}, {"care_of": IPv6Address("ff02::1")}, mh.Status.INVALID_CARE_OF_ADDRESS),
        ({}, {"care_of": IPv6Address("fe80::1")}, mh.Status.INVALID_CARE_OF_ADDRESS),
        ({}, {"care_of": IPv6Address("::")}, mh.Status.INVALID_CARE_OF_ADDRESS),
        ({}, {"care_of": HA}, mh.Status.INVALID_CARE_OF_ADDRESS),
    ],
)
def test_refusals(changes: dict[str, object], arguments: dict[str, object], status: mh.Status) -> None:
    bench = Bench()
    bench.configure(**changes)
    assert bench.bind(1, 0.0, **arguments).status == status
    assert len(bench.agent.cache) == 0
    assert bench.link.proxied == set()


def test_home_address_of_another_subnet() -> None:
    assert Bench(home=AWAY).bind(1).status == mh.Status.NOT_HOME_SUBNET


def test_known_and_prohibited() -> None:
    bench = Bench()
    bench.configure(terminals=(AuthorisedTerminal(MN, TunnelForm.ESP, bench.pair.agent, admitted=False),))
    outputs = bench.agent.signalling(bench.update(1), 0.0)
    assert outputs == [UpdateRefused(MN, "administratively-prohibited")]


def test_sequence_out_of_window_names_the_last_one() -> None:
    bench = Bench()
    bench.bind(100)
    for sequence in (100, 99, 100 - 0x7FFF & 0xFFFF):
        ack = bench.bind(sequence, care_of=COA2)
        assert (ack.status, ack.sequence) == (mh.Status.SEQUENCE_OUT_OF_WINDOW, 100)
    binding = bench.agent.cache.find(MN.packed)
    assert binding is not None
    assert binding.care_of_address == COA
    assert bench.bind(101, care_of=COA2).status == 0


def test_duplicate_on_the_home_link() -> None:
    bench = Bench()
    bench.bind(1)
    outputs = bench.agent.conflict(MN, 1.0)
    assert BindingRemoved(MN, "duplicate address on the home link") in outputs
    assert isinstance(open_message(bench.link.sent[-1], bench.security).message, mh.BindingRefreshRequest)
    assert bench.bind(2, now=2.0).status == mh.Status.DAD_FAILED
    assert bench.bind(3, now=62.0).status == 0


def test_neighbour_cannot_end_a_binding_that_has_been_in_use() -> None:
    bench = Bench()
    bench.bind(1)
    before = bench.agent.cache.snapshot(2.0)
    assert bench.agent.conflict(MN, 2.0) == []
    assert bench.agent.conflict(MN2, 0.5) == []
    assert bench.agent.cache.snapshot(2.0) == before
    assert bench.link.proxied == {MN}


def test_home_again_ends_the_suspicion_of_a_duplicate() -> None:
    bench = Bench()
    bench.bind(1)
    bench.agent.conflict(MN, 1.0)
    assert bench.bind(2, now=2.0, source=MN, lifetime=0).status == mh.Status.NOT_HOME_AGENT
    assert bench.bind(3, now=3.0).status == 0


def test_deregistration_from_home() -> None:
    bench = Bench()
    bench.bind(1)
    ack = bench.bind(2, source=MN, lifetime=0)
    assert (ack.status, ack.lifetime) == (0, 0)
    assert bench.replies[-1].at_home
    assert ip6.walk(bench.replies[-1].packet).routing_address is None
    assert len(bench.agent.cache) == 0
    assert bench.link.proxied == set()
    assert bench.agent.timer is None


def test_reminder_and_expiry() -> None:
    bench = Bench()
    bench.bind(1, lifetime=100)
    assert bench.agent.timer == 90.0
    bench.agent.handle_timer(90.0)
    received = open_message(bench.link.sent[-1], bench.security)
    assert received.message == mh.BindingRefreshRequest()
    assert received.outer_destination == COA
    assert bench.agent.timer == 100.0
    assert bench.agent.handle_timer(100.0) == [BindingRemoved(MN, "lifetime over")]
    assert bench.link.proxied == set()


def test_what_cannot_be_acknowledged_is_done_and_told_nevertheless() -> None:
    bench = Bench()
    association = bench.pair.agent.signalling_out
    assert association is not None
    association.sequence = association._reserved = LAST_SEQUENCE
    outputs = bench.agent.signalling(bench.update(1), 0.0)
    assert BindingCreated(MN, COA, None, 400) in outputs
    assert [each.reason for each in outputs if isinstance(each, Discarded)] == [Reason.SEQUENCE_EXHAUSTED]
    assert bench.link.proxied == {MN}
    outputs = bench.agent.signalling(bench.update(2, lifetime=0, source=MN), 1.0)
    assert BindingRemoved(MN, "deregistered") in outputs
    assert bench.link.proxied == set()


# ---------------------------------------------------------------- strangers


def test_unprotected_update() -> None:
    bench = Bench()
    message = mh.BindingUpdate(9, AH, 400, (mh.AlternateCareOfAddress(COA2),))
    plain = ip6.packet(MN, HA, ip6.MOBILITY, mh.payload(message, MN, HA))
    packet = ip6.insert(plain, ip6.home_address_option(MN, ip6.MOBILITY), ip6.DEST_OPTIONS)
    packet = packet[:8] + COA2.packed + packet[24:]
    bench.rejects(packet, Reason.NOT_PROTECTED)
    bench.bind(1)
    bench.rejects(packet, Reason.NOT_PROTECTED)


def test_update_without_home_address() -> None:
    bench = Bench()
    message = mh.BindingUpdate(9, AH, 400)
    bench.rejects(ip6.packet(COA, HA, ip6.MOBILITY, mh.payload(message, COA, HA)), Reason.POLICY_DISCARD)


def test_update_of_one_terminal_for_the_home_address_of_another() -> None:
    bench = Bench()
    packet = bench.update(1)
    at = ip6.walk(packet).home_address_at
    assert at is not None
    bench.rejects(packet[: at + 2] + MN2.packed + packet[at + 18 :], Reason.POLICY_VIOLATED)


def test_unknown_home_address() -> None:
    bench = Bench()
    packet = bench.update(1)
    at = ip6.walk(packet).home_address_at
    assert at is not None
    bench.rejects(packet[: at + 2] + STRANGER.packed + packet[at + 18 :], Reason.POLICY_DISCARD)


def test_replayed_update() -> None:
    bench = Bench()
    packet = bench.update(1)
    bench.agent.signalling(packet, 0.0)
    bench.rejects(packet, Reason.REPLAYED)


def test_moved_source_of_a_genuine_update_does_not_redirect_the_binding() -> None:
    """The care-of address that counts is the one inside ESP (section 11.7.1)."""
    bench = Bench()
    packet = bench.update(1)
    bench.agent.signalling(packet[:8] + STRANGER.packed + packet[24:], 0.0)
    binding = bench.agent.cache.find(MN.packed)
    assert binding is not None
    assert binding.care_of_address == COA


def test_not_a_home_registration() -> None:
    bench = Bench()
    bench.rejects(bench.update(1, flags=A), Reason.MESSAGE_UNEXPECTED)


def test_message_that_is_no_update() -> None:
    bench = Bench()
    bench.rejects(
        from_terminal(mh.BindingAcknowledgement(0, 1, 400), MN, COA, HA, bench.security), Reason.MESSAGE_UNEXPECTED
    )


def test_message_of_an_unknown_type_is_told_under_ipsec() -> None:
    bench = Bench()
    bench.bind(1)
    before = bench.agent.cache.snapshot(0.0)
    packet = from_terminal(mh.UnknownMessage(77, bytes(2)), MN, COA, HA, bench.security)
    assert [each.reason for each in bench.agent.signalling(packet, 0.0) if isinstance(each, Discarded)] == [
        Reason.TYPE_UNKNOWN
    ]
    told = open_message(bench.link.sent[-1], bench.security)
    assert (told.message, told.under_ipsec) == (mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, MN), True)
    assert told.outer_destination == COA
    # A stranger's is not even looked at.
    sent = len(bench.link.sent)
    bench.rejects(from_terminal(mh.UnknownMessage(77, bytes(2)), MN, COA, HA, UNPROTECTED), Reason.NOT_PROTECTED)
    assert len(bench.link.sent) == sent
    assert bench.agent.cache.snapshot(0.0) == before


def test_every_truncation_of_an_update() -> None:
    bench = Bench(signalling=False, form=TunnelForm.PLAIN)
    packet = bench.update(1)
    for length in range(len(packet)):
        bench.rejects(packet[:length], Reason.MALFORMED)
        cut = packet[:4] + max(length - 40, 0).to_bytes(2) + packet[6:length]
        before = bench.agent.cache.snapshot(0.0)
        with pytest.raises(Discard):
            bench.agent.signalling(cut, 0.0)
        assert bench.agent.cache.snapshot(0.0) == before


@settings(max_examples=200)
@given(st.binary(max_size=120), st.sampled_from([ip6.MOBILITY, ip6.ESP, ip6.DEST_OPTIONS, ip6.ROUTING, ip6.IPV6]))
def test_noise_changes_nothing(body: bytes, protocol: int) -> None:
    agent = _noise.agent
    packet = ip6.packet(COA, HA, protocol, body)
    before = agent.cache.snapshot(0.0)
    for entry in (agent.signalling, agent.reverse, agent.intercept):
        with pytest.raises(Discard):
            entry(packet, 0.0)
    assert agent.cache.snapshot(0.0) == before


_noise = Bench()
_noise.bind(1)


# ---------------------------------------------------------------- data

FORMS = list(TunnelForm)


def bound(form: TunnelForm) -> Bench:
    bench = Bench(form)
    bench.bind(1)
    bench.link.sent.clear()
    return bench


@pytest.mark.parametrize("form", FORMS)
def test_interception(form: TunnelForm) -> None:
    bench = bound(form)
    packet = udp(CN, MN, b"hello")
    bench.agent.intercept(packet, 1.0)
    (outer,) = bench.link.sent
    assert outer[8:40] == HA.packed + COA.packed
    inner = decapsulate(outer, form, bench.security)
    assert inner == packet[:7] + b"\x3f" + packet[8:]


@pytest.mark.parametrize("form", FORMS)
def test_reverse_tunnel(form: TunnelForm) -> None:
    bench = bound(form)
    packet = udp(MN, CN, b"hello")
    bench.agent.reverse(encapsulate(packet, COA.packed + HA.packed, form, bench.security), 1.0)
    assert bench.link.sent == [packet[:7] + b"\x3f" + packet[8:]]


def refuses(bench: Bench, packet: bytes, reason: Reason) -> None:
    with pytest.raises(Discard) as caught:
        bench.agent.reverse(packet, 1.0)
    assert caught.value.reason is reason
    assert bench.link.sent == []


@pytest.mark.parametrize("form", FORMS)
def test_reverse_tunnel_from_elsewhere(form: TunnelForm) -> None:
    bench = bound(form)
    packet = encapsulate(udp(MN, CN, b"x"), STRANGER.packed + HA.packed, form, bench.security)
    refuses(bench, packet, Reason.OUTER_SOURCE_WRONG)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (TunnelForm.PLAIN, Reason.OUTER_SOURCE_WRONG),
        (TunnelForm.ESP, Reason.POLICY_VIOLATED),
        (TunnelForm.ESP_MOBILE, Reason.POLICY_VIOLATED),
    ],
)
def test_reverse_tunnel_with_the_home_address_of_another(form: TunnelForm, reason: Reason) -> None:
    bench = bound(form)
    message = mh.BindingUpdate(1, AH, 400, (mh.AlternateCareOfAddress(COA2),))
    bench.agent.signalling(from_terminal(message, MN2, COA2, HA, bench.security2), 0.0)
    bench.link.sent.clear()
    inner = udp(MN2, CN, b"x")
    sa = bench.pair.terminal.tunnel_out
    ends = COA.packed + HA.packed
    if sa is None:
        packet = ip6.packet(COA, HA, ip6.IPV6, inner)
    else:
        body = inner if form is TunnelForm.ESP else ip6.packet(COA, HA, ip6.IPV6, inner)
        packet = ip6.fast_packet(ends, ip6.ESP, sa.seal(ip6.IPV6, body))
    refuses(bench, packet, reason)


def test_mobile_tunnel_header_with_other_addresses() -> None:
    bench = bound(TunnelForm.ESP_MOBILE)
    sa = bench.pair.terminal.tunnel_out
    assert sa is not None
    mobile = ip6.packet(STRANGER, HA, ip6.IPV6, udp(MN, CN, b"x"))
    packet = ip6.fast_packet(COA.packed + HA.packed, ip6.ESP, sa.seal(ip6.IPV6, mobile))
    refuses(bench, packet, Reason.OUTER_SOURCE_WRONG)


@pytest.mark.parametrize("form", [TunnelForm.ESP, TunnelForm.ESP_MOBILE])
def test_unprotected_packet_where_the_tunnel_is_esp(form: TunnelForm) -> None:
    bench = bound(form)
    refuses(bench, ip6.packet(COA, HA, ip6.IPV6, udp(MN, CN, b"x")), Reason.POLICY_VIOLATED)


def test_unknown_spi_and_other_protocols() -> None:
    bench = bound(TunnelForm.ESP)
    refuses(bench, ip6.packet(COA, HA, ip6.ESP, bytes(60)), Reason.SA_UNKNOWN)
    refuses(bench, ip6.packet(COA, HA, ip6.UDP, bytes(60)), Reason.NOT_TUNNELLED)


@pytest.mark.parametrize("destination", ["ff02::1", "ff0e::5", "fe80::1", "::", "::1"])
def test_never_forwarded(destination: str) -> None:
    bench = bound(TunnelForm.ESP)
    inner = udp(MN, IPv6Address(destination), b"x")
    refuses(bench, encapsulate(inner, COA.packed + HA.packed, bench.form, bench.security), Reason.NOT_FORWARDED)


def test_unbound_home_address_is_not_ours() -> None:
    bench = bound(TunnelForm.ESP)
    with pytest.raises(Discard) as caught:
        bench.agent.intercept(udp(CN, MN2, b"x"), 1.0)
    assert caught.value.reason is Reason.BINDING_UNKNOWN


def test_hop_limit_ends_here_and_the_sender_is_told() -> None:
    bench = bound(TunnelForm.ESP)
    packet = udp(CN, MN, b"x")
    with pytest.raises(SenderTold):
        bench.agent.intercept(packet[:7] + b"\x01" + packet[8:], 1.0)
    (error,) = bench.link.sent
    assert error[24:40] == CN.packed
    assert isinstance(icmp6.parse(error[40:]), icmp6.TimeExceeded)


@pytest.mark.parametrize(("form", "fits"), [("plain", 1460), ("esp", 1426), ("esp-mobile", 1386)])
def test_what_does_not_fit_is_told_to_its_sender(form: str, fits: int) -> None:
    bench = bound(TunnelForm(form))
    bench.agent.intercept(udp(CN, MN, bytes(fits - 48)), 1.0)
    assert 1496 <= len(bench.link.sent.pop()) <= 1500
    outputs = bench.agent.intercept(udp(CN, MN, bytes(fits - 47)), 1.0)
    assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.TOO_BIG]
    (error,) = bench.link.sent
    message = icmp6.parse(error[40:])
    assert isinstance(message, icmp6.PacketTooBig)
    assert message.mtu == fits
    assert error[24:40] == CN.packed


def test_terminal_is_told_through_its_tunnel() -> None:
    bench = bound(TunnelForm.ESP)
    bench.link.mtu = 1280
    big = udp(MN, CN, bytes(1300))
    bench.agent.reverse(encapsulate(big, COA.packed + HA.packed, bench.form, bench.security), 1.0)
    (outer,) = bench.link.sent
    inner = decapsulate(outer, bench.form, bench.security)
    assert isinstance(icmp6.parse(inner[40:]), icmp6.PacketTooBig)
    assert inner[24:40] == MN.packed


def test_echo_to_the_home_agent_through_the_tunnel() -> None:
    bench = bound(TunnelForm.ESP)
    ping = icmp6.packet(MN, HA, icmp6.Echo(7, 1, b"data"))
    bench.agent.reverse(encapsulate(ping, COA.packed + HA.packed, bench.form, bench.security), 1.0)
    reply = decapsulate(bench.link.sent[0], bench.form, bench.security)
    assert icmp6.parse(reply[40:]) == icmp6.Echo(7, 1, b"data", reply=True)


@pytest.mark.parametrize("form", FORMS)
def test_restarted_home_agent_asks_terminals_that_think_they_are_bound(form: TunnelForm) -> None:
    bench = Bench(form)

    def speak(now: float) -> list[Output]:
        packet = encapsulate(udp(MN, CN, b"x"), COA.packed + HA.packed, form, bench.security)
        return bench.agent.reverse(packet, now)

    first = speak(5.0)
    assert [output.reason for output in first if isinstance(output, Discarded)] == [Reason.BINDING_UNKNOWN]
    assert isinstance(open_message(bench.link.sent[-1], bench.security).message, mh.BindingRefreshRequest)
    speak(5.5)
    assert len(bench.link.sent) == 1  # not more than once a second
    speak(6.0)
    assert len(bench.link.sent) == 2


def test_configuration_that_cannot_work() -> None:
    pair = mobile_pair(TunnelForm.ESP)
    twice = (AuthorisedTerminal(MN, TunnelForm.ESP, pair.agent),) * 2
    with pytest.raises(ValueError, match="is configured twice"):
        HomeAgent(HomeAgentSettings(HA, twice), Link(), lambda reply, now: [])
    wrong = (AuthorisedTerminal(MN, TunnelForm.PLAIN, pair.agent),)
    with pytest.raises(ValueError, match="plain has no associations"):
        HomeAgent(HomeAgentSettings(HA, wrong), Link(), lambda reply, now: [])
