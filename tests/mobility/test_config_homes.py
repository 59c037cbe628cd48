"""Home agents to be discovered and several home addresses: what files say, and the nodes made of them."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path

import pytest

from mobility.assembly import build
from mobility.config import parse
from mobility.homes import Homes
from mobility.ipsec.ike.authentication import SharedKey
from mobility.mipv6.home_agents_list import anycast
from mobility.sequences import SequenceFile
from mobility.settings import FurtherHome, Use, When
from mobility.terminal import Terminal
from tests.mobility.configurations import APPLICATION, HA, HA_PAIRS, MN, PAIRS, complaint, pair
from tests.mobility.test_assembly import interfaces, read, sequences  # noqa: F401

DISCOVER = MN.replace('"2001:db8:1::a"', '"discover"')
SECOND = '[[mobile_node.home]]\nhome_address = "2001:db8:2::100/64"\n'
OF_SECOND = 'home_address = "2001:db8:2::100"'
AGENT, AGENT2, ANY = IPv6Address("2001:db8:1::a"), IPv6Address("2001:db8:1::b"), anycast(
    IPv6Interface("2001:db8:1::/64").network
)  # fmt: skip
FIRST, OTHER = IPv6Address("2001:db8:1::100"), IPv6Address("2001:db8:2::100")


def test_one_pair_for_whichever_home_agent_is_found() -> None:
    made = parse(DISCOVER + PAIRS, Path("node.toml"))
    assert made.mobile_node is not None
    assert made.mobile_node.home_agent is None
    assert made.pair(Use.TUNNEL, ANY) is not None


def test_pairs_for_each_home_agent(sequences: SequenceFile) -> None:  # noqa: F811
    text = DISCOVER
    for number, agent in enumerate((AGENT, AGENT2)):
        text += pair("signalling", 0x1001 + 16 * number, f'peer = "{agent}"')
        text += pair("tunnel", 0x2001 + 16 * number, f'peer = "{agent}"')
    made = read(text)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    equipped = [node._equip(FIRST, agent) for agent in (AGENT, AGENT2, IPv6Address("2001:db8:1::c"))]
    assert equipped[2] is None
    assert [each.associations.tunnel_in.spi for each in equipped[:2] if each and each.associations.tunnel_in] == [
        0x2002,
        0x2012,
    ]
    half = text.replace(f'use = "tunnel"\npeer = "{AGENT2}"', 'use = "tunnel"\npeer = "2001:db8:1::c"')
    assert 'use = "tunnel" and peer = "2001:db8:1::b"' in complaint(half)


def test_several_home_addresses(sequences: SequenceFile) -> None:  # noqa: F811
    text = MN + SECOND + 'home_agent = "discover"\nwhen = "renumbered"\n' + PAIRS
    text += pair("signalling", 0x1101, OF_SECOND) + pair("tunnel", 0x2101, OF_SECOND) + APPLICATION
    made = read(text)
    assert made.mobile_node is not None
    assert made.mobile_node.further == (FurtherHome(IPv6Interface("2001:db8:2::100/64"), None, When.RENUMBERED),)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    first, other = node._equip(FIRST, AGENT), node._equip(OTHER, IPv6Address("2001:db8:2::a"))
    assert first is not None
    assert other is not None
    # What an association is used for twice is one association: its numbers are not used twice.
    assert node._equip(FIRST, AGENT) == first
    ours, theirs = (each.application.spd.policies[0].outbound_sa for each in (first, other))
    assert ours is theirs is not None
    assert [each.home.address for each in node.residences] == [FIRST]
    node.start(0.0)
    assert isinstance(node.residences[0].terminal, Terminal)


def test_without_keys_any_home_agent_will_do(sequences: SequenceFile) -> None:  # noqa: F811
    made = read(DISCOVER.replace("interfaces", 'signalling = "none"\ntunnel = "plain"\ninterfaces'))
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    assert node._equip(FIRST, AGENT2) is not None
    assert node._equip(OTHER, AGENT2) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DISCOVER, 'use = "signalling" and peer = "2001:db8:1:0:fdff:ffff:ffff:fffe" is missing'),
        (DISCOVER.replace("interfaces", 'access = "udp"\ninterfaces') + PAIRS, "native access only"),
        (DISCOVER + pair("signalling", 1001, 'peer = "2001:db8:7::1"'), "is no home agent of the home network"),
        (MN.replace("1::a", "1::100") + PAIRS, "mobile_node.home_agent: is the home address itself"),
        (MN + SECOND.replace("2::100", "1::100") + PAIRS, "2001:db8:1::100 is a home address already"),
        (MN + SECOND + PAIRS, f"{OF_SECOND} is missing"),
        (MN + PAIRS + pair("tunnel", 0x2101, 'home_address = "2001:db8:9::1"'), "has to be one of the home addresses"),
        (MN + SECOND + 'when = "sometimes"\n' + PAIRS, 'one of "always", "renumbered"'),
        (MN.replace('"2001:db8:1::a"', '"somewhere"') + PAIRS, 'or "discover"'),
        (MN.replace("/64", "/124").replace('"2001:db8:1::a"', '"discover"') + PAIRS, "too small a network"),
        (DISCOVER + PAIRS + "[translation]\n", "translation wants one home address"),
        (MN + APPLICATION.replace("peer", f"{OF_SECOND}\npeer") + PAIRS, "home_address"),
    ],
)
def test_what_does_not_go_together(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_a_home_agent_says_how_it_is_found() -> None:
    more = 'preference = -5\nadvertise = 30\nprefix_intervals = [5, 10]\ninterface = "eth0"'
    agent = read(HA.replace('interface = "eth0"', more) + HA_PAIRS).home_agent
    assert agent is not None
    assert (agent.preference, agent.advertise, agent.prefix_intervals) == (-5, 30.0, (5.0, 10.0))
    for wrong, expected in (
        ("preference = 40000", "-32768 to 32767"),
        ("advertise = 1", "4 to 1800"),
        ("prefix_intervals = [9, 5]", "the shorter one first"),
        ("prefix_intervals = [9]", "the shorter one first"),
    ):
        assert expected in complaint(HA.replace('interface = "eth0"', f'{wrong}\ninterface = "eth0"') + HA_PAIRS)


TOKEN, TOKEN2 = bytes(range(32)).hex(), bytes(range(1, 33)).hex()
IKE = f'[[ike]]\ntoken = "{TOKEN}"\n'
NEW_HOME, NEW_AGENT = IPv6Address("2001:db8:5::100"), IPv6Address("2001:db8:5::a")


def secret(node: Homes, home: IPv6Address, agent: IPv6Address) -> str | None:
    """The token for a home address and a home agent; None: no keys, or such that are written down."""
    equipped = node._equip(home, agent)
    if equipped is None or equipped.keys is None:
        return None
    assert isinstance(equipped.keys.proof, SharedKey)
    return equipped.keys.proof.secret.hex()


def test_a_token_for_whichever_home_agent_is_found(sequences: SequenceFile) -> None:  # noqa: F811
    made = read(DISCOVER + IKE)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    for home, agent in ((FIRST, AGENT), (FIRST, AGENT2), (NEW_HOME, NEW_AGENT)):
        assert secret(node, home, agent) == TOKEN
    again = [node._equip(FIRST, AGENT) for _ in range(2)]
    assert again[0] is not None
    assert again[1] is not None
    # Of another negotiation nothing goes on: numbers begin with its keys.
    assert again[0].associations.tunnel_out is not again[1].associations.tunnel_out
    assert again[0].keys is again[1].keys


def test_a_token_for_each_home_agent(sequences: SequenceFile) -> None:  # noqa: F811
    text = DISCOVER + IKE + f'peer = "{AGENT}"\n' + IKE.replace(TOKEN, TOKEN2) + f'peer = "{AGENT2}"\n'
    made = read(text)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    assert secret(node, FIRST, AGENT) == TOKEN
    assert secret(node, FIRST, AGENT2) == TOKEN2
    assert node._equip(FIRST, IPv6Address("2001:db8:1::c")) is None


def test_a_token_for_each_home_address(sequences: SequenceFile) -> None:  # noqa: F811
    text = MN + SECOND + 'home_agent = "2001:db8:2::a"\n' + IKE + IKE.replace(TOKEN, TOKEN2) + OF_SECOND
    made = read(text)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    assert secret(node, FIRST, AGENT) == TOKEN
    assert secret(node, OTHER, IPv6Address("2001:db8:2::a")) == TOKEN2


def test_a_token_for_one_and_keys_for_the_other(sequences: SequenceFile) -> None:  # noqa: F811
    made = read(MN + SECOND + PAIRS + IKE)
    node = build(made, interfaces(made), sequences)
    assert isinstance(node, Homes)
    assert secret(node, FIRST, AGENT) is None
    equipped = node._equip(FIRST, AGENT)
    assert equipped is not None
    assert equipped.associations.tunnel_out is not None
    assert secret(node, OTHER, AGENT) == TOKEN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DISCOVER + IKE + IKE, "an [[ike]] with whichever there is already"),
        (DISCOVER + IKE + 'peer = "2001:db8:7::1"', "there is no home agent with this address here"),
        (MN + SECOND + IKE + 'home_address = "2001:db8:9::1"', "has to be one of the home addresses 2001:db8:1::100"),
        (MN + SECOND + IKE + OF_SECOND, 'peer = "2001:db8:1::a" is missing'),
        (MN + SECOND + PAIRS + IKE + f'peer = "{AGENT}"\n', "come from IKE"),
        (DISCOVER.replace("interfaces", 'signalling = "ah"\ninterfaces') + IKE, 'signalling = "esp" only'),
    ],
)
def test_tokens_that_do_not_fit(text: str, expected: str) -> None:
    assert expected in complaint(text)
