"""Figs. 10, 12, 13, 15 to 22 and 24 to 26 of the source from end to end: which packets went, in which order.

A packet is written as a reader of a capture with all keys would: ``HA > CoA | ESP tunnel | CN > MN | UDP``.
`docs/figures.md` names the test of every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from mobility.discards import Reason
from mobility.ipsec.sa import Mode
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.mipv6.correspondent_node import Correspondent
from mobility.mipv6.signalling import to_terminal as signalled_to_terminal
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import EndHost, Station
from mobility.outputs import Discarded
from mobility.translation.translation import VirtualAddressSet
from mobility.wire import ip6, mh
from mobility.wire import udp as wire_udp
from softphone.media.offer_answer import LocalStream, Negotiation
from softphone.sip.headers import Headers
from softphone.sip.message import Request, parse_message, respond
from softphone.sip.uri import SipUri
from tests.mobility.optimized import Optimized
from tests.mobility.test_translating import HERE, Call, call, in_use
from tests.mobility.whole import CN, HA, MN, VISITED_A, Network, association, udp

PROXY = IPv6Address("2001:db8:c::8")
STRANGER = IPv6Address("2001:db8:b::666")
SENDER = bytes.fromhex("020000001202")
FORMS = list(TunnelForm)
NAMES = {MN: "MN", CN: "CN", HA: "HA", PROXY: "proxy"}
TUNNELS = {
    # Figs. 19 and 24; 21 and 25; 22 and 26. The inner packet stands for {}.
    TunnelForm.PLAIN: "{outer} | {inner}",
    TunnelForm.ESP_MOBILE: "{outer} | ESP tunnel | {outer} | {inner}",
    TunnelForm.ESP: "{outer} | ESP tunnel | {inner}",
}
UPDATE = "CoA > HA | home address option MN | {}binding update"
ACKNOWLEDGEMENT = "HA > CoA | routing header MN | {}binding acknowledgement"
TRANSPORT = {0x1000: "signalling", 0x1001: "signalling", 0x100: "application", 0x101: "application"}
"SPI of the associations of `whole`; all others are those of the tunnel."


# ---------------------------------------------------------------- a reader of captures


def name(address: bytes) -> str:
    known = IPv6Address(address)
    return NAMES.get(known, "CoA" if known in VISITED_A else str(known))


def layers(packet: bytes) -> list[str]:
    """The headers of a packet, from the outermost to the innermost."""
    headers = ip6.walk(packet)
    found = [f"{name(packet[8:24])} > {name(packet[24:40])}"]
    if headers.home_address is not None:
        found.append(f"home address option {name(headers.home_address)}")
    if headers.routing_address is not None:
        found.append(f"routing header {name(headers.routing_address)}")
    return found + within(headers.protocol, packet[headers.offset :])


def within(protocol: int, body: bytes) -> list[str]:
    if protocol == ip6.ESP:
        spi = int.from_bytes(body[:4])
        _, end = association(spi, Mode.TRANSPORT if spi in TRANSPORT else Mode.TUNNEL)
        return [f"ESP {TRANSPORT.get(spi, 'tunnel')}", *within(*end.open(body))]
    if protocol == ip6.IPV6:
        return layers(body)
    if protocol == ip6.MOBILITY:
        return [mh.Type(body[2]).name.lower().replace("_", " ")]
    return ["UDP" if protocol == ip6.UDP else f"protocol {protocol}"]


def way(network: Network, begin: Callable[[], object], seconds: float = 0.3) -> list[str]:
    """What was on all links because of something, in the order of first appearance; neighbours' talk left out."""
    segments = (network.home, network.core, network.a, network.b, network.office)
    for segment in segments:
        segment.frames.clear()
    begin()
    network.world.run(network.world.now + seconds)
    frames = sorted((frame for segment in segments for frame in segment.frames), key=lambda frame: frame.time)
    seen = dict.fromkeys(" | ".join(layers(frame.packet)) for frame in frames)
    return [packet for packet in seen if "protocol" not in packet]


def data(network: Network, begin: Callable[[], object]) -> list[str]:
    """As `way`, without messages of Mobile IPv6."""
    return [packet for packet in way(network, begin) if packet.endswith("UDP")]


def taken(station: Station) -> list[bytes]:
    """What the host OS received since this was asked last."""
    packets = [packet for _, packet in station.delivered]
    station.delivered.clear()
    return packets


def without_application_ipsec(network: Network) -> None:
    """Embodiments 1 to 4 know one IPsec only: that of Mobile IPv6."""
    for part in (network.mn_application, network.cn_application):
        part.replace(SecurityPolicyDatabase([], Action.BYPASS))


def inside(form: TunnelForm, outer: str, inner: str) -> str:
    return TUNNELS[form].format(outer=outer, inner=inner)


def to_terminal(network: Network, body: bytes = b"to the terminal") -> Callable[[], None]:
    return lambda: network.world.stations["cn"].send(udp(CN, MN, body))


def to_correspondent(network: Network, body: bytes = b"to the correspondent") -> Callable[[], None]:
    return lambda: network.world.stations["mn"].send(udp(MN, CN, body))


def care_of(network: Network) -> IPv6Address:
    present = network.terminal.mobile_node.present
    assert present is not None
    return present.address


# ---------------------------------------------------------------- embodiments 1 and 3: a program that speaks IPv4


def speaks_ipv4(made: Call, down: list[str], up: list[str]) -> None:
    """Steps 508 to 517: one packet each way, translated at the terminal."""
    network = made.network
    mn, cn = network.world.stations["mn"], network.world.stations["cn"]
    for station in (mn, cn):
        taken(station)
    valid = wire_udp.packet(CN.packed + MN.packed, (5004, 5004), b"for an IPv4 program")
    assert data(network, lambda: cn.send(valid)) == down
    (packet,) = taken(mn)
    read = IP(packet)
    assert (read.version, read.src, read.dst, read[UDP].load) == (4, str(made.peer), str(HERE), b"for an IPv4 program")
    packet = bytes(IP(src=str(HERE), dst=str(made.peer)) / UDP(sport=5004, dport=5004) / Raw(b"of an IPv4 program"))
    assert data(network, lambda: mn.send(packet)) == up
    (packet,) = taken(cn)
    assert (packet[8:40], packet[48:]) == (MN.packed + CN.packed, b"of an IPv4 program")


def bound(made: Call) -> list[str]:
    """Steps 501 to 507."""
    signalled = way(made.network, lambda: made.network.plug(made.network.a), 2)
    events = made.network.world.stations["mn"]
    assert [event.address for _, event in events.events_of(VirtualAddressSet)] == [HERE]  # 507
    tunnel = made.network.terminal.forwarding.tunnel
    assert tunnel is not None
    assert (tunnel.home_agent, tunnel.care_of_address) == (HA, care_of(made.network))  # 506
    (row,) = made.network.terminal.updates.snapshot(made.network.world.now)
    assert (row["destination"], row["state"]) == (str(HA), "bound")  # 503
    return signalled


def test_figure_10() -> None:
    made = call(TunnelForm.PLAIN, signalling=False)
    without_application_ipsec(made.network)
    assert bound(made) == [UPDATE.format(""), ACKNOWLEDGEMENT.format("")]  # 501, 502
    assert in_use(made.terminal) == [10000]  # 504, 505
    speaks_ipv4(
        made,
        ["CN > MN | UDP", "HA > CoA | CN > MN | UDP"],  # 508, 509
        ["CoA > HA | MN > CN | UDP", "MN > CN | UDP"],  # 516, 517
    )


@pytest.mark.parametrize("form", FORMS)
def test_figures_19_21_and_22(form: TunnelForm) -> None:
    made = call(form)
    without_application_ipsec(made.network)
    assert bound(made) == [UPDATE.format("ESP signalling | "), ACKNOWLEDGEMENT.format("ESP signalling | ")]
    assert in_use(made.terminal) == [10010]  # 521, 522, 505
    speaks_ipv4(
        made,
        ["CN > MN | UDP", inside(form, "HA > CoA", "CN > MN | UDP")],  # 508 and 509, 551 or 557
        [inside(form, "CoA > HA", "MN > CN | UDP"), "MN > CN | UDP"],  # 516, 556 or 558, and 517
    )


def test_figure_20() -> None:
    made = call(network=Optimized())
    network = made.network
    without_application_ipsec(network)
    bound(made)
    first = bytes(IP(src=str(HERE), dst=str(made.peer)) / UDP(sport=5004, dport=5004) / Raw(b"1"))
    mn = network.world.stations["mn"]

    def several() -> None:
        network.world.every(0.02, lambda: mn.send(first), until=network.world.now + 0.3)

    seen = way(network, several, 1)
    update = "CoA > CN | home address option MN | binding update"
    answer = "CN > CoA | routing header MN | binding acknowledgement"
    tests = [
        inside(TunnelForm.ESP, "CoA > HA", "MN > CN | home test init"),
        "MN > CN | home test init",
        "CN > MN | home test",
        inside(TunnelForm.ESP, "HA > CoA", "CN > MN | home test"),
        "CoA > CN | care of test init",
        "CN > CoA | care of test",
    ]
    assert set(tests) <= set(seen)
    assert max(map(seen.index, tests)) < seen.index(update) < seen.index(answer)  # 531, 532
    assert in_use(made.terminal) == [10010, 10011]  # 534 to 536
    rows = {row["destination"]: row["care_of_address"] for row in network.terminal.updates.snapshot(network.world.now)}
    assert rows == dict.fromkeys((str(HA), str(CN)), str(care_of(network)))  # 533
    speaks_ipv4(
        made,
        ["CN > CoA | routing header MN | UDP"],  # 538
        ["CoA > CN | home address option MN | UDP"],  # 545
    )


# ---------------------------------------------------------------- embodiments 2 and 4: programs that speak IPv6


def speaks_ipv6(network: Network, down: list[str], up: list[str]) -> None:
    mn, cn = network.world.stations["mn"], network.world.stations["cn"]
    for station in (mn, cn):
        taken(station)
    assert data(network, to_terminal(network)) == down
    (packet,) = taken(mn)
    assert packet[8:40] == CN.packed + MN.packed
    assert packet[48:] == b"to the terminal"
    assert data(network, to_correspondent(network)) == up
    (packet,) = taken(cn)
    assert packet[8:40] == MN.packed + CN.packed
    assert packet[48:] == b"to the correspondent"


def test_figure_12() -> None:
    network = Network(TunnelForm.PLAIN, signalling=False)
    without_application_ipsec(network)
    network.start_agent()
    signalled = way(network, lambda: network.plug(network.a), 2)
    assert signalled == [UPDATE.format(""), ACKNOWLEDGEMENT.format("")]
    assert network.terminal.scenarios.present == 10001
    speaks_ipv6(
        network,
        ["CN > MN | UDP", "HA > CoA | CN > MN | UDP"],
        ["CoA > HA | MN > CN | UDP", "MN > CN | UDP"],
    )


def test_figure_13() -> None:
    """Routine 70: what an acknowledgement has to pass, and that nothing else passes."""
    network = Network()
    network.start_agent()
    signalled = way(network, lambda: network.plug(network.a), 2)
    assert signalled == [UPDATE.format("ESP signalling | "), ACKNOWLEDGEMENT.format("ESP signalling | ")]
    terminal, now = network.terminal, network.world.now
    (genuine,) = [f.packet for f in network.a.frames if f.packet[6] == ip6.ROUTING]
    (row,) = terminal.updates.snapshot(now)
    assert (row["destination"], row["care_of_address"], row["state"]) == (str(HA), str(care_of(network)), "bound")
    assert terminal.scenarios.present == 10020  # 76
    before = terminal.mobile_node.snapshot(now)
    message = mh.BindingAcknowledgement(0, 1, 400)
    bare = ip6.insert(
        ip6.packet(HA, MN, ip6.MOBILITY, mh.payload(message, HA, MN)),
        ip6.routing_header(MN, ip6.MOBILITY),
        ip6.ROUTING,
    )
    here, security = care_of(network), network.agent.engine.security
    fresh, another = (signalled_to_terminal(message, HA, MN, here, security) for _ in range(2))
    forged = [
        (fresh[:48] + STRANGER.packed + fresh[64:], Reason.POLICY_DISCARD),  # 71
        # 73: nobody can see that this was to be an acknowledgement, so it is routine 120 that discards it.
        (genuine[:64] + b"\0\0\x77\x77" + genuine[68:], Reason.NOT_TUNNELLED),
        (another[:-1] + bytes((another[-1] ^ 1,)), Reason.AUTHENTICATION_FAILED),  # 73
        (genuine, Reason.REPLAYED),  # 73
        (bare[:24] + here.packed + bare[40:], Reason.NOT_PROTECTED),  # 72, 74
    ]
    for packet, reason in forged:
        outputs = terminal.from_link("wlan0", packet, SENDER, now)
        assert [output.reason for output in outputs if isinstance(output, Discarded)] == [reason]  # 77
    assert terminal.mobile_node.snapshot(now) == before


@pytest.mark.parametrize("translated", [True, False])
def test_figures_15_and_16(translated: bool) -> None:
    """Routine 60: the home agent's acknowledgement makes the tunnel, a correspondent's the route, an error ends it."""
    network = Optimized()
    made = call(network=network) if translated else None
    if made is None:
        network.start_agent()
    without_application_ipsec(network)
    terminal, mn = network.terminal, network.world.stations["mn"]
    network.agent.engine.cache.limit = 0
    network.plug(network.a)
    network.world.run(2)
    assert network.discards("mn")["binding-refused"] == 1  # 62, 67
    assert not terminal.forwarding.ready
    network.agent.engine.cache.limit = 10
    network.world.run(65)
    tunnel = terminal.forwarding.tunnel
    assert tunnel is not None
    assert (tunnel.home_agent, tunnel.care_of_address) == (HA, care_of(network))  # 81, 91
    addresses = [event.address for _, event in mn.events_of(VirtualAddressSet)]
    assert addresses == ([HERE] if translated else [])  # 82, and none in Fig. 16

    network.world.every(0.02, to_correspondent(network), until=network.world.now + 0.3)
    network.world.run(network.world.now + 1)
    policy = terminal.scenarios
    assert (policy.present, policy.of_correspondents) == ((10010, 10011) if translated else (10020, 10021))  # 61
    route = terminal.updates.route(CN.packed)
    assert route is not None
    assert (route.destination, route.care_of_address) == (CN, care_of(network))  # 83, 84, 92, 93

    node = network.correspondent
    node.optimization = Correspondent(
        CN, network.world.random_bytes("cn again"), node.host.send, node.host.report, node._heard
    )
    gone: list[bool] = []

    def lose() -> None:
        to_correspondent(network)()
        network.world.every(0.001, lambda: gone.append(terminal.updates.route(CN.packed) is None), until=until)

    until = network.world.now + 0.1
    assert "CN > CoA | binding error" in way(network, lose)
    assert True in gone  # 85, 94
    assert not gone[0]


def test_figure_17() -> None:
    """Routine 100, from its first question to each of its ends."""
    network = Optimized()
    without_application_ipsec(network)
    network.start_agent()
    network.run(2)
    network.plug(network.home)
    network.run(2)
    assert data(network, to_correspondent(network)) == ["MN > CN | UDP"]  # 101, 107
    network.move(network.a)
    network.world.run(network.world.now + 2)
    assert network.terminal.updates.route(CN.packed) is None  # 102
    tunnelled = inside(TunnelForm.ESP, "CoA > HA", "MN > CN | UDP")
    assert data(network, to_correspondent(network))[0] == tunnelled  # 108 to 110, 107
    network.world.every(0.02, to_correspondent(network), until=network.world.now + 0.3)
    network.world.run(network.world.now + 1)
    direct = ["CoA > CN | home address option MN | UDP"]
    assert data(network, to_correspondent(network)) == direct  # 102 to 104, 107
    network.mn_application.replace(Network().mn_application.spd)  # its keys are the same in every network
    seen = data(network, to_correspondent(network))
    assert seen == ["CoA > CN | home address option MN | ESP application | UDP"]  # 105, 106
    network.mn_application.replace(SecurityPolicyDatabase([], Action.DISCARD))
    assert data(network, to_correspondent(network)) == []
    assert network.discards("mn") == {"policy-discard": 1}  # 112


@pytest.mark.parametrize("form", FORMS)
def test_figure_18(form: TunnelForm) -> None:
    """Routine 120: what is delivered, and the name of every end at which a packet is discarded."""
    network = Optimized(form)
    without_application_ipsec(network)
    mn = network.world.stations["mn"]
    network.start_agent()
    network.run(2)
    network.plug(network.home)
    network.run(2)
    assert data(network, to_terminal(network)) == ["CN > MN | UDP"]  # 121
    assert len(taken(mn)) == 1
    network.move(network.a)
    network.world.run(network.world.now + 2)
    tunnelled = inside(form, "HA > CoA", "CN > MN | UDP")
    assert data(network, to_terminal(network))[:2] == ["CN > MN | UDP", tunnelled]  # 124, 125, 131, 128, 129
    assert len(taken(mn)) == 1  # 127
    network.world.every(0.02, to_correspondent(network), until=network.world.now + 0.3)
    network.world.run(network.world.now + 1)
    assert data(network, to_terminal(network)) == ["CN > CoA | routing header MN | UDP"]  # 122 to 124
    assert len(taken(mn)) == 1
    here = care_of(network).packed
    inner = udp(CN, MN, b"forged")
    routed = ip6.insert(udp(CN, MN, b"forged"), ip6.routing_header(STRANGER, ip6.UDP), ip6.ROUTING)
    forged = [
        (inner, Reason.NOT_OURS),  # 121: away from home the link has no home address
        (routed[:24] + here + routed[40:], Reason.HOME_ADDRESS_NOT_OURS),  # 123
        (ip6.fast_packet(HA.packed + here, ip6.ESP, b"\0\0\x77\x77" + bytes(60)), Reason.SA_UNKNOWN),  # 125
        (ip6.fast_packet(STRANGER.packed + here, ip6.IPV6, inner), Reason.OUTER_SOURCE_WRONG),  # 128
    ]
    if form is not TunnelForm.PLAIN:
        forged.append((ip6.fast_packet(HA.packed + here, ip6.IPV6, inner), Reason.POLICY_VIOLATED))  # 129, 126
    for packet, reason in forged:
        outputs = network.terminal.from_link("wlan0", packet, SENDER, network.world.now)
        assert [output.reason for output in outputs if isinstance(output, Discarded)] == [reason]  # 130
        assert len(outputs) == 1


# ---------------------------------------------------------------- embodiment 5: a call through a SIP proxy


@dataclass
class Proxied:
    """SIP proxy 8 beside the correspondent: it passes on what it receives, and knows no binding."""

    network: Network
    passed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        world, mac = self.network.world, bytes.fromhex("020000000808")
        host = EndHost("eth0", mac, world.random_bytes("proxy"), addresses=[IPv6Interface((PROXY, 64))])
        self.station = world.add("proxy", host)
        self.station.host_side = self.receive
        world.attach("proxy", "eth0", self.network.office, mac)

    def receive(self, packet: bytes) -> None:
        self.passed.append(packet[48:])
        to = CN if packet[8:24] == MN.packed else MN
        self.station.send(udp(PROXY, to, packet[48:], (5060, 5060)))

    def message(self, sender: str, body: bytes) -> tuple[list[str], bytes]:
        """What was on the links when one end said something through the proxy, and what the other heard."""
        source, other = (CN, "mn") if sender == "cn" else (MN, "cn")
        stations = self.network.world.stations
        stations[other].delivered.clear()
        packet = udp(source, PROXY, body, (5060, 5060))
        seen = way(self.network, lambda: stations[sender].send(packet))
        (heard,) = taken(stations[other])
        assert heard[8:40] == PROXY.packed + (MN if other == "mn" else CN).packed
        return seen, heard[48:]


def request(method: str, sdp: str = "") -> Request:
    lines = [
        ("Via", f"SIP/2.0/UDP [{CN}]:5060;branch=z9hG4bK{method}"),
        ("From", "<sip:cn@example.org>;tag=c"),
        ("To", "<sip:mn@example.org>"),
        ("Call-ID", "figure"),
        ("CSeq", f"1 {method}"),
        ("Contact", f"<sip:cn@[{CN}]>"),
        *([("Content-Type", "application/sdp")] if sdp else []),
    ]
    return Request(method=method, uri=SipUri("example.org", "mn"), headers=Headers.of(*lines), body=sdp.encode())


@pytest.mark.parametrize("form", FORMS)
def test_figures_24_25_and_26(form: TunnelForm) -> None:
    network = Network(form)
    proxy = Proxied(network)
    network.start_agent()
    signalled = way(network, lambda: network.plug(network.a), 2)
    assert signalled == [UPDATE.format("ESP signalling | "), ACKNOWLEDGEMENT.format("ESP signalling | ")]
    assert network.terminal.scenarios.present == 10020

    caller = Negotiation(LocalStream(str(CN), 5004, 5005), network.world.random_bytes("caller"))
    callee = Negotiation(LocalStream(str(MN), 5004, 5005), network.world.random_bytes("callee"))
    inwards = ["CN > proxy | UDP", "proxy > MN | UDP", inside(form, "HA > CoA", "proxy > MN | UDP")]
    outwards = [inside(form, "CoA > HA", "MN > proxy | UDP"), "MN > proxy | UDP", "proxy > CN | UDP"]

    seen, heard = proxy.message("cn", bytes(request("INVITE", caller.offer())))
    assert seen == inwards  # 561, 562
    invite = parse_message(heard)
    assert isinstance(invite, Request)
    sdp = callee.answer(invite.body.decode())
    answer = respond(
        invite, 200, to_tag="m", headers=Headers.of(("Content-Type", "application/sdp")), body=sdp.encode()
    )
    seen, heard = proxy.message("mn", bytes(answer))
    assert seen == outwards  # 563, 564
    caller.accept(parse_message(heard).body.decode())
    agreed = caller.result
    assert agreed is not None
    assert IPv6Address(agreed.remote_address) == MN
    seen, heard = proxy.message("cn", bytes(request("ACK")))
    assert seen == inwards  # 565, 566
    assert heard.startswith(b"ACK ")

    speaks_ipv6(
        network,
        ["CN > MN | ESP application | UDP", inside(form, "HA > CoA", "CN > MN | ESP application | UDP")],  # 567; 570
        [inside(form, "CoA > HA", "MN > CN | ESP application | UDP"), "MN > CN | ESP application | UDP"],  # 575
    )
    assert agreed.remote_rtp_port == 5004
