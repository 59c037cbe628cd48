"""Selectors and the order of policies."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.spd import ANYWHERE, Action, Policy, SecurityPolicyDatabase, Selector
from mobility.wire import ip6, mh
from mobility.wire.ip6 import Flow
from tests.mobility.ipsec.keying import AGENT, HOME, PEER, keys_for, only, pair


def out(protocol: int, *rest: int | None, to: IPv6Address = AGENT) -> Flow:
    """A flow from home."""
    return Flow(HOME.packed, to.packed, protocol, *rest)


def into(protocol: int, *rest: int | None, of: IPv6Address = AGENT) -> Flow:
    """A flow to home."""
    return Flow(of.packed, HOME.packed, protocol, *rest)


def mobile_node_policies() -> SecurityPolicyDatabase:
    """The policies of RFC 4877 section 5.2, without associations."""
    home, agent = only(HOME), only(AGENT)
    return SecurityPolicyDatabase(
        [
            Policy(
                Selector(home, agent, ip6.MOBILITY, local_type=5, remote_type=6), Action.PROTECT, name="registration"
            ),
            Policy(Selector(home, agent, ip6.ICMPV6, local_type=146, remote_type=147), Action.PROTECT, name="prefixes"),
            Policy(
                Selector(home, ANYWHERE, ip6.MOBILITY, local_type=1, remote_type=3), Action.PROTECT, name="routability"
            ),
            Policy(Selector(home, ANYWHERE, ip6.UDP, local_port=range(5000, 6000)), Action.PROTECT, name="media"),
            Policy(Selector(home, ANYWHERE, ip6.UDP), Action.BYPASS, name="udp"),
        ],
        Action.DISCARD,
    )


class TestRfc3776:
    @pytest.mark.parametrize(
        ("flow", "outbound", "name"),
        [
            (out(ip6.MOBILITY, None, None, mh.Type.BINDING_UPDATE), True, "registration"),
            (into(ip6.MOBILITY, None, None, mh.Type.BINDING_ACKNOWLEDGEMENT), False, "registration"),
            (into(ip6.MOBILITY, None, None, mh.Type.BINDING_UPDATE), False, "default"),
            (out(ip6.MOBILITY, None, None, mh.Type.BINDING_UPDATE, to=PEER), True, "default"),
            (out(ip6.MOBILITY, None, None, mh.Type.HOME_TEST_INIT, to=PEER), True, "routability"),
            (into(ip6.MOBILITY, None, None, mh.Type.HOME_TEST, of=PEER), False, "routability"),
            (out(ip6.MOBILITY, None, None, mh.Type.CARE_OF_TEST_INIT, to=PEER), True, "default"),
            (out(ip6.ICMPV6, None, None, 146, 0), True, "prefixes"),
            (into(ip6.ICMPV6, None, None, 147, 0), False, "prefixes"),
            (out(ip6.ICMPV6, None, None, 128, 0), True, "default"),
            (out(ip6.UDP, 5000, 9), True, "media"),
            (out(ip6.UDP, 5999, 9), True, "media"),
            (out(ip6.UDP, 6000, 9), True, "udp"),
            (out(ip6.UDP, 9, 5000), True, "udp"),
            (into(ip6.UDP, 9, 5000), False, "media"),
            (into(ip6.UDP, 5000, 9), False, "udp"),
            (out(ip6.TCP, 5000, 9), True, "default"),
            (Flow(PEER.packed, HOME.packed, ip6.UDP, 5000, 5000), True, "default"),
        ],
    )
    def test_kinds_of_traffic_are_told_apart(self, flow: Flow, outbound: bool, name: str) -> None:
        spd = mobile_node_policies()
        for _ in range(2):  # the second answer comes from the cache
            assert spd.lookup(flow, outbound=outbound).name == name


def test_first_match_decides() -> None:
    policies = [
        Policy(Selector(protocol=17), Action.BYPASS, name="first"),
        Policy(Selector(), Action.DISCARD, name="second"),
    ]
    flow = out(17, 1, 2)
    assert SecurityPolicyDatabase(policies, Action.BYPASS).lookup(flow, outbound=True).name == "first"
    assert SecurityPolicyDatabase(policies[::-1], Action.BYPASS).lookup(flow, outbound=True).name == "second"


@pytest.mark.parametrize("action", [Action.BYPASS, Action.DISCARD])
def test_the_default_is_the_owners(action: Action) -> None:
    assert SecurityPolicyDatabase([], action).lookup(out(17, 1, 2), outbound=True).action is action


def test_the_default_cannot_protect() -> None:
    with pytest.raises(ValueError, match="BYPASS or DISCARD"):
        SecurityPolicyDatabase([], Action.PROTECT)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_prefixes_are_those_of_ipaddress(number: int, near: int, length: int) -> None:
    network = IPv6Network((number, length), strict=False)
    host_bits = (1 << 128 - length) - 1
    for address in (IPv6Address(near), IPv6Address(int(network.network_address) | near & host_bits)):
        flow = Flow(address.packed, HOME.packed, 17, 1, 2)
        assert Selector(local=network).matches(flow, outbound=True) == (address in network)
        assert Selector(remote=network).matches(flow, outbound=False) == (address in network)


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [(7, {7}, {6, 8}), (range(7, 9), {7, 8}, {6, 9}), (frozenset({1, 9}), {1, 9}, {5}), (0, {0}, {1})],
)
def test_numbers(wanted: int | range | frozenset[int], yes: set[int], no: set[int]) -> None:
    for number in yes | no:
        assert Selector(local_port=wanted).matches(out(17, number, 2), outbound=True) == (number in yes)
        assert Selector(remote_port=wanted).matches(out(17, 2, number), outbound=True) == (number in yes)
        kind = out(ip6.ICMPV6, None, None, number, number)
        assert Selector(local_type=wanted).matches(kind, outbound=True) == (number in yes)
        assert Selector(code=wanted).matches(kind, outbound=True) == (number in yes)


def test_what_a_fragment_hides_is_not_let_through() -> None:
    hidden = out(ip6.UDP)
    for first, second, name in (
        (Action.BYPASS, Action.DISCARD, "all"),
        (Action.PROTECT, Action.BYPASS, "port"),
        (Action.DISCARD, Action.BYPASS, "port"),
    ):
        spd = SecurityPolicyDatabase(
            [
                Policy(Selector(protocol=17, local_port=5060), first, name="port"),
                Policy(Selector(), second, name="all"),
            ],
            Action.DISCARD,
        )
        assert spd.lookup(hidden, outbound=True, hidden=True).name == name


def test_the_cache_is_bounded() -> None:
    spd = mobile_node_policies()
    for port in range(spd.CACHE_LIMIT + 10):
        spd.lookup(out(ip6.UDP, port, 1), outbound=True)
    assert len(spd._outbound) <= spd.CACHE_LIMIT


ADDRESSES = [HOME, AGENT, PEER, IPv6Address("2001:db8:9::9")]
NETWORKS = [ANYWHERE, IPv6Network("2001:db8::/32"), *(only(address) for address in ADDRESSES)]
SELECTORS = st.builds(
    Selector,
    st.sampled_from(NETWORKS),
    st.sampled_from(NETWORKS),
    st.sampled_from([None, ip6.UDP, ip6.TCP]),
    st.sampled_from([None, 7]),
)


@given(
    st.lists(SELECTORS, max_size=12),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.booleans(),
    st.booleans(),
)
def test_the_first_that_matches_decides_whatever_is_looked_at(
    selectors: list[Selector], source: IPv6Address, destination: IPv6Address, outbound: bool, hidden: bool
) -> None:
    actions = [Action.DISCARD, Action.BYPASS]
    policies = [Policy(each, actions[number % 2], name=str(number)) for number, each in enumerate(selectors)]
    flow = Flow(source.packed, destination.packed, ip6.UDP, *((None, None) if hidden else (7, 7)))
    expected = "default"
    for policy in policies:
        if policy.selector.matches(flow, outbound, when_hidden=hidden and policy.action is not Action.BYPASS):
            expected = policy.name
            break
    database = SecurityPolicyDatabase(policies, Action.DISCARD)
    assert database.lookup(flow, outbound=outbound, hidden=hidden).name == expected


def test_description_has_no_keys() -> None:
    algorithm = Algorithm.AES_CBC_HMAC_SHA2_256_128
    sealing, opening = pair(algorithm)
    selector = Selector(only(HOME), protocol=17, local_port=range(5000, 5010), remote_port=frozenset({9, 3}))
    policy = Policy(selector, Action.PROTECT, sealing, opening, "media")
    shown = str(SecurityPolicyDatabase([policy], Action.DISCARD).describe()) + repr(policy)
    assert "local port 5000-5009 remote port 3,9" in shown
    assert "'name': 'default'" in shown
    keys = keys_for(algorithm)
    for secret in (keys.encryption, keys.authentication):
        assert secret.hex()[:8] not in shown
        assert repr(secret[:4])[2:-1] not in shown
