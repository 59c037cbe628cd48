"""What the benchmark of calls makes of what its phones count."""

from __future__ import annotations

import pytest

from bench.calls import Window, all_well, ratio, rising


def window(calls: int = 10, sent: int = 750, received: int = 750, missing: int = 0) -> Window:
    return Window(calls, 1.5, sent, received, missing, 0.3)


@pytest.mark.parametrize(
    ("ends", "well"),
    [
        ([window(), window()], True),
        ([window(received=1999, missing=1)], True),
        ([window(received=999, missing=1)], False),
        ([window(), window(sent=719)], False),
        ([window(received=0)], False),
    ],
    ids=["nothing missing", "little missing", "too much missing", "one fell behind", "nothing came"],
)
def test_a_window_is_good(ends: list[Window], well: bool) -> None:
    assert all_well(ends) is well


def test_a_window_is_what_changed() -> None:
    before = {"calls": 2, "at": 10.0, "sent": 5, "received": 6, "missing": 1, "processor": 0.5}
    after = {"calls": 3, "at": 11.5, "sent": 15, "received": 26, "missing": 4, "processor": 1.0}
    assert Window.between(before, after) == Window(3, 1.5, 10, 20, 3, 0.5)


def test_the_greatest_height_needs_two_of_three() -> None:
    tried: list[int] = []

    def good(height: int) -> bool:
        tried.append(height)
        return height < 20 or (height == 20 and tried.count(20) != 1)

    assert rising(10, good, 100, 1.41) == 20
    assert tried == [10, 10, 14, 14, 20, 20, 20, 28, 28]
    assert rising(30, good, 100, 2) == 0
    assert rising(4, good, 9, 2) == 8


def test_a_ratio_to_nothing() -> None:
    assert ratio({"calls": 3}, {"calls": 2}, "calls") == 1.5
    assert ratio({"calls": 3}, {"calls": 0}, "calls") is None
