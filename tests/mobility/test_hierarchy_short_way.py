"""The short way through the domain of a MAP does what the long one does; and nothing that comes breaks either."""

from __future__ import annotations

from random import Random

import pytest

from mobility.discards import Discard
from mobility.host.fragments import fragment
from mobility.mipv6.tunnel import TunnelForm, encapsulate
from mobility.outputs import Deliver, Discarded, Output, Transmit
from mobility.wire import ip6
from tests.mobility.domain import MAP, DomainNetwork
from tests.mobility.test_hierarchy import started
from tests.mobility.test_terminal import damaged, without_place
from tests.mobility.whole import CN, HA, MN, udp


def bound(kind: int, form: TunnelForm, regional: TunnelForm | None, *, quick: bool) -> DomainNetwork:
    network = started(kind, form, regional_form=regional)
    network.talk(0.1)  # neighbours are resolved on the way
    network.run(1)
    if not quick:
        network.terminal.parts.make_path = lambda present: None  # type: ignore[method-assign]
        network.terminal.parts.follow(network.world.now)
    assert (network.terminal.parts.path is not None) is quick
    return network


def inbound(network: DomainNetwork, packet: bytes, dice: Random) -> bytes:
    """As home agent and MAP tunnel it; the MAP is asked to carry what is damaged already, too."""
    place = network.terminal.mobile_node.present
    assert place is not None
    domain = network.terminal.parts.below.regional.domain  # type: ignore[union-attr]
    engine = network.anchors[MAP].engine
    assert domain is not None
    assert domain.access is not None
    assert engine is not None
    protected = network.cn_application.protect(packet)
    ends = HA.packed + place.address.packed
    tunnelled = damaged(encapsulate(protected, ends, network.form, network.agent.engine.security), dice)
    client = engine._clients["mn" if "mn" in engine._clients else ""]
    if len(tunnelled) < 44:
        return tunnelled
    try:
        return encapsulate(tunnelled, MAP.packed + domain.access.address.packed, client.form, client.security)
    except Discard:
        return tunnelled


@pytest.mark.parametrize("regional", [None, TunnelForm.ESP])
@pytest.mark.parametrize("kind", [1, 2])
def test_short_and_long_way_do_the_same(kind: int, regional: TunnelForm | None) -> None:
    quick, slow = (bound(kind, TunnelForm.ESP, regional, quick=each) for each in (True, False))
    now = quick.world.now
    assert slow.world.now == now
    dice = Random(7)
    seen = {Transmit: 0, Deliver: 0, Discarded: 0}
    mac = quick.routers["r-a"].interfaces["edge"].mac
    for _ in range(300):
        size = dice.choice([0, 1, 33, 160, 1200, 1300, 1310, 1400])
        packet = damaged(udp(MN, dice.choice([CN, CN, CN, HA]), dice.randbytes(size)), dice)
        first, second = (network.terminal.from_host(packet, now) for network in (quick, slow))
        assert first == second
        tally(first, seen)
        seed, back = dice.random(), udp(CN, MN, dice.randbytes(size % 1280))
        wires = []
        for network in (quick, slow):
            state = Random(seed)
            wires.append(damaged(inbound(network, back, state), state))
        assert wires[0] == wires[1]
        for _ in range(dice.choice([1, 1, 2])):
            first, second = (each.terminal.from_link("wlan0", wires[0], mac, now) for each in (quick, slow))
            assert without_place(first) == without_place(second)
            tally(first, seen)
    assert min(seen.values()) > 30
    assert quick.terminal.sending.sent == slow.terminal.sending.sent
    assert quick.terminal.receiving.delivered == slow.terminal.receiving.delivered


@pytest.mark.parametrize("kind", [1, 2])
def test_fragments_for_the_rcoa_are_put_together(kind: int) -> None:
    network = bound(kind, TunnelForm.ESP, None, quick=True)
    place, domain = network.terminal.mobile_node.present, network.terminal.parts.below.regional.domain  # type: ignore[union-attr]
    assert place is not None
    assert domain is not None
    assert domain.access is not None
    packet = udp(CN, MN, bytes(900))
    protected = network.cn_application.protect(packet)
    ends = HA.packed + place.address.packed
    outer = encapsulate(protected, ends, network.form, network.agent.engine.security)
    mac, delivered = network.routers["r-a"].interfaces["edge"].mac, []
    for piece in reversed(fragment(outer, 600, 77)):
        whole = ip6.packet(MAP, domain.access.address, ip6.IPV6, piece)
        delivered += network.terminal.from_link("wlan0", whole, mac, network.world.now)
    assert delivered == [Deliver(packet)]


def tally(outputs: list[Output], seen: dict[type, int]) -> None:
    for output in outputs:
        if type(output) in seen:
            seen[type(output)] += 1


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_nothing_that_the_map_may_send_breaks_the_terminal(kind: int) -> None:
    network = started(kind, regional_form=None)
    domain = network.terminal.parts.below.regional.domain  # type: ignore[union-attr]
    assert domain is not None
    assert domain.access is not None
    dice, mac = Random(3), network.routers["r-a"].interfaces["edge"].mac
    for _ in range(2000):
        protocol = dice.choice([ip6.IPV6, ip6.ESP, ip6.MOBILITY, ip6.ROUTING, ip6.DEST_OPTIONS, ip6.ICMPV6, ip6.AH])
        body = dice.randbytes(dice.randrange(120))
        if protocol == ip6.ROUTING and dice.random() < 0.7:
            body = ip6.routing_header(domain.rcoa, ip6.MOBILITY) + body
        if protocol == ip6.IPV6 and dice.random() < 0.7:
            body = ip6.packet(HA, domain.rcoa, dice.randrange(256), body)
        packet = ip6.packet(MAP, domain.access.address, protocol, body)
        network.world.stations["mn"].receive("wlan0", packet, mac)
    network.talk(1)
    network.run(3)
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_nothing_that_a_terminal_may_send_breaks_the_map() -> None:
    network = started(1, regional_form=None)
    dice = Random(4)
    domain = network.terminal.parts.below.regional.domain  # type: ignore[union-attr]
    assert domain is not None
    assert domain.access is not None
    mac = network.routers["r-map"].interfaces["edge"].mac
    for _ in range(2000):
        protocol = dice.choice([ip6.IPV6, ip6.ESP, ip6.MOBILITY, ip6.DEST_OPTIONS, ip6.ROUTING, ip6.FRAGMENT, ip6.UDP])
        body = dice.randbytes(dice.randrange(120))
        if protocol == ip6.DEST_OPTIONS and dice.random() < 0.7:
            body = ip6.home_address_option(domain.rcoa, ip6.MOBILITY) + body
        if protocol == ip6.IPV6 and dice.random() < 0.7:
            body = ip6.packet(domain.rcoa, CN, dice.randrange(256), body)
        packet = ip6.packet(domain.access.address, MAP, protocol, body)
        network.world.stations["map"].receive("eth0", packet, mac)
    network.talk(1)
    network.run(3)
    assert network.to_cn.lost() == network.to_mn.lost() == []
