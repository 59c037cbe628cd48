"""Home tests under ESP of their own where the tunnel is ``plain`` (RFC 6275 section 5.5, RFC 4877)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.links import endpoint
from mobility.mipv6.home_agent import AuthorisedTerminal
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm, around
from mobility.net.memory import Segment
from mobility.outputs import Discarded, Output
from mobility.wire import ip6, mh
from tests.mobility.optimized import Optimized
from tests.mobility.whole import CN, HA, HA4, MN, NAT4, mobile_pair, udp

SENDER = bytes.fromhex("020000001201")
UP, DOWN = (spi.to_bytes(4) for spi in (0x1004, 0x1005))


def bound() -> Optimized:
    network = Optimized(TunnelForm.PLAIN, home_test=True)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    return network


def between(segment: Segment, source: IPv6Address, to: IPv6Address) -> list[bytes]:
    """What went there from one to the other."""
    packets = [frame.packet for frame in segment.frames]
    return [packet for packet in packets if packet[8:40] == source.packed + to.packed]


def reasons(outputs: list[Output]) -> list[Reason]:
    return [output.reason for output in outputs if isinstance(output, Discarded)]


def care_of(network: Optimized) -> IPv6Address:
    address = network.care_of
    assert address is not None
    return address


def mobility(message: mh.Message, source: IPv6Address, to: IPv6Address) -> bytes:
    return ip6.packet(source, to, ip6.MOBILITY, mh.payload(message, source, to))


def test_home_tests_are_under_esp_and_data_is_not() -> None:
    network = bound()
    network.a.frames.clear()
    network.talk(0.3)
    network.run(1)
    assert network.is_direct()
    at = care_of(network)
    up, down = between(network.a, at, HA), between(network.a, HA, at)
    for packets, spi in ((up, UP), (down, DOWN)):
        assert [packet[40:44] for packet in packets if packet[6] == ip6.ESP] == [spi]
        data = [packet for packet in packets if packet[6] == ip6.IPV6]
        assert data  # until the way was a direct one
        assert all(packet[46] != ip6.MOBILITY for packet in data)
    outside = {packet[42] for packet in (f.packet for f in network.office.frames) if packet[6] == ip6.MOBILITY}
    assert {mh.Type.HOME_TEST_INIT, mh.Type.HOME_TEST} <= outside
    kept = [policy for policy in network.agent.engine.security.spd.describe() if policy["name"] == f"home test {MN}"]
    assert len(kept) == 1
    assert network.agent.engine._terminals[MN.packed].snapshot()["associations"] != []


def test_a_handover_in_mid_call_loses_nothing_with_it() -> None:
    network = bound()
    network.talk(4)
    network.run(2)
    assert network.is_direct()
    network.move(network.b, gap=0.05)
    network.run(4)
    assert network.is_direct()
    assert [len(traffic.received) for traffic in (network.to_cn, network.to_mn)] == [200, 200]


def test_an_unprotected_home_test_is_refused_by_the_terminal() -> None:
    network = bound()
    network.talk(0.3)
    network.run(1)
    at, now = care_of(network), network.world.now
    before = network.optimization.snapshot(now)
    forged = mobility(mh.HomeTest(1, bytes(8), bytes(8)), CN, MN)
    tunnelled = around(forged, HA.packed + at.packed, ip6.IPV6, forged)
    assert reasons(network.terminal.from_link("wlan0", tunnelled, SENDER, now)) == [Reason.POLICY_VIOLATED]
    assert network.optimization.snapshot(now) == before
    # What the association is not for does not come by it either.
    outbound = network.pair.agent.home_test_out
    assert outbound is not None
    smuggled = udp(CN, MN, b"speech")
    packet = around(smuggled, HA.packed + at.packed, ip6.ESP, outbound.seal(ip6.IPV6, smuggled))
    assert reasons(network.terminal.from_link("wlan0", packet, SENDER, now)) == [Reason.POLICY_VIOLATED]


def test_an_unprotected_home_test_init_is_refused_by_the_home_agent() -> None:
    network = bound()
    at, now = care_of(network), network.world.now
    init = mobility(mh.HomeTestInit(bytes(8)), MN, CN)
    tunnelled = around(init, at.packed + HA.packed, ip6.IPV6, init)
    assert reasons(network.agent.from_link("home0", tunnelled, SENDER, now)) == [Reason.POLICY_VIOLATED]
    under = network.pair.terminal.home_test_out
    assert under is not None
    packet = around(init, at.packed + HA.packed, ip6.ESP, under.seal(ip6.IPV6, init))
    assert reasons(network.agent.from_link("home0", packet, SENDER, now)) == []
    replayed = network.agent.from_link("home0", packet, SENDER, now)
    assert reasons(replayed) == [Reason.REPLAYED]
    elsewhere = around(init, IPv6Address("2001:db8:a::bad").packed + HA.packed, ip6.ESP, under.seal(ip6.IPV6, init))
    assert reasons(network.agent.from_link("home0", elsewhere, SENDER, now)) == [Reason.OUTER_SOURCE_WRONG]


def test_data_without_protection_never_follows_a_home_test_from_another_endpoint() -> None:
    network = Optimized(TunnelForm.PLAIN, home_test=True)
    network.start_agent()
    network.join(network.hotspot)
    network.run(3)
    before = network.agent.snapshot(network.world.now)["binding_cache"]
    under = network.pair.terminal.home_test_out
    assert under is not None
    payload = under.seal(ip6.IPV6, mobility(mh.HomeTestInit(bytes(8)), MN, CN))
    outputs = network.agent.from_link(f"udp/{HA4}", payload, endpoint(NAT4, 1), network.world.now)
    assert reasons(outputs) == [Reason.OUTER_SOURCE_WRONG]
    assert network.agent.snapshot(network.world.now)["binding_cache"] == before


def test_other_keys_for_home_tests_are_taken_over_by_a_reload() -> None:
    network = bound()
    now = network.world.now
    other = mobile_pair(TunnelForm.PLAIN, 0x3000, home_test=True)
    network.agent.reconfigure([AuthorisedTerminal(MN, TunnelForm.PLAIN, other.agent)], now)
    assert sorted(network.agent.engine._by_tunnel_spi) == [(0x3004).to_bytes(4)]
    network.agent.reconfigure([], now)
    assert network.agent.engine._by_tunnel_spi == {}


@pytest.mark.parametrize(
    ("form", "without", "why"),
    [
        (TunnelForm.ESP, (), "under its own"),
        (TunnelForm.ESP_MOBILE, (), "under its own"),
        (TunnelForm.PLAIN, ("home_test_in",), "both directions"),
    ],
)
def test_associations_that_do_not_suit_the_tunnel(form: TunnelForm, without: tuple[str, ...], why: str) -> None:
    made = mobile_pair(form, home_test=True).terminal
    associations: MobileAssociations = replace(made, **dict.fromkeys(without))
    with pytest.raises(ValueError, match=why):
        associations.check(form)
