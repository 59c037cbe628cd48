"""Negotiated keys of terminals with several home addresses, or whose home agent is found: one IKE SA for each."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.agent import HomeAgentNode
from mobility.commands.view import negotiated
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import ChildUp, IkeFailed, IkeUp, PeerForgot, PeerMoved
from mobility.ipsec.ike.tasks import DeleteIke
from mobility.key_source import KeySource
from mobility.links import udp_link
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import associations, no_keys
from mobility.outputs import Discarded
from mobility.residence import Home
from mobility.wire import udp
from tests.mobility.test_homes import HA2, HA_NEW, MN_NEW, NEW, World
from tests.mobility.whole import HA, HA4, MN, MN2

SECRET, SECRET2 = SharedKey(bytes(range(32))), SharedKey(bytes(range(1, 33)))
KEYS, KEYS2 = KeySource(SECRET, SECRET), KeySource(SECRET2, SECRET2)
BOTH = {MN: KEYS, MN2: KEYS2, MN_NEW: KEYS}


def agreed(network: World) -> list[str]:
    """With whom, in their order."""
    return [event.peer for _, event in network.world.stations["mn"].events_of(IkeUp)]


def restart(network: World, agent: IPv6Address) -> None:
    """Its keys and bindings are lost."""
    settings = network.agents[agent].settings
    dice = network.world.random_bytes("again")
    anew = tuple(
        replace(each, associations=associations(each.form, KEYS.algorithm, dice))
        for each in settings.home_agent.terminals
    )
    settings = replace(settings, home_agent=replace(settings.home_agent, terminals=anew))
    if str(agent) in network.world.stations:
        network.fail(agent)
    again = network.agents[agent] = HomeAgentNode(settings, network.world.random_bytes("again"))
    network.world.add(str(agent), again)
    network.world.attach(str(agent), "home0", network.home, settings.link.link_address)


@pytest.mark.parametrize("form", TunnelForm)
def test_two_home_addresses_have_keys_each(form: TunnelForm) -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), form=form, negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    assert network.bound() == {(MN, HA), (MN2, HA)}
    network.move(network.b, gap=0.2)
    network.run(4.0)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    assert agreed(network) == [str(HA), str(HA)]
    agent = network.world.stations[str(HA)]
    assert {event.peer for _, event in agent.events_of(IkeUp)} == {str(MN), str(MN2)}
    assert {event.peer for _, event in agent.events_of(PeerMoved)} == {str(MN), str(MN2)}
    shown = "\n".join(negotiated({"node": network.homes.snapshot(network.world.now)}))
    assert shown.count("IKE with") == len(network.homes.negotiations()) == 2


def test_keys_are_renewed_by_either_end() -> None:
    """What the home agent asks finds its IKE SA among those of all home addresses."""
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    mn, agent = network.world.stations["mn"], network.world.stations[str(HA)]
    mn.carry_out(network.homes.command("rekey", network.world.now))
    network.run(1.0)
    assert len(mn.events_of(ChildUp)) == 8
    keys = network.agents[HA].keys
    for peer in (str(MN), str(MN2)):
        agent.carry_out(keys._carry_out(keys.ike.rekey(peer, network.world.now, children=True), network.world.now))
    network.run(1.0)
    assert len(mn.events_of(ChildUp)) == 12
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


def test_an_end_of_the_second_home_address_is_not_one_of_the_first() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    agent = network.agents[HA]
    theirs = next(sa for sa in agent.keys.ike.secrets() if sa.peer_name == str(MN2))
    theirs.enqueue(DeleteIke("no reason"), network.world.now)
    network.world.stations[str(HA)].carry_out(agent.handle_timer(network.world.now))
    network.run(5.0)
    assert agreed(network) == [str(HA)] * 3
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


def test_through_udp() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    network.world.attach_udp(str(HA), f"udp/{HA4}", network.internet, HA4, 4191)
    network.join(network.hotspot)
    network.run(4.0)
    assert network.bound() == {(MN, HA), (MN2, HA)}
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    network.plug(network.a)
    network.run(3.0)
    network.part(network.hotspot)
    network.run(3.0)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    assert agreed(network) == [str(HA), str(HA)]


def test_only_one_of_two_negotiates() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated={MN2: KEYS2})
    network.plug(network.a)
    network.run(4.0)
    assert agreed(network) == [str(HA)]
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    network.homes.command("rekey", network.world.now)
    with pytest.raises(ValueError, match="there is no command"):
        World(Home(MN, agent=HA)).homes.command("rekey", 0.0)


def test_at_home_and_abroad_again() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    network.move(network.home)
    network.run(6.0)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    network.move(network.b)
    network.run(6.0)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    assert agreed(network) == [str(HA), str(HA)]


@pytest.mark.parametrize("udp_only", [False, True])
def test_a_home_agent_that_was_restarted(udp_only: bool) -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    if udp_only:
        network.world.attach_udp(str(HA), f"udp/{HA4}", network.internet, HA4, 4191)
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(4.0)
    restart(network, HA)
    if udp_only:
        network.world.attach_udp(str(HA), f"udp/{HA4}", network.internet, HA4, 4191)
    network.speak(5.0)
    network.run(6.0)
    mn = network.world.stations["mn"]
    assert mn.events_of(PeerForgot)
    assert len(agreed(network)) >= 3  # the one that spoke noticed at once, and perhaps the other one, too
    assert network.exchange(MN) == (1, 1)
    network.run(400.0)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


def test_a_home_agent_that_is_found_and_another_one_when_it_dies() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    assert network.bound() == {(MN, HA2)}
    assert network.exchange(MN) == (1, 1)
    network.fail(HA2)
    network.speak(19.0)
    network.run(20.0)
    assert network.chosen() == [(MN, HA2), (MN, HA)]
    assert agreed(network) == [str(HA2), str(HA)]
    assert network.exchange(MN) == (1, 1)
    restart(network, HA2)
    network.run(2.0)
    network.fail(HA)
    network.speak(39.0)
    network.run(40.0)
    assert network.bound() == {(MN, HA2)}
    assert network.exchange(MN) == (1, 1)
    assert agreed(network)[-1] == str(HA2)


def test_one_that_is_found_and_does_not_know_us_is_passed_over() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)), negotiated=BOTH)
    settings = network.agents[HA2].settings.home_agent.terminals
    network.agents[HA2].reconfigure([replace(each, keys=KEYS2) for each in settings], network.world.now)
    network.plug(network.a)
    network.run(3.0)
    assert network.chosen() == [(MN, HA2), (MN, HA)]
    assert network.bound() == {(MN, HA)}
    (failed,) = [event for _, event in network.world.stations["mn"].events_of(IkeFailed)]
    assert "AUTHENTICATION_FAILED" in failed.reason
    assert network.exchange(MN) == (1, 1)


def test_a_home_network_that_is_renumbered_is_followed() -> None:
    network = World(Home(MN), agents=((HA, 0), (HA_NEW, 0)), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    network.renumber(valid=7300)
    network.run(20.0)
    assert network.bound() == {(MN, HA), (MN_NEW, HA_NEW)}
    assert agreed(network) == [str(HA), str(HA_NEW)]
    network.edge.advertised = ()
    network.run(600.0)
    network.move(network.b, gap=0.1)
    network.run(5.0)
    for home in (MN, MN_NEW):
        assert network.exchange(home) == (1, 1)
    network.run(7000.0)
    assert network.bound() == {(MN_NEW, HA_NEW)}
    assert network.exchange(MN_NEW) == (1, 1)


def test_who_only_says_that_the_keys_are_gone_costs_a_question_each() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), negotiated=BOTH)
    network.plug(network.a)
    network.run(4.0)
    present = network.terminals()[0].mobile_node.present
    assert present is not None
    forged = no_keys(network.world.random_bytes("somebody"))
    packet = udp.packet(HA.packed + present.address.packed, (500, 500), forged)
    mn = network.world.stations["mn"]
    for _ in range(20):
        mn.carry_out(network.homes.from_link("wlan0", packet, bytes(6), network.world.now))
        network.run(0.01)
    network.run(1.0)
    assert len(agreed(network)) == 2
    assert not mn.events_of(PeerForgot)
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


@pytest.mark.parametrize("dead", [True, False])
def test_a_spare_address_stands_in_where_no_keys_can_be_agreed_on(dead: bool) -> None:
    spare = NEW[0x777]
    network = World(
        Home(MN, agent=HA),
        Home(spare, agent=HA_NEW, spare=True),
        agents=((HA, 0), (HA_NEW, 0)),
        serves=(MN, spare),
        negotiated={MN: KEYS, spare: KEYS2},
    )
    network.renumber()
    if dead:
        network.fail(HA)
    else:
        known = network.agents[HA].settings.home_agent.terminals
        network.agents[HA].reconfigure([replace(each, keys=KEYS2) for each in known], network.world.now)
    network.plug(network.a)
    network.run(20.0)
    assert network.bound() == {(spare, HA_NEW)}
    assert network.exchange(spare) == (1, 1)


def test_another_home_agent_as_long_as_one_does_not_answer_at_all() -> None:
    """Discovery names one that is not there any more: nothing has ever been agreed with it."""
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)), negotiated=BOTH)
    network.fail(HA2)
    network.plug(network.a)
    network.run(15.0)
    assert network.chosen() == [(MN, HA2), (MN, HA)]
    assert network.bound() == {(MN, HA)}


def test_who_negotiates_nothing_counts_what_is_said_of_keys() -> None:
    network = World(Home(MN, agent=HA))
    network.world.attach_udp(str(HA), f"udp/{HA4}", network.internet, HA4, 4191)
    network.plug(network.a)
    network.join(network.hotspot)
    network.run(4.0)
    (terminal,) = network.terminals()
    present, there = terminal.mobile_node.present, terminal.uplinks.endpoint_of(udp_link("wlan1", 4))
    assert present is not None
    forged = no_keys(network.world.random_bytes("somebody"))
    native = udp.packet(HA.packed + present.address.packed, (500, 500), forged)
    for outputs in (
        network.homes.from_link("wlan0", native, bytes(6), network.world.now),
        network.homes.from_link(udp_link("wlan1", 4), bytes(4) + forged, there or b"", network.world.now),
    ):
        assert [type(output) for output in outputs] == [Discarded]
