"""Offer and answer take turns."""

from __future__ import annotations

import pytest

from softphone.sip.exchange import Exchange, Turn, glare_wait


@pytest.mark.parametrize(("turn", "status"), [(Turn.STABLE, None), (Turn.OURS, 491), (Turn.THEIRS, 500)])
def test_an_offer_at_the_wrong_time(turn: Turn, status: int | None) -> None:
    exchange = Exchange()
    if turn is not Turn.STABLE:
        exchange.offered(turn)
    assert exchange.refusal() == status
    assert exchange.free is (status is None)
    exchange.settled()
    assert exchange.free


def test_after_glare_both_wait_but_never_equally_long() -> None:
    dice = [n / 1000 for n in range(1001)]
    owner, other = [glare_wait(True, d) for d in dice], [glare_wait(False, d) for d in dice]
    assert (min(owner), max(owner)) == (2.1, 4.0)
    assert (min(other), max(other)) == (0.0, 2.0)
    assert all(wait * 100 == pytest.approx(round(wait * 100)) for wait in owner + other)
