"""The mixer: everybody hears all the others, however the clocks of the ports are interleaved."""

from __future__ import annotations

import numpy as np
import pytest

from softphone.media.codecs import Samples
from softphone.media.mixer import KNEE, LONGEST, Mixer, limit

FRAME = 960


def level(value: int) -> Samples:
    return np.full(FRAME, value, np.int16)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_everybody_hears_the_sum_of_the_others(order: tuple[int, ...]) -> None:
    mixer = Mixer()
    ports = [mixer.join() for _ in range(3)]
    says = (100, 20, 3)
    for turn in range(10):
        for n in order:  # like a tick of a call: it reads, then it writes
            heard = ports[n].read(FRAME)
            if turn > 1:
                assert set(heard) == {sum(says) - says[n]}
            ports[n].write(level(says[n]))
    assert all(port.dropped == 0 for port in ports)


def test_frames_of_other_lengths_lose_nothing() -> None:
    mixer = Mixer()
    speaker, listener = mixer.join(), mixer.join()
    sent = np.arange(6 * 441, dtype=np.int16)
    heard = []
    for n in range(6):
        speaker.write(sent[441 * n : 441 * (n + 1)])
        heard.append(listener.read(400))
    heard.append(listener.read(300))
    joined = np.concatenate(heard)
    assert (joined[: len(sent)] == sent).all()
    assert not joined[len(sent) :].any()


def test_who_does_not_listen_delays_nobody() -> None:
    mixer = Mixer()
    speaker, deaf, listener = mixer.join(), mixer.join(), mixer.join()
    for n in range(100):
        speaker.write(level(n + 1))
        assert set(listener.read(FRAME)) == {n + 1}
    assert deaf.dropped == 100 * FRAME - LONGEST
    assert deaf.read(FRAME)[0] == 97  # the latest 80 ms are left


def test_who_leaves_is_heard_no_more_and_hears_no_more() -> None:
    mixer = Mixer()
    a, b, c = mixer.join(), mixer.join(), mixer.join()
    a.write(level(5))
    b.write(level(7))
    mixer.leave(a)
    mixer.leave(a)
    assert set(c.read(FRAME)) == {7}
    assert set(b.read(FRAME)) == {0}
    c.write(level(1))
    assert set(a.read(FRAME)) == {0}


def test_loud_sums_are_bent_and_never_wrap_around() -> None:
    loud = limit(np.array([0, 100, 23_999, 30_000, 65_534, 262_136, -65_534], np.int32))
    assert list(loud[:3]) == [0, 100, 23_999]
    assert KNEE < loud[3] < loud[4] < loud[5] <= 32_767
    assert loud[6] == -loud[4]
    assert len(limit(np.zeros(0, np.int32))) == 0


def test_who_is_muted_hears_and_is_not_heard() -> None:
    mixer = Mixer()
    one, other = mixer.join(), mixer.join()
    one.muted = True
    one.write(level(1000))
    other.write(level(500))
    assert not other.read(FRAME).any()
    assert (one.read(FRAME) == 500).all()
