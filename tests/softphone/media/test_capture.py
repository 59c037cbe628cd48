"""Echo cancellation, noise suppression and gain control of a microphone, by libspeexdsp itself."""

from __future__ import annotations

import numpy as np
import pytest

from softphone.media.capture import Conditioned, SpeexProcessor
from softphone.media.codecs import Samples
from softphone.media.files import MemorySink, SamplesSource
from tests.softphone.media.support import voice, words

RATE = 16_000
FRAME = RATE // 50


def decibels(samples: Samples) -> float:
    return float(10 * np.log10(np.square(samples.astype(float)).mean() + 1e-9))


def processed(processor: SpeexProcessor, near: Samples, far: Samples) -> Samples:
    count = min(len(near), len(far)) // FRAME * FRAME
    frames = zip(near[:count].reshape(-1, FRAME), far[:count].reshape(-1, FRAME), strict=True)
    return np.concatenate([processor.process(one, other) for one, other in frames])


def echo_of(far: Samples, delay: float = 0.045) -> Samples:
    """A room: a direct way and two reflections."""
    room = np.zeros(len(far))
    for strength, extra in ((0.5, 0.0), (0.2, 0.011), (0.1, 0.027)):
        shift = round((delay + extra) * RATE)
        room[shift:] += strength * far[: len(far) - shift]
    return room.astype(np.int16)


def test_the_echo_of_the_other_side_goes() -> None:
    far = words(RATE, 8)
    echo = echo_of(far)
    sent = processed(SpeexProcessor(RATE, noise=False, gain=False), echo, far)
    settled = slice(3 * RATE, 8 * RATE - FRAME)
    assert decibels(echo[settled]) - decibels(sent[settled]) > 25


def test_who_speaks_here_is_heard_while_the_other_side_speaks() -> None:
    far, near = words(RATE, 8), voice(RATE, 8, pitch=210)
    near[: 4 * RATE] = 0
    sent = processed(SpeexProcessor(RATE, noise=False, gain=False), echo_of(far) + near // 2, far)
    both = slice(5 * RATE, 8 * RATE - FRAME)
    assert decibels(sent[both]) > decibels(near[both] // 2) - 6


def test_noise_goes_and_speech_stays() -> None:
    noise = (np.random.default_rng(3).standard_normal(8 * RATE) * 200).astype(np.int16)
    speech = words(RATE, 8)
    speech[: 4 * RATE] = 0
    silent = np.zeros(8 * RATE, np.int16)
    sent = processed(SpeexProcessor(RATE, echo=False, gain=False), noise + speech, silent)
    pause, talk = slice(2 * RATE, 4 * RATE), slice(5 * RATE, 8 * RATE - FRAME)
    assert decibels(noise[pause]) - decibels(sent[pause]) > 12
    assert abs(decibels(speech[talk]) - decibels(sent[talk])) < 4


def test_soft_speech_becomes_louder_and_loud_speech_does_not_overflow() -> None:
    silent = np.zeros(10 * RATE, np.int16)
    soft = words(RATE, 10) // 20
    sent = processed(SpeexProcessor(RATE, echo=False, noise=False), soft, silent)
    settled = slice(7 * RATE, 10 * RATE - FRAME)
    assert decibels(sent[settled]) - decibels(soft[settled]) > 6
    loud = np.clip(words(RATE, 10).astype(int) * 4, -32768, 32767).astype(np.int16)
    assert decibels(processed(SpeexProcessor(RATE, echo=False, noise=False), loud, silent)[settled]) < decibels(
        loud[settled]
    )


def test_a_microphone_and_a_loudspeaker_around_a_processor() -> None:
    far = words(RATE, 4)
    microphone, loudspeaker = SamplesSource(np.append(echo_of(far), np.ones(7, np.int16)), RATE), MemorySink(RATE)
    place = Conditioned(microphone, loudspeaker, SpeexProcessor(RATE, noise=False, gain=False))
    sent = []
    for frame in far.reshape(-1, FRAME):
        place.write(frame)
        sent.append(place.read(FRAME))
    assert (loudspeaker.samples == far).all()
    assert decibels(echo_of(far)[2 * RATE :]) - decibels(np.concatenate(sent)[2 * RATE :]) > 15
    # The end of the device is the end of the source, with what was left.
    assert (place.read(FRAME) == 1).all()
    assert place.read(FRAME).shape == (0,)


def test_rates_and_lengths_are_checked() -> None:
    processor = SpeexProcessor(RATE)
    with pytest.raises(ValueError, match="rates differ"):
        Conditioned(SamplesSource(words(8_000, 1), 8_000), MemorySink(RATE), processor)
    with pytest.raises(ValueError, match="320 samples"):
        processor.process(np.zeros(160, np.int16), np.zeros(320, np.int16))
