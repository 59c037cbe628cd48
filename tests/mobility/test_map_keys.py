"""Terminal and MAP negotiate their keys, in the whole network: what goes on within a domain stays there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobility.commands.view import negotiated, overview
from mobility.hmipv6.map_events import RegionalBindingCreated, RegionalBindingMoved
from mobility.hmipv6.regional_events import MapBound, MapLeft, RegionalHandover
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.certificates import Trust
from mobility.ipsec.ike.events import ChildUp, IkeDown, IkeFailed, IkeUp, PeerForgot, PeerMoved
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.settings import Endpoint
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.key_source import KeySource
from mobility.map_metrics import MapMetrics
from mobility.mipv6.movement import CareOfAddressChanged
from mobility.mipv6.registration import Bound
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import no_keys
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.trace import Trace
from mobility.wire import ip6, udp
from tests.mobility.domain import ANCHOR_NET, MAP, MAP2, DomainNetwork, option
from tests.mobility.ipsec.ike.authority import Authority
from tests.mobility.whole import CN, MN

SECRET = SharedKey(bytes(range(32)))
KEYS = KeySource(SECRET, SECRET)


def started(kind: int = 1, form: TunnelForm = TunnelForm.ESP, **more: object) -> DomainNetwork:
    """A terminal that is bound at the MAP and at home, all keys negotiated."""
    network = DomainNetwork(kind, **{"regional_form": form, "map_keys": KEYS, "keys": KEYS} | more)  # type: ignore[arg-type]
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    assert network.terminal.mobile_node.registration.bound
    return network


def with_map(network: DomainNetwork) -> list[IkeUp]:
    peers = (str(MAP), str(MAP2))
    return [event for _, event in network.world.stations["mn"].events_of(IkeUp) if event.peer in peers]


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("form", TunnelForm)
def test_a_call_that_moves_within_the_domain(kind: int, form: TunnelForm) -> None:
    network = started(kind, form)
    network.home_agent_heard()
    network.talk(9)
    for place in (network.b, network.c, network.a, network.b):
        network.run(1.5)
        network.move(place)
    network.run(4)
    mn, anchor = network.world.stations["mn"], network.world.stations["map"]
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    assert len(mn.events_of(RegionalHandover)) == len(anchor.events_of(RegionalBindingMoved)) == 4
    assert len(with_map(network)) == 1
    assert len(anchor.events_of(PeerMoved)) == 4  # by the K bit, before any message of IKE
    # The home agent hears of it with type 3 only, and nothing of IKE in any case.
    assert len(network.world.stations["ha"].events_of(IkeUp)) == 1
    assert len(mn.events_of(Bound)) == (5 if kind == 3 else 1)


def test_what_is_agreed() -> None:
    network = started(1)
    mn = network.world.stations["mn"]
    (up,) = with_map(network)
    assert "ML_KEM_768" in up.suite
    children = {event.child.name: event.child for _, event in mn.events_of(ChildUp) if event.peer == str(MAP)}
    assert set(children) == {"signalling", "tunnel"}
    assert children["signalling"].local == (TrafficSelector.of_mobility_header(ANCHOR_NET),)
    assert children["tunnel"].local == (TrafficSelector.of(ANCHOR_NET),)
    begun = mn.events_of(CareOfAddressChanged)[0][0]
    assert mn.events_of(MapBound)[0][0] <= begun  # so the LCoA was never used at home
    assert len(mn.events_of(Bound)) == 1
    (made,) = [event for _, event in network.world.stations["map"].events_of(RegionalBindingCreated)]
    assert made.terminal == "mn"
    for node, others in ((network.terminal, 2), (network.anchors[MAP], 1)):
        snapshot = node.snapshot(network.world.now)
        shown = "\n".join(negotiated({"node": snapshot}))
        assert shown.count("IKE with") == others
        assert "\n".join(overview({"node": snapshot})).count("IKE with") == others
        assert snapshot["ike_failures"] == []


def test_keys_are_renewed_in_mid_call_and_nothing_is_lost() -> None:
    short = replace(KEYS, lifetime=10.0)
    network = started(1, map_keys=short)
    network.talk(30)
    network.run(8)
    network.move(network.b)
    network.run(8)
    network.terminal.command("rekey", network.world.now)
    network.run(17)
    mn = network.world.stations["mn"]
    assert len([event for _, event in mn.events_of(ChildUp) if event.peer == str(MAP)]) >= 8
    assert len(with_map(network)) == 1
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0


@pytest.mark.parametrize("form", TunnelForm)
def test_a_map_that_was_restarted_in_mid_call(form: TunnelForm) -> None:
    """It has neither bindings nor keys, and says so to whoever sends."""
    network = started(1, form)
    network.talk(8)
    network.run(2)
    network.world.remove("map")
    network.start_map("map", MAP, network.anchor)
    began = network.world.now
    network.run(8)
    mn = network.world.stations["mn"]
    assert [event for _, event in mn.events_of(PeerForgot) if event.peer == str(MAP)]
    assert len(with_map(network)) == 2
    late = [network.to_mn.sent[number] for number in network.to_mn.lost()]
    late += [network.to_cn.sent[number] for number in network.to_cn.lost()]
    assert max(late) < began + 1.6  # one second of it is for the address of the MAP (duplicate address detection)
    assert len(network.world.stations["ha"].events_of(IkeUp)) == 1
    assert not mn.events_of(MapLeft)


def test_a_map_that_only_routers_tell_of() -> None:
    network = started(1, announced=True)
    network.talk(4)
    network.run(1)
    network.tell("r-b", option(1, MAP2))
    network.advertise("r-b")
    network.move(network.b)
    network.run(5)
    assert [event.peer for event in with_map(network)] == [str(MAP), str(MAP2)]
    assert len(network.to_mn.lost()) + len(network.to_cn.lost()) <= 4
    mn = network.world.stations["mn"]
    assert [event.anchor for _, event in mn.events_of(MapBound)] == [MAP, MAP2]


def test_back_in_a_domain_its_keys_are_still_there() -> None:
    network = started(1)
    network.tell("r-b")
    network.advertise("r-b")
    network.move(network.b)  # no MAP there
    network.run(10)
    network.move(network.a)
    network.run(5)
    mn = network.world.stations["mn"]
    assert len(mn.events_of(MapBound)) == 2
    assert len(with_map(network)) == 1
    network.talk(1)
    network.run(2)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


def test_a_map_with_another_secret_is_left_and_says_why() -> None:
    other = SharedKey(bytes(32))
    network = DomainNetwork(1, regional_form=TunnelForm.ESP, map_keys=KEYS, keys=KEYS)
    settings = network.terminal.settings.regional
    assert settings is not None
    settings.anchors[MAP] = replace(settings.anchors[MAP], source=KeySource(other, other))
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    mn = network.world.stations["mn"]
    (left,) = [event for _, event in mn.events_of(MapLeft)]
    assert left.why.startswith("no keys: ")
    assert "AUTHENTICATION_FAILED" in left.why
    assert [event.peer for _, event in mn.events_of(IkeFailed)] == [str(MAP)]
    assert network.terminal.mobile_node.registration.bound  # without it
    network.talk(1)
    network.run(120)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert 2 <= len(mn.events_of(IkeFailed)) <= 4
    assert "another pre-shared key" in network.world.stations["map"].events_of(IkeFailed)[0][1].reason


def test_who_only_says_that_the_keys_are_gone_costs_a_question() -> None:
    network = started(1)
    (domain,) = network.terminal.parts.below.regional.domains()  # type: ignore[union-attr]
    assert domain.access is not None
    forged = no_keys(network.world.random_bytes("somebody"))
    packet = udp.packet(MAP.packed + domain.access.address.packed, (500, 500), forged)
    mn = network.world.stations["mn"]
    for _ in range(50):
        mn.carry_out(network.terminal.arrived(packet, "wlan0", network.world.now))
        network.run(0.01)
    mn.carry_out(network.terminal.arrived(packet[:50] + b"\0\0" + packet[52:], "wlan0", network.world.now))
    network.run(1)
    assert not mn.events_of(PeerForgot)
    assert len(with_map(network)) == 1
    assert network.discards("mn").get("malformed", 0) + network.discards("mn").get("checksum-wrong", 0) >= 1


def test_what_a_map_does_not_expect() -> None:
    network = started(1)
    anchor = network.world.stations["map"]
    for packet in (
        udp.packet(network.terminal.settings.home_address.packed + MAP.packed, (500, 501), b"nothing"),
        udp.packet(network.terminal.settings.home_address.packed + MAP.packed, (500, 500), b"nothing"),
        ip6.packet(network.terminal.settings.home_address, MAP, ip6.UDP, b"\1"),
    ):
        anchor.carry_out(network.anchors[MAP].from_link("eth0", packet, bytes(6), network.world.now))
    assert {"not-tunnelled", "ike-malformed", "malformed"} <= network.discards("map").keys()


def test_a_terminal_that_was_restarted_takes_the_place_of_its_former_self() -> None:
    network = started(1)
    network.restart_terminal()
    network.plug(network.a)
    network.run(3)
    downs = [event for _, event in network.world.stations["map"].events_of(IkeDown)]
    assert "INITIAL_CONTACT" in downs[0].reason
    network.talk(1)
    network.run(2)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_under_loss(seed: int) -> None:
    """The way to MAP and home agent loses every fifth packet: the terminal gets through, and says nothing in clear."""
    network = DomainNetwork(1, regional_form=TunnelForm.ESP, map_keys=KEYS, keys=KEYS, seed=seed)
    network.start_agent()
    network.core.loss = 0.2
    network.plug(network.a)
    network.run(60)
    mn = network.world.stations["mn"]
    assert mn.events_of(MapBound)
    assert network.terminal.mobile_node.registration.bound
    clear = [frame.packet for frame in network.a.frames if frame.packet[6] == ip6.MOBILITY]
    assert not clear


# ---------------------------------------------------------------- MAPs and terminals that only certificates introduce


def certificates(*, terminal: str = str(MN), revoked: bool = False) -> tuple[KeySource, KeySource]:
    """What the terminal has, and what the MAPs have: each an authority of its own."""
    visited, homes = Authority("MAPs of the campus"), Authority("terminals of somebody")
    mine = homes.issue(terminal)
    revocations = (homes.revoke(mine),) if revoked else ()
    ours = KeySource(mine, Trust((visited.certificate,)))
    theirs = KeySource(visited.issue(str(MAP)), Trust((homes.certificate,), revocations))
    return ours, theirs


def introduced(ours: KeySource, theirs: KeySource, form: TunnelForm = TunnelForm.ESP) -> DomainNetwork:
    network = DomainNetwork(1, regional_form=form, map_keys=ours, keys=KEYS, announced=True, certified=theirs)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    return network


@pytest.mark.parametrize("form", TunnelForm)
def test_a_terminal_and_a_map_that_have_never_heard_of_each_other(form: TunnelForm) -> None:
    network = introduced(*certificates(), form)
    (made,) = [event for _, event in network.world.stations["map"].events_of(RegionalBindingCreated)]
    assert made.terminal == str(MN)
    network.talk(6)
    network.run(2)
    network.move(network.b, gap=0.1)
    network.run(5)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert len(with_map(network)) == 1
    assert len(network.world.stations["map"].events_of(PeerMoved)) == 1
    network.world.remove("map")
    network.start_map("map", MAP, network.anchor)
    network.talk(6)
    network.run(7)
    assert max(network.to_mn.received) == len(network.to_mn.sent) - 1
    assert len(with_map(network)) == 2


@pytest.mark.parametrize("wrong", ["name", "revoked", "authority", "map"])
def test_certificates_that_let_nobody_in(wrong: str) -> None:
    ours, theirs = certificates(terminal="2001:db8:1::666" if wrong == "name" else str(MN), revoked=wrong == "revoked")
    others = certificates()
    if wrong == "authority":
        ours = replace(ours, proof=others[0].proof)
    if wrong == "map":
        theirs = replace(theirs, proof=others[1].proof)
    network = introduced(ours, theirs)
    mn, anchor = network.world.stations["mn"], network.world.stations["map"]
    assert mn.events_of(IkeFailed)
    assert not mn.events_of(MapBound)
    assert not anchor.events_of(RegionalBindingCreated)
    if wrong != "map":  # which lets the terminal in before that finds out
        engine = network.anchors[MAP].engine
        assert engine is not None
        assert not engine.serves(str(MN))
    assert network.terminal.mobile_node.registration.bound  # without the MAP


def test_who_is_neither_bound_nor_has_keys_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobility.anchor_point_keys.MOST_CERTIFIED", 1)
    ours, theirs = (replace(each, lifetime=60.0) for each in certificates())
    network = introduced(ours, theirs)
    keys, engine = network.anchors[MAP].keys, network.anchors[MAP].engine
    assert keys is not None
    assert engine is not None
    somebody = Identity.of("2001:db8:1::777")
    there = Endpoint(CN, 500)
    assert keys._who(somebody, there, []) is None
    assert keys._who(Identity.of("somebody.example"), there, []) is None
    network.world.detach("mn", "wlan0")
    network.run(200)
    assert keys._who(somebody, there, []) is None  # its keys still wait for it
    network.run(1000)
    assert keys._who(somebody, there, []) is not None
    assert not engine.serves(str(MN))
    network.plug(network.a)
    network.run(4)
    assert engine.serves(str(MN))
    assert network.world.stations["mn"].events_of(MapBound)


def test_what_operators_see() -> None:
    network = started(1)
    node = network.anchors[MAP]
    metrics = MapMetrics(node, DataPlane(Loop(), node, {}, Trace()))
    network.talk(1)
    network.terminal.command("rekey", network.world.now)
    network.run(2)
    for _, event in network.world.stations["map"].events:
        metrics.happened(event)
    text = metrics.text()
    assert 'roamphone_map_ike_sas{state="established"} 1\n' in text
    assert 'roamphone_map_ike_negotiations_total{result="established"} 1\n' in text
    assert 'roamphone_map_ike_negotiations_total{result="failed"} 0\n' in text


def test_what_ends_after_its_domain_was_left_is_no_failure() -> None:
    network = started(1, map_keys=replace(KEYS, lifetime=60.0))
    network.tell("r-b")
    network.advertise("r-b")
    network.move(network.b)  # no MAP there
    network.run(600)
    mn = network.world.stations["mn"]
    assert [event.peer for _, event in mn.events_of(IkeDown)] == [str(MAP)]
    assert network.terminal.snapshot(network.world.now)["ike_failures"] == []
    network.move(network.a)
    network.run(5)
    assert len(with_map(network)) == 2
    network.talk(1)
    network.run(2)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
