"""The scenario policy table changed on a running terminal, in simulated time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.commands.view import overview, scenarios
from mobility.extensions import Guarded
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.registration import Bound
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.outputs import Output
from mobility.scenario.no_translation import set_tunnel
from mobility.scenario.policy import NoScenario
from mobility.scenario.situation import Situation, Tunnels
from mobility.terminal import Terminal
from mobility.translation.translation import VirtualAddressSet

from .optimized import Optimized
from .test_translating import Call, call
from .whole import CN, Network


def bound(network: Network) -> Network:
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    assert has_tunnel(network)
    return network


def has_tunnel(network: Network) -> bool:
    return network.terminal.forwarding.tunnel is not None


def order(network: Network, name: str) -> None:
    """What a user says on the control socket; its effect comes with the next acknowledgement."""
    network.world.stations["mn"].carry_out(network.terminal.command(name, network.world.now))


def said(network: Network) -> list[str]:
    return [event.why for _, event in network.world.stations["mn"].events_of(NoScenario)]


WHY = (
    "no enabled scenario for an acknowledgement of the home agent under IPsec: 10020 (no translation (IPsec)) would"
    " fit but is disabled; enable it with `mobility scenario enable 10020`"
)


@pytest.mark.parametrize("form", list(TunnelForm))
def test_the_tunnel_goes_with_its_row_and_comes_back_with_it(form: TunnelForm) -> None:
    network = bound(Network(form))
    terminal = network.terminal
    order(network, "scenario disable 10020")
    assert has_tunnel(network)  # until the home agent has answered
    network.run(0.5)
    assert not has_tunnel(network)
    assert said(network) == [WHY]
    assert network.discards("mn")["scenario-disabled"] == 1
    assert terminal.mobile_node.registration.bound
    status = {"node": terminal.snapshot(network.world.now)}
    assert "scenario   none: no enabled scenario for an" in "\n".join(overview(status))
    assert "enable 10020" in " ".join(scenarios(status)[-1:])
    network.talk(0.2)
    network.run(2)
    assert network.to_cn.received == network.to_mn.received == {}
    assert network.discards("mn")["scenario-disabled"] == 11

    order(network, "scenario enable 10020")
    network.run(0.5)
    network.talk(0.5)
    network.run(2)
    assert has_tunnel(network)
    assert len(network.to_cn.received) == len(network.to_mn.received) == 25
    status = {"node": terminal.snapshot(network.world.now)}
    assert "scenario   10020 no translation (IPsec)" in overview(status)
    assert said(network) == [WHY]


def test_a_row_that_is_not_in_use_changes_nothing_for_a_call() -> None:
    network = bound(Network())
    network.talk(2)
    network.run(0.5)
    order(network, "scenario disable 10001")
    network.run(0.5)
    order(network, "scenario enable 10001")
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []
    assert len(network.world.stations["mn"].events_of(Bound)) == 3
    assert said(network) == []


def test_a_move_does_not_bring_the_tunnel_of_a_disabled_row_back() -> None:
    network = bound(Network())
    order(network, "scenario disable 10020")
    network.run(0.5)
    network.plug(network.b, "wlan1")
    order(network, "move wlan1")
    network.run(3)
    network.move(network.office)
    network.run(3)
    assert network.terminal.mobile_node.registration.bound
    assert not network.terminal.forwarding.ready
    assert set(said(network)) == {WHY}
    network.move(network.home)
    network.run(2)
    order(network, "return-home")
    network.run(2)
    network.talk(0.5)
    network.run(1)
    assert len(network.to_cn.received) == len(network.to_mn.received) == 25  # at home there is nothing to decide
    assert network.terminal.snapshot(network.world.now)["no_scenario"] is None


def test_direct_ways_end_at_once_with_their_row() -> None:
    network = Optimized()
    network.start()
    network.talk(3)
    network.run(0.5)
    assert network.is_direct()
    order(network, "scenario disable 10021")
    assert not [row for row in network.terminal.scenarios.snapshot() if row["number"] == 10021 and row["in_use"]]
    network.run(0.2)
    network.forget()
    network.run(0.3)
    assert not network.is_direct()
    network.run(1)
    assert said(network) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scenario enable 10777", "there is no scenario 10777; choose one of 10000, 10001"),
        ("scenario disable all", "'all' is no number of a scenario; `mobility scenario list` shows them"),
        ("scenario enable", "there is no command"),
        ("scenario forget 10020", "scenario enable NUMBER, scenario disable NUMBER"),
    ],
)
def test_mistakes_change_nothing(name: str, why: str) -> None:
    network = bound(Network())
    before = network.terminal.scenarios.snapshot()
    with pytest.raises(ValueError, match=why):
        network.terminal.command(name, network.world.now)
    network.run(1)
    assert network.terminal.scenarios.snapshot() == before
    assert len(network.world.stations["mn"].events_of(Bound)) == 1


def translates(made: Call) -> bool:
    return made.terminal.translation.active


def test_translation_at_home_follows_the_table_without_an_acknowledgement() -> None:
    made: Call = call()
    network = made.network
    network.plug(network.a)
    made.run(2)
    network.move(network.home)
    made.run(2)
    assert network.terminal.forwarding.at_home
    assert translates(made)
    station = network.world.stations["mn"]
    for number in (10000, 10010):
        station.carry_out(made.terminal.command(f"scenario disable {number}", network.world.now))
    assert not translates(made)
    station.carry_out(made.terminal.command("scenario enable 10010", network.world.now))
    station.carry_out(made.terminal.command("scenario enable 10000", network.world.now))
    assert translates(made)
    assert len(station.events_of(VirtualAddressSet)) == 2
    made.speak()
    made.run(0.5)
    assert made.at_correspondent == made.at_program == [0]


class Undecided:
    """Of a third party: it can do nothing with an acceptance."""

    number = 9001
    substance = "undecided"

    def applies(self, situation: Situation) -> bool:
        return True

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        raise OSError("no such thing")


class OnlyFrom:
    """Of a third party: in some places only."""

    number = 9000
    substance = "only from one place"

    def __init__(self, place: IPv6Address) -> None:
        self.place = place

    def applies(self, situation: Situation) -> bool:
        return situation.care_of_address == self.place

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        return set_tunnel(situation, tunnels)


ONLY = OnlyFrom(CN)


class Extended(Network):
    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        plain = super()._terminal(home_address, mac, application, associations)
        settings = replace(plain.settings, more_scenarios=(ONLY, Guarded(Undecided(), "a package")))
        return Terminal(settings, application, associations, self.world.random_bytes(str(home_address)))


def test_a_scenario_of_a_third_party_that_fails_means_no_tunnel() -> None:
    network = Extended()
    network.terminal.scenarios.enable(9001, False)
    bound(network)
    order(network, "scenario enable 9001")
    network.run(0.5)
    assert not has_tunnel(network)
    assert said(network) == ["a package: OSError: no such thing"]
    assert network.discards("mn")["scenario-failed"] == 1
    order(network, "scenario disable 9001")
    network.run(0.5)
    assert has_tunnel(network)


def test_a_scenario_of_a_third_party_is_a_row_like_others() -> None:
    network = Extended()
    network.terminal.scenarios.enable(9001, False)
    bound(network)
    policy = network.terminal.scenarios
    assert policy.present == 10020  # it does not apply in this place
    present = network.terminal.mobile_node.present
    assert present is not None
    ONLY.place = present.address
    order(network, "reregister")
    network.run(0.5)
    assert policy.present == 9000
    network.talk(0.5)
    network.run(1)
    assert network.to_cn.lost() == network.to_mn.lost() == []
    order(network, "scenario disable 9000")
    network.run(0.5)
    assert policy.present == 10020
