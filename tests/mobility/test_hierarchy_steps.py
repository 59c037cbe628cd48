"""Routine 60 for acknowledgements of MAPs (Fig. 30), and what is said in their mobility options."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.hmipv6.options import again_in, again_option, registration_in, registration_option
from mobility.hmipv6.regional_events import RegionalRegistration
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import Situation
from mobility.wire import mh
from mobility.wire.map_option import RegistrationType
from tests.mobility.test_scenario import Recorder

MAP = IPv6Address("2001:db8:9::9")
RCOA = IPv6Address("2001:db8:9::1:1")
LCOA = IPv6Address("2001:db8:a::1")


def situation(kind: int = 1, *, status: int = 0, rcoa: IPv6Address = RCOA, lcoa: IPv6Address = LCOA) -> Situation:
    acknowledgement = mh.BindingAcknowledgement(status, 1, 60)
    return Situation(acknowledgement, MAP, lcoa, rcoa, False, True, registration=RegistrationType(kind))


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_the_acknowledgement_is_handed_on_with_its_type(kind: int) -> None:
    policy, tunnels = ScenarioPolicy(), Recorder()
    handed_on = policy.choose(situation(kind))
    assert handed_on.number == 10030 + kind
    (output,) = policy.process(handed_on, tunnels)
    assert isinstance(output, RegionalRegistration)
    assert (output.anchor, output.rcoa, output.lcoa) == (MAP, RCOA, LCOA)
    assert registration_in(output.acknowledgement.options) == kind
    assert tunnels.regional == {MAP: (RCOA, LCOA)}
    # The same RCoA at another LCoA: nothing is handed on.
    moved = situation(kind, lcoa=IPv6Address("2001:db8:b::1"))
    assert policy.process(policy.choose(moved), tunnels) == []
    assert policy.of_map == 10030 + kind
    assert policy.present is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (situation(status=129), Reason.BINDING_REFUSED),
        (situation(rcoa=IPv6Address("2001:db8:8::1")), Reason.SCENARIO_FAILED),
        (situation(lcoa=RCOA), Reason.SCENARIO_FAILED),
    ],
)
def test_what_makes_no_sense_is_discarded(wrong: Situation, reason: Reason) -> None:
    policy, tunnels = ScenarioPolicy(), Recorder()
    with pytest.raises(Discard) as raised:
        policy.process(policy.choose(wrong), tunnels)
    assert raised.value.reason is reason
    assert tunnels.regional == {}


def test_a_disabled_row_says_so() -> None:
    policy = ScenarioPolicy(enabled=[10020, 10032])
    with pytest.raises(Discard, match="MAP of type 1") as raised:
        policy.choose(situation(1))
    assert raised.value.reason is Reason.SCENARIO_DISABLED
    assert policy.choose(situation(2)).number == 10032


def test_acknowledgements_of_correspondents_are_none_of_maps() -> None:
    policy = ScenarioPolicy()
    of_correspondent = Situation(mh.BindingAcknowledgement(0, 1, 60), MAP, LCOA, RCOA, False, True)
    assert policy.choose(of_correspondent).number == 10021


@given(st.floats(0, 100))
def test_what_is_asked_to_be_sent_again_is_bounded(seconds: float) -> None:
    asked = again_in((again_option(seconds),))
    assert asked == pytest.approx(min(seconds, 1.0), abs=0.0006)


@given(st.lists(st.builds(mh.VendorSpecific, st.just(32473), st.sampled_from([16, 17]), st.binary(max_size=4))))
def test_options_of_others_are_no_harm(options: list[mh.VendorSpecific]) -> None:
    assert 0.0 <= again_in(options) <= 1.0
    registration_in(options)


def test_registration_types_travel() -> None:
    for kind in RegistrationType:
        assert registration_in((registration_option(kind),)) is kind
    assert registration_in(()) is None
