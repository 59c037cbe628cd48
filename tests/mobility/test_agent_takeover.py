"""One home agent dies in mid call and another one, which was on standby, goes on with its bindings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobility.agent import HomeAgentNode
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import IkeUp
from mobility.key_source import KeySource
from mobility.mipv6.binding_events import BindingChanged, BindingCreated
from mobility.mipv6.registration import BindingRequested
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import associations
from tests.mobility.whole import HA, MN, Network

SECRET = SharedKey(bytes(range(32)))
KEYS = KeySource(SECRET, SECRET)
MAC2 = bytes.fromhex("02000000110b")


class TwoAgents(Network):
    """A network with a second home agent on the home link; it has the associations of the first."""

    def __init__(self, form: TunnelForm, keys: KeySource | None = None) -> None:
        super().__init__(form, keys=keys)
        settings = self.agent.settings
        if keys is not None:  # those that the first one has agreed on it has alone
            own = associations(form, keys.algorithm, self.world.random_bytes("its own"))
            terminals = tuple(replace(each, associations=own) for each in settings.home_agent.terminals)
            settings = replace(settings, home_agent=replace(settings.home_agent, terminals=terminals))
        self.second = HomeAgentNode(
            replace(settings, link=replace(settings.link, link_address=MAC2), standby=True),
            self.world.random_bytes("ha2"),
        )
        self.world.add("ha2", self.second)
        self.start_agent()
        self.world.attach("ha2", "home0", self.home, MAC2)
        self.plug(self.a)
        self.run(3)

    def take_over(self) -> None:
        """What the shared store does when the first one is silent."""
        station = self.world.stations["ha2"]
        records = self.agent.bindings(1000.0)
        station.carry_out(self.second.restore(records, 1000.0, self.world.now))
        station.carry_out(self.second.activate(self.world.now))


@pytest.mark.parametrize("form", list(TunnelForm))
def test_the_call_goes_on_and_the_terminal_notices_nothing(form: TunnelForm) -> None:
    network = TwoAgents(form)
    quiet = [frame for frame in network.home.frames if frame.source == MAC2 and HA.packed in frame.packet]
    assert quiet == []
    requests = len(network.world.stations["mn"].events_of(BindingRequested))
    network.talk(3)
    network.run(1)
    network.world.detach("ha", "home0")
    network.run(0.1)
    network.take_over()
    network.run(4)
    for traffic in (network.to_cn, network.to_mn):
        assert traffic.lost()
        assert len(traffic.lost()) <= 7  # the tenth of a second and what was on its way
        assert traffic.repeated == 0
    assert len(network.world.stations["mn"].events_of(BindingRequested)) == requests
    assert network.world.stations["ha2"].events_of(BindingChanged) == []


@pytest.mark.parametrize("form", list(TunnelForm))
def test_negotiated_keys_are_negotiated_anew_by_the_one_that_takes_over(form: TunnelForm) -> None:
    network = TwoAgents(form, KEYS)
    network.talk(5)
    network.run(1)
    network.world.detach("ha", "home0")
    network.run(0.1)
    network.take_over()
    began = network.world.now
    network.run(5)
    late = [network.to_cn.sent[number] for number in network.to_cn.lost()]
    late += [network.to_mn.sent[number] for number in network.to_mn.lost()]
    assert max(late) < began + 0.3
    assert len(network.world.stations["mn"].events_of(IkeUp)) == 2
    assert network.to_cn.repeated == network.to_mn.repeated == 0


def test_one_that_stands_back_has_no_keys_and_gets_them_when_it_serves_again() -> None:
    network = TwoAgents(TunnelForm.ESP, KEYS)
    network.take_over()
    station = network.world.stations["ha"]
    station.carry_out(network.agent.deactivate(network.world.now))
    network.run(6)  # what is not proven makes a terminal negotiate every five seconds at most
    assert network.agent.keys.ike.status() == []
    records = network.second.bindings(0.0)
    network.world.stations["ha2"].carry_out(network.second.deactivate(network.world.now))
    station.carry_out(network.agent.restore(records, 0.0, network.world.now))
    station.carry_out(network.agent.activate(network.world.now))
    network.run(3)
    network.talk(1)
    network.run(2)
    assert network.to_mn.lost() == network.to_cn.lost() == []
    assert len(network.world.stations["mn"].events_of(IkeUp)) == 3


def test_the_terminal_moves_after_the_takeover() -> None:
    network = TwoAgents(TunnelForm.ESP)
    network.world.detach("ha", "home0")
    network.take_over()
    network.run(1)
    network.talk(3)
    network.move(network.b)
    network.run(5)
    created = network.world.stations["ha2"].events_of(BindingCreated)
    assert len(created) == 1
    assert network.to_mn.lost() == network.to_cn.lost() == []


def test_the_first_one_comes_back_as_standby() -> None:
    network = TwoAgents(TunnelForm.ESP)
    network.take_over()
    station = network.world.stations["ha"]
    station.carry_out(network.agent.deactivate(network.world.now))
    network.talk(2)
    network.run(3)
    assert network.to_mn.lost() == network.to_cn.lost() == []
    assert network.agent.record(MN, 0.0) is None
    assert network.second.record(MN, 0.0) is not None
