"""The anti-replay window against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.ipsec.replay import SIZE, ReplayWindow


def test_zero_is_never_acceptable() -> None:
    window = ReplayWindow()
    assert not window.acceptable(0)
    assert window.acceptable(1)


def test_asking_changes_nothing() -> None:
    window = ReplayWindow()
    assert window.acceptable(5000)
    assert (window.top, window.acceptable(1), window.acceptable(5000)) == (0, True, True)


@pytest.mark.parametrize("top", [SIZE, SIZE + 1, 5000, 0xFFFFFFFF])
def test_edges(top: int) -> None:
    window = ReplayWindow()
    window.accept(top)
    assert not window.acceptable(top)
    assert window.acceptable(top - 1)
    oldest = top - SIZE + 1
    assert window.acceptable(oldest) == (oldest > 0)
    assert not window.acceptable(top - SIZE)
    assert window.acceptable(top + 1)
    if oldest > 0:
        window.accept(oldest)
        assert not window.acceptable(oldest)
        assert window.acceptable(oldest + 1)
        window.accept(top + 1)
        assert not window.acceptable(oldest)


@pytest.mark.parametrize("jump", [1, 2, SIZE - 1, SIZE, SIZE + 1, 10 * SIZE])
def test_jumps(jump: int) -> None:
    window = ReplayWindow()
    window.accept(SIZE)
    window.accept(SIZE + jump)
    seen = {SIZE, SIZE + jump}
    for number in range(SIZE + jump + 2):
        in_window = number > SIZE + jump - SIZE
        assert window.acceptable(number) == (in_window and number not in seen and number > 0), number


def test_after_a_restart_all_up_to_the_top_was_seen() -> None:
    window = ReplayWindow(top=3000)
    assert not any(window.acceptable(number) for number in range(3001))
    assert window.acceptable(3001)
    window.accept(3003)
    assert window.acceptable(3002)
    assert not window.acceptable(3000)


@given(st.lists(st.integers(0, 4 * SIZE), max_size=200))
def test_is_what_its_definition_says(numbers: list[int]) -> None:
    window, seen, top = ReplayWindow(), {0}, 0
    for number in numbers:
        expected = number not in seen and number > top - SIZE
        assert window.acceptable(number) == expected
        if expected:
            window.accept(number)
            seen.add(number)
            top = max(top, number)
    assert window.top == top
    assert window.bitmap.bit_length() <= SIZE
