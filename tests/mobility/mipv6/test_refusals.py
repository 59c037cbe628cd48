"""Words for every status that a home agent may answer with."""

from __future__ import annotations

import pytest

from mobility.mipv6.refusals import why_refused, why_refused4
from mobility.wire import mh

TO_DO = ("ask ", "compare ", "tries again by itself", "set ", "switch ", "use ", "update ", "end that", "name one")
"Each says what the user can do, or that there is nothing to do."


@pytest.mark.parametrize("status", [*(each for each in mh.Status if each >= 128), *range(140, 144), *range(170, 175)])
def test_every_status_says_what_to_do(status: int) -> None:
    words = why_refused(int(status))
    assert any(what in words for what in TO_DO)
    assert "does not know; ask" not in words
    assert "number" not in words or status == mh.Status.SEQUENCE_OUT_OF_WINDOW


@pytest.mark.parametrize("status", range(128, 134))
def test_every_status_of_an_ipv4_home_address_says_what_to_do(status: int) -> None:
    assert any(what in why_refused4(status) for what in TO_DO)
    assert str(status) not in why_refused4(status)


def test_each_reason_is_its_own() -> None:
    statuses = [int(status) for status in mh.Status if status >= 128]
    assert len({why_refused(status) for status in statuses}) == len(statuses)


def test_a_status_that_nobody_knows_keeps_its_number() -> None:
    assert "number 255" in why_refused(255)
    assert "number 255" in why_refused4(255)
