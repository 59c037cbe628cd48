"""Whole nodes with bindings, and anybody who sends them packets: nothing raises, and what is bound stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from mobility.links import endpoint
from mobility.mipv6 import direct
from mobility.mipv6.return_routability import authorized
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, to_terminal
from mobility.mipv6.tunnel import TunnelForm
from mobility.node import Node
from mobility.outputs import Deliver, Discarded, Event, Transmit
from mobility.wire import icmp6, ip4, ip6, mh, mobile_icmp, ndisc
from mobility.wire import udp as udp6
from mobility.wire.errors import WireError
from tests.fuzz.reader import Reader, put_right
from tests.mobility.optimized import Optimized
from tests.mobility.whole import AT_CAFE, CN, HA, HA4, HOME, MN, NAT4, VISITED_A, udp

STRANGER = IPv6Address("2001:db8:666::6")
STRANGER_MAC = bytes.fromhex("02000000ee66")
INPUTS = 100
"So many inputs a node lives for; a kept one is replayed to a node of its own."
OUTPUTS = 64
"A packet causes fewer outputs than this."
_NO_TABLES = {
    # counters
    "counters", "packets", "octets", "replayed", "failed",
    # neighbour discovery and path MTU, which anybody on the link or path may change (RFC 4861 section 11, RFC 8201)
    "links", "home_link", "host_mtu",
    # packets for a terminal are tunnelled, whoever sent them
    "sent_lately",
}  # fmt: skip


@dataclass
class Victim:
    """A node that is bound, and what was seen of its network until then."""

    node: Node
    now: float
    links: list[tuple[str, list[bytes]]]
    "With the senders on them."
    templates: list[bytes]
    addresses: list[bytes]
    uses: int = 0


FORMS = tuple(TunnelForm)
FuzzedRole = Literal["terminal", "home-agent", "correspondent"]


def _network(form: TunnelForm, *, through_udp: bool) -> Optimized:
    network = Optimized(form, home_address4=IPv4Address("10.20.0.7"), home_test=form is TunnelForm.PLAIN)
    network.start_agent()
    if through_udp:
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(2)
    network.talk(0.3)
    network.run(1)
    return network


def victim_of(role: FuzzedRole, kind: int = 2) -> Victim:
    """``kind``: 0 to 2 the form of the tunnel, natively; 3, 7, 11 the same through UDP."""
    through_udp = kind % 4 == 3
    network = _network(FORMS[kind // 4 % 3 if through_udp else kind % 4], through_udp=through_udp)
    care_of = network.care_of
    at = STRANGER if not isinstance(care_of, IPv6Address) else care_of
    home_mac, router = network.agent.settings.link.link_address, bytes.fromhex("020000001201")
    nodes: dict[FuzzedRole, tuple[Node, list[tuple[str, list[bytes]]]]] = {
        "terminal": (
            network.terminal,
            [
                ("wlan0", [router, STRANGER_MAC]),
                ("wlan1/udp4", [endpoint(HA4, 4191), endpoint(NAT4, 4191)]),
            ],
        ),
        "home-agent": (
            network.agent,
            [
                ("home0", [router, STRANGER_MAC, home_mac]),
                (f"udp/{HA4}", [endpoint(NAT4, 49152), endpoint(AT_CAFE, 4191)]),
            ],
        ),
        "correspondent": (network.correspondent, [("eth0", [bytes.fromhex("020000001401"), STRANGER_MAC])]),
    }
    node, links = nodes[role]
    if role == "terminal" and through_udp:
        links.reverse()
    datagrams = [
        datagram.payload for internet in (network.internet, network.hotspot) for datagram in internet.datagrams
    ]
    seen = [frame.packet for frame in network.world.frames] + datagrams
    unlike = {(packet[6:8], len(packet), packet[24:40]): packet for packet in seen}
    targets: dict[FuzzedRole, IPv6Address] = {"terminal": at, "home-agent": HA, "correspondent": CN}
    target = targets[role]
    return Victim(
        node,
        network.world.now,
        links,
        [*_forgeries(at, target), *unlike.values()],
        [a.packed for a in (target, STRANGER, HA, CN, MN, at, ALL_NODES, ROUTER, NOBODY, VISITED_A[99], HOME[99])],
    )


ALL_NODES, ROUTER, NOBODY = IPv6Address("ff02::1"), IPv6Address("fe80::ff:fe00:1201"), IPv6Address("::")


def _forgeries(at: IPv6Address, target: IPv6Address) -> list[bytes]:
    """One of everything that a stranger can send, in order to be changed."""
    bu = mh.BindingUpdate(2, mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION, 400)
    signed = authorized(mh.BindingUpdate(9, mh.UpdateFlag.ACKNOWLEDGE, 400), bytes(20), at.packed, CN.packed)
    messages: list[mh.Message] = [
        mh.BindingRefreshRequest(),
        mh.HomeTestInit(bytes(8)),
        mh.CareOfTestInit(bytes(8)),
        mh.HomeTest(1, bytes(8), bytes(8)),
        mh.CareOfTest(1, bytes(8), bytes(8)),
        bu,
        signed,
        mh.BindingAcknowledgement(0, 1, 400),
        mh.BindingError(1, MN),
        mh.UnknownMessage(77, bytes(2)),
    ]
    bare = [
        ip6.packet(source, target, ip6.MOBILITY, mh.payload(message, source, target))
        for message in messages
        for source in (CN, HA)
    ]
    quoting = ip6.packet(at, HA, ip6.ESP, bytes(40))
    return [
        *bare,
        *(to_terminal(message, HA, MN, target, UNPROTECTED) for message in messages),
        *(to_terminal(message, CN, MN, target, UNPROTECTED) for message in messages),
        from_terminal(bu, MN, target, at, UNPROTECTED),
        from_terminal(signed, MN, target, at, UNPROTECTED),
        direct.to_terminal(udp(CN, MN, b"x"), target.packed),
        direct.to_correspondent(udp(MN, target, b"x"), at.packed, MN.packed),
        ip6.packet(STRANGER, target, ip6.IPV6, udp(CN, MN, b"x")),
        ip6.packet(STRANGER, target, ip6.DEST_OPTIONS, b"\x3b\0\x01\x04" + bytes(4)),
        ip6.packet(STRANGER, target, ip6.HOP_BY_HOP, b"\x3a\0\xc2\x04" + bytes(4) + b"\x80" + bytes(7)),
        ip6.packet(STRANGER, target, ip6.FRAGMENT, b"\x11\0\0\x01\0\0\0\1" + bytes(16)),
        ip6.packet(STRANGER, target, ip6.FRAGMENT, b"\x11\0\0\x08\0\0\0\1" + bytes(16)),
        ip6.packet(STRANGER, target, ip6.AH, b"\x3b\x04" + bytes(22)),
        icmp6.packet(STRANGER, target, icmp6.Echo(1, 1, b"x")),
        icmp6.packet(STRANGER, target, icmp6.PacketTooBig(1280, quoting)),
        icmp6.packet(CN, target, icmp6.ParameterProblem(1, 40, quoting)),
        icmp6.packet(HA, target, icmp6.DestinationUnreachable(0, quoting)),
        *(
            icmp6.packet(STRANGER, target, message)
            for message in (
                mobile_icmp.HomeAgentsRequest(1),
                mobile_icmp.HomeAgentsReply(1, (HA,)),
                mobile_icmp.PrefixSolicitation(1),
                mobile_icmp.PrefixAdvertisement(1),
            )
        ),
        udp6.packet(STRANGER.packed + target.packed, (4191, 4191), udp(MN, HA, b"x")),
        ndisc.packet(STRANGER, target, ndisc.NeighborSolicitation(target)),
        ip4.packet(IPv4Address("10.20.0.7").packed + HA4.packed, 17, bytes(16)),
    ]


_victims: dict[tuple[FuzzedRole, int], Victim] = {}


def forget() -> None:
    """The next input gets nodes of its own."""
    _victims.clear()


def _tables(value: object, path: str = "") -> dict[str, object]:
    """All values of a snapshot that a stranger must not change, by their paths."""
    found: dict[str, object] = {}
    if isinstance(value, dict):
        sends = value.get("direction") == "out"
        for name, part in value.items():
            if name not in _NO_TABLES and not (sends and name == "sequence"):
                found |= _tables(part, f"{path}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            found |= _tables(part, f"{path}[{number}]")
    else:
        found[path] = value
    return found


def attack(role: FuzzedRole, data: bytes, *, on_link: bool) -> None:
    """``on_link``: also what only a neighbour can send, who may do more than a stranger: no table is compared."""
    reader = Reader(data)
    kind = reader.byte() % 12
    victim = _victims.get((role, kind))
    if victim is None or victim.uses >= INPUTS:
        victim = _victims[role, kind] = victim_of(role, kind)
    victim.uses += 1
    node = victim.node
    for _ in range(32):
        if not reader:
            break
        step = reader.byte()
        link, senders = victim.links[(step >> 6 & 1) % len(victim.links)]
        sender = reader.chosen(senders)
        packet = _packet(step, reader, victim)
        if not on_link and len(packet) > 7 and packet[0] >> 4 == 6 and "/" not in link:
            packet = b"%b%c%b" % (packet[:7], min(packet[7], 64), packet[8:])  # came through a router
        if step & 0x20:
            victim.now += reader.byte() / 16
            if node.timer is not None and node.timer <= victim.now:
                _check(node.handle_timer(victim.now), None)
        before = {} if on_link else _tables(node.snapshot(victim.now))
        if on_link and step & 0x10:
            _check(node.from_host(packet, victim.now), None)
            continue
        # What programs sent may wait for a neighbour, and goes when he answers.
        _check(node.from_link(link, packet, sender, victim.now), None if on_link else packet)
        if not on_link:
            _same(before, _tables(node.snapshot(victim.now)), packet)
    size = len(json.dumps(node.snapshot(victim.now)))
    if size > 500_000:
        raise AssertionError(f"a snapshot of {size} octets: some table has no bound")


def _packet(step: int, reader: Reader, victim: Victim) -> bytes:
    match step & 3:
        case 0:
            return put_right(reader.edited(reader.chosen(victim.templates)))
        case 1:
            return reader.edited(reader.chosen(victim.templates))
        case 2:
            source, to = reader.chosen(victim.addresses), reader.chosen(victim.addresses)
            protocol, hops = reader.byte(), reader.byte()
            return put_right(ip6.packet(source, to, protocol, reader.take(reader.byte() * 8), hops))
        case _:
            return reader.take(reader.short())


def _same(before: dict[str, object], after: dict[str, object], packet: bytes) -> None:
    changed = {
        path: (before.get(path), after.get(path)) for path in before | after if before.get(path) != after.get(path)
    }
    if changed and not (_asks(packet) and all(_of_route(path) for path in changed)):
        raise AssertionError(f"a stranger's packet {packet.hex()} changed {changed}")


def _asks(packet: bytes) -> bool:
    """Two messages prove nothing and may come from anybody: a binding error sends packets by the tunnel until the
    binding is renewed, and a refresh request has it renewed."""
    try:
        flow = ip6.flow(packet)
    except WireError:
        return False
    return flow.protocol == ip6.MOBILITY and flow.type in (mh.Type.BINDING_ERROR, mh.Type.BINDING_REFRESH_REQUEST)


def _of_route(path: str) -> bool:
    return path.startswith((".mobile_node.binding_update_list[1]", ".route_optimization.correspondents"))


def _check(outputs: object, packet: bytes | None) -> None:
    if not isinstance(outputs, list) or not all(isinstance(o, Transmit | Deliver | Discarded | Event) for o in outputs):
        raise AssertionError(f"outputs {outputs!r}")
    if packet is None:
        return
    if len(outputs) > OUTPUTS:
        raise AssertionError(f"{len(outputs)} outputs for one packet")
    octets = sum(len(output.packet) for output in outputs if isinstance(output, Transmit))
    if octets > 3 * len(packet) + 4000:
        raise AssertionError(f"{octets} octets sent for {len(packet)}")


Target = Callable[[bytes], None]
ROLES: tuple[FuzzedRole, ...] = ("terminal", "home-agent", "correspondent")
TEMPLATES = 64
"So many of the packets that a node knows are inputs to begin with."


def seeds() -> list[bytes]:
    """Inputs of one packet each, as it was seen or forged, for each form of the tunnel and for UDP."""
    return [bytes((kind, step, 0, number, 0)) for kind in range(4) for step in (0, 0x40) for number in range(TEMPLATES)]


TARGETS: dict[str, Target] = {
    f"{role}{'-on-link' if on_link else ''}": partial(attack, role, on_link=on_link)
    for role in ROLES
    for on_link in (False, True)
}
