"""Mobile routers at the home agent (RFC 3963 section 6): whose networks they may take along, and what is carried."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.discards import Reason
from mobility.mipv6.binding_events import BindingCreated, BindingRemoved, UpdateRefused
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.home_agent import HomeAgent
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.tunnel import TunnelForm
from mobility.outputs import Transmit
from mobility.wire import icmp6, ip6, mh, ndisc
from tests.mobility.mipv6.agent_bench import Link
from tests.mobility.nemo.rig import AH, AHR, VISITED, Rig, hopped, is_discovery, network, reasons, sent
from tests.mobility.whole import CN, HA, udp

ESP, PLAIN = TunnelForm.ESP, TunnelForm.PLAIN
FORMS = list(TunnelForm)
PLACE = VISITED.network_address + 0x77
NODE = network(1).network_address + 0xD
"An ordinary host of the mobile network."


def prefix(text: str, length: int) -> mh.MobileNetworkPrefix:
    return mh.MobileNetworkPrefix(IPv6Address(text), length)


# ---------------------------------------------------------------- who may take along what


@pytest.mark.parametrize("form", FORMS)
def test_implicit_mode_takes_along_what_the_configuration_says(form: TunnelForm) -> None:
    rig = Rig(form, form)
    router = rig.members[0]
    answer, outputs = rig.asks(router, PLACE)
    assert (answer.status, answer.flags) == (mh.Status.ACCEPTED, mh.AckFlag.MOBILE_ROUTER)
    (created,) = [each for each in outputs if isinstance(each, BindingCreated)]
    assert created.mobile_networks == str(network(1))
    (row,) = rig.agent.engine.cache.snapshot(5.0)
    assert row["mobile_networks"] == [str(network(1))]
    down, up = udp(CN, NODE, b"down"), udp(NODE, CN, b"up")
    (outer,) = sent(rig.arrives(down))
    assert router.down(outer) == hopped(down)
    assert sent(rig.arrives(router.up(up))) == [hopped(up)]


def test_explicit_mode_takes_along_what_is_named() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    named = prefix("2001:db8:9:1::", 64)
    first, second = rig.authorised()
    # One prefix of the 65536 that it might have.
    rig.agent.reconfigure((replace(first, mobile_networks=(IPv6Network("2001:db8:9::/48"),)), second), 1.0)
    answer, _ = rig.asks(router, PLACE, prefixes=(named, named))
    assert (answer.status, answer.flags) == (mh.Status.ACCEPTED, mh.AckFlag.MOBILE_ROUTER)
    (row,) = rig.agent.engine.cache.snapshot(5.0)
    assert row["mobile_networks"] == ["2001:db8:9:1::/64"]
    (outer,) = sent(rig.arrives(udp(CN, NODE, b"x")))
    assert router.down(outer)[24:40] == NODE.packed
    other = network(2).network_address + 1
    assert reasons(rig.arrives(udp(CN, other, b"x"))) == [Reason.BINDING_UNKNOWN]
    assert reasons(rig.arrives(router.up(udp(NODE, CN, b"x")))) == []


def test_prefixes_that_lie_in_each_other_are_one() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    named = (prefix("2001:db8:9:1::", 64), prefix("2001:db8:9:1:8000::", 65), prefix("2001:db8:9:1::", 64))
    assert rig.asks(router, PLACE, prefixes=named)[0].accepted
    (outer,) = sent(rig.arrives(udp(CN, NODE, b"x")))
    assert router.down(outer)[24:40] == NODE.packed


REFUSED = [
    (AHR, (prefix("2001:db8:9:1::", 129),), mh.Status.INVALID_PREFIX),
    (AHR, (prefix("2001:db8:9:1::", 255),), mh.Status.INVALID_PREFIX),
    (AHR, (prefix("2001:db8:9:1::1", 64),), mh.Status.INVALID_PREFIX),
    (AHR, (prefix("::", 0),), mh.Status.NOT_AUTHORIZED_FOR_PREFIX),
    (AHR, (prefix("2001:db8:9::", 48),), mh.Status.NOT_AUTHORIZED_FOR_PREFIX),
    (AHR, (prefix("2001:db8:9:2::", 64),), mh.Status.NOT_AUTHORIZED_FOR_PREFIX),  # that of another router
    (AHR, (prefix("2001:db8:1::", 64),), mh.Status.NOT_AUTHORIZED_FOR_PREFIX),  # the home network
    (AHR, (prefix("2001:db8:9:1::", 64), prefix("2001:db8:666::", 64)), mh.Status.NOT_AUTHORIZED_FOR_PREFIX),
]


@pytest.mark.parametrize(("flags", "prefixes", "status"), REFUSED)
def test_what_a_router_may_not_have(
    flags: mh.UpdateFlag, prefixes: tuple[mh.MobileNetworkPrefix, ...], status: mh.Status
) -> None:
    rig = Rig(ESP, ESP, ESP)
    answer, outputs = rig.asks(rig.members[0], PLACE, flags=flags, prefixes=prefixes)
    assert (answer.status, answer.flags) == (status, mh.NO_FLAGS)
    (refused,) = [each for each in outputs if isinstance(each, UpdateRefused)]
    assert refused.why
    assert len(rig.agent.engine.cache) == 0


def test_what_is_no_router_here_is_told_so() -> None:
    rig = Rig(ESP, ESP)
    answer, _ = rig.asks(rig.members[1], PLACE, flags=AHR)
    assert answer.status == mh.Status.MOBILE_ROUTER_NOT_PERMITTED


def test_a_router_that_has_to_name_its_prefixes_and_does_not() -> None:
    rig = Rig(ESP, ESP, implicit=False)
    answer, _ = rig.asks(rig.members[0], PLACE)
    assert answer.status == mh.Status.FORWARDING_SETUP_FAILED
    answer, _ = rig.asks(rig.members[0], PLACE, prefixes=(mh.MobileNetworkPrefix.of(network(1)),))
    assert answer.status == mh.Status.ACCEPTED


@pytest.mark.parametrize("first", [AH, AHR])
def test_a_node_does_not_turn_from_host_to_router_or_back_while_it_is_bound(first: mh.UpdateFlag) -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    assert rig.asks(router, PLACE, flags=first)[0].accepted
    before = rig.agent.engine.cache.snapshot(5.0)
    answer, _ = rig.asks(router, PLACE, flags=AH if first == AHR else AHR)
    assert answer.status == mh.Status.REGISTRATION_TYPE_CHANGE
    assert rig.agent.engine.cache.snapshot(5.0) == before
    assert rig.asks(router, PLACE, flags=first)[0].accepted
    # Deregistering ends either kind.
    assert rig.asks(router, PLACE, flags=AH if first == AHR else AHR, lifetime=0)[0].accepted
    assert rig.asks(router, PLACE, flags=AH if first == AHR else AHR)[0].accepted


def test_as_a_host_it_takes_nothing_along() -> None:
    rig = Rig(ESP, ESP)
    answer, _ = rig.asks(rig.members[0], PLACE, flags=AH)
    assert (answer.status, answer.flags) == (mh.Status.ACCEPTED, mh.NO_FLAGS)
    assert reasons(rig.arrives(udp(CN, NODE, b"x"))) == [Reason.BINDING_UNKNOWN]
    assert reasons(rig.arrives(rig.members[0].up(udp(NODE, CN, b"x")))) == [Reason.INNER_SOURCE_WRONG]


def test_networks_that_cannot_be_configured() -> None:
    rig = Rig(ESP, ESP)
    first, second = rig.authorised()
    for wrong in (IPv6Network("2001:db8:9:1:8000::/65"), IPv6Network("2001:db8::/32"), IPv6Network("2001:db8:1::/96")):
        with pytest.raises(ValueError, match=r"overlaps|in the home network"):
            rig.agent.reconfigure((first, replace(second, mobile_networks=(wrong,))), 1.0)
    assert rig.asks(rig.members[0], PLACE)[0].accepted  # nothing has changed


# ---------------------------------------------------------------- what is carried


@pytest.mark.parametrize("form", FORMS)
def test_only_addresses_of_its_own_come_out_of_a_routers_tunnel(form: TunnelForm) -> None:
    rig = Rig(form, form, form)
    first, second, _ = rig.members
    rig.asks(first, PLACE)
    rig.asks(second, PLACE + 1)
    for source in (CN, network(2).network_address + 1, second.home, IPv6Address("2001:db8:9:3::1")):
        inner = udp(source, CN, b"x")
        if form is PLAIN:
            packet = ip6.packet(first.care_of, HA, ip6.IPV6, inner)
        else:
            association = first.pair.terminal.tunnel_out
            assert association is not None
            within = ip6.packet(first.care_of, HA, ip6.IPV6, inner) if form is TunnelForm.ESP_MOBILE else inner
            packet = ip6.packet(first.care_of, HA, ip6.ESP, association.seal(ip6.IPV6, within))
        outputs = rig.arrives(packet)
        assert sent(outputs) == []
        wrong = {Reason.INNER_SOURCE_WRONG, Reason.POLICY_VIOLATED, Reason.POLICY_DISCARD, Reason.OUTER_SOURCE_WRONG}
        assert set(reasons(outputs)) <= wrong
        assert reasons(outputs)


def test_nodes_of_two_mobile_networks_talk_to_each_other() -> None:
    rig = Rig(ESP, PLAIN, ESP)
    first, second, _ = rig.members
    rig.asks(first, PLACE)
    rig.asks(second, PLACE + 1)
    packet = udp(NODE, network(2).network_address + 1, b"x")
    (outer,) = sent(rig.arrives(first.up(packet)))
    assert second.down(outer) == hopped(packet)


def test_the_access_policy_of_a_router_counts_for_its_network() -> None:
    rig = Rig(ESP, ESP, networks=(IPv6Network("2001:db8:c::/64"),))
    router = rig.members[0]
    rig.asks(router, PLACE)
    assert len(sent(rig.arrives(udp(CN, NODE, b"x")))) == 1
    stranger = IPv6Address("2001:db8:666::6")
    assert reasons(rig.arrives(udp(stranger, NODE, b"x"))) == [Reason.ACCESS_DENIED]
    assert reasons(rig.arrives(router.up(udp(NODE, stranger, b"x")))) == [Reason.ACCESS_DENIED]


def test_a_router_at_home_is_the_next_hop_to_its_network() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    packet = udp(CN, NODE, b"x")
    (asked,) = [each for each in rig.arrives(packet) if isinstance(each, Transmit)]
    assert is_discovery(asked.packet)  # a neighbour solicitation for the home address
    assert router.home.packed in asked.packet
    assert rig.asks(router, PLACE)[0].accepted
    assert rig.asks(router, router.home, lifetime=0)[0].accepted
    assert reasons(rig.arrives(packet, 6.0)) == []


def test_hops_are_counted_and_echo_is_answered_into_the_network() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    rig.asks(router, PLACE)
    last = ip6.packet(NODE, CN, ip6.UDP, udp(NODE, CN, b"x")[40:], 1)
    (told,) = sent(rig.arrives(router.up(last)))
    error = router.down(told)
    assert (error[8:40], error[40]) == (HA.packed + NODE.packed, 3)
    echo = icmp6.packet(NODE, HA, icmp6.Echo(7, 1, b"data"))
    answers = sent(rig.arrives(router.up(echo)))
    # The host's answer takes the way of every packet for the network: by the home router, which has the route.
    (answer,) = answers
    (outer,) = sent(rig.arrives(answer))
    assert icmp6.parse(router.down(outer)[40:]) == icmp6.Echo(7, 1, b"data", reply=True)


def test_neighbour_discovery_does_not_come_out_of_tunnels() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    rig.asks(router, PLACE)
    neighbour = ndisc.NeighborAdvertisement(IPv6Address("2001:db8:1::1"), override=True, options=())
    forged = ndisc.packet(NODE.packed, HA.packed, neighbour)
    assert reasons(rig.arrives(router.up(forged))) == [Reason.NDISC_INVALID]


# ---------------------------------------------------------------- restart, other configuration, expiry


def test_a_restarted_home_agent_goes_on_with_the_networks() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    rig.asks(router, PLACE)
    (record,) = rig.agent.bindings(0.0)
    assert BindingRecord.from_json(record.to_json()) == record
    old = record.to_json()
    for row in old["bindings"]:  # type: ignore[attr-defined]
        del row["mobile_networks"]  # written by the version before
    assert BindingRecord.from_json(old).bindings[0].mobile_networks == ()
    rig.restart(6.0)
    (outer,) = sent(rig.arrives(udp(CN, NODE, b"x"), 6.0))
    assert router.down(outer)[24:40] == NODE.packed


@pytest.mark.parametrize("wrong", [["2001:db8::1/64"], [7], "2001:db8:9::/64", None])
def test_a_record_with_impossible_networks(wrong: object) -> None:
    rig = Rig(ESP, ESP)
    rig.asks(rig.members[0], PLACE)
    (record,) = rig.agent.bindings(0.0)
    values = record.to_json()
    values["bindings"][0]["mobile_networks"] = wrong  # type: ignore[index]
    with pytest.raises(ValueError, match=r"mobile_networks|2001:db8::1/64"):
        BindingRecord.from_json(values)


def test_networks_that_were_taken_away_end_the_binding_and_the_router_is_woken() -> None:
    rig = Rig(ESP, ESP)
    router = rig.members[0]
    rig.asks(router, PLACE)
    records = rig.agent.bindings(0.0)
    first, second = rig.authorised()
    outputs = rig.agent.reconfigure((replace(first, mobile_networks=(network(7),)), second), 6.0)
    (removed,) = [each for each in outputs if isinstance(each, BindingRemoved)]
    assert removed.why == "other mobile networks"
    rig.agent.restore(records, 0.0, 7.0)
    assert len(rig.agent.engine.cache) == 0
    rig.agent.reconfigure((first, second), 8.0)
    outputs = rig.arrives(router.up(udp(NODE, CN, b"x")), 9.0)
    assert reasons(outputs) == [Reason.BINDING_UNKNOWN]
    assert len(sent(outputs)) == 1  # a binding refresh request


def test_a_binding_that_is_over_takes_its_networks_with_it() -> None:
    rig = Rig(ESP, ESP)
    rig.asks(rig.members[0], PLACE, lifetime=8)
    outputs = rig.agent.handle_timer(14.0)
    assert any(isinstance(each, BindingRemoved) for each in outputs)
    assert sent(rig.arrives(udp(CN, NODE, b"x"), 15.0)) == []


def test_no_two_routers_have_the_same_network() -> None:
    twice = tuple(
        AuthorisedTerminal(IPv6Address(f"2001:db8:1::{n}"), PLAIN, mobile_networks=(network(1),)) for n in (1, 2)
    )
    with pytest.raises(ValueError, match="overlaps"):
        HomeAgent(HomeAgentSettings(HA, twice), Link(), lambda reply, now: [])
