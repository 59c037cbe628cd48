"""The home agent's node as terminals discover it: the anycast address, other home agents, strangers."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.discards import Reason
from mobility.mipv6.home_agents_list import HomeAgentGone, HomeAgentHeard, anycast
from mobility.mipv6.home_prefixes import HomePrefixChanged
from mobility.outputs import Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.mobile_icmp import HomeAgentsReply, HomeAgentsRequest
from tests.mobility.test_agent import COA, ROUTER_MAC, Node, reasons, sent
from tests.mobility.whole import HA, HOME

OTHER, OTHER_LOCAL = IPv6Address("2001:db8:1::b"), IPv6Address("fe80::b")
ANYCAST = anycast(HOME)


def request(identifier: int, source: IPv6Address = COA) -> bytes:
    return icmp6.packet(source, ANYCAST, HomeAgentsRequest(identifier))


def advertise(*options: ndisc.Option, home_agent: bool = True) -> bytes:
    message = ndisc.RouterAdvertisement(0, home_agent=home_agent, options=options)
    return ndisc.packet(OTHER_LOCAL, ndisc.ALL_NODES, message)


def other(preference: int, lifetime: int = 600) -> bytes:
    prefix = ndisc.PrefixInformation(OTHER, 64, 900, 900, router_address=True)
    return advertise(prefix, ndisc.HomeAgentInformation(preference, lifetime))


def answers(outputs: list[Output]) -> list[tuple[bytes, HomeAgentsReply]]:
    return [(p[8:40], HomeAgentsReply.parse(p[40:])) for p in sent(outputs) if p[6] == ip6.ICMPV6 and p[40] == 145]


def test_the_anycast_address_answers_with_the_list() -> None:
    home = Node()
    heard = home.arrives(other(7), 1.0)
    assert HomeAgentHeard(OTHER, 7) in heard
    assert answers(home.arrives(request(0xBEEF))) == [(HA.packed + COA.packed, HomeAgentsReply(0xBEEF, (OTHER, HA)))]
    assert HomeAgentGone(OTHER) in home.arrives(other(7, 0), 6.0)
    assert answers(home.arrives(request(2), 7.0))[0][1].agents == (HA,)
    assert HomeAgentHeard(OTHER, 1) in home.arrives(other(1, 10), 8.0)
    assert HomeAgentGone(OTHER) in home.node.handle_timer(18.0)


def test_an_own_preference_comes_first() -> None:
    home = Node(preference=8)
    home.arrives(other(7), 1.0)
    assert answers(home.arrives(request(1)))[0][1].agents == (HA, OTHER)


def test_standby_has_no_anycast_address_until_it_takes_over() -> None:
    home = Node(standby=True)
    assert answers(home.arrives(request(1), 1.0)) == []
    home.arrives(other(7), 1.0)
    home.node.activate(2.0)
    assert answers(home.arrives(request(2), 3.0))[0][1].agents == (OTHER, HA)
    home.node.deactivate(4.0)
    assert answers(home.arrives(request(3), 5.0)) == []


def test_nobody_is_shown_that_the_anycast_address_is_new_or_defended() -> None:
    home = Node()
    outputs = home.first + [each for now in range(1, 20) for each in home.node.handle_timer(float(now))]
    told = [packet[40] for packet in sent(outputs) if packet[6] == ip6.ICMPV6 and ANYCAST.packed in packet[48:]]
    assert told == []


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (ip6.packet(COA, ANYCAST, ip6.ICMPV6, request(1)[40:-1] + b"\1"), Reason.CHECKSUM_WRONG),
        (icmp6.packet(COA, ANYCAST, HomeAgentsReply(1)), Reason.MALFORMED),
        (icmp6.packet(COA, ANYCAST, icmp6.Unknown(144, 1, bytes(4))), Reason.MALFORMED),
        (request(1, IPv6Address("fe80::5")), Reason.SOURCE_INVALID),
        (ip6.packet(COA, ANYCAST, ip6.UDP, bytes(8)), Reason.MESSAGE_UNEXPECTED),
    ],
)
def test_what_strangers_send_to_the_anycast_address(packet: bytes, reason: Reason) -> None:
    home = Node()
    outputs = home.arrives(packet)
    assert (reasons(outputs), answers(outputs)) == ([reason], [])


def test_a_flood_of_requests_is_bounded_and_counted() -> None:
    home = Node()
    replies = sum(len(answers(home.arrives(request(n), 5.0))) for n in range(200))
    assert replies == 10
    assert home.node.counters["discarded-rate-limited"] == 190


def test_advertisements_that_came_through_a_router_are_not_heard() -> None:
    home = Node()
    packet = bytearray(other(7))
    packet[7] = 64
    assert reasons(home.arrives(bytes(packet))) == [Reason.NDISC_INVALID]
    assert home.arrives(other(7)[:45])
    assert home.node.watch.agents.in_order(6.0) == (HA,)


def test_a_renumbered_home_prefix_is_told_and_shown() -> None:
    home = Node()
    new = IPv6Network("2001:db8:2::/64")
    home.arrives(advertise(ndisc.PrefixInformation(HOME[0], 64, 86400, 3600), home_agent=False), 1.0)
    outputs = home.arrives(
        advertise(
            ndisc.PrefixInformation(HOME[0], 64, 86400, 0), ndisc.PrefixInformation(new[0], 64, 86400, 3600),
            home_agent=False,
        ), 2.0,
    )  # fmt: skip
    changed = [each for each in outputs if isinstance(each, HomePrefixChanged)]
    assert changed == [HomePrefixChanged(HOME, 0.0, 86400.0), HomePrefixChanged(new, 3600.0, 86400.0)]
    shown = home.node.snapshot(2.0)["home_link"]
    assert isinstance(shown, dict)
    assert [row["preferred_seconds"] for row in shown["prefixes"]] == [0.0, 3600.0]
    assert shown["anycast"] == str(ANYCAST)


def test_nothing_is_asked_on_a_link_that_the_agent_does_not_have() -> None:
    home = Node()
    assert reasons(home.node.from_link("other0", other(7), ROUTER_MAC, 1.0)) == [Reason.NO_SUCH_LINK]
    assert len(home.node.watch.agents) == 0


def told(outputs: list[Output]) -> list[ndisc.RouterAdvertisement]:
    """Router advertisements of this home agent."""
    found = [ndisc.parse(packet) for packet in sent(outputs) if packet[6] == ip6.ICMPV6 and packet[40] == 134]
    return [message for message in found if isinstance(message, ndisc.RouterAdvertisement)]


def test_a_home_agent_tells_the_others_and_takes_leave() -> None:
    home = Node(preference=-3)
    (message,) = told(home.first)
    (prefix,) = message.prefixes
    assert (message.home_agent, message.router_lifetime) == (True, 0)
    assert (prefix.prefix, prefix.router_address, prefix.on_link, prefix.autonomous) == (HA, True, False, False)
    assert ndisc.HomeAgentInformation(0xFFFD, 180) in message.options
    listening = Node()
    (packet,) = [each for each in sent(home.first) if each[6] == ip6.ICMPV6 and each[40] == 134]
    listening.arrives(packet.replace(HA.packed, OTHER.packed))  # the checksum is wrong: nobody is heard
    assert len(listening.node.watch.agents) == 0
    (goodbye, *_) = told(home.node.deactivate(9.0))
    assert not goodbye.home_agent
    assert told(home.node.activate(10.0))[0].home_agent
    assert told(Node(advertise=0.0).first) == []
