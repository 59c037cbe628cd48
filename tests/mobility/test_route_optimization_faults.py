"""Route optimization when things go wrong: what strangers send, bad networks, restarts, floods."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.mipv6 import direct
from mobility.mipv6.registration import Bound
from mobility.mipv6.return_routability import authorized
from mobility.mipv6.route_events import RouteEnded
from mobility.mipv6.route_optimization import LIMIT, WAYS_LIMIT
from mobility.mipv6.route_rules import COUNTED_LIMIT
from mobility.mipv6.signalling import UNPROTECTED, to_terminal
from mobility.mipv6.tunnel import TunnelForm, encapsulate
from mobility.outputs import Deliver, Discarded, Output, Transmit
from mobility.wire import ip6, mh
from tests.mobility.optimized import Optimized
from tests.mobility.whole import CN, HA, MAC_MN, MN, application_pair, mobile_pair, udp

SENDER = bytes.fromhex("020000001201")
STRANGER = IPv6Address("2001:db8:666::6")
FORMS = list(TunnelForm)


def started(form: TunnelForm = TunnelForm.ESP) -> Optimized:
    network = Optimized(form)
    network.start()
    assert network.is_direct()
    return network


def care_of(network: Optimized) -> IPv6Address:
    address = network.care_of
    assert address is not None
    return address


def reasons(outputs: list[Output]) -> list[Reason]:
    return [output.reason for output in outputs if isinstance(output, Discarded)]


def state(network: Optimized) -> object:
    """All that a stranger must not change."""
    snapshot = network.optimization.snapshot(0.0)
    return snapshot["correspondents"], network.is_direct(), network.terminal.updates.route(CN.packed)


def bare(message: mh.Message, source: IPv6Address, to: IPv6Address) -> bytes:
    return ip6.packet(source, to, ip6.MOBILITY, mh.payload(message, source, to))


def tunnelled(network: Optimized, packet: bytes) -> bytes:
    ends = HA.packed + care_of(network).packed
    return encapsulate(packet, ends, network.form, network.agent.engine.security)


def test_forged_messages_change_nothing_and_have_names() -> None:
    network = started()
    at, now = care_of(network), network.world.now
    acknowledgement = mh.BindingAcknowledgement(0, 1, 400)
    signed = authorized(acknowledgement, bytes(20), at.packed, CN.packed)
    last = network.optimization._peers[CN.packed].registration._numbers.last
    expired = mh.BindingAcknowledgement(mh.Status.EXPIRED_NONCES, last, 0)
    forged = [
        (bare(mh.HomeTest(1, bytes(8), bytes(8)), CN, at), Reason.MESSAGE_UNEXPECTED),
        (tunnelled(network, bare(mh.HomeTest(1, bytes(8), bytes(8)), CN, MN)), Reason.COOKIE_WRONG),
        (tunnelled(network, bare(mh.HomeTest(1, bytes(8), bytes(8)), STRANGER, MN)), Reason.MESSAGE_UNEXPECTED),
        (to_terminal(mh.HomeTest(1, bytes(8), bytes(8)), CN, MN, at, UNPROTECTED), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.CareOfTest(1, bytes(8), bytes(8)), CN, at), Reason.COOKIE_WRONG),
        (tunnelled(network, bare(mh.CareOfTest(1, bytes(8), bytes(8)), CN, MN)), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.CareOfTest(1, bytes(8), bytes(8)), STRANGER, at), Reason.MESSAGE_UNEXPECTED),
        (bare(acknowledgement, CN, at), Reason.MESSAGE_UNEXPECTED),
        (to_terminal(acknowledgement, CN, MN, at, UNPROTECTED), Reason.SEQUENCE_UNEXPECTED),
        (to_terminal(signed, CN, MN, at, UNPROTECTED), Reason.SEQUENCE_UNEXPECTED),
        (to_terminal(expired, CN, MN, at, UNPROTECTED), Reason.SEQUENCE_UNEXPECTED),
        (to_terminal(signed, STRANGER, MN, at, UNPROTECTED), Reason.MESSAGE_UNEXPECTED),
        (to_terminal(mh.BindingAcknowledgement(135, 7, 0), CN, MN, at, UNPROTECTED), Reason.AUTHENTICATOR_WRONG),
        (to_terminal(acknowledgement, CN, STRANGER, at, UNPROTECTED), Reason.HOME_ADDRESS_NOT_OURS),
        (to_terminal(acknowledgement, HA, MN, at, UNPROTECTED), Reason.NOT_PROTECTED),
        (bare(mh.BindingError(1, MN), STRANGER, at), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.BindingError(1, STRANGER), CN, at), Reason.HOME_ADDRESS_NOT_OURS),
        (bare(mh.BindingError(2, MN), CN, at), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.BindingError(99, STRANGER), CN, at), Reason.HOME_ADDRESS_NOT_OURS),
        (tunnelled(network, bare(mh.BindingError(1, MN), CN, MN)), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.BindingRefreshRequest(), CN, at), Reason.MESSAGE_UNEXPECTED),
        (to_terminal(mh.BindingRefreshRequest(), CN, MN, at, UNPROTECTED), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.HomeTestInit(bytes(8)), CN, at), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.BindingUpdate(1, mh.UpdateFlag.ACKNOWLEDGE, 400), CN, at), Reason.MESSAGE_UNEXPECTED),
        (bare(mh.UnknownMessage(77, bytes(2)), CN, at), Reason.TYPE_UNKNOWN),
        (direct.to_terminal(udp(CN, STRANGER, b"x"), at.packed), Reason.HOME_ADDRESS_NOT_OURS),
        (direct.to_correspondent(udp(STRANGER, at, b"x"), CN.packed, STRANGER.packed), Reason.HOME_ADDRESS_UNVERIFIED),
        (direct.to_terminal(udp(CN, MN, b"x"), at.packed), Reason.POLICY_VIOLATED),
        (direct.to_terminal(ip6.packet(HA, MN, ip6.ICMPV6, bytes(8)), at.packed), Reason.NOT_TUNNELLED),
        (direct.to_terminal(ip6.packet(CN, MN, ip6.IPV6, udp(CN, MN, b"x")), at.packed), Reason.NOT_TUNNELLED),
    ]  # fmt: skip
    before = state(network)
    for packet, reason in forged:
        outputs = network.terminal.from_link("wlan0", packet, SENDER, now)
        assert reasons(outputs) == [reason], packet.hex()
        assert state(network) == before
        assert not any(isinstance(output, Deliver) for output in outputs)


def test_unknown_type_is_answered_with_status_2() -> None:
    network = started()
    at, now = care_of(network), network.world.now
    packet = bare(mh.UnknownMessage(77, bytes(2)), CN, at)
    answers: list[mh.Message] = []
    for _ in range(30):
        for output in network.terminal.from_link("wlan0", packet, SENDER, now):
            if isinstance(output, Transmit):
                assert output.packet[24:40] == CN.packed
                answers.append(mh.parse(output.packet[40:], at, CN))
    assert answers == [mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, IPv6Address("::"))] * 10


def test_forged_binding_errors_cost_no_packet() -> None:
    """They prove nothing, so packets go through the tunnel until the next one comes directly, or a round trip."""
    network = started()
    network.talk(4)
    network.run(0.5)
    at, station = care_of(network), network.world.stations["mn"]
    packet = bare(mh.BindingError(mh.ErrorStatus.UNKNOWN_BINDING, MN), CN, at)
    network.world.every(0.01, lambda: station.receive("wlan0", packet, SENDER), until=network.world.now + 2)
    network.office.frames.clear()
    network.run(2)
    assert station.events_of(RouteEnded)
    updates = [f.packet for f in network.office.frames if ip6.walk(f.packet).protocol == ip6.MOBILITY]
    assert sum(packet[ip6.walk(packet).offset + 2] == mh.Type.BINDING_UPDATE for packet in updates) <= 7  # 3 a second
    network.run(3)
    assert network.is_direct()
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_cn.repeated == network.to_mn.repeated == 0


def test_refresh_requests_of_strangers_are_followed_now_and_then_only() -> None:
    network = started()
    network.run(20)
    at, station = care_of(network), network.world.stations["mn"]
    packet = to_terminal(mh.BindingRefreshRequest(), CN, MN, at, UNPROTECTED)
    network.office.frames.clear()
    network.world.every(0.05, lambda: station.receive("wlan0", packet, SENDER), until=network.world.now + 30)
    network.run(31)
    types = [f.packet[ip6.walk(f.packet).offset + 2] for f in network.office.frames]
    assert types.count(mh.Type.BINDING_UPDATE) == 3
    assert network.is_direct()


@settings(max_examples=300)
@given(
    st.binary(max_size=120),
    st.sampled_from([ip6.MOBILITY, ip6.ROUTING, ip6.DEST_OPTIONS, ip6.ESP, ip6.UDP]),
    st.sampled_from([CN, HA, STRANGER, MN]),
    st.sampled_from(["bare", "routing", "option", "tunnel"]),
)
def test_noise_of_anybody(body: bytes, protocol: int, source: IPv6Address, wrapping: str) -> None:
    network = _noise
    at = care_of(network)
    match wrapping:
        case "bare":
            packet = ip6.packet(source, at, protocol, body)
        case "routing":
            packet = direct.to_terminal(ip6.packet(source, MN, protocol, body), at.packed)
        case "option":
            packet = direct.to_correspondent(ip6.packet(source, at, protocol, body), source.packed, CN.packed)
        case _:
            try:
                packet = tunnelled(network, ip6.packet(source, MN, protocol, body))
            except Discard:
                return  # the home agent itself would not let it in
    before = state(network)
    network.terminal.from_link("wlan0", packet, SENDER, network.world.now)
    assert state(network)[1:] == before[1:]  # type: ignore[index]


@settings(max_examples=300)
@given(st.sampled_from(list(mh.Type)), st.binary(max_size=80), st.sampled_from([CN, STRANGER]), st.booleans())
def test_nonsense_in_the_shape_of_messages(kind: int, body: bytes, source: IPv6Address, routed: bool) -> None:
    """With a right checksum and length, so that the contents are looked at."""
    network = _noise
    at = care_of(network)
    body += bytes(-(len(body) + 6) % 8)
    header = bytes((ip6.NO_NEXT, (len(body) + 6) // 8 - 1, kind, 0, 0, 0)) + body
    to = MN if routed else at
    checksum = ip6.checksum(source.packed, to.packed, ip6.MOBILITY, header)
    packet = ip6.packet(source, to, ip6.MOBILITY, header[:4] + checksum.to_bytes(2) + header[6:])
    before = state(network)
    outputs = network.terminal.from_link(
        "wlan0", direct.to_terminal(packet, at.packed) if routed else packet, SENDER, network.world.now
    )
    assert len(reasons(outputs)) == 1
    assert state(network) == before


@pytest.mark.parametrize("form", FORMS)
def test_short_and_long_way_do_the_same(form: TunnelForm) -> None:
    """Random packets, good and bad, directly, through two terminals with the same keys and numbers."""
    quick, slow = started(form), started(form)
    slow.terminal.parts.make_path = lambda present: None  # type: ignore[method-assign]
    slow.terminal.parts.follow(slow.world.now)
    assert slow.terminal.parts.path is None
    assert quick.terminal.parts.path is not None
    dice = Random(7)
    now = quick.world.now
    delivered = 0
    for _ in range(300):
        packet = udp(MN, CN, dice.randbytes(dice.choice([0, 1, 160, 1300])), (dice.randrange(3), 9))
        first, second = (network.terminal.from_host(packet, now) for network in (quick, slow))
        assert first == second
        (sent,) = first
        assert isinstance(sent, Transmit)
        assert direct.quickly_from_terminal(sent.packet) is not None
        back = udp(CN, MN, dice.randbytes(dice.choice([0, 1, 160, 1300])))
        wires = [network.correspondent.from_host(back, now) for network in (quick, slow)]
        assert wires[0] == wires[1]
        (wire,) = wires[0]
        assert isinstance(wire, Transmit)
        wrong = wire.packet
        if dice.random() < 0.3:
            at = dice.randrange(len(wrong))
            wrong = wrong[:at] + bytes((wrong[at] ^ 1 << dice.randrange(8),)) + wrong[at + 1 :]
        for _ in range(dice.choice([1, 2])):
            first, second = (network.terminal.from_link("wlan0", wrong, SENDER, now) for network in (quick, slow))
            assert [type(output) for output in first] == [type(output) for output in second]
            assert [o for o in first if not isinstance(o, Discarded)] == [
                o for o in second if not isinstance(o, Discarded)
            ]
            delivered += any(isinstance(output, Deliver) for output in first)
    assert 100 < delivered < 300
    assert quick.terminal.sending.sent == slow.terminal.sending.sent
    assert quick.terminal.receiving.delivered == slow.terminal.receiving.delivered
    routes = [network.optimization.ways[CN.packed] for network in (quick, slow)]
    assert routes[0] is not None
    assert routes[1] is not None
    assert routes[0].sent == routes[1].sent > 300


@pytest.mark.parametrize("form", FORMS)
def test_change_of_way_in_a_fast_stream_loses_nothing(form: TunnelForm) -> None:
    """Packets of the direct way overtake those of the tunnel: 15 ms, at 2500 a second."""
    network = Optimized(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(1.0, interval=0.0004)
    network.run(0.5)
    assert network.is_direct()
    station = network.world.stations["mn"]
    station.carry_out(network.terminal.command(f"tunnel {CN}", network.world.now))
    network.run(0.2)
    assert not network.is_direct()
    station.carry_out(network.terminal.command(f"optimize {CN}", network.world.now))
    network.run(2)
    assert network.is_direct()
    assert len(network.to_cn.sent) == 2500
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    for end in ("mn", "cn"):
        assert "replayed" not in network.discards(end)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bad_network_with_handovers(seed: int) -> None:
    network = Optimized(seed=seed)
    network.start()
    for segment in (network.core, network.a, network.b):
        segment.loss, segment.duplication, segment.reordering, segment.jitter = 0.01, 0.02, 0.03, 0.004
    network.talk(24)
    for place in (network.b, network.a, network.b, network.a):
        network.run(4)
        network.move(place, gap=0.05)
    network.run(14)
    assert network.is_direct()
    for traffic in (network.to_cn, network.to_mn):
        assert len(traffic.sent) == 1200
        assert len(traffic.lost()) < 90
        assert traffic.repeated == 0
    last = max(time for time in network.optimized())
    # Lost only as the links lose, 2 to 3 % each way, never because of the way.
    assert sum(network.to_cn.sent[n] > last for n in network.to_cn.lost()) < 30


def test_restarted_terminal_is_heard_and_begins_anew() -> None:
    """Its correspondent sends directly to it, of which the new process knows nothing."""
    network = started()
    network.talk(6)
    network.run(1)
    began = network.world.now
    network.office.frames.clear()
    network.world.remove("mn")
    again = mobile_pair(network.form, sequences=network.sequences)
    application, _ = application_pair(sequences=network.sequences)
    network.terminal = network._terminal(MN, MAC_MN, application, again.terminal)
    network.world.add("mn", network.terminal)
    network.plug(network.a)
    station = network.world.stations["mn"]
    network.world.every(
        0.02, lambda: station.send(udp(MN, CN, b"\xff\xff\0\0" + bytes(40))), until=network.world.now + 3
    )
    network.run(5)
    assert network.is_direct()
    ((bound, _),) = station.events_of(Bound)
    assert network.optimized()[-1] - bound < 0.1
    # Lost is what came while there was no process; all else came, first directly and then as well.
    assert all(network.to_mn.sent[number] <= began + 0.002 for number in network.to_mn.lost())
    walked = [(f.packet, ip6.walk(f.packet)) for f in network.office.frames]
    types = [packet[headers.offset + 2] for packet, headers in walked if headers.protocol == ip6.MOBILITY]
    assert types.count(mh.Type.BINDING_UPDATE) == 2  # the first one had a number of the predecessor's


def test_flood_of_destinations_fills_no_table_and_asks_few() -> None:
    network = started()
    network.office.frames.clear()
    network.core.frames.clear()
    station = network.world.stations["mn"]
    for number in range(3000):
        to = IPv6Address(int(IPv6Address("2001:db8:c:1::")) + number)
        for _ in range(5):
            station.send(udp(MN, to, b"x", (9, 9)))
    inits = [frame.packet for frame in network.core.frames if frame.packet[6] == ip6.MOBILITY]
    network.run(1)
    assert len(inits) <= 20
    assert len(network.optimization.ways) <= WAYS_LIMIT
    assert len(network.optimization._choice._counted) <= COUNTED_LIMIT
    assert len(network.optimization._peers) <= 20 <= LIMIT
    assert network.is_direct()


_noise = started()
