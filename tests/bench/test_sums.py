"""What the benchmark makes of its logs."""

from __future__ import annotations

import pytest

from bench.handover import INTERVAL, Gap
from bench.statistics import measured, percentile
from sip_test_env.cables import Move
from sip_test_env.report import Stream


def even(begin: float, end: float, missing: tuple[float, float]) -> Stream:
    """A packet every `INTERVAL`; what would arrive in ``missing`` waits until its end."""
    times = [begin + number * INTERVAL for number in range(round((end - begin) / INTERVAL))]
    arrivals = [missing[1] if missing[0] < at < missing[1] else at for at in times]
    return Stream(list(zip(times, range(len(times)), strict=True)), list(zip(arrivals, range(len(times)), strict=True)))


def test_a_gap_is_the_longer_silence_without_interval_and_cable() -> None:
    move = Move("visited-a", "visited-b", cut=10.0, restored=10.004)
    streams = {"to_mn": even(9.5, 11.0, (10.0, 10.030)), "to_cn": even(9.5, 11.0, (10.0, 10.060))}
    gap = Gap.of(move, 10.058, streams)
    assert gap.raw == pytest.approx(60, abs=2.1)
    assert gap.net == pytest.approx(gap.raw - 6)


def test_a_gap_is_never_negative() -> None:
    undisturbed = {"to_mn": even(9.5, 11.0, (10.0, 10.0))}
    assert Gap.of(Move(None, "visited-b", 10.0, 10.004), 10.005, undisturbed).net == 0.0


def test_duplicates_and_losses_are_told_apart() -> None:
    stream = Stream([(0.0, 1), (0.1, 2), (0.2, 3)], [(0.05, 1), (0.06, 1), (0.25, 3)])
    assert (stream.duplicates(), stream.lost()) == (1, 1)


def test_percentiles() -> None:
    assert [percentile(range(1, 101), share) for share in (0.0, 0.5, 0.95, 1.0)] == [1, 51, 96, 100]
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_a_figure_has_its_median_and_its_range() -> None:
    assert measured("us", [3.04, 1.0, 2.0], 1) == {"us": 2.0, "us_range": [1.0, 3.0]}
