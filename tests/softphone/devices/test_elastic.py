"""Sound between two clocks: the delay stays, whatever the clocks do."""

from __future__ import annotations

import heapq
import random

import numpy as np
import pytest

from softphone.devices.elastic import DELAY, LONGEST, Elastic
from softphone.media.codecs import Samples

RATE = 48_000


def sine(begin: int, count: int) -> Samples:
    return (8000 * np.sin(2 * np.pi * 400 * np.arange(begin, begin + count) / RATE)).astype(np.int16)


def through(seconds: float, drift: float, jitter: float = 0.0) -> tuple[Elastic, Samples, list[float]]:
    """A sine from a clock that is ``drift`` faster, in blocks of 10 ms, read every 20 ms; and the delay at each."""
    buffer, dice = Elastic(RATE), random.Random(7)
    events = [
        (n * 0.01 / (1 + drift) + dice.uniform(0, jitter), 0, n) for n in range(round(seconds * 100 * (1 + drift)))
    ]
    events += [(n * 0.02 + 0.001, 1, n) for n in range(round(seconds * 50))]
    heapq.heapify(events)
    written, heard, delays = 0, [], []
    while events[0][0] < seconds - 1:
        _, reads, _ = heapq.heappop(events)
        if reads:
            heard.append(buffer.read(960))
            delays.append(buffer.delay)
        else:
            buffer.write(sine(written, 480))
            written += 480
    return buffer, np.concatenate(heard), delays


@pytest.mark.parametrize("drift", [0.0002, -0.0002, 0.002, -0.002])
def test_clocks_that_drift_for_two_minutes(drift: float) -> None:
    buffer, heard, delays = through(120, drift, jitter=0.015)
    assert (buffer.underruns, buffer.dropped) == (0, 0)
    settled = delays[50:]
    assert min(settled) > 0.005
    assert max(settled) < 2 * DELAY
    steps = np.abs(np.diff(heard[RATE // 2 :].astype(int)))
    assert steps.max() < 500  # the sine itself makes 420: nowhere a click


def test_equal_clocks_change_nothing() -> None:
    buffer, heard, _ = through(5, 0.0)
    begin = int(np.argmax(np.abs(heard) > 0)) - 1  # its first sample is zero
    assert np.abs(heard[begin:] - sine(0, len(heard) - begin)).max() <= 1
    assert (buffer.underruns, buffer.dropped) == (0, 0)


def test_after_a_standstill_of_the_reader_what_is_old_goes() -> None:
    buffer = Elastic(RATE)
    for _ in range(200):
        buffer.write(np.ones(480, np.int16))
        assert buffer.delay <= LONGEST
    assert buffer.dropped > RATE
    assert buffer.read(960).all()


def test_a_writer_that_stops_is_silence_and_begins_with_the_delay_again() -> None:
    buffer = Elastic(RATE)
    for _ in range(10):
        buffer.write(np.ones(480, np.int16))
    heard = np.concatenate([buffer.read(960) for _ in range(10)])
    assert buffer.underruns == 1
    assert not heard[-960:].any()
    buffer.write(np.ones(480, np.int16))
    assert not buffer.read(960).any()
    for _ in range(8):
        buffer.write(np.ones(480, np.int16))
    assert buffer.read(960).all()
