"""The section on handovers, with few of them, has the figures that it promises."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bench import handover

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]


def test_a_few_handovers_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOVES", 2), ("HANDOVERS", 4), ("DELAYS_MS", (30.0,))):
        monkeypatch.setattr(handover, name, value)
    figures = cast(dict[str, Any], handover.measure())
    beside = figures["make_before_break"]
    assert (beside["handovers"], beside["lost"], beside["duplicates"]) == (4, 0, 0)
    assert beside["packets"] > 300
    (delayed,) = figures["break_before_make"]
    assert (delayed["delay_ms"], delayed["handovers"], delayed["lost"]) == (30.0, 2, 0)
    assert 28 < delayed["gap_p50_ms"] <= delayed["gap_p95_ms"] < delayed["gap_raw_p95_ms"] < 130
