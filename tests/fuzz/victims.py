"""Whole nodes with bindings, as they are after a while in a simulated network, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from mobility.links import endpoint, udp_link
from mobility.mipv6 import direct
from mobility.mipv6.home_agents_list import anycast
from mobility.mipv6.movement import Attachment
from mobility.mipv6.return_routability import authorized
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, to_terminal
from mobility.mipv6.tunnel import TunnelForm
from mobility.node import Node
from mobility.residence import Home
from mobility.wire import icmp6, ip4, ip6, mh, mobile_icmp, ndisc
from mobility.wire import udp as udp6
from tests.mobility.domain import MAP, DomainNetwork
from tests.mobility.nemo.train import CARRIAGE, MR1, PASSENGER, TRAIN, Train
from tests.mobility.optimized import Optimized
from tests.mobility.rented import TUN, RentedTrain
from tests.mobility.test_homes import World
from tests.mobility.test_translating import call
from tests.mobility.whole import AT_CAFE, CN, HA, HA4, HOME, MN, MN2, NAT4, VISITED_A, Network, udp

STRANGER = IPv6Address("2001:db8:666::6")
STRANGER_MAC = bytes.fromhex("02000000ee66")


@dataclass
class Victim:
    """A node that is bound, and what was seen of its network until then."""

    node: Node
    now: float
    links: list[tuple[str, list[bytes]]]
    "With the senders on them."
    templates: list[bytes]
    addresses: list[bytes]
    inside: tuple[str, ...] = ()
    "Links where there are neighbours only, and no strangers."
    uses: int = 0


FORMS = tuple(TunnelForm)
FuzzedRole = Literal["terminal", "home-agent", "correspondent", "map", "router", "translating", "homes", "rented"]


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
    """``kind``: 0 to 2 the form of the tunnel, natively; 3, 7, 11 the same through UDP (not for a MAP)."""
    through_udp = kind % 4 == 3
    form = FORMS[kind // 4 % 3 if through_udp else kind % 4]
    match role:
        case "map":
            return _map(form, kind)
        case "router":
            return _router(form, through_udp=through_udp)
        case "translating":
            made = call(form)
            _join(made.network, through_udp=through_udp)
            made.talk(0.3)
            made.run(1)
            place = made.terminal.terminal.mobile_node.present
            return _victim(made.terminal, made.network, _outside(through_udp=through_udp), place)
        case "homes":
            world = World(Home(MN, agent=HA), Home(MN2, agent=HA), form=form)
            world.world.attach_udp(str(HA), f"udp/{HA4}", world.internet, HA4, 4191)
            _join(world, through_udp=through_udp)
            world.exchange(MN)
            return _victim(world.homes, world, _outside(through_udp=through_udp), None)
        case "rented":
            return _rented(form, through_udp=through_udp)
    network = _network(form, through_udp=through_udp)
    care_of = network.care_of
    at = STRANGER if not isinstance(care_of, IPv6Address) else care_of
    home_mac = network.agent.settings.link.link_address
    if role == "home-agent":
        links: Links = [
            ("home0", [ROUTER_MAC, STRANGER_MAC, home_mac]),
            (f"udp/{HA4}", [endpoint(NAT4, 49152), endpoint(AT_CAFE, 4191)]),
        ]
        return _seen(network.agent, network, links, at, HA)
    if role == "correspondent":
        return _seen(network.correspondent, network, [("eth0", [bytes.fromhex("020000001401"), STRANGER_MAC])], at, CN)
    return _seen(network.terminal, network, _outside(through_udp=through_udp), at, at)


ROUTER_MAC = bytes.fromhex("020000001201")
Links = list[tuple[str, list[bytes]]]


def _outside(*, through_udp: bool) -> Links:
    """The links of a terminal, the one in use first."""
    links = [("wlan0", [ROUTER_MAC, STRANGER_MAC]), ("wlan1/udp4", [endpoint(HA4, 4191), endpoint(NAT4, 4191)])]
    return links[::-1] if through_udp else links


def _join(network: Network, *, through_udp: bool) -> None:
    if through_udp:
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(3)


def _victim(node: Node, network: Network, links: Links, place: Attachment | None) -> Victim:
    at = place.address if place is not None and place.address.ipv4_mapped is None else STRANGER
    return _seen(node, network, links, at, at)


def _map(form: TunnelForm, kind: int) -> Victim:
    network = DomainNetwork(1 + kind // 4 % 2, regional_form=form)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    network.talk(0.3)
    network.run(1)
    place = network.terminal.snapshot(network.world.now)["regional"]
    at = IPv6Address(place["domains"][0]["lcoa"])  # type: ignore[index]
    return _seen(network.anchors[MAP], network, [("eth0", [bytes.fromhex("020000001601"), STRANGER_MAC])], at, MAP)


def _router(form: TunnelForm, *, through_udp: bool) -> Victim:
    train = Train(form)
    train.start_agent()
    if through_udp:
        train.world.attach_udp("mr1", udp_link("wlan1", 4), train.hotspot, IPv4Address("192.168.77.2"))
    else:
        train.couple("mr1", train.a)
    train.run(2)
    train.board(train.train)
    train.run(2)
    for number in range(3):
        train.ping(CN, number)
    train.run(1)
    victim = _victim(
        train.router,
        train,
        [*_outside(through_udp=through_udp)[:1], ("lan0", [PASSENGER, STRANGER_MAC])],
        train.router.terminal.mobile_node.present,
    )
    victim.inside = ("lan0",)
    victim.addresses += [train.seat.packed, MR1.packed, TRAIN[99].packed]
    return victim


def _rented(form: TunnelForm, *, through_udp: bool) -> Victim:
    """A home agent at the end of a route, with a terminal and a network that are away."""
    train = RentedTrain(form)
    train.start_agent()
    train.couple("mr1", train.b)
    _join(train, through_udp=through_udp)
    train.talk(0.3)
    train.run(1)
    place = train.terminal.mobile_node.present
    at = place.address if place is not None and not through_udp else STRANGER
    links: Links = [(TUN, [b""]), (f"udp/{HA4}", [endpoint(NAT4, 49152), endpoint(AT_CAFE, 4191)])]
    victim = _seen(train.agent, train, links, at, HA)
    victim.addresses += [MR1.packed, TRAIN[99].packed, CARRIAGE[99].packed, anycast(HOME).packed]
    return victim


def _seen(node: Node, network: Network, links: Links, at: IPv6Address, target: IPv6Address) -> Victim:
    datagrams = [
        datagram.payload for internet in (network.internet, network.hotspot) for datagram in internet.datagrams
    ]
    seen = [frame.packet for frame in network.world.frames] + datagrams
    unlike = {(packet[6:8], len(packet), packet[24:40]): packet for packet in seen}
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
