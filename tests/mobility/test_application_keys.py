"""Two ends whose configurations name each other negotiate the keys of the application's IPsec, in the whole network.

Whatever happens, nothing between them is ever in clear.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from mobility.application_events import ApplicationKeysFailed, ApplicationProtected, ApplicationUnprotected
from mobility.application_partner import MOST_WAITING
from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import ChildUp, IkeRekeyed, IkeUp
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.links import LinkSettings
from mobility.mipv6.tunnel import TunnelForm
from mobility.mobile_router import MobileRouter
from mobility.terminal import Terminal
from mobility.wire import ip6
from tests.mobility.nemo.train import MR1, TRAIN, Train
from tests.mobility.optimized import Optimized
from tests.mobility.protected import SILENCE, TOKEN, Protected, away, by_token
from tests.mobility.test_translating import call
from tests.mobility.whole import CN, HA, MN, application_pair, udp, unprotected


def one_way(network: Protected, seconds: float) -> None:
    """Only the terminal speaks."""
    station, until = network.world.stations["mn"], network.world.now + seconds

    def speak() -> None:
        number = len(network.to_cn.sent)
        network.to_cn.sent[number] = network.world.now
        station.send(udp(MN, CN, number.to_bytes(4) + bytes(156)))

    network.world.every(0.02, speak, until=until)


def rows(table: object) -> list[dict[str, object]]:
    """A table of a snapshot."""
    assert isinstance(table, list)
    return table


def discards(network: Protected, whose: str) -> dict[str, int]:
    """But for what is heard of others on a link."""
    return {reason: number for reason, number in network.discards(whose).items() if reason != Reason.NOT_OURS}


def test_the_first_packet_waits_for_keys_and_arrives() -> None:
    network = away(by_token())
    assert network.state("mn") == "configured"
    one_way(network, 2.0)
    network.run(3.0)
    assert network.to_cn.lost() == []
    assert network.in_clear() == []
    assert network.state("mn") == network.state("cn") == "protected"
    first = network.to_cn.received[0] - network.to_cn.sent[0]
    assert 0.03 < first < 0.2  # three round trips, the way, and nothing else
    for whose, other in (("mn", CN), ("cn", MN)):
        (event,) = network.happened(whose, ApplicationProtected)
        assert (event.peer, event.algorithm, event.calls) == (str(other), "aes-gcm-16", "")
    snapshot = network.terminal.snapshot(network.world.now)
    assert snapshot["application_keys"] == [
        {"peer": str(CN), "why": "configured", "calls": [], "state": "protected", "since": 2.9, "until": None,
         "packets_waiting": 0}
    ]  # fmt: skip
    assert snapshot["ike"]
    assert network.terminal.negotiations()


def test_two_that_begin_at_once_end_with_one() -> None:
    network = away(by_token())
    network.talk(8.0)  # both ends send their first packet at the same time
    network.run(10.0)
    for whose in ("mn", "cn"):
        assert len(network.happened(whose, IkeUp)) == 2
        assert [row["role"] for row in network.end(whose).ike.status()] == [
            "initiator" if whose == "mn" else "responder"  # the lower address stays
        ]
        assert network.happened(whose, ApplicationUnprotected) == []
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert network.in_clear() == []


@pytest.mark.parametrize("skew", [0.001, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06])
def test_two_that_begin_almost_at_once(skew: float) -> None:
    network = away(by_token())
    one_way(network, 8.0)
    back = udp(CN, MN, bytes(160))
    network.world.at(network.world.now + skew, lambda: network.world.stations["cn"].send(back))
    network.run(10.0)
    assert network.to_cn.lost() == []
    assert all(len(network.end(whose).ike.status()) == 1 for whose in ("mn", "cn"))
    assert network.in_clear() == []


@pytest.mark.parametrize("form", [TunnelForm.PLAIN, TunnelForm.ESP_MOBILE])
@pytest.mark.parametrize("algorithm", [Algorithm.CHACHA20_POLY1305, Algorithm.AES_CBC_HMAC_SHA2_256_128])
def test_other_tunnels_and_algorithms(form: TunnelForm, algorithm: Algorithm) -> None:
    mn, cn = by_token()
    (_, source), *_ = mn.peers
    mn = replace(mn, peers=((CN, replace(source, algorithm=algorithm)),))
    cn = replace(cn, peers=((MN, replace(source, algorithm=algorithm)),))
    network = away((mn, cn), form)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []


def test_at_home_and_through_nat() -> None:
    network = Protected(application_keys=by_token())
    network.start_agent()
    network.plug(network.home)
    network.run(5.0)
    network.talk(1.0)
    network.run(2.0)
    network.move(network.a)
    network.run(3.0)
    network.talk(1.0)
    network.run(2.0)
    network.join(network.hotspot)
    network.world.detach("mn", "wlan0")
    network.run(3.0)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    assert len(network.happened("mn", ApplicationProtected)) == 1  # nothing is negotiated because somebody moves


def test_keys_are_renewed_at_both_ends_and_nothing_is_lost() -> None:
    network = away(by_token(lifetime=5.0))
    network.talk(30.0)
    network.run(15.0)
    network.move(network.b)
    network.run(18.0)
    assert len(network.happened("mn", ChildUp)) >= 7
    assert network.happened("mn", IkeRekeyed)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert network.happened("mn", ApplicationUnprotected) == []
    assert network.in_clear() == []


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1])
@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_a_handover_in_the_middle_of_the_negotiation(moment: float, gap: float) -> None:
    network = away(by_token())
    one_way(network, 4.0)
    network.run(moment)
    network.move(network.b, gap=gap)
    network.run(6.0)
    assert network.state("mn") == network.state("cn") == "protected"
    waited = {number for number, at in network.to_cn.sent.items() if at < 4.0}
    assert set(network.to_cn.lost()) <= waited  # those that had no keys within a second, if any
    assert len(network.to_cn.lost()) <= 50
    assert network.in_clear() == []


@pytest.mark.parametrize("seed", range(4))
def test_thirty_percent_loss(seed: int) -> None:
    network = away(by_token(), seed=seed)
    network.core.loss = 0.3
    network.talk(20.0)
    network.run(22.0)
    network.core.loss = 0.0
    network.talk(1.0)
    network.run(30.0)
    assert network.state("mn") == network.state("cn") == "protected"
    assert all(len(network.end(whose).ike.status()) == 1 for whose in ("mn", "cn"))
    late = [number for number in network.to_cn.lost() if network.to_cn.sent[number] > 25.0]
    assert late == []
    assert network.in_clear() == []


def test_packets_that_wait_are_bounded_in_number_and_in_time() -> None:
    network = away(by_token())
    network.world.remove("cn")  # nobody answers
    station = network.world.stations["mn"]
    for number in range(MOST_WAITING + 10):
        station.send(udp(MN, CN, number.to_bytes(4) + bytes(156)))
    assert network.discards("mn")[Reason.KEYS_AWAITED] == 10
    network.run(0.9)
    assert network.discards("mn")[Reason.KEYS_AWAITED] == 10
    network.run(0.2)
    assert network.discards("mn")[Reason.KEYS_AWAITED] == MOST_WAITING + 10
    assert network.terminal.counters["discarded-keys-awaited"] == MOST_WAITING + 10
    network.run(30.0)
    (failed, *_) = network.happened("mn", ApplicationKeysFailed)
    assert failed.reason.endswith("does not answer")
    assert network.in_clear() == []


def test_another_token_protects_nothing_and_says_so() -> None:
    mn, _ = by_token()
    _, cn = by_token(token=SharedKey(bytes(32)))
    network = away((mn, cn))
    one_way(network, 5.0)
    network.run(6.0)
    assert network.to_cn.received == {}
    assert "AUTHENTICATION_FAILED" in network.happened("mn", ApplicationKeysFailed)[0].reason
    assert "has another pre-shared key than we have for it" in network.happened("cn", ApplicationKeysFailed)[0].reason
    assert set(discards(network, "mn")) == {Reason.KEYS_AWAITED}
    assert network.in_clear() == []
    begun = [frame for frame in network.office.frames if ip6.UDP == frame.packet[6] and len(frame.packet) > 300]
    assert len(begun) < 30  # it is not tried with every packet


def test_who_does_not_negotiate_gets_nothing() -> None:
    mn, _ = by_token()
    network = away((mn, ApplicationKeySettings()))
    one_way(network, 1.0)
    network.run(15.0)
    (failed, *_) = network.happened("mn", ApplicationKeysFailed)
    assert "NO_PROPOSAL_CHOSEN" in failed.reason
    assert "keys with us are nothing that it wants" in failed.reason
    assert network.to_cn.received == {}
    assert network.in_clear() == []


@pytest.mark.parametrize("who", ["mn", "cn"])
@pytest.mark.parametrize("both", [True, False])
def test_an_end_is_restarted_in_mid_speech(who: str, both: bool) -> None:
    network = away(by_token())
    if both:
        network.talk(2.0)
    else:
        one_way(network, 2.0)
    network.run(3.0)
    if who == "mn":
        network.restart_terminal()
        network.plug(network.a)
    else:
        network.restart_correspondent()
    begun = network.world.now
    if both:
        network.talk(6.0)
    else:
        one_way(network, 6.0)
    network.run(9.0)
    assert network.state("mn") == network.state("cn") == "protected"
    for traffic in (network.to_mn, network.to_cn):
        assert [number for number in traffic.lost() if traffic.sent[number] > begun + 1.0] == []
    assert network.in_clear() == []


def test_both_ends_are_restarted() -> None:
    network = away(by_token())
    network.talk(2.0)
    network.run(3.0)
    network.restart_correspondent()
    network.restart_terminal()
    network.plug(network.a)
    begun = network.world.now
    network.talk(8.0)
    network.run(11.0)
    for traffic in (network.to_mn, network.to_cn):
        assert [number for number in traffic.lost() if traffic.sent[number] > begun + 1.0] == []
    assert all(len(network.end(whose).ike.status()) == 1 for whose in ("mn", "cn"))
    assert network.in_clear() == []


def test_whoever_is_away_for_long_is_asked_for_and_comes_back() -> None:
    network = away(by_token())
    network.talk(1.0)
    network.run(2.0)
    network.world.detach("mn", "wlan0")
    network.run(200.0)
    (lost,) = network.happened("cn", ApplicationUnprotected)
    assert lost.reason.endswith("does not answer")
    network.plug(network.b)
    network.run(4.0)
    network.talk(2.0)
    network.run(3.0)
    assert [n for n in network.to_mn.lost() if network.to_mn.sent[n] > 100] == []
    assert network.in_clear() == []


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_packets_go_directly_and_what_a_handover_lost_is_sent_again_also_around_a_rekey(gap: float) -> None:
    network = Optimized(application_keys=by_token(lifetime=4.0))
    network.start()
    network.talk(9)
    for place in (network.b, network.a, network.b):
        network.run(2)
        assert network.is_direct()
        network.move(place, gap=gap)
    network.run(5)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert len(network.world.stations["mn"].events_of(ChildUp)) >= 3
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert correspondent.sent_directly.sent_again > 0


def test_both_layers_have_negotiated_keys() -> None:
    secret = SharedKey(bytes(range(40)))
    network = Protected(keys=KeySource(secret, secret), application_keys=by_token())
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(6.0)
    network.run(2.0)
    network.move(network.b, gap=0.2)
    network.run(2.0)
    mn = network.world.stations["mn"]
    mn.carry_out(network.terminal.command("rekey", network.world.now))
    network.run(4.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    renewed = [event.child.name for event in network.happened("mn", ChildUp) if event.replaces is not None]
    assert sorted(renewed) == ["application", "signalling", "tunnel"]
    snapshot = network.terminal.snapshot(network.world.now)
    assert [row["peer"] for row in rows(snapshot["ike"])] == [str(HA), str(CN)]
    assert {row["name"] for row in rows(snapshot["ike_counters"])} == {"signalling", "tunnel", "application"}
    assert len(network.terminal.negotiations()) == 2


def test_a_mobile_router_talks_for_itself() -> None:
    source = KeySource(TOKEN, TOKEN)
    train = Train(application_keys=(ApplicationKeySettings(), ApplicationKeySettings(peers=((MR1, source),))))
    settings = replace(train.router.terminal.settings, application_keys=ApplicationKeySettings(peers=((CN, source),)))
    dice = train.world.random_bytes("router with keys")
    terminal = Terminal(settings, unprotected(), train.pairs[MR1].terminal, dice)
    router = MobileRouter(terminal, [(LinkSettings("lan0", bytes(5) + b"\1"), (TRAIN,))], dice, b"secret")
    train.world.remove("mr1")
    station = train.world.add("mr1", router)
    train.start_agent()
    train.couple("mr1", train.a)
    train.run(4.0)
    station.send(udp(MR1, CN, bytes(160)))
    train.run(1.0)
    assert len(train.to_cn.received) == 1
    assert not any(SILENCE in frame.packet for frame in (*train.core.frames, *train.office.frames))
    keys = router.application_keys
    assert keys is not None
    assert keys.state(CN) == "protected"
    assert router.negotiate(lambda keys: keys.rekey(train.world.now), train.world.now)


def test_programs_that_speak_ipv4_are_protected_too() -> None:
    network = Protected(application_keys=by_token())
    talk = call(network=network)
    network.plug(network.a)
    network.run(2.0)
    talk.talk(2.0)
    talk.run(3.0)
    assert talk.at_correspondent == talk.at_program == list(range(talk.sent))
    assert network.in_clear() == []
    keys = talk.terminal.application_keys
    assert keys is not None
    assert keys.state(CN) == "protected"
    rows = len(network.happened("mn", ChildUp))
    network.world.stations["mn"].carry_out(talk.terminal.command("rekey", network.world.now))
    network.run(1.0)
    assert len(network.happened("mn", ChildUp)) > rows


def test_replayed_and_tampered_packets_change_nothing() -> None:
    network = away(by_token())
    network.talk(2.0)
    network.run(3.0)
    before = len(network.to_cn.received)
    cn = network.world.stations["cn"]
    frames = [frame for frame in network.office.frames if frame.packet[24:40] == CN.packed]
    assert frames
    network.world.stations["cn"].discards.clear()
    for frame in frames:
        cn.receive("eth0", frame.packet, frame.source)
        tampered = bytearray(frame.packet)
        tampered[-20] ^= 1
        cn.receive("eth0", bytes(tampered), frame.source)
    network.run(1.0)
    assert len(network.to_cn.received) == before
    assert network.to_cn.repeated == 0
    found = Counter(network.discards("cn"))
    assert found[Reason.REPLAYED] + found[Reason.AUTHENTICATION_FAILED] >= 190
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


def test_what_comes_in_clear_is_not_let_in() -> None:
    network = away(by_token())
    network.talk(1.0)
    network.run(2.0)
    forged = udp(CN, MN, (9999).to_bytes(4) + bytes(156))
    network.world.stations["mn"].carry_out(network.terminal.receiving.out_of_tunnel(forged, network.world.now))
    assert discards(network, "mn") == {Reason.POLICY_VIOLATED: 1}


def test_policies_and_static_associations_go_first() -> None:
    """Rows of the configuration, static associations, peers with negotiated keys, calls."""
    network = away(by_token())
    application, _ = application_pair()
    (speech,) = application.spd.policies
    row = Policy(Selector(IPv6Network(MN), IPv6Network(CN), ip6.TCP), Action.BYPASS, name="in clear on purpose")
    application.replace(SecurityPolicyDatabase([row, speech], Action.BYPASS))
    source = KeySource(TOKEN, TOKEN)
    network.application_keys = ApplicationKeySettings(peers=((CN, source),)), ApplicationKeySettings()
    network.mn_application = application
    terminal = network._terminal(MN, bytes(6), application, network.pair.terminal)
    assert [policy.name for policy in application.spd.policies][:2] == ["in clear on purpose", "speech"]
    assert len(application.spd.policies) == 3
    keys = terminal.application_keys
    assert keys is not None
    assert keys.state(CN) == "configured"


def test_host_mtu_has_room_from_the_beginning() -> None:
    plain, with_keys = Protected(), away(by_token())
    before = with_keys.terminal.host_mtu, with_keys.correspondent.host_mtu
    assert before[1] < plain.correspondent.host_mtu + 64
    with_keys.talk(1.0)
    with_keys.run(2.0)
    assert (with_keys.terminal.host_mtu, with_keys.correspondent.host_mtu) == before
    size = with_keys.terminal.host_mtu - 48
    with_keys.world.stations["mn"].send(udp(MN, CN, (10**6).to_bytes(4) + bytes(size - 4)))
    with_keys.run(1.0)
    assert 10**6 in with_keys.to_cn.received
    assert max(len(frame.packet) for frame in with_keys.a.frames) == 1500  # and not an octet is left over
