"""Scenario policy management table 220 and the scenarios in it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from mobility.discards import Discard, Reason
from mobility.mipv6.binding_update_list import ListEntry
from mobility.outputs import Output
from mobility.scenario.no_translation import NoTranslation
from mobility.scenario.policy import SCENARIOS, ScenarioPolicy
from mobility.scenario.route_optimization import binding_error
from mobility.scenario.situation import HandedOn, Situation, Tunnels
from mobility.wire import mh

HA = IPv6Address("2001:db8:1::a")
COA = IPv6Address("2001:db8:a::1")
MN = IPv6Address("2001:db8:1::100")
CN = IPv6Address("2001:db8:c::c")


class Recorder:
    def __init__(self) -> None:
        self.tunnels: list[tuple[IPv6Address, IPv6Address]] = []
        self.routes: dict[IPv6Address, IPv6Address] = {}
        self.regional: dict[IPv6Address, tuple[IPv6Address, IPv6Address]] = {}

    def set_tunnel(self, home_agent: IPv6Address, care_of_address: IPv6Address) -> None:
        self.tunnels.append((home_agent, care_of_address))

    def set_route(self, entry: ListEntry) -> None:
        self.routes[entry.destination] = entry.care_of_address

    def clear_route(self, correspondent: IPv6Address) -> None:
        self.routes.pop(correspondent, None)

    def set_regional(self, anchor: IPv6Address, rcoa: IPv6Address, lcoa: IPv6Address) -> bool:
        before, self.regional[anchor] = self.regional.get(anchor), (rcoa, lcoa)
        return before is None or before[0] != rcoa


def situation(*, status: int = 0, from_home_agent: bool = True, under_ipsec: bool = True) -> Situation:
    acknowledgement = mh.BindingAcknowledgement(status, 1, 400, mh.AckFlag(0))
    return Situation(acknowledgement, HA, COA, MN, from_home_agent, under_ipsec)


@pytest.mark.parametrize(
    ("from_home_agent", "under_ipsec", "enabled", "number"),
    [
        (True, True, None, 10020),
        (True, False, None, 10001),
        (True, True, {10001}, None),
        (True, False, {10020}, None),
        (True, True, set(), None),
        (False, False, None, 10021),
        (False, False, {10011, 10001, 10020}, None),
        (False, False, {10001, 10020}, None),
    ],
)
def test_choice(from_home_agent: bool, under_ipsec: bool, enabled: set[int] | None, number: int | None) -> None:
    policy = ScenarioPolicy(enabled=enabled)
    given = situation(from_home_agent=from_home_agent, under_ipsec=under_ipsec)
    if number is None:
        with pytest.raises(Discard) as caught:
            policy.choose(given)
        assert caught.value.reason is Reason.SCENARIO_DISABLED
    else:
        assert policy.choose(given) == HandedOn(number, given)


@pytest.mark.parametrize("number", [10001, 10020])
def test_acceptance_sets_the_tunnel_and_refusal_does_not(number: int) -> None:
    policy, recorder = ScenarioPolicy(), Recorder()
    for status in (128, 129, 255):
        with pytest.raises(Discard) as caught:
            policy.process(HandedOn(number, situation(status=status)), recorder)
        assert caught.value.reason is Reason.BINDING_REFUSED
    assert recorder.tunnels == []
    assert policy.present is None
    policy.process(HandedOn(number, situation(status=1)), recorder)
    assert recorder.tunnels == [(HA, COA)]
    assert policy.present == number


def test_choice_is_made_anew() -> None:
    policy = ScenarioPolicy()
    assert policy.choose(situation()).number == 10020
    policy.enable(10020, False)
    with pytest.raises(Discard):
        policy.choose(situation())
    policy.enable(10020, True)
    assert policy.choose(situation()).number == 10020


def test_new_scenario_needs_nothing_but_a_row() -> None:
    class Another:
        number = 10099
        substance = "acknowledged by a correspondent"

        def applies(self, situation: Situation) -> bool:
            return not situation.from_home_agent

        def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
            return []

    policy = ScenarioPolicy((*SCENARIOS, Another()), enabled={10020, 10099})
    handed_on = policy.choose(replace(situation(), from_home_agent=False))
    assert handed_on.number == 10099
    policy.process(handed_on, Recorder())
    assert [row["number"] for row in policy.snapshot() if row["in_use"]] == [10099]
    policy.process(policy.choose(situation()), Recorder())
    assert [row["number"] for row in policy.snapshot() if row["in_use"]] == [10020, 10099]


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="10001 is registered twice"):
        ScenarioPolicy((NoTranslation(), NoTranslation()))
    with pytest.raises(ValueError, match="no scenario 10777; choose one of 10000, 10001"):
        ScenarioPolicy(enabled={10777})
    with pytest.raises(ValueError, match="no scenario 1;"):
        ScenarioPolicy().enable(1, True)


def test_table_for_people() -> None:
    rows = {row["number"]: row for row in ScenarioPolicy(enabled={10020}).snapshot()}
    assert rows[10001] == {
        "number": 10001, "substance": "no translation, no IPsec", "status": "disabled", "in_use": False,
    }  # fmt: skip
    assert rows[10020] == {
        "number": 10020, "substance": "no translation (IPsec)", "status": "enabled", "in_use": False,
    }  # fmt: skip
    assert {10011, 10021} <= rows.keys()


@pytest.mark.parametrize(("number", "translated"), [(10011, True), (10021, False)])
def test_correspondents_acknowledgement_sets_a_route(number: int, translated: bool) -> None:
    policy, recorder = ScenarioPolicy(enabled={10011, 10020, 10021}), Recorder()
    policy.process(policy.choose(situation()), recorder)
    entry = ListEntry(CN, MN, COA, 420, 420.0, 1, "bound", home_registration=False)
    given = replace(situation(from_home_agent=False, under_ipsec=False), translated=translated, acknowledger=CN)
    assert policy.choose(given).number == number
    for refused in (given, replace(given, route=entry, acknowledgement=mh.BindingAcknowledgement(129, 1, 0))):
        with pytest.raises(Discard) as caught:
            policy.process(policy.choose(refused), recorder)
        assert caught.value.reason is Reason.BINDING_REFUSED
    assert recorder.routes == {}
    policy.process(policy.choose(replace(given, route=entry)), recorder)
    assert recorder.routes == {CN: COA}
    assert (policy.present, policy.of_correspondents) == (10020, number)
    binding_error(CN, recorder)
    assert recorder.routes == {}
    policy.enable(number, False)
    assert not policy.fits(given)
