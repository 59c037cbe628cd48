"""Sums over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which ``share`` (0 to 1) of all lie. Raises `ValueError` without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def microseconds(work: Callable[[], object], calls: int, rounds: int = 15) -> list[float]:
    """The time of one call, in each of ``rounds``."""
    times = []
    for _ in range(rounds):
        begin = perf_counter()
        for _ in range(calls):
            work()
        times.append((perf_counter() - begin) / calls * 1e6)
    return times


def measured(name: str, samples: Sequence[float], digits: int) -> dict[str, object]:
    """A figure: the median, and as ``NAME_range`` the least and the greatest of all samples."""
    least, most = min(samples), max(samples)
    return {name: round(median(samples), digits), f"{name}_range": [round(least, digits), round(most, digits)]}
