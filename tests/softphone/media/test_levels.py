"""Levels of a call."""

from __future__ import annotations

import numpy as np
import pytest

from softphone.media.levels import SILENCE, TICKS, LevelMeter

FRAME = 960


def test_levels_are_those_of_the_last_tenth_of_a_second() -> None:
    meter = LevelMeter()
    assert (meter.sent, meter.received) == (SILENCE, SILENCE)
    square = np.full(FRAME, -32_768, np.int16)
    sine = np.round(32_767 * np.sin(2 * np.pi * np.arange(FRAME) / 96)).astype(np.int16)
    for _ in range(TICKS):
        meter.take(square, sine)
    assert meter.sent == pytest.approx(0.0)
    assert meter.received == pytest.approx(-3.0, abs=0.1)
    for _ in range(TICKS):
        meter.take(None, np.zeros(FRAME, np.int16))
    assert (meter.sent, meter.received) == (SILENCE, SILENCE)
