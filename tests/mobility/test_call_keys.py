"""Keys that two phones bring about by telling each other's certificates: offered, negotiated in advance, confirmed.

The terminal calls the correspondent, which begins as soon as it has the offer.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.application_events import ApplicationKeysFailed, ApplicationProtected, ApplicationUnprotected
from mobility.application_keys import LINGER, PASSIVE
from mobility.application_partner import peer_of
from mobility.application_strangers import MOST, MOST_OFFERS, PER_OFFER
from mobility.correspondent import CorrespondentNode, CorrespondentSettings
from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.events import IkeFailed, IkeUp
from mobility.ipsec.ike.fingerprint import Fingerprint, Fingerprints
from mobility.ipsec.ike.settings import Endpoint
from mobility.key_source import ApplicationKeySettings
from mobility.links import LinkSettings
from mobility.node_certificate import self_signed
from mobility.terminal import Terminal
from tests.mobility.protected import Protected, away, by_calls, certificate, fingerprint
from tests.mobility.whole import CN, MAC_MN2, MN, MN2, randomness, udp, unprotected


def ringing() -> Protected:
    """The terminal has offered a call, the correspondent has the offer and rings."""
    network = away(by_calls())
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    return network


def in_call() -> Protected:
    """It was answered."""
    network = ringing()
    network.secure("mn")
    network.run(0.5)
    return network


def test_a_call_has_keys_before_it_is_answered() -> None:
    network = ringing()
    assert network.state("mn") == "none"
    assert network.state("cn") == "protected"
    assert network.happened("mn", ApplicationProtected) == []
    network.secure("mn")
    assert network.state("mn") == "protected"
    (event,) = network.happened("mn", ApplicationProtected)
    assert (event.peer, event.calls) == (str(CN), "call")
    network.talk(2.0)
    network.run(3.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    assert max(network.to_cn.received[n] - network.to_cn.sent[n] for n in network.to_cn.sent) < 0.05
    assert len(network.happened("mn", IkeUp)) == 1


def test_before_the_answer_keys_change_nothing_for_who_has_offered() -> None:
    """What comes under them is delivered like what comes in clear, and what is sent is in clear as before: a proxy may
    be missing, so that the answer itself comes under them."""
    network = ringing()
    network.world.stations["cn"].send(udp(CN, MN, (1).to_bytes(4) + b"200 OK"))
    network.run(0.5)
    assert 1 in network.to_mn.received
    network.world.stations["mn"].send(udp(MN, CN, (2).to_bytes(4) + b"CANCEL"))
    network.run(0.5)
    assert 2 not in network.to_cn.received
    assert network.discards("cn")[Reason.POLICY_VIOLATED] == 1
    assert [policy.name for policy in network.mn_application.spd.policies] == []


def test_another_certificate_than_the_answer_tells_is_dismissed() -> None:
    network = ringing()
    network.secure("mn", self_signed(CN))
    network.run(1.0)
    assert network.state("mn") == "negotiating"
    network.talk(3.0)
    network.run(12.0)
    assert (network.to_mn.received, network.to_cn.received) == ({}, {})
    assert network.in_clear() == []
    reasons = [event.reason for event in network.happened("mn", ApplicationKeysFailed)]
    assert any("has the fingerprint sha-256" in reason and "was told" in reason for reason in reasons)
    reasons = [event.reason for event in network.happened("cn", ApplicationKeysFailed)]
    assert any("AUTHENTICATION_FAILED" in reason for reason in reasons)
    network.release("mn")  # optional: the call goes on without
    network.release("cn")
    network.run(1.0)
    assert (network.state("mn"), network.state("cn")) == ("none", "none")
    network.talk(1.0)
    network.run(2.0)
    late = [number for number, at in network.to_mn.sent.items() if at > network.world.now - 2.5]
    assert set(late) <= set(network.to_mn.received)


def test_a_man_in_the_middle_gets_no_keys() -> None:
    """Somebody on the way answers in the name of both; the fingerprints went through SIP."""
    network = away(by_calls())
    network.offer("mn")
    impostor = ApplicationKeySettings(self_signed(CN))
    network.application_keys = by_calls()[0], impostor
    network.restart_correspondent()  # has the address of the correspondent, and not its key
    network.secure("cn", active=True)
    network.run(1.0)
    assert network.state("cn") == "protected"  # so it thinks
    network.secure("mn")
    network.talk(2.0)
    network.run(10.0)
    assert network.to_cn.received == {}
    assert network.state("mn") == "negotiating"
    assert network.in_clear() == []


def test_without_an_offer_strangers_are_told_so_at_once() -> None:
    network = away(by_calls())
    network.secure("cn", active=True)
    network.run(15.0)
    assert network.end("mn").ike.status() == []
    assert network.discards("mn")[Reason.IKE_UNEXPECTED] >= 1
    (failed, *_) = network.happened("cn", ApplicationKeysFailed)
    assert "keys with us are nothing that it wants" in failed.reason
    assert network.state("cn") == "negotiating"


def test_who_has_answered_late_is_still_found() -> None:
    """The offer's data plane was not told in time: whoever knows the other one begins again."""
    network = away(by_calls())
    network.secure("cn", active=True)
    network.run(0.5)
    network.secure("mn")
    network.run(PASSIVE + 1.0)
    assert network.state("mn") == network.state("cn") == "protected"


def test_both_ends_begin_at_once() -> None:
    network = away(by_calls())
    network.secure("cn", active=True)
    network.secure("mn", active=True)
    network.talk(8.0)
    network.run(10.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert all(len(network.end(whose).ike.status()) == 1 for whose in ("mn", "cn"))
    assert network.in_clear() == []


@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_percent_loss(seed: int) -> None:
    network = away(by_calls(), seed=seed)
    network.core.loss = 0.3
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(8.0)
    network.secure("mn")
    network.talk(10.0)
    network.run(10.0)
    network.core.loss = 0.0
    network.talk(1.0)
    network.run(12.0)
    assert [number for number in network.to_mn.lost() if network.to_mn.sent[number] > 21.1] == []
    assert len(network.to_mn.received) > 250  # half of them get through this, keys or not
    assert network.in_clear() == []


@pytest.mark.parametrize("when", [0.0, 0.03, 0.06, 0.09])
def test_two_terminals_call_each_other_and_both_move(when: float) -> None:
    network = Protected(application_keys=by_calls(), second_terminal=True)
    mine = self_signed(MN2)
    settings = replace(
        network.terminal.settings,
        home_address=MN2,
        links=(LinkSettings("wlan0", MAC_MN2),),
        application_keys=ApplicationKeySettings(mine),
    )
    other = Terminal(settings, unprotected(), network.pair2.terminal, network.world.random_bytes("mn2"))
    here, there = network.world.stations["mn"], network.world.add("mn2", other)
    network.start_agent()
    network.plug(network.a)
    network.world.attach("mn2", "wlan0", network.b, MAC_MN2)
    network.run(3.0)
    now = network.world.now
    ours, theirs = fingerprint(certificate("mn")), fingerprint(mine)
    network.offer("mn")
    there.carry_out(other.negotiate(lambda keys: keys.secure("x", MN, ours, active=True, until=now + 60, now=now), now))
    network.run(when)
    network.move(network.b)
    network.world.move("mn2", "wlan0", network.a)
    network.run(2.0)
    network.ask("mn", lambda keys: keys.secure("x", MN2, theirs, active=False, until=now + 60, now=now + when + 2))
    assert network.end("mn").state(MN2) == "protected"
    for number in range(50):
        here.send(udp(MN, MN2, number.to_bytes(4) + bytes(156)))
        there.send(udp(MN2, MN, number.to_bytes(4) + bytes(156)))
        network.world.run(network.world.now + 0.02)
        if number == 20:
            network.move(network.a)
    network.world.run(network.world.now + 1.0)
    for station in (here, there):
        assert [int.from_bytes(packet[48:52]) for _, packet in station.delivered] == list(range(50))
    assert network.in_clear() == []


@pytest.mark.parametrize("who", ["mn", "cn"])
def test_two_that_prefer_other_algorithms_agree(who: str) -> None:
    mn, cn = by_calls(lifetime=5.0)
    chacha = Algorithm.CHACHA20_POLY1305
    mn, cn = (replace(mn, algorithm=chacha), cn) if who == "mn" else (mn, replace(cn, algorithm=chacha))
    network = away((mn, cn))
    sizes = network.terminal.host_mtu, network.correspondent.host_mtu
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    network.secure("mn")
    first = network.end("mn").algorithm(CN)
    network.talk(10.0)  # and are renewed, by the other end's preference if it is that which answers
    network.run(11.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    assert network.end("mn").algorithm(CN) == network.end("cn").algorithm(MN) != ""
    assert network.happened("mn", ApplicationProtected)[0].algorithm == first
    assert (network.terminal.host_mtu, network.correspondent.host_mtu) == sizes


def test_two_that_have_no_algorithm_in_common_say_so() -> None:
    mn, cn = by_calls()
    network = away((mn, replace(cn, algorithm=Algorithm.AES_CBC_HMAC_SHA2_256_128)))
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    network.secure("mn")
    network.run(8.0)
    for whose in ("mn", "cn"):
        assert network.state(whose) == "negotiating"
        reasons = " ".join(event.reason for event in network.happened(whose, ApplicationKeysFailed))
        assert "algorithms" in reasons
        assert "AES_CBC" in reasons
    network.talk(1.0)
    network.run(3.0)
    assert network.in_clear() == []
    network.release("mn")
    network.release("cn")
    network.run(1.0)
    assert network.state("mn") == network.state("cn") == "none"


def stranger_at(network: Protected, number: int) -> tuple[CorrespondentNode, IPv6Address]:
    """Another node beside the correspondent, with keys of its own."""
    address = IPv6Address(int(CN) + number)
    mac = bytes((2, 0, 0, 0, 0xCD, number))
    node = CorrespondentNode(
        CorrespondentSettings(
            address, LinkSettings("eth0", mac), application_keys=ApplicationKeySettings(self_signed(address))
        ),
        unprotected(),
        randomness(f"stranger {number}"),
    )
    station = network.world.add(f"stranger {number}", node)
    station.carry_out(node.start(network.world.now))
    network.world.attach(f"stranger {number}", "eth0", network.office, mac)
    return node, address


def test_more_strangers_than_are_allowed() -> None:
    network = away(by_calls())
    nodes = [stranger_at(network, number)[0] for number in range(1, PER_OFFER + 3)]
    network.run(1.0)
    network.offer("mn")
    prints, now = fingerprint(certificate("mn")), network.world.now
    for number, node in enumerate(nodes, 1):
        outputs = node.negotiate(lambda keys: keys.secure("x", MN, prints, active=True, until=now + 60, now=now), now)
        network.world.stations[f"stranger {number}"].carry_out(outputs)
    network.run(0.5)
    keys = network.end("mn")
    assert sum(row["state"] == "established" for row in keys.ike.status()) == PER_OFFER
    assert keys.tally["strangers"] == PER_OFFER
    assert keys.tally["strangers-refused"] == 2
    network.secure("cn", active=True)  # who was called comes too late, and negotiates after the answer
    network.run(0.5)
    assert network.state("cn") == "negotiating"
    network.secure("mn")
    network.run(PASSIVE + 1.0)
    assert network.state("mn") == network.state("cn") == "protected"
    network.release("mn", "call")
    network.run(1.0)
    assert sum(row["state"] == "established" for row in keys.ike.status()) == 1  # strangers go with the offer
    assert keys.describe(network.world.now)[0]["peer"] == str(CN)


def test_offers_and_strangers_are_bounded() -> None:
    network = away(by_calls())
    for number in range(MOST_OFFERS):
        network.offer("mn", str(number))
    with pytest.raises(ValueError, match="release those that are over"):
        network.offer("mn", "one more")
    assert PER_OFFER * MOST_OFFERS > MOST
    network.run(61.0)
    network.offer("mn", "one more")


def test_an_offer_ends_and_strangers_with_it() -> None:
    network = away(by_calls())
    network.offer("mn", lease=2.0)
    network.secure("cn", active=True)
    network.run(1.0)
    assert network.end("mn").ike.status()
    network.run(2.0)
    assert network.end("mn").ike.status() == []
    assert network.state("cn") == "negotiating"
    assert [event.reason for event in network.happened("cn", ApplicationUnprotected)] == ["the other end has ended it"]


def test_the_identity_has_to_be_the_address() -> None:
    """Whoever claims another address than packets come from is nobody."""
    network = away(by_calls())
    network.offer("mn")
    liar = peer_of(network.end("cn")._partner("x", MN), IPv6Address("2001:db8:c::dead"), certificate("cn"),
                   Fingerprints(fingerprint(certificate("mn"))), 60.0)  # fmt: skip
    keys = network.end("cn")
    keys.ike.peers["x"] = liar
    now = network.world.now
    network.ask("cn", lambda keys: keys._carry_out(keys.ike.initiate("x", Endpoint(CN), Endpoint(MN), now), now))
    network.run(1.0)
    assert network.end("mn").ike.established("somebody") is False
    assert network.end("mn").tally == {}
    assert "is nobody that we know" in network.happened("mn", IkeFailed)[0].reason


@pytest.mark.parametrize("who", ["mn", "cn"])
def test_an_end_is_restarted_in_mid_call(who: str) -> None:
    network = in_call()
    network.talk(1.0)
    network.run(1.5)
    leases = network.end(who).calls()
    if who == "mn":
        network.restart_terminal()
        network.plug(network.a)
    else:
        network.restart_correspondent()
    now = network.world.now
    network.end(who).restore(leases, now)
    assert network.state(who) == "negotiating"
    network.talk(6.0)
    network.run(8.0)
    for traffic in (network.to_mn, network.to_cn):
        assert [number for number in traffic.lost() if traffic.sent[number] > now + 1.0] == []
    assert network.in_clear() == []
    assert all(len(network.end(whose).ike.status()) == 1 for whose in ("mn", "cn"))


def test_calls_with_one_peer_share_keys_and_the_last_one_ends_them() -> None:
    network = in_call()
    network.secure("mn", call="second")
    network.secure("cn", call="second")
    assert network.end("mn").describe(network.world.now)[0]["calls"] == ["call", "second"]
    assert len(network.happened("mn", IkeUp)) == 1
    for whose in ("mn", "cn"):
        network.release(whose)
        network.release(whose, "never heard of")
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.in_clear()) == ([], [])
    for whose in ("mn", "cn"):
        network.release(whose, "second")
    network.talk(0.5)  # late packets are not in clear either
    network.run(1.0)
    assert (network.to_mn.lost(), network.in_clear()) == ([], [])
    network.run(LINGER)
    for whose in ("mn", "cn"):
        assert network.state(whose) == "none"
        assert [event.reason for event in network.happened(whose, ApplicationUnprotected)] == ["the call is over"]
        assert network.end(whose).calls() == []
        assert network.end(whose).describe(network.world.now) == []
    assert network.mn_application.spd.policies == ()
    network.run(60.0)
    assert all(network.end(whose).ike.status() == [] for whose in ("mn", "cn"))
    assert all(network.end(whose).failures.describe() == [] for whose in ("mn", "cn"))
    assert network.end("mn").timer is None


def test_a_call_that_follows_at_once_needs_no_negotiation() -> None:
    network = in_call()
    network.release("mn")
    network.release("cn")
    network.run(LINGER / 2)
    network.offer("mn", "next")
    network.secure("cn", active=True, call="next")
    network.secure("mn", call="next")
    network.run(60.0)
    assert network.state("mn") == network.state("cn") == "protected"
    assert len(network.happened("mn", IkeUp)) == 1


def test_a_lease_that_is_not_prolonged_is_over() -> None:
    network = in_call()
    network.run(250.0)
    network.secure("mn")
    network.run(100.0)
    assert network.state("mn") != "none"
    network.run(300.0)
    assert network.state("mn") == network.state("cn") == "none"


def test_a_call_is_handed_on_to_somebody_else() -> None:
    """A B2BUA names another peer, or another certificate at the same address, in mid call."""
    network = in_call()
    other = IPv6Address("2001:db8:c::d")
    network.secure("mn", peer=other)
    assert network.end("mn").state(other) == "negotiating"
    network.run(LINGER + 1.0)
    assert network.state("mn") == "none"
    network.secure("mn", self_signed(CN))
    network.run(1.0)
    network.secure("mn")  # and back
    network.secure("cn")
    network.run(PASSIVE + 2.0)
    assert network.state("mn") == network.state("cn") == "protected"
    network.secure("mn", self_signed(CN), call="call")
    network.run(1.0)
    assert network.state("mn") == "negotiating"  # with whom there are keys is not who the call tells of
    (*_, last) = network.happened("mn", ApplicationUnprotected)
    assert last.reason == "its calls tell of another certificate now"


def test_calls_of_two_certificates_at_one_address() -> None:
    """A phone whose certificate was made anew in mid call: both count as long as their calls last."""
    network = in_call()
    new = self_signed(CN)
    network.secure("mn", new, call="second")
    assert network.state("mn") == "protected"
    network.release("mn")
    network.run(1.0)
    assert network.state("mn") == "negotiating"
    network.application_keys = by_calls()[0], replace(by_calls()[1], credential=new)
    network.restart_correspondent()
    network.secure("cn", active=True)
    network.run(2.0)
    assert network.state("mn") == network.state("cn") == "protected"


@pytest.mark.parametrize(
    ("peer", "prints", "why"),
    [
        (str(MN), 1, "is this node itself"),
        ("ff02::1", 1, "has to be one of a single node"),
        ("::", 1, "has to be one of a single node"),
        ("::1", 1, "has to be one of a single node"),
        ("fe80::1", 1, "has to be one of a single node"),
        (str(CN), 0, "needs a fingerprint"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(peer: str, prints: int, why: str) -> None:
    network = away(by_calls())
    known = fingerprint(certificate("cn"))[:prints]
    with pytest.raises(ValueError, match=why):
        network.ask(
            "mn",
            lambda keys: keys.secure("call", IPv6Address(peer), known, active=True, until=9.0, now=3.0),
        )


def test_a_node_without_a_certificate_takes_no_calls() -> None:
    network = away((ApplicationKeySettings(), ApplicationKeySettings(certificate("cn"), calls=False)))
    for whose in ("mn", "cn"):
        for operation in (network.offer, network.secure):
            with pytest.raises(ValueError, match="negotiates no keys for calls; see"):
                operation(whose)


def test_fingerprints_of_several_hash_functions() -> None:
    network = away(by_calls())
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    now = network.world.now
    leaf = certificate("cn").certificate
    prints = tuple(Fingerprint.of(leaf, name) for name in ("sha-256", "sha-512"))
    network.ask("mn", lambda keys: keys.secure("call", CN, prints, active=False, until=now + 9, now=now))
    assert network.state("mn") == "protected"
