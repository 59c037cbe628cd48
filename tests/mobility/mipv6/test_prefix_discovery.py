"""Prefixes of the home link, and terminals that are away: in simulated time, with lost messages and strangers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise
from math import inf

import pytest

from mobility.discards import Discard, Reason
from mobility.mipv6 import home_prefixes
from mobility.mipv6.home_prefixes import AdvertisePrefixes, HomePrefixChanged, HomePrefixes, PrefixesUnacknowledged
from mobility.mipv6.prefix_discovery import (
    HomeNetworkPrefixes,
    HomeNetworkRenumbered,
    PrefixDiscovery,
    SolicitPrefixes,
)
from mobility.outputs import Discarded, Output
from mobility.wire import ndisc
from mobility.wire.mobile_icmp import PrefixAdvertisement, PrefixSolicitation

OLD, NEW = IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:2::/64")
HA, HOME = IPv6Address("2001:db8:1::1"), IPv6Address("2001:db8:1::77")


def router_says(*prefixes: tuple[IPv6Network, int, int], **flags: bool) -> ndisc.RouterAdvertisement:
    options = tuple(
        ndisc.PrefixInformation(network.network_address, network.prefixlen, valid, preferred)
        for network, preferred, valid in prefixes
    )
    return ndisc.RouterAdvertisement(1800, options=options, **flags)  # type: ignore[arg-type]


def home(intervals: tuple[float, float] = (10.0, 20.0)) -> HomePrefixes:
    return HomePrefixes(HA, OLD, random.Random(3).randbytes, intervals)


def terminal() -> PrefixDiscovery:
    return PrefixDiscovery(HOME, 64, random.Random(4).randbytes)


def solicited(outputs: Sequence[Output]) -> PrefixSolicitation:
    (message,) = [output.message for output in outputs if isinstance(output, SolicitPrefixes)]
    return message


def advertised(outputs: Sequence[Output]) -> PrefixAdvertisement:
    (message,) = [output.message for output in outputs if isinstance(output, AdvertisePrefixes)]
    return message


# ---------------------------------------------------------------- both together


def test_renumbering_reaches_a_terminal_that_is_away() -> None:
    agent, mobile = home(), terminal()
    agent.heard(router_says((OLD, 3600, 86400)), 0.0)
    first = agent.answer(solicited(mobile.bound(0.0)), HOME, 0.0)
    assert mobile.receive(first, 0.1) == [HomeNetworkPrefixes((OLD,))]
    assert first.prefixes[0].prefix == HA  # the R bit brings the home agent's address along
    changes = agent.heard(router_says((OLD, 0, 86400), (NEW, 3600, 86400)), 100.0)
    assert changes == [HomePrefixChanged(OLD, 0.0, 86400.0), HomePrefixChanged(NEW, 3600.0, 86400.0)]
    agent.schedule([HOME], 100.0)
    at = agent.timer
    assert at is not None
    assert 110.0 <= at <= 120.0
    unsolicited = advertised(agent.handle_timer(at))
    outputs = mobile.receive(unsolicited, at)
    assert isinstance(outputs[0], Discarded)
    answer = agent.answer(solicited(outputs), HOME, at)
    outputs = mobile.receive(answer, at)
    left = 86400.0 - int(at - 100.0) - 1.0  # the wire counts whole seconds
    assert outputs[0] == HomeNetworkPrefixes((OLD, NEW))
    assert outputs[1:] == [HomeNetworkRenumbered(HOME, left, IPv6Address("2001:db8:2::77"))]
    assert agent.snapshot(at)["to_be_told"] == []
    assert mobile.snapshot(at)["renumbered"] is True


# ---------------------------------------------------------------- home agent


def test_the_configured_prefix_counts_until_a_router_says_more() -> None:
    (option,) = home().answer(PrefixSolicitation(9), HOME, 0.0).prefixes
    assert (option.prefix, option.length, option.valid_lifetime) == (HA, 64, ndisc.INFINITE)
    assert (option.router_address, option.autonomous) == (True, True)


def test_what_is_refreshed_or_counted_down_is_no_change() -> None:
    agent = home()
    assert agent.heard(router_says((OLD, 600, 7200)), 0.0) == []
    assert agent.heard(router_says((OLD, 600, 7200)), 50.0) == []
    assert agent.heard(router_says((OLD, 580, 7180)), 70.0) == []
    assert len(agent.heard(router_says((OLD, 300, 7180)), 70.0)) == 1
    (option,) = agent.answer(PrefixSolicitation(1), HOME, 100.0).prefixes
    assert (option.preferred_lifetime, option.valid_lifetime) == (270, 7150)


def test_a_forged_advertisement_cannot_end_a_prefix_at_once() -> None:
    agent = home()
    agent.heard(router_says((OLD, 90000, 90000)), 0.0)
    assert agent.heard(router_says((OLD, 0, 0)), 1.0) == [HomePrefixChanged(OLD, 0.0, 7200.0)]
    assert agent.handle_timer(7200.0) == []
    assert agent.handle_timer(7201.0) == [HomePrefixChanged(OLD, 0.0, 0.0)]


def test_nonsense_prefixes_are_ignored_and_the_table_is_bounded() -> None:
    agent = home()
    assert agent.heard(router_says((IPv6Network("fe80::/64"), 9, 9), (IPv6Network("ff00::/8"), 9, 9)), 0.0) == []
    assert agent.heard(router_says((IPv6Network("::/0"), 9, 9), (NEW, 10, 9), (NEW, 0, 0)), 0.0) == []
    outputs: list[Output] = []
    for n in range(home_prefixes.LIMIT + 5):
        outputs += agent.heard(router_says((IPv6Network((int(NEW[0]) + (n << 64), 64)), 9, 9000)), 0.0)
    assert [type(each) for each in outputs].count(HomePrefixChanged) == home_prefixes.LIMIT - 1
    refused = [each.reason for each in outputs if isinstance(each, Discarded)]
    assert refused == [Reason.TABLE_FULL] * 6
    assert len(agent.answer(PrefixSolicitation(1), HOME, 0.0).prefixes) == home_prefixes.LIMIT


def test_an_unanswered_advertisement_is_repeated_then_given_up() -> None:
    agent = home()
    agent.schedule([HOME], 0.0)
    times = []
    while (now := agent.timer) is not None:
        outputs = agent.handle_timer(now)
        times.append(now)
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([3, 6, 12, 24])
    assert outputs == [PrefixesUnacknowledged(HOME)]


def test_who_is_bound_no_more_is_not_told() -> None:
    agent = home()
    agent.schedule([HOME], 0.0)
    agent.forget(HOME)
    assert agent.timer is None


def test_one_terminal_is_answered_once_a_second() -> None:
    agent = home()
    agent.answer(PrefixSolicitation(1), HOME, 0.0)
    with pytest.raises(Discard, match="rate-limited"):
        agent.answer(PrefixSolicitation(2), HOME, 0.5)
    assert agent.answer(PrefixSolicitation(3), HOME, 1.0).identifier == 3


def test_intervals_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter and a longer"):
        home((20.0, 10.0))


def test_flags_of_the_home_link_are_passed_on() -> None:
    agent = home()
    agent.heard(router_says(managed=True, other=True), 0.0)
    answer = agent.answer(PrefixSolicitation(1), HOME, 0.0)
    assert (answer.managed, answer.other) == (True, True)


# ---------------------------------------------------------------- terminal


def says(identifier: int, *prefixes: tuple[IPv6Network, int, int]) -> PrefixAdvertisement:
    options = router_says(*prefixes).prefixes
    return PrefixAdvertisement(identifier, options)


def test_a_solicitation_is_repeated_then_rests() -> None:
    mobile = terminal()
    mobile.bound(0.0)
    times = []
    for _ in range(5):
        now = mobile.timer
        assert now is not None
        mobile.handle_timer(now)
        times.append(now)
    assert times == [3.0, 9.0, 21.0, 45.0, 93.0]
    assert mobile.timer is None or mobile.timer >= 93.0 + 60.0


def test_an_advertisement_that_was_not_asked_for_is_not_believed_and_a_flood_asks_seldom() -> None:
    mobile = terminal()
    request = solicited(mobile.bound(0.0))
    mobile.receive(says(request.identifier, (OLD, 3600, 7200)), 0.1)
    forged = says(request.identifier, (OLD, 0, 0), (NEW, 3600, 7200))
    asked = 0
    for n in range(1000):
        outputs = mobile.receive(forged if n == 0 else says(n ^ 0x8000), 10.0 + n / 1000)
        asked += sum(isinstance(each, SolicitPrefixes) for each in outputs)
        assert not any(isinstance(each, HomeNetworkPrefixes | HomeNetworkRenumbered) for each in outputs)
    assert asked == 1
    assert mobile.snapshot(20.0)["renumbered"] is False


def test_the_home_agent_is_asked_again_before_a_lifetime_ends() -> None:
    mobile = terminal()
    mobile.receive(says(solicited(mobile.bound(0.0)).identifier, (OLD, 1000, 2000)), 0.0)
    assert mobile.timer == 800.0
    again = solicited(mobile.handle_timer(800.0))
    assert mobile.receive(says(again.identifier, (OLD, 1000, 2000)), 800.0) == []
    assert mobile.timer == 1600.0


def test_a_prefix_that_ends_unheard_is_told_once() -> None:
    mobile = terminal()
    mobile.receive(says(solicited(mobile.bound(0.0)).identifier, (OLD, 100, 200)), 0.0)
    told: list[Output] = []
    while (now := mobile.timer) is not None and now < 3000:
        told += [each for each in mobile.handle_timer(now) if isinstance(each, HomeNetworkRenumbered)]
    assert [(each.home_address, each.instead) for each in told if isinstance(each, HomeNetworkRenumbered)] == [
        (HOME, None)
    ]


def test_without_end_nothing_is_asked_again_and_at_home_nothing_at_all() -> None:
    mobile = terminal()
    request = solicited(mobile.bound(0.0))
    mobile.receive(says(request.identifier, (OLD, ndisc.INFINITE, ndisc.INFINITE)), 0.0)
    assert mobile.timer is None
    assert mobile.bound(1.0) == []
    mobile.unbound(1.0)
    assert mobile.bound(5.0) == []  # a handover
    mobile.unbound(5.0)
    assert solicited(mobile.bound(70.0))
    mobile.unbound(70.0)
    assert mobile.timer is None
    assert HomePrefixChanged(OLD, inf, inf).describe()["event"] == "HomePrefixChanged"
