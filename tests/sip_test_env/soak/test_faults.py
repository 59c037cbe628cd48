"""What a seed makes of a soak test, and what is said of processes that grow."""

from __future__ import annotations

import os
from collections import Counter
from ipaddress import IPv6Address
from itertools import pairwise
from random import Random

import pytest
from scapy.layers.inet6 import IPv6

from sip_test_env.impairment import Impairment
from sip_test_env.plan import Plan
from sip_test_env.soak import strangers
from sip_test_env.soak.faults import PLACES, BadWire, Fault, Flap, Kill, Move, Strangers, faults
from sip_test_env.soak.memory import Holdings


def test_a_seed_repeats_everything() -> None:
    assert faults(7, 3, 9.0) == faults(7, 3, 9.0)
    assert faults(7, 3, 9.0) != faults(8, 3, 9.0)
    assert faults(7, 3, 9.0) != faults(7, 4, 9.0)


def test_everything_comes_in_time_and_the_terminal_moves_to_where_it_is_not() -> None:
    kinds: Counter[type[Fault]] = Counter()
    for number in range(50):
        planned = faults(1, number, 9.0, PLACES[0])
        assert planned
        assert all(0.5 <= at < 9.0 for at, _ in planned)
        assert all(later - earlier >= 0.3 for (earlier, _), (later, _) in pairwise(planned))
        kinds.update(type(fault) for _, fault in planned)
        here = PLACES[0]
        for _, fault in planned:
            if isinstance(fault, Move):
                assert fault.link != here
                here = fault.link
    assert set(kinds) == {Move, Flap, BadWire, Kill, Strangers}


def test_strangers_address_everybody_and_repeat_themselves() -> None:
    plan, care_of = Plan("test-soak"), IPv6Address("2001:db8:a::77")
    made = strangers.packets(plan, care_of, Random(1))
    assert made == strangers.packets(plan, care_of, Random(1))
    assert {IPv6(packet).dst for packet in made[: len(made) // 2]} == {
        str(address) for address in (plan.home_agent, plan.cn, care_of)
    }
    assert {len(strangers.packets(plan, care_of, Random(seed))) for seed in range(200)} == {len(made)}


def test_growth_is_told_and_nothing_else() -> None:
    holdings = Holdings()
    holdings.look("mobility-mn", os.getpid())
    holdings.look("mobility-mn", os.getpid())
    assert holdings.complaints() == []
    ((memory, files), _) = holdings.looks["mobility-mn", os.getpid()]
    assert memory > 5
    holdings.looks["mobility-mn", os.getpid()][1] = (memory + 13, files + 7)
    assert [words.split(")")[0] for words in holdings.complaints()] == [f"mobility-mn ({os.getpid()}"] * 2
    holdings.look("mobility-mn", 2**22 + 1)
    assert len(holdings.looks) == 1, "a process that has gone is no news"


@pytest.mark.parametrize(
    ("impairment", "words"), [(Impairment(), "perfect"), (Impairment(loss=0.05, delay_ms=20), "delay_ms 20, loss 0.05")]
)
def test_impairments_in_words(impairment: Impairment, words: str) -> None:
    assert str(impairment) == words
