"""The list of home agents, and asking for it: in simulated time, with forgers and floods."""

from __future__ import annotations

import random
from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.discards import Discard, Reason
from mobility.mipv6 import agent_discovery, home_agents_list
from mobility.mipv6.agent_discovery import AgentDiscovery, AskForHomeAgents, HomeAgentsFound, HomeAgentsNotFound
from mobility.mipv6.home_agents_list import HomeAgentGone, HomeAgentHeard, HomeAgentsList, anycast
from mobility.outputs import Discarded
from mobility.wire import ndisc
from mobility.wire.mobile_icmp import AGENTS_LIMIT, HomeAgentsReply, HomeAgentsRequest

PREFIX = IPv6Network("2001:db8:1::/64")
OWN, SECOND, THIRD = (IPv6Address(f"2001:db8:1::{n}") for n in (1, 2, 3))
COA, COA2 = IPv6Address("2001:db8:a::1"), IPv6Address("2001:db8:b::1")
LL2, LL3 = IPv6Address("fe80::2"), IPv6Address("fe80::3")


def agents_list(preference: int = 0, seed: int = 1) -> HomeAgentsList:
    return HomeAgentsList(OWN, PREFIX, random.Random(seed).randbytes, preference)


def advertisement(
    address: IPv6Address = SECOND,
    *,
    preference: int | None = None,
    lifetime: int = 600,
    home_agent: bool = True,
    router_address: bool = True,
) -> ndisc.RouterAdvertisement:
    options: list[ndisc.Option] = [ndisc.PrefixInformation(address, 64, 900, 900, router_address=router_address)]
    if preference is not None:
        options.append(ndisc.HomeAgentInformation(preference & 0xFFFF, lifetime))
    return ndisc.RouterAdvertisement(1800, home_agent=home_agent, options=tuple(options))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("2001:db8:1::/64", "2001:db8:1::fdff:ffff:ffff:fffe"),
        ("2001:db8::/48", "2001:db8:0:ffff:ffff:ffff:ffff:fffe"),
        ("2001:db8::/120", "2001:db8::fe"),
    ],
)
def test_anycast_address_of_home_agents(prefix: str, expected: str) -> None:
    assert anycast(IPv6Network(prefix)) == IPv6Address(expected)


def test_a_prefix_without_room_for_anycast_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 120"):
        anycast(IPv6Network("2001:db8::/121"))


# ---------------------------------------------------------------- the list


def test_preferred_agents_come_first() -> None:
    agents = agents_list(preference=5)
    assert agents.heard(LL2, advertisement(preference=9), 0.0) == [HomeAgentHeard(SECOND, 9)]
    assert agents.heard(LL3, advertisement(THIRD, preference=-1), 0.0) == [HomeAgentHeard(THIRD, -1)]
    assert agents.in_order(1.0) == (SECOND, OWN, THIRD)
    assert agents.heard(LL2, advertisement(preference=9), 1.0) == []
    assert agents.heard(LL2, advertisement(preference=1), 2.0) == [HomeAgentHeard(SECOND, 1)]
    assert agents.in_order(3.0) == (OWN, SECOND, THIRD)
    assert [row["own"] for row in agents.snapshot(3.0)] == [True, False, False]


def test_equal_agents_share_the_terminals() -> None:
    agents = agents_list()
    agents.heard(LL2, advertisement(), 0.0)
    first = [agents.in_order(1.0)[0] for _ in range(200)]
    assert 60 < first.count(OWN) < 140


def test_agents_expire_at_their_lifetime() -> None:
    agents = agents_list()
    agents.heard(LL2, advertisement(preference=1, lifetime=30), 0.0)
    agents.heard(LL3, advertisement(THIRD), 0.0)  # without the option: the router's lifetime
    assert agents.timer == 30.0
    assert agents.in_order(30.0)[-1] != SECOND
    assert agents.handle_timer(30.0) == [HomeAgentGone(SECOND)]
    assert agents.timer == 1800.0


@pytest.mark.parametrize("change", [{"home_agent": False}, {"preference": 0, "lifetime": 0}])
def test_an_agent_takes_its_word_back(change: dict[str, int]) -> None:
    agents = agents_list()
    agents.heard(LL2, advertisement(), 0.0)
    assert agents.heard(LL2, advertisement(**change), 1.0) == [HomeAgentGone(SECOND)]  # type: ignore[arg-type]
    assert (len(agents), agents.timer) == (0, None)


def test_an_advertisement_without_the_address_refreshes() -> None:
    agents = agents_list()
    agents.heard(LL2, advertisement(preference=1, lifetime=30), 0.0)
    assert agents.heard(LL2, advertisement(preference=1, lifetime=30, router_address=False), 20.0) == []
    assert agents.timer == 50.0


def test_addresses_of_elsewhere_and_our_own_are_not_believed() -> None:
    agents = agents_list()
    assert agents.heard(LL2, advertisement(IPv6Address("2001:db8:9::1")), 0.0) == []
    assert agents.heard(LL2, advertisement(OWN), 0.0) == []
    assert agents.heard(LL2, advertisement(router_address=False), 0.0) == []
    assert agents.in_order(0.0) == (OWN,)


def test_the_list_and_the_reply_are_bounded() -> None:
    agents = agents_list()
    for n in range(home_agents_list.LIMIT):
        options = tuple(ndisc.PrefixInformation(IPv6Address(int(SECOND) + 16 * n + m), 64, 9, 9, router_address=True)
                        for m in range(9))  # fmt: skip
        source = IPv6Address(int(LL2) + n)
        agents.heard(source, ndisc.RouterAdvertisement(1800, home_agent=True, options=options), 0.0)
    (refused,) = agents.heard(IPv6Address("fe80::ffff"), advertisement(IPv6Address("2001:db8:1::ffff")), 0.0)
    assert isinstance(refused, Discarded)
    assert refused.reason is Reason.TABLE_FULL
    assert len(agents) == home_agents_list.LIMIT
    assert len(agents.answer(HomeAgentsRequest(1), COA, 0.0).agents) == AGENTS_LIMIT


def test_a_flood_of_requests_is_answered_at_a_bounded_rate() -> None:
    agents, refused = agents_list(), []
    for n in range(1000):
        try:
            agents.answer(HomeAgentsRequest(n), COA, n / 1000)
        except Discard as discard:
            refused.append(discard.reason)
    assert set(refused) == {Reason.RATE_LIMITED}
    assert agents.requests == 1000 - len(refused) <= 2 * home_agents_list.REPLIES_PER_SECOND
    assert agents.answer(HomeAgentsRequest(7), COA, 5.0) == HomeAgentsReply(7, (OWN,))


@pytest.mark.parametrize("source", ["ff02::1", "::", "fe80::1", "::1"])
def test_nobody_answers_to_such_sources(source: str) -> None:
    with pytest.raises(Discard, match="source-invalid"):
        agents_list().answer(HomeAgentsRequest(1), IPv6Address(source), 0.0)


# ---------------------------------------------------------------- asking


def discovery() -> AgentDiscovery:
    return AgentDiscovery(PREFIX, random.Random(2).randbytes)


def asked(outputs: list[object]) -> AskForHomeAgents:
    (ask,) = outputs
    assert isinstance(ask, AskForHomeAgents)
    return ask


def test_the_home_link_is_asked_and_answers() -> None:
    terminal, agents = discovery(), agents_list()
    agents.heard(LL2, advertisement(preference=9), 0.0)
    ask = asked([*terminal.begin(COA, 0.0)])
    assert (ask.to, ask.care_of_address) == (anycast(PREFIX), COA)
    reply = agents.answer(ask.message, ask.care_of_address, 0.1)
    assert terminal.receive(reply, COA, 0.2) == [HomeAgentsFound((SECOND, OWN))]
    assert (terminal.agents, terminal.timer, terminal.asking) == ((SECOND, OWN), None, False)


def test_requests_are_repeated_ever_less_often_then_paused() -> None:
    terminal = discovery()
    terminal.begin(COA, 0.0)
    times, outputs = [0.0], []
    while (now := terminal.timer) is not None and len(times) < 6:
        outputs = terminal.handle_timer(now)
        times.append(now)
    assert times == [0.0, 3.0, 9.0, 21.0, 45.0, 93.0]
    assert outputs == [HomeAgentsNotFound(PREFIX)]
    assert terminal.timer == 93.0 + agent_discovery.PAUSE
    asked([*terminal.handle_timer(93.0 + agent_discovery.PAUSE)])
    assert terminal.timer == 93.0 + agent_discovery.PAUSE + 3.0


def test_forged_replies_change_nothing() -> None:
    terminal = discovery()
    with pytest.raises(Discard, match="not asked for"):
        terminal.receive(HomeAgentsReply(0, (SECOND,)), COA, 0.0)
    ask = asked([*terminal.begin(COA, 0.0)])
    identifier = ask.message.identifier
    for reply, to in (
        (HomeAgentsReply(identifier ^ 1, (SECOND,)), COA),
        (HomeAgentsReply(identifier, (SECOND,)), COA2),
        (HomeAgentsReply(identifier, ()), COA),
        (HomeAgentsReply(identifier, (IPv6Address("2001:db8:9::1"), anycast(PREFIX))), COA),
    ):
        with pytest.raises(Discard, match="message-unexpected"):
            terminal.receive(reply, to, 1.0)
        assert (terminal.agents, terminal.timer) == ((), 3.0)
    many = tuple(IPv6Address(int(OWN) + n) for n in range(100))
    terminal.receive(HomeAgentsReply(identifier, many * 2), COA, 1.0)
    assert terminal.agents == many[: agent_discovery.AGENTS_LIMIT]


def test_a_move_while_asking_asks_from_the_new_place() -> None:
    terminal = discovery()
    old = asked([*terminal.begin(COA, 0.0)])
    assert terminal.begin(COA, 1.0) == []
    new = asked([*terminal.begin(COA2, 1.0)])
    assert new.care_of_address == COA2
    with pytest.raises(Discard):
        terminal.receive(HomeAgentsReply(old.message.identifier, (OWN,)), COA, 1.1)
    assert terminal.receive(HomeAgentsReply(new.message.identifier, (OWN,)), COA2, 1.2) == [HomeAgentsFound((OWN,))]
    terminal.begin(COA, 2.0)
    terminal.stop()
    assert (terminal.timer, terminal.asking) == (None, False)


def test_after_the_last_agent_refused_the_link_is_asked_anew() -> None:
    terminal = discovery()
    ask = asked([*terminal.begin(COA, 0.0)])
    terminal.receive(HomeAgentsReply(ask.message.identifier, (SECOND, OWN)), COA, 0.1)
    terminal.refused(SECOND, 1.0)
    assert (terminal.agents, terminal.timer) == ((OWN,), None)
    terminal.refused(OWN, 2.0)
    assert terminal.timer == 5.0
    asked([*terminal.handle_timer(5.0)])
    assert terminal.snapshot(5.0)["asking"] is True
