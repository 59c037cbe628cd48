"""Two ends negotiate the keys of the application's IPsec, in the whole network: nothing is ever in clear."""

from __future__ import annotations

from mobility.application_events import ApplicationProtected
from mobility.ipsec.ike.events import IkeUp
from tests.mobility.protected import away, by_calls, by_token


def test_the_first_packet_waits_for_keys_and_arrives() -> None:
    network = away(by_token())
    assert network.state("mn") == "configured"
    network.talk(2.0)
    network.run(3.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    assert network.state("mn") == network.state("cn") == "protected"
    first = network.to_cn.received[0] - network.to_cn.sent[0]
    assert 0.02 < first < 0.5  # three round trips, the way, and nothing else
    assert [event.peer for event in network.happened("mn", ApplicationProtected)] == ["2001:db8:c::c"]


def test_a_call_has_keys_before_it_is_answered() -> None:
    network = away(by_calls())
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    assert network.state("mn") == "none"
    assert network.state("cn") == "protected"
    assert network.happened("mn", ApplicationProtected) == []
    network.secure("mn")
    assert network.state("mn") == "protected"
    assert len(network.happened("mn", ApplicationProtected)) == 1
    network.talk(2.0)
    network.run(3.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.in_clear() == []
    assert max(network.to_cn.received[n] - network.to_cn.sent[n] for n in network.to_cn.sent) < 0.05
    assert len(network.happened("mn", IkeUp)) == 1
