"""When calls begin."""

from __future__ import annotations

import pytest

from softphone.load.pacing import Offer, Pace


def course(offer: Offer, lasting: float, begin: float = 100.0) -> tuple[list[float], Pace]:
    """The moments at which calls begin when each lasts so long; seconds since the beginning."""
    pace = Pace(offer, begin)
    began: list[float] = []
    ends: list[float] = []
    while pace.timer is not None or ends:
        now = min(ends + ([] if pace.timer is None else [pace.timer]))
        while ends and min(ends) <= now:
            ends.remove(min(ends))
            pace.over(now)
        for _ in range(pace.start(now)):
            began.append(round(now - begin, 6))
            ends.append(now + lasting)
    return began, pace


def test_a_rate_is_kept_and_ends_with_the_duration() -> None:
    began, pace = course(Offer(4, 100, 2.0, 1000), 10.0)
    assert began == [n / 4 for n in range(8)]
    assert (pace.begun, pace.held_back) == (8, 0)


def test_calls_that_nobody_is_free_for_are_held_back_and_counted() -> None:
    began, pace = course(Offer(4, 2, 2.0, 1000), 1.0)
    assert began == [0.0, 0.25, 1.0, 1.25]
    assert pace.held_back == 4


def test_without_a_rate_every_caller_calls_again_when_it_has_thought() -> None:
    began, pace = course(Offer(None, 2, 3.5, 1000, think=0.5), 1.0)
    assert began == [0.0, 0.0, 1.5, 1.5, 3.0, 3.0]
    assert pace.held_back == 0


@pytest.mark.parametrize("rate", [None, 10.0])
def test_never_more_calls_than_allowed(rate: float | None) -> None:
    began, pace = course(Offer(rate, 5, 100.0, 7), 1.0)
    assert len(began) == pace.begun == 7
    assert pace.timer is None


def test_a_process_that_stood_still_makes_up_for_what_was_due() -> None:
    pace = Pace(Offer(10, 100, 10.0, 1000), 0.0)
    assert pace.start(0.0) == 1
    assert pace.start(1.05) == 10
    assert pace.timer == pytest.approx(1.1)


def test_nothing_begins_after_stop() -> None:
    pace = Pace(Offer(10, 100, 10.0, 1000), 0.0)
    pace.start(0.0)
    pace.stop()
    assert (pace.timer, pace.start(5.0)) == (None, 0)


def test_shares_make_the_same_offer_together() -> None:
    offer = Offer(9, 10, 2.0, 100)
    began: list[float] = []
    for share in offer.shares(3):
        began += course(share, 0.01)[0]
    assert sorted(began) == pytest.approx([n / 9 for n in range(18)], abs=1e-5)
    assert [share.concurrent for share in offer.shares(3)] == [4, 3, 3]
    assert len(Offer(None, 2, 1.0, 100).shares(5)) == 2
    assert sum(share.calls for share in Offer(None, 8, 1.0, 3).shares(5)) == 3
