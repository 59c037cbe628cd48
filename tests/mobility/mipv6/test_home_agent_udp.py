"""The home agent through datagrams: registration, NAT, data of both versions of IP (RFC 5555)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.links import endpoint
from mobility.mipv6.again import Loss
from mobility.mipv6.binding_events import BindingCreated, BindingRebound
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.mipv6.registrar import NAT_REFRESH
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, around
from mobility.outputs import Deliver, Transmit
from mobility.wire import icmp6, ip4, ip6, mh, udp
from tests.mobility.mipv6.agent_bench import (
    AH,
    BEHIND_NAT,
    COA,
    COA2,
    KERNEL,
    NAT,
    NAT_AGAIN,
    OTHER_NAT,
    Bench,
    hopped,
    reasons,
    reply_to,
    ways,
)
from tests.mobility.whole import CN, HA, MN, MN2
from tests.mobility.whole import udp as udp_packet

FORMS = list(TunnelForm)
PROTECTED = [TunnelForm.ESP, TunnelForm.ESP_MOBILE]
KERNEL6 = "udp/2001:db8:1::a"
HERE6 = endpoint(COA, 5000)
POOL = IPv4Network("192.168.7.0/29")
SERVER = IPv4Address("10.9.9.9")


def bound(form: TunnelForm = TunnelForm.ESP) -> Bench:
    bench = Bench(form)
    bench.udp_bind(1)
    return bench


def refused(bench: Bench, payload: bytes, sender: bytes, now: float = 1.0, link: str = KERNEL) -> Reason:
    before = bench.agent.cache.snapshot(now)
    with pytest.raises(Discard) as caught:
        bench.agent.datagram(payload, sender, link, now)
    assert bench.agent.cache.snapshot(now) == before
    return caught.value.reason


# ---------------------------------------------------------------- registration


def test_update_behind_a_nat() -> None:
    bench = Bench()
    outputs = bench.agent.datagram(bench.udp_update(1), NAT, KERNEL, 0.0)
    assert BindingCreated(MN, BEHIND_NAT, None, 400, way="udp", nat=True) in outputs
    assert bench.link.proxied == {MN}
    received = open_message(reply_to(outputs), bench.security)
    assert isinstance(received.message, mh.BindingAcknowledgement)
    assert mh.NatDetection(NAT_REFRESH) in received.message.options
    (row,) = bench.agent.cache.snapshot(0.0)
    assert (row["way"], row["nat"], row["endpoint"]) == ("udp", True, "198.51.100.7:40001")
    assert row["care_of_address"] == "10.0.0.5"


def test_no_nat_is_found_where_there_is_none() -> None:
    bench = Bench()
    ack = bench.udp_bind(1, endpoint(BEHIND_NAT, 4191))
    assert not any(isinstance(option, mh.NatDetection) for option in ack.options)
    ack = bench.udp_bind(2, HERE6, KERNEL6, care_of=COA)
    assert not any(isinstance(option, mh.NatDetection) for option in ack.options)
    ack = bench.udp_bind(3, HERE6, KERNEL6, care_of=COA2)
    assert mh.NatDetection(NAT_REFRESH) in ack.options


def test_update_that_tells_no_care_of_address_counts_by_its_source() -> None:
    bench = Bench()
    packet = from_terminal(mh.BindingUpdate(1, AH, 400), MN, MN, HA, bench.security)
    bench.agent.datagram(packet, NAT, KERNEL, 0.0)
    (row,) = bench.agent.cache.bindings()
    assert row.care_of_address == IPv4Address("198.51.100.7")
    assert not row.behind_nat


@pytest.mark.parametrize(
    "care_of", [IPv4Address(0), IPv4Address("127.0.0.1"), IPv4Address("224.0.0.1"), IPv6Address("::1"), MN, HA]
)
def test_care_of_addresses_that_cannot_be(care_of: IPv4Address | IPv6Address) -> None:
    bench = Bench()
    assert bench.udp_bind(1, care_of=care_of).status == mh.Status.INVALID_CARE_OF_ADDRESS
    assert bench.paths == []


def test_deregistration_in_a_datagram() -> None:
    bench = bound()
    assert bench.udp_bind(2, lifetime=0).status == 0
    assert bench.paths == []
    assert bench.link.proxied == set()


def test_moved_source_of_a_genuine_update_is_set_right_by_the_next_one() -> None:
    """A NAT and a thief look alike; but only the terminal can make the next update."""
    bench = bound()
    stolen = bench.udp_update(2)
    bench.agent.datagram(stolen, OTHER_NAT, KERNEL, 0.0)
    assert refused(bench, stolen, OTHER_NAT) is Reason.REPLAYED
    bench.udp_bind(3)
    assert bench.paths == [NAT]


def test_unprotected_update_in_a_datagram() -> None:
    bench = bound()
    message = mh.BindingUpdate(9, AH, 400, (mh.IPv4CareOfAddress(BEHIND_NAT),))
    packet = ip6.packet(MN, HA, ip6.MOBILITY, mh.payload(message, MN, HA))
    assert refused(bench, packet, OTHER_NAT) is Reason.NOT_PROTECTED


def test_update_of_one_terminal_for_the_home_address_of_another() -> None:
    bench = bound()
    message = mh.BindingUpdate(9, AH, 400, (mh.IPv4CareOfAddress(BEHIND_NAT),))
    packet = from_terminal(message, MN2, MN2, HA, bench.security2)
    assert refused(bench, packet[:8] + MN.packed + packet[24:], OTHER_NAT) is Reason.POLICY_VIOLATED
    assert bench.paths == [NAT]


def test_reminder_goes_by_the_same_way() -> None:
    bench = Bench()
    bench.udp_bind(1, lifetime=100)
    (reminder,) = bench.agent.handle_timer(90.0)
    assert isinstance(reminder, Transmit)
    assert (reminder.to, reminder.link) == (NAT, KERNEL)
    assert open_message(reminder.packet, bench.security).message == mh.BindingRefreshRequest()


def test_datagrams_to_the_home_agents_own_address() -> None:
    bench = Bench()
    outputs = bench.agent.datagram(bench.udp_update(1, care_of=COA), HERE6, "", 0.0)
    packet = bench.link.sent.pop()
    assert packet[8:40] == HA.packed + COA.packed
    source_port, port, payload = udp.parse(packet)
    assert (source_port, port) == (4191, 5000)
    assert open_message(payload, bench.security).source == HA
    assert any(isinstance(each, BindingCreated) for each in outputs)
    bench.agent.intercept(udp_packet(CN, MN, b"down"), 1.0)
    (outer,) = bench.link.sent
    inner = bench.received(Transmit(udp.parse(outer).payload, HERE6, ""))
    assert inner == hopped(udp_packet(CN, MN, b"down"))


# ---------------------------------------------------------------- data


@pytest.mark.parametrize("form", FORMS)
def test_both_ways(form: TunnelForm) -> None:
    bench = bound(form)
    down = udp_packet(CN, MN, b"down")
    (sent,) = bench.agent.intercept(down, 1.0)
    assert isinstance(sent, Transmit)
    assert (sent.to, sent.link) == (NAT, KERNEL)
    assert bench.received(sent) == hopped(down)
    up = udp_packet(MN, CN, b"up")
    bench.udp_up(up)
    assert bench.link.sent[-1] == hopped(up)


@pytest.mark.parametrize("form", FORMS)
def test_inner_source_of_another(form: TunnelForm) -> None:
    bench = bound(form)
    inner = udp_packet(MN2, CN, b"x")
    association = bench.pair.terminal.tunnel_out
    if association is None:
        message = mh.BindingUpdate(1, AH, 400, (mh.IPv4CareOfAddress(BEHIND_NAT),))
        bench.agent.datagram(from_terminal(message, MN2, MN2, HA, bench.security2), OTHER_NAT, KERNEL, 0.0)
        assert refused(bench, inner, NAT) is Reason.OUTER_SOURCE_WRONG
        return
    ends = MN.packed + HA.packed
    body = inner if form is TunnelForm.ESP else around(inner, ends, ip6.IPV6, inner)
    assert refused(bench, association.seal(ip6.IPV6, body), NAT) is Reason.POLICY_VIOLATED


@pytest.mark.parametrize("form", PROTECTED)
def test_unprotected_data_where_the_tunnel_is_esp(form: TunnelForm) -> None:
    bench = bound(form)
    assert refused(bench, udp_packet(MN, CN, b"x"), NAT) is Reason.POLICY_VIOLATED


def test_plain_data_from_elsewhere() -> None:
    bench = bound(TunnelForm.PLAIN)
    assert refused(bench, udp_packet(MN, CN, b"x"), OTHER_NAT) is Reason.OUTER_SOURCE_WRONG
    assert bench.paths == [NAT]


def test_keepalive_is_dropped_by_name() -> None:
    bench = bound()
    assert refused(bench, b"\xff", OTHER_NAT) is Reason.KEEPALIVE
    assert refused(bench, b"", NAT) is Reason.MALFORMED


@pytest.mark.parametrize("form", FORMS)
def test_echo_comes_back_by_the_path_that_it_came(form: TunnelForm) -> None:
    bench = bound(form)
    bench.udp_bind(2, OTHER_NAT, now=0.5, options=(mh.BindingIdentifier(2),))
    bench.udp_bind(3, NAT, now=0.5, options=(mh.BindingIdentifier(1),))
    for sender in (OTHER_NAT, NAT):
        outputs = bench.udp_up(icmp6.packet(MN, HA, icmp6.Echo(1, 2, b"x")), sender, now=0.6)
        assert ways(outputs) == [sender]
        assert isinstance(icmp6.parse(bench.received(outputs[0])[40:]), icmp6.Echo)


@pytest.mark.parametrize(("form", "fits"), [("plain", 1472), ("esp", 1438), ("esp-mobile", 1398)])
def test_what_fits_into_a_datagram(form: str, fits: int) -> None:
    bench = bound(TunnelForm(form))
    (sent,) = bench.agent.intercept(udp_packet(CN, MN, bytes(fits - 48)), 1.0)
    assert isinstance(sent, Transmit)
    assert 1468 <= len(sent.packet) <= 1472
    assert reasons(bench.agent.intercept(udp_packet(CN, MN, bytes(fits - 47)), 1.0)) == [Reason.TOO_BIG]


def test_restarted_home_agent_asks_by_the_way_that_the_packet_came() -> None:
    bench = Bench()
    outputs = bench.udp_up(udp_packet(MN, CN, b"x"))
    assert reasons(outputs) == [Reason.BINDING_UNKNOWN]
    assert ways(outputs) == [NAT]
    assert isinstance(open_message(reply_to(outputs), bench.security).message, mh.BindingRefreshRequest)
    assert ways(bench.udp_up(udp_packet(MN, CN, b"x"), now=1.5)) == []


# ---------------------------------------------------------------- NAT rebinding


@pytest.mark.parametrize("form", PROTECTED)
@pytest.mark.parametrize("sender", [NAT_AGAIN, OTHER_NAT])
def test_endpoint_follows_authenticated_packets(form: TunnelForm, sender: bytes) -> None:
    bench = bound(form)
    up = udp_packet(MN, CN, b"up")
    outputs = bench.udp_up(up, sender)
    (event,) = [each for each in outputs if isinstance(each, BindingRebound)]
    assert event.previous == "198.51.100.7:40001"
    assert bench.paths == [sender]
    assert bench.link.sent[-1] == hopped(up)
    assert ways(bench.agent.intercept(udp_packet(CN, MN, b"x"), 1.1)) == [sender]


def test_reordered_packet_does_not_turn_the_endpoint_back() -> None:
    bench = bound()
    early = bench.body(udp_packet(MN, CN, b"early"))
    bench.udp_up(udp_packet(MN, CN, b"later"), NAT_AGAIN)
    outputs = bench.agent.datagram(early, NAT, KERNEL, 1.1)
    assert not any(isinstance(each, BindingRebound) for each in outputs)
    assert bench.link.sent[-1] == hopped(udp_packet(MN, CN, b"early"))
    assert bench.paths == [NAT_AGAIN]


def test_spoofed_source_never_redirects() -> None:
    bench = bound()
    genuine = bench.body(udp_packet(MN, CN, b"x"))
    bench.agent.datagram(genuine, NAT, KERNEL, 1.0)
    assert refused(bench, genuine, OTHER_NAT) is Reason.REPLAYED
    forged = genuine[:7] + b"\xf0" + genuine[8:]
    assert refused(bench, forged, OTHER_NAT) is Reason.AUTHENTICATION_FAILED
    assert bench.paths == [NAT]


def test_native_binding_never_becomes_one_of_datagrams() -> None:
    bench = Bench()
    bench.bind(1)
    assert refused(bench, bench.body(udp_packet(MN, CN, b"x")), NAT) is Reason.OUTER_SOURCE_WRONG
    assert bench.paths == [COA.packed]


def test_never_to_a_lost_place() -> None:
    bench = bound()
    lost = Loss(0, 5, COA).option()
    bench.udp_bind(2, OTHER_NAT, options=(mh.BindingIdentifier(2), lost))
    assert refused(bench, bench.body(udp_packet(MN, CN, b"x")), NAT) is Reason.CARE_OF_ADDRESS_LOST
    assert bench.paths == [OTHER_NAT]


def test_the_binding_follows_whose_address_it_is() -> None:
    """Two places, both behind NAT: a new port at the address of the second is not a new place of the first."""
    bench = Bench()
    bench.udp_bind(1, NAT, options=(mh.BindingIdentifier(1),))
    bench.udp_bind(2, OTHER_NAT, options=(mh.BindingIdentifier(2),))
    bench.udp_up(udp_packet(MN, CN, b"x"), NAT_AGAIN)
    assert bench.paths == [OTHER_NAT, NAT_AGAIN]


def test_known_place_that_is_not_primary_does_not_become_it_by_data() -> None:
    bench = Bench()
    bench.udp_bind(1, NAT, options=(mh.BindingIdentifier(1),))
    bench.udp_bind(2, OTHER_NAT, options=(mh.BindingIdentifier(2),))
    bench.udp_up(udp_packet(MN, CN, b"x"), NAT)
    assert bench.paths == [OTHER_NAT, NAT]


# ---------------------------------------------------------------- IPv4


def packet4(source: IPv4Address, destination: IPv4Address, body: bytes = b"body", *, whole: bool = True) -> bytes:
    """An IPv4 packet of protocol 17; ``whole``: with the DF bit."""
    size = 20 + len(body)
    head = bytes((0x45, 0xB8)) + size.to_bytes(2) + b"\0\0" + (b"\x40\0" if whole else b"\0\0") + b"\x40\x11"
    rest = source.packed + destination.packed
    return head + ip4.checksum(head + b"\0\0" + rest).to_bytes(2) + rest + body


def with_ipv4(form: TunnelForm = TunnelForm.ESP, *, native: bool = False) -> tuple[Bench, IPv4Address]:
    bench = Bench(form)
    bench.configure(ipv4_pool=POOL)
    asked = (mh.IPv4HomeAddress(IPv4Address(0)),)
    ack = bench.bind(1, options=asked) if native else bench.udp_bind(1, options=asked)
    (answer,) = [each for each in ack.options if isinstance(each, mh.IPv4AddressAcknowledgement)]
    assert answer.status == 0
    bench.link.sent.clear()
    return bench, answer.address


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_ipv4_both_ways(form: TunnelForm, native: bool) -> None:
    bench, address = with_ipv4(form, native=native)
    assert address == IPv4Address("192.168.7.2")
    up = packet4(address, SERVER)
    association = bench.pair.terminal.tunnel_out
    ends = (COA if native else MN).packed + HA.packed
    marks = ip4.traffic_class(up)
    if association is None:
        next_header, body = ip6.IPV4, up
    elif form is TunnelForm.ESP:
        next_header, body = ip6.ESP, association.seal(ip6.IPV4, up)
    else:
        next_header, body = ip6.ESP, association.seal(ip6.IPV6, around(marks, ends, ip6.IPV4, up))
    if native:
        outputs = bench.agent.reverse(around(marks, ends, next_header, body), 1.0)
    else:
        outputs = bench.agent.datagram(body, NAT, KERNEL, 1.0)
    assert outputs == [Deliver(up)]
    down = packet4(SERVER, address)
    (sent,) = bench.agent.from_host(down, 1.0)
    assert isinstance(sent, Transmit)
    if native:
        assert sent.packet[:2] == b"\x6b\x80"  # the traffic class is that of the packet
        assert sent.packet[24:40] == COA.packed
        body = sent.packet[40:]
    else:
        assert sent.to == NAT
        body = sent.packet
    opening = bench.pair.terminal.tunnel_in
    if opening is None:
        assert body == down
    else:
        header, inner = opening.open(body)
        assert header == (ip6.IPV4 if form is TunnelForm.ESP else ip6.IPV6)
        assert inner[-len(down) :] == down


def test_ipv4_source_of_another() -> None:
    bench, address = with_ipv4()
    association = bench.pair.terminal.tunnel_out
    assert association is not None
    wrong = association.seal(ip6.IPV4, packet4(IPv4Address(int(address) + 1), SERVER))
    assert refused(bench, wrong, NAT) is Reason.INNER_SOURCE_WRONG
    unprotected = packet4(address, SERVER)
    assert refused(bench, unprotected, NAT) is Reason.POLICY_VIOLATED
    broken = association.seal(ip6.IPV4, b"\x45" + bytes(30))
    assert refused(bench, broken, NAT) is Reason.MALFORMED
    odd = association.seal(ip6.UDP, bytes(30))
    assert refused(bench, odd, NAT) is Reason.POLICY_VIOLATED


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\x45", Reason.MALFORMED),
        (packet4(SERVER, IPv4Address("192.168.7.6")), Reason.BINDING_UNKNOWN),
        (ip6.packet(CN, MN, ip6.UDP, bytes(8)), Reason.LINK_LOCAL_CHATTER),
        (packet4(SERVER, IPv4Address("192.168.7.2"))[:-1], Reason.MALFORMED),
    ],
)
def test_from_the_host_os(packet: bytes, reason: Reason) -> None:
    bench, _ = with_ipv4()
    with pytest.raises(Discard) as caught:
        bench.agent.from_host(packet, 1.0)
    assert caught.value.reason is reason


def test_ipv4_that_does_not_fit() -> None:
    bench, address = with_ipv4()
    outputs = bench.agent.from_host(packet4(SERVER, address, bytes(1438)), 1.0)
    assert reasons(outputs) == [Reason.TOO_BIG]
    (told,) = [each.packet for each in outputs if isinstance(each, Deliver)]
    assert ip4.check(told) == told
    assert told[12:20] == IPv4Address("192.168.7.1").packed + SERVER.packed
    assert (told[20], told[21], int.from_bytes(told[26:28])) == (3, 4, 1438)
    split = bench.agent.from_host(packet4(SERVER, address, bytes(1438), whole=False), 1.0)
    assert ways(split) == [NAT]


def status_of(ack: mh.BindingAcknowledgement) -> tuple[int, IPv4Address]:
    (answer,) = [each for each in ack.options if isinstance(each, mh.IPv4AddressAcknowledgement)]
    return answer.status, answer.address


def test_ipv4_address_is_refused_and_the_binding_is_not() -> None:
    bench = Bench()
    ack = bench.udp_bind(1, options=(mh.IPv4HomeAddress(IPv4Address(0)),))
    assert ack.status == 0
    assert status_of(ack) == (132, IPv4Address(0))
    assert status_of(bench.udp_bind(2, options=(mh.IPv4HomeAddress(SERVER),))) == (129, SERVER)
    assert bench.paths == [NAT]


def test_fixed_ipv4_address() -> None:
    bench = Bench()
    own = IPv4Address("10.1.1.1")
    bench.configure(
        ipv4_pool=POOL, terminals=(AuthorisedTerminal(MN, bench.form, bench.pair.agent, home_address4=own),)
    )
    assert status_of(bench.udp_bind(1, options=(mh.IPv4HomeAddress(IPv4Address(0)),))) == (0, own)
    assert status_of(bench.udp_bind(2, options=(mh.IPv4HomeAddress(own),))) == (0, own)
    assert status_of(bench.udp_bind(3, options=(mh.IPv4HomeAddress(SERVER),))) == (130, SERVER)
    assert f"'home_address4': '{own}'" in str(bench.agent.snapshot(0.0)["binding_cache"])


# ---------------------------------------------------------------- noise


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.binary(max_size=80).map(lambda body: ip6.packet(MN, HA, ip6.MOBILITY, body)),
        st.binary(max_size=80).map(lambda body: ip6.packet(MN, HA, ip6.ESP, body)),
        st.binary(max_size=80).map(lambda body: ip6.packet(MN, CN, ip6.UDP, body)),
        st.binary(max_size=80).map(lambda body: (0x1002).to_bytes(4) + body),
    ),
    st.sampled_from([NAT, OTHER_NAT, HERE6]),
    st.sampled_from([KERNEL, KERNEL6, ""]),
)
def test_noise_in_datagrams_changes_nothing(payload: bytes, sender: bytes, link: str) -> None:
    bench = _noise
    before = bench.agent.cache.snapshot(0.0)
    with pytest.raises(Discard):
        bench.agent.datagram(payload, sender, link, 0.0)
    assert bench.agent.cache.snapshot(0.0) == before


@given(st.integers(0, 200), st.integers(0, 255))
def test_changed_octets_of_genuine_datagrams_change_nothing(at: int, value: int) -> None:
    bench = _noise
    for genuine in (bench.udp_update(2), bench.body(udp_packet(MN, CN, bytes(40)))):
        place = at % len(genuine)
        if genuine[place] == value or (genuine[0] >> 4 == 6 and place in (0, 1, 2, 3, 7)):
            continue  # traffic class, flow label and hop limit are nobody's; they may change on the way
        changed = genuine[:place] + bytes((value,)) + genuine[place + 1 :]
        before = bench.agent.cache.snapshot(0.0)
        with pytest.raises(Discard):
            bench.agent.datagram(changed, NAT, KERNEL, 0.0)
        assert bench.agent.cache.snapshot(0.0) == before


_noise = bound()
