"""The terminal, agent and correspondent as nodes: entry points, short ways, commands, faults."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Reason
from mobility.links import LinkSettings
from mobility.mipv6.movement import CareOfAddressChanged
from mobility.mipv6.registration import BindingRefused, BindingRequested, Bound
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm, encapsulate
from mobility.net.memory import EndHost, SimRouter
from mobility.outputs import Deliver, Discarded, Output, Transmit
from mobility.terminal import HostMtuChanged, Terminal, TerminalSettings
from mobility.wire import icmp6, ip6, mh
from tests.mobility.whole import CN, HA, MAC_MN, MN, Network, udp

FORMS = list(TunnelForm)
STRANGER = IPv6Address("2001:db8:666::6")
SENDER = bytes.fromhex("020000001201")


def bound(form: TunnelForm = TunnelForm.ESP, *, quick: bool = True) -> Network:
    """A network whose terminal is bound in visited-a; ``quick=False``: it never takes the short ways."""
    network = Network(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(0.1)  # neighbours are resolved on the way
    network.run(1)
    if not quick:
        network.terminal.parts.make_path = lambda present: None  # type: ignore[method-assign]
        network.terminal.parts.follow(network.world.now)
    assert (network.terminal.parts.path is not None) is quick
    return network


def reasons(outputs: list[Output]) -> list[Reason]:
    return [output.reason for output in outputs if isinstance(output, Discarded)]


def care_of(network: Network) -> IPv6Address:
    present = network.terminal.mobile_node.present
    assert present is not None
    return present.address


def inbound(network: Network, packet: bytes) -> bytes:
    """A packet of the correspondent as the home agent tunnels it."""
    ends = HA.packed + care_of(network).packed
    return encapsulate(network.cn_application.protect(packet), ends, network.form, network.agent.engine.security)


# ---------------------------------------------------------------- short and long ways


@pytest.mark.parametrize("form", FORMS)
def test_short_and_long_way_do_the_same(form: TunnelForm) -> None:
    """Random packets, good and bad, through two terminals with the same keys and numbers."""
    quick, slow = bound(form), bound(form, quick=False)
    dice = Random(99)
    now = quick.world.now
    assert slow.world.now == now
    sources = [MN, MN, MN, MN, CN, IPv6Address("fe80::1"), IPv6Address("::")]
    destinations = [CN, CN, CN, HA, IPv6Address("ff02::1"), IPv6Address("fe80::2"), IPv6Address("2001:db8:9::9")]
    seen = {Transmit: 0, Deliver: 0, Discarded: 0}
    for _ in range(600):
        size = dice.choice([0, 1, 33, 160, 1200, 1340, 1350, 1400])
        packet = udp(dice.choice(sources), dice.choice(destinations), dice.randbytes(size), (dice.randrange(3), 9))
        if dice.random() < 0.2:
            protocol = dice.choice([ip6.TCP, ip6.ICMPV6, ip6.ESP, ip6.NO_NEXT])
            packet = packet[:6] + bytes((protocol,)) + packet[7:]
        packet = damaged(packet, dice)
        first, second = (network.terminal.from_host(packet, now) for network in (quick, slow))
        assert first == second
        for output in first:
            seen[type(output)] += 1

        back = udp(dice.choice([CN, CN, IPv6Address("2001:db8:9::9")]), MN, dice.randbytes(size % 1300))
        wires = [damaged(inbound(network, back), state) for network, state in twins(dice, quick, slow)]
        assert wires[0] == wires[1]
        for _ in range(dice.choice([1, 1, 2])):
            first = quick.terminal.from_link("wlan0", wires[0], SENDER, now)
            second = slow.terminal.from_link("wlan0", wires[0], SENDER, now)
            assert without_place(first) == without_place(second)
            for output in first:
                seen[type(output)] += 1
    assert min(seen.values()) > 50
    assert quick.terminal.sending.sent == slow.terminal.sending.sent
    assert quick.terminal.receiving.delivered == slow.terminal.receiving.delivered


def without_place(outputs: list[Output]) -> list[object]:
    """A malformed packet may be noticed earlier or later; what counts is that it is named and counted."""
    return [output.reason if isinstance(output, Discarded) else output for output in outputs]


def twins(dice: Random, *networks: Network) -> list[tuple[Network, Random]]:
    seed = dice.random()
    return [(network, Random(seed)) for network in networks]


def damaged(packet: bytes, dice: Random) -> bytes:
    chance = dice.random()
    if chance < 0.8:
        return packet
    if chance < 0.9:
        at = dice.randrange(len(packet))
        return packet[:at] + bytes((packet[at] ^ 1 << dice.randrange(8),)) + packet[at + 1 :]
    return packet[: dice.randrange(len(packet))]


@pytest.mark.parametrize("form", FORMS)
def test_short_way_ends_with_the_binding(form: TunnelForm) -> None:
    network = bound(form)
    network.world.detach("mn", "wlan0")
    assert network.terminal.parts.path is None
    assert network.terminal.from_host(udp(MN, CN, b"x"), network.world.now) == []
    assert len(network.terminal.waiting) == 1


def test_smaller_path_is_noticed_and_large_packets_still_arrive() -> None:
    network = bound()
    assert network.terminal.host_mtu == 1390
    agent = IPv6Address("2001:db8:ffff::1")
    quoted = ip6.packet(care_of(network), HA, ip6.ESP, bytes(1000))
    error = icmp6.packet(agent, care_of(network), icmp6.PacketTooBig(1300, quoted))
    outputs = network.terminal.from_link("wlan0", error, SENDER, network.world.now)
    # 1300 - 72 - 32 is less than IPv6 allows: the interface keeps 1280, and the tunnel is fragmented.
    assert HostMtuChanged(1280) in outputs
    outputs = network.terminal.from_host(udp(MN, CN, bytes(1200)), network.world.now)
    assert [ip6.walk(output.packet).fragment is not None for output in outputs if isinstance(output, Transmit)] == [
        True,
        True,
    ]
    station = network.world.stations["mn"]
    station.send(udp(MN, CN, b"\0\0\0\x63" + bytes(1200)))
    network.run(1)
    assert 99 in network.to_cn.received


# ---------------------------------------------------------------- host OS


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (udp(IPv6Address("fe80::1"), IPv6Address("ff02::2"), b""), Reason.LINK_LOCAL_CHATTER),
        (udp(IPv6Address("::"), IPv6Address("ff02::16"), b""), Reason.LINK_LOCAL_CHATTER),
        (udp(MN, IPv6Address("ff02::fb"), b""), Reason.LINK_LOCAL_CHATTER),
        (udp(CN, HA, b""), Reason.SOURCE_NOT_HOST_ADDRESS),
        (b"", Reason.MALFORMED),
        (b"\x45" + bytes(40), Reason.MALFORMED),
        (udp(MN, CN, b"x")[:-1], Reason.MALFORMED),
    ],
)
def test_what_the_host_os_may_not_send(packet: bytes, reason: Reason) -> None:
    for network in (bound(), bound(quick=False)):
        assert reasons(network.terminal.from_host(packet, network.world.now)) == [reason]
        assert network.terminal.counters[f"discarded-{reason}"] == 1


def test_program_is_told_what_does_not_fit() -> None:
    network = bound()
    fits = network.terminal.host_mtu
    assert [
        type(output) for output in network.terminal.from_host(udp(MN, CN, bytes(fits - 48)), network.world.now)
    ] == [Transmit]
    told, discarded = network.terminal.from_host(udp(MN, CN, bytes(fits - 47)), network.world.now)
    assert isinstance(told, Deliver)
    assert isinstance(discarded, Discarded)
    assert discarded.reason is Reason.TOO_BIG
    icmp6.verify(told.packet[8:24], told.packet[24:40], told.packet[40:])
    message = icmp6.parse(told.packet[40:])
    assert isinstance(message, icmp6.PacketTooBig)
    assert (message.mtu, told.packet[24:40]) == (fits, MN.packed)


# ---------------------------------------------------------------- links


def test_unprotected_speech_is_not_believed() -> None:
    network = bound()
    ends = HA.packed + care_of(network).packed
    packet = encapsulate(udp(CN, MN, b"x"), ends, network.form, network.agent.engine.security)
    assert reasons(network.terminal.from_link("wlan0", packet, SENDER, network.world.now)) == [Reason.POLICY_VIOLATED]


def test_links_that_are_not_there() -> None:
    network = bound()
    now = network.world.now
    for node in (network.terminal, network.agent, network.correspondent):
        assert reasons(node.from_link("ppp0", b"", SENDER, now)) == [Reason.NO_SUCH_LINK]
        assert reasons(node.link_changed("ppp0", True, now)) == [Reason.NO_SUCH_LINK]


@settings(max_examples=300)
@given(
    st.binary(max_size=200), st.integers(0, 255), st.sampled_from([HA, CN, MN, IPv6Address("fe80::1")]), st.booleans()
)
def test_noise_from_everywhere(body: bytes, protocol: int, source: IPv6Address, framed: bool) -> None:
    """No entry point raises; the terminal stays bound where it is."""
    network = _noise
    now = network.world.now
    before = (care_of(network), network.terminal.mobile_node.registration.snapshot(now))
    for node, link, own in (
        (network.terminal, "wlan0", care_of(network)),
        (network.agent, "home0", HA),
        (network.agent, "home0", MN),
        (network.correspondent, "eth0", CN),
    ):
        packet = ip6.packet(source, own, protocol, body) if framed else body
        node.from_link(link, packet, SENDER, now)
        node.from_host(packet, now)
    assert before == (care_of(network), network.terminal.mobile_node.registration.snapshot(now))
    assert len(network.agent.engine.cache) == 1


_noise = bound()


# ---------------------------------------------------------------- commands, snapshots, settings


def test_commands() -> None:
    network = bound()
    station, terminal = network.world.stations["mn"], network.terminal
    outputs = terminal.command("reregister", network.world.now)
    station.carry_out(outputs)
    assert [type(output) for output in outputs if not isinstance(output, Transmit)] == [BindingRequested]
    network.run(1)
    assert len(station.events_of(Bound)) == 2
    network.plug(network.home, "wlan1")
    network.run(2)
    station.carry_out(terminal.command("return-home", network.world.now))
    network.run(1)
    assert terminal.forwarding.at_home
    network.talk(0.2)
    network.run(1)
    assert network.to_cn.lost() == network.to_mn.lost() == []
    station.carry_out(terminal.command("move wlan0", network.world.now))
    network.run(1)
    assert terminal.forwarding.tunnel is not None


@pytest.mark.parametrize("name", ["", "fly", "move", "move ppp0", "move a b", "return-home"])
def test_commands_that_cannot_be_obeyed(name: str) -> None:
    network = bound()
    with pytest.raises(ValueError, match=r"there is no|no link hears"):
        network.terminal.command(name, network.world.now)


def test_refused_terminal_says_why() -> None:
    network = Network()
    network.agent.engine.cache.limit = 0
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    events = [event.describe() for _, event in network.world.stations["mn"].events]
    assert [event["status"] for event in events if event["event"] == "BindingRefused"] == ["insufficient-resources"]
    assert network.discards("mn")["binding-refused"] == 1
    assert not network.terminal.forwarding.ready
    network.agent.engine.cache.limit = 10
    network.run(61)
    assert network.terminal.forwarding.ready


def test_snapshots_hold_no_secrets_and_are_json() -> None:
    from json import dumps

    network = bound()
    for node in (network.terminal, network.agent, network.correspondent):
        text = dumps(node.snapshot(network.world.now))
        sa = network.pair.terminal.tunnel_out
        assert sa is not None
        assert sa._encryption.hex() not in text
        assert "counters" in text


def test_settings_that_cannot_work() -> None:
    network = bound()
    with pytest.raises(ValueError, match="needs associations"):
        Terminal(TerminalSettings(MN, HA, ()), network.mn_application, MobileAssociations(), bytes)
    link = LinkSettings("eth0", bytes(6))
    with pytest.raises(ValueError, match="each link only once"):
        Terminal(TerminalSettings(MN, HA, (link, link)), network.mn_application, MobileAssociations(), bytes)


def test_silent_change_of_network_is_noticed() -> None:
    """The carrier stays; only the advertisements tell (a cable moved behind a hub)."""
    network = bound()
    network.world.move("mn", "wlan0", network.b, silent=True)
    network.run(45)
    station = network.world.stations["mn"]
    changes = [event.care_of_address for _, event in station.events_of(CareOfAddressChanged)]
    assert changes[-1] is not None
    assert changes[-1] in network.b_prefix
    assert network.terminal.forwarding.tunnel is not None
    assert network.agent.engine.cache.bindings()[0].care_of_address == changes[-1]


def test_silent_change_of_network_in_mid_call_is_noticed_within_two_seconds() -> None:
    """Neither carrier nor advertisement tells: nothing comes through any more, so the terminal looks around."""
    network = bound()
    for name in ("r-a", "r-b"):
        router = network.world.stations[name].node
        assert isinstance(router, SimRouter)
        for interface in router.interfaces.values():
            interface.interval = 0.0
    network.talk(4)
    network.run(0.5)
    network.world.move("mn", "wlan0", network.b, silent=True)
    network.run(2)
    assert care_of(network) in network.b_prefix
    network.run(3)
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    assert len(network.to_cn.lost()) <= len(network.to_cn.sent) / 2


@pytest.mark.parametrize("quick", [True, False])
def test_what_the_applications_ipsec_discards_is_counted_on_both_ways(quick: bool) -> None:
    network = bound(quick=quick)
    network.world.stations["cn"].send(udp(CN, MN, b"protected"))
    network.run(1)
    plain = network.agent.engine.intercept(udp(CN, MN, b"without ESP"), network.world.now)
    (sealed,) = [output for output in plain if isinstance(output, Transmit)]
    outputs = network.terminal.from_link("wlan0", sealed.packet, SENDER, network.world.now)
    assert reasons(outputs) == [Reason.POLICY_VIOLATED]
    assert network.terminal.counters["discarded-policy-violated"] == 1


def test_the_same_keys_on_every_attachment() -> None:
    """Neither SIP nor SDP nor the application's association notices a handover: one pair of associations for all."""
    network = bound()
    network.talk(3)
    network.run(1)
    network.move(network.b)
    network.run(3)
    assert MAC_MN in {frame.source for frame in network.b.frames}
    out = network.mn_application.spd.policies[0].outbound_sa
    assert out is not None
    assert out.packets == network.terminal.sending.sent


# ---------------------------------------------------------------- strangers at the doors of whole nodes


def forged_update(home: IPv6Address = MN) -> bytes:
    flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
    update = mh.BindingUpdate(999, flags, 400, (mh.AlternateCareOfAddress(STRANGER),))
    plain = ip6.packet(home, HA, ip6.MOBILITY, mh.payload(update, home, HA))
    packet = ip6.insert(plain, ip6.home_address_option(home, ip6.MOBILITY), ip6.DEST_OPTIONS)
    return packet[:8] + STRANGER.packed + packet[24:]


def forged_acknowledgement(network: Network, status: int) -> bytes:
    sequence = network.terminal.mobile_node.registration.sequence
    ack = mh.BindingAcknowledgement(status, sequence, 0, mh.AckFlag(0))
    plain = ip6.packet(HA, MN, ip6.MOBILITY, mh.payload(ack, HA, MN))
    packet = ip6.insert(plain, ip6.routing_header(MN, ip6.MOBILITY), ip6.ROUTING)
    return packet[:24] + care_of(network).packed + packet[40:]


def test_forged_update() -> None:
    network = bound()
    now = network.world.now
    before = network.agent.engine.cache.snapshot(now)
    for packet, reason in (
        (forged_update(), Reason.NOT_PROTECTED),
        (forged_update(STRANGER), Reason.POLICY_DISCARD),
        (ip6.packet(STRANGER, HA, ip6.IPV6, udp(MN, CN, b"x")), Reason.OUTER_SOURCE_WRONG),
        (ip6.packet(STRANGER, HA, ip6.IPV6, udp(STRANGER, CN, b"x")), Reason.INNER_SOURCE_WRONG),
        (ip6.packet(STRANGER, HA, ip6.ESP, bytes(64)), Reason.SA_UNKNOWN),
        (ip6.packet(STRANGER, HA, ip6.MOBILITY, bytes(3)), Reason.MALFORMED),
        (ip6.packet(STRANGER, HA, ip6.UDP, bytes(8)), Reason.MALFORMED),
    ):
        outputs = network.agent.from_link("home0", packet, SENDER, now)
        assert reasons(outputs) == [reason]
        assert len(outputs) == 1
        assert network.agent.counters[f"discarded-{reason}"] > 0
    assert network.agent.engine.cache.snapshot(now) == before


@pytest.mark.parametrize("status", [0, 129, 135])
def test_forged_acknowledgement(status: int) -> None:
    network = bound()
    now = network.world.now
    before = network.terminal.mobile_node.registration.snapshot(now)
    outputs = network.terminal.from_link("wlan0", forged_acknowledgement(network, status), SENDER, now)
    assert reasons(outputs) == [Reason.NOT_PROTECTED]
    assert len(outputs) == 1
    assert network.terminal.mobile_node.registration.snapshot(now) == before
    assert network.terminal.forwarding.ready


def test_forged_tunnel_packets() -> None:
    network = bound()
    now, here = network.world.now, care_of(network)
    for packet, reason in (
        (ip6.packet(STRANGER, here, ip6.IPV6, udp(CN, MN, b"x")), Reason.OUTER_SOURCE_WRONG),
        (ip6.packet(HA, here, ip6.IPV6, udp(CN, MN, b"x")), Reason.POLICY_VIOLATED),
        (ip6.packet(HA, here, ip6.ESP, bytes(64)), Reason.SA_UNKNOWN),
        (ip6.packet(HA, here, ip6.MOBILITY, b"\x3b"), Reason.MALFORMED),
        (udp(CN, here, b"x"), Reason.OUTER_SOURCE_WRONG),
        (udp(HA, here, b"x"), Reason.NOT_TUNNELLED),
    ):
        assert reasons(network.terminal.from_link("wlan0", packet, SENDER, now)) == [reason]


def test_hop_limit_at_the_home_agent() -> None:
    network = bound()
    packet = udp(CN, MN, b"x")
    network.world.stations["ha"].receive("home0", packet[:7] + b"\x01" + packet[8:], SENDER)
    network.run(1)
    assert network.discards("ha")[Reason.HOP_LIMIT.value] == 1
    errors = [packet for packet in network.other_packets["cn"] if packet[6] == ip6.ICMPV6]
    assert [type(icmp6.parse(error[40:])).__name__ for error in errors] == ["TimeExceeded"]


def test_home_address_that_somebody_else_has_is_refused() -> None:
    network = Network()
    world = network.world
    mac = bytes.fromhex("0200000066ee")
    squatter = EndHost("eth0", mac, world.random_bytes("squatter"), addresses=(IPv6Interface(f"{MN}/64"),))
    world.add("squatter", squatter)
    world.attach("squatter", "eth0", network.home, mac)
    world.run(2)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    told = [event.status for _, event in world.stations["mn"].events_of(BindingRefused)]
    assert told == ["dad-failed"]
    assert len(network.agent.engine.cache) == 0


def test_correspondent_keeps_to_its_address_and_its_mtu() -> None:
    network = bound()
    node, now = network.correspondent, network.world.now
    assert node.host_mtu == 1442  # of 1500: ESP, and room for a routing header
    told, discarded = node.from_host(udp(CN, MN, bytes(1395)), now)
    assert isinstance(told, Deliver)
    message = icmp6.parse(told.packet[40:])
    assert isinstance(message, icmp6.PacketTooBig)
    assert message.mtu == 1442
    assert isinstance(discarded, Discarded)
    assert reasons(node.from_host(udp(MN, CN, b""), now)) == [Reason.SOURCE_NOT_HOST_ADDRESS]
    assert reasons(node.from_host(udp(CN, IPv6Address("ff02::1"), b""), now)) == [Reason.LINK_LOCAL_CHATTER]
    other = next(a for a in node.host.snapshot(now)["addresses"] if a["address"].startswith("2001:db8:c:0:"))  # type: ignore[attr-defined]
    stray = udp(MN, IPv6Address(other["address"]), b"")
    assert reasons(node.from_link("eth0", stray, SENDER, now)) == [Reason.NOT_OURS]
