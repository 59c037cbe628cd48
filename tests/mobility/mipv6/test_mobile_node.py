"""The mobile node: what it sends when it moves, and which acknowledgements it believes."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.mobile_node import MobileNode, MobileNodeSettings
from mobility.mipv6.movement import CareOfAddressChanged, HandoverStarted
from mobility.mipv6.registration import BindingRequested, Bound, State
from mobility.mipv6.signalling import open_message, to_terminal
from mobility.mipv6.tunnel import TunnelForm, agent_policies, terminal_policies
from mobility.outputs import Discarded, Output, Transmit
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import HandedOn
from mobility.wire import ip6, mh
from tests.mobility.whole import CN, HA, MN, mobile_pair

COA = IPv6Address("2001:db8:a::1")
COA2 = IPv6Address("2001:db8:b::2")
AT_HOME = IPv6Address("2001:db8:1::77")
NONE = mh.AckFlag(0)


class Bench:
    """A mobile node and the home agent's side of its associations."""

    def __init__(self, *, signalling: bool = True, enabled: frozenset[int] | None = None, overlap: float = 0.0) -> None:
        pair = mobile_pair(TunnelForm.ESP, signalling=signalling)
        self.sent: list[tuple[str, bytes]] = []
        self.updates = BindingUpdateList()
        self.security = terminal_policies(MN, HA, TunnelForm.ESP, pair.terminal)
        self.node = MobileNode(
            MobileNodeSettings(MN, HA, ("wlan0", "wlan1"), key_management=True, overlap=overlap),
            self.security,
            self.updates,
            ScenarioPolicy(enabled=enabled),
            self._send,
        )
        self.agent = agent_policies(HA, [(MN, TunnelForm.ESP, pair.agent, ())])

    def _send(self, link: str, packet: bytes, now: float) -> list[Output]:
        self.sent.append((link, packet))
        return [Transmit(packet, bytes(6), link)]

    def arrive(self, address: IPv6Address = COA, link: str = "wlan0", now: float = 0.0) -> list[Output]:
        self.node.movement.address_ready(link, address, now)
        return self.node.moved(now)

    def ack(self, sequence: int, status: int = 0, *, to: IPv6Address = COA, lifetime: int = 400) -> bytes:
        return to_terminal(mh.BindingAcknowledgement(status, sequence, lifetime, NONE), HA, MN, to, self.agent)

    def receive(self, packet: bytes, now: float) -> tuple[list[Output], HandedOn | None]:
        return self.node.receive(open_message(packet, self.security), now)

    def rejects(self, packet: bytes, reason: Reason) -> None:
        """Dropped with this reason; no table changes."""
        before = self.node.snapshot(0.5)
        with pytest.raises(Discard) as caught:
            self.receive(packet, 0.5)
        assert caught.value.reason is reason
        assert self.node.snapshot(0.5) == before


def test_update_of_a_visited_link() -> None:
    bench = Bench()
    outputs = bench.arrive()
    assert CareOfAddressChanged("wlan0", COA, None, False) in outputs
    ((link, packet),) = bench.sent
    assert link == "wlan0"
    headers = ip6.walk(packet)
    assert (packet[8:24], packet[24:40]) == (COA.packed, HA.packed)
    assert headers.home_address == MN.packed
    assert headers.protocol == ip6.ESP
    received = open_message(packet, bench.agent)
    flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION | mh.UpdateFlag.KEY_MANAGEMENT
    assert received.message == mh.BindingUpdate(1, flags, 420, (mh.AlternateCareOfAddress(COA),))
    assert received.source == MN
    (row,) = bench.updates.snapshot(0.0)
    assert (row["destination"], row["state"], row["sequence"]) == (str(HA), "registering", 1)


def test_update_at_home_comes_from_the_home_address_and_deregisters() -> None:
    bench = Bench()
    bench.arrive(AT_HOME)
    ((_, packet),) = bench.sent
    assert packet[8:24] == MN.packed
    received = open_message(packet, bench.agent)
    assert isinstance(received.message, mh.BindingUpdate)
    assert received.message.lifetime == 0
    assert received.message.alternate_care_of == MN
    outputs, handed_on = bench.receive(bench.ack(1, to=MN, lifetime=0), 0.5)
    assert handed_on is None
    assert [type(output).__name__ for output in outputs] == ["ReturnedHome"]
    assert len(bench.updates) == 0


def test_unprotected_signalling_where_configured() -> None:
    bench = Bench(signalling=False)
    bench.arrive()
    assert ip6.walk(bench.sent[0][1]).protocol == ip6.MOBILITY
    _, handed_on = bench.receive(bench.ack(1), 0.5)
    assert handed_on is not None
    assert handed_on.number == 10001


def test_acknowledgement() -> None:
    bench = Bench()
    bench.arrive()
    outputs, handed_on = bench.receive(bench.ack(1), 0.5)
    assert outputs == [Bound(HA, COA, 400, 0.5)]
    assert handed_on is not None
    assert handed_on.number == 10020
    assert handed_on.situation.care_of_address == COA
    (row,) = bench.updates.snapshot(0.5)
    assert (row["state"], row["lifetime"], row["remaining"]) == ("bound", 400, 399.5)
    assert bench.node.timer == 320.0


def test_no_scenario_for_it() -> None:
    bench = Bench(enabled=frozenset({10001}))
    bench.arrive()
    outputs, handed_on = bench.receive(bench.ack(1), 0.5)
    assert handed_on is None
    assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.SCENARIO_DISABLED]


def test_movement_binds_anew_and_an_earlier_acknowledgement_counts_no_more() -> None:
    bench = Bench()
    bench.arrive()
    bench.receive(bench.ack(1), 0.5)
    bench.node.movement.address_lost("wlan0", COA, 0.5)
    outputs = bench.arrive(COA2, "wlan1", 1.0)
    assert HandoverStarted("wlan0", COA, "wlan1") in outputs
    assert not bench.node.registration.bound
    bench.rejects(bench.ack(1), Reason.ACKNOWLEDGEMENT_UNEXPECTED)
    bench.rejects(bench.ack(1, to=COA2), Reason.SEQUENCE_UNEXPECTED)
    bench.receive(bench.ack(2, to=COA2), 1.5)
    assert bench.node.registration.bound


def test_number_out_of_window_is_followed_at_once() -> None:
    bench = Bench()
    bench.arrive()
    outputs, handed_on = bench.receive(bench.ack(5000, 135), 0.5)
    assert handed_on is None
    assert [output.sequence for output in outputs if isinstance(output, BindingRequested)] == [5001]
    assert len(bench.sent) == 2


def test_refusal_is_handed_to_scenario_processing() -> None:
    bench = Bench()
    bench.arrive()
    outputs, handed_on = bench.receive(bench.ack(1, 129, lifetime=0), 0.5)
    assert [type(output).__name__ for output in outputs] == ["BindingRefused"]
    assert handed_on is not None
    assert handed_on.situation.acknowledgement.status == 129


def test_refresh_request() -> None:
    bench = Bench()
    request = to_terminal(mh.BindingRefreshRequest(), HA, MN, COA, bench.agent)
    bench.arrive()
    bench.rejects(request, Reason.MESSAGE_UNEXPECTED)  # nothing is bound yet
    bench.receive(bench.ack(1), 0.5)
    bench.receive(to_terminal(mh.BindingRefreshRequest(), HA, MN, COA, bench.agent), 1.0)
    assert bench.node.registration.state is State.REFRESHING
    assert len(bench.sent) == 2


# ---------------------------------------------------------------- strangers


def test_unprotected_acknowledgement() -> None:
    bench = Bench()
    bench.arrive()
    message = mh.BindingAcknowledgement(0, 1, 400, NONE)
    plain = ip6.packet(HA, MN, ip6.MOBILITY, mh.payload(message, HA, MN))
    packet = ip6.insert(plain, ip6.routing_header(MN, ip6.MOBILITY), ip6.ROUTING)
    bench.rejects(packet[:24] + COA.packed + packet[40:], Reason.NOT_PROTECTED)


def test_acknowledgement_for_another_home_address() -> None:
    bench = Bench()
    bench.arrive()
    packet = bench.ack(1)
    at = ip6.walk(packet).routing_at
    assert at is not None
    bench.rejects(packet[: at + 8] + CN.packed + packet[at + 24 :], Reason.POLICY_DISCARD)


def test_acknowledgement_without_routing_header() -> None:
    bench = Bench()
    bench.arrive()
    packet = bench.ack(1, to=MN)
    bench.rejects(packet[:24] + COA.packed + packet[40:], Reason.POLICY_DISCARD)


def test_acknowledgement_from_somebody_else() -> None:
    bench = Bench()
    bench.arrive()
    packet = bench.ack(1)
    bench.rejects(packet[:8] + CN.packed + packet[24:], Reason.POLICY_VIOLATED)


def test_acknowledgement_by_somebody_else_without_protection() -> None:
    bench = Bench(signalling=False)
    bench.arrive()
    message = mh.BindingAcknowledgement(0, 1, 400, NONE)
    plain = ip6.packet(CN, MN, ip6.MOBILITY, mh.payload(message, CN, MN))
    packet = ip6.insert(plain, ip6.routing_header(MN, ip6.MOBILITY), ip6.ROUTING)
    with pytest.raises(Discard) as caught:
        bench.receive(packet[:24] + COA.packed + packet[40:], 0.5)
    assert caught.value.reason in (Reason.POLICY_VIOLATED, Reason.NOT_PROTECTED, Reason.ACKNOWLEDGEMENT_UNEXPECTED)
    assert not bench.node.registration.bound


def test_replayed_acknowledgement() -> None:
    bench = Bench()
    bench.arrive()
    packet = bench.ack(1)
    bench.receive(packet, 0.5)
    bench.rejects(packet, Reason.REPLAYED)


def test_acknowledgement_with_another_number() -> None:
    bench = Bench()
    bench.arrive()
    bench.rejects(bench.ack(2), Reason.SEQUENCE_UNEXPECTED)


def test_routing_header_that_was_processed_already() -> None:
    bench = Bench()
    bench.arrive()
    packet = bench.ack(1)
    at = ip6.walk(packet).routing_at
    assert at is not None
    bench.rejects(packet[: at + 3] + b"\0" + packet[at + 4 :], Reason.MALFORMED)


def test_every_truncation_of_an_acknowledgement() -> None:
    bench = Bench(signalling=False)
    bench.arrive()
    packet = bench.ack(1)
    for length in range(len(packet)):
        bench.rejects(packet[:length], Reason.MALFORMED)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.sampled_from([ip6.MOBILITY, ip6.ESP, ip6.ROUTING, ip6.DEST_OPTIONS, ip6.FRAGMENT]))
def test_noise_changes_nothing(body: bytes, protocol: int) -> None:
    before = _noise.node.snapshot(0.0)
    with pytest.raises(Discard):
        _noise.receive(ip6.packet(HA, COA, protocol, body), 0.5)
    assert _noise.node.snapshot(0.0) == before


_noise = Bench(signalling=False)
_noise.arrive()
