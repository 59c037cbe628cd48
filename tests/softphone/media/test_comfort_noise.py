"""Silence: comfort noise (RFC 3389), Opus DTX, and how the listener takes both."""

from __future__ import annotations

import numpy as np
import pytest

from softphone.media.codecs import OPUS, PCMU, Encoder
from softphone.media.comfort_noise import LOUDEST_LEVEL, NoiseGenerator, SilenceDetector, level_of
from softphone.media.jitter import MediaPacket
from softphone.media.opus import DTX_LENGTH, OpusSettings
from tests.softphone.media.support import Line, voice

FRAME = PCMU.frame


def background(frames: int, loudness: float = 40.0) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(np.random.default_rng(5).standard_normal(frames * FRAME) * loudness, np.int16)


@pytest.mark.parametrize("level", [40, 60, 70])
def test_the_noise_has_the_level_that_is_told(level: int) -> None:
    generator = NoiseGenerator()
    generator.tell(bytes([level]))
    assert abs(level_of(generator.make(8_000)) - level) <= 1


def test_nobody_can_make_comfort_noise_loud() -> None:
    generator = NoiseGenerator()
    generator.tell(b"\x00")
    assert level_of(generator.make(8_000)) >= LOUDEST_LEVEL - 1
    generator.tell(b"")
    assert not generator.make(8_000).any()


def test_silence_is_told_once_and_speech_goes_on_at_once() -> None:
    detector = SilenceDetector()
    speech = voice(8_000, 1.0)[: 50 * FRAME].reshape(-1, FRAME)
    quiet = background(100).reshape(-1, FRAME)
    assert [detector.judge(f) for f in speech] == [None] * 50
    told = [detector.judge(f) for f in quiet]
    assert told[:10] == [None] * 10, "the soft end of a word is sent"
    levels = [t for t in told if t]
    assert 2 <= len(levels) <= 6
    assert abs(levels[0][0] - level_of(quiet[0])) <= 3
    assert detector.judge(speech[0]) is None


def test_the_listener_hears_noise_and_no_loss() -> None:
    encoder, line = Encoder(PCMU), Line(PCMU)
    speech = voice(8_000, 0.4)[: 20 * FRAME].reshape(-1, FRAME)
    sent = [(n, MediaPacket(n, n * FRAME, 0, encoder.encode(f))) for n, f in enumerate(speech)]
    sent.append((20, MediaPacket(20, 20 * FRAME, 13, bytes([50]), noise=True)))
    sent += [(60 + n, MediaPacket(21 + n, (60 + n) * FRAME, 0, encoder.encode(f))) for n, f in enumerate(speech)]
    sound = line.run([(0.02 * n, p) for n, p in sent], 81)
    counters = line.player.counters
    assert counters.concealed <= 2 * FRAME
    assert 38 * FRAME <= counters.noise <= 42 * FRAME
    assert abs(level_of(sound[30 * FRAME : 55 * FRAME]) - 50) <= 2
    assert line.player.bursts.missing == 0
    assert not line.drops
    # Speech comes back when it was spoken: nothing of it is late.
    assert np.abs(sound[62 * FRAME : 64 * FRAME].astype(int)).max() > 3_000


def test_opus_rests_and_the_listener_knows() -> None:
    encoder, line = Encoder(OPUS, OpusSettings(dtx=True)), Line(OPUS)
    frames = np.concatenate((voice(48_000, 0.5), np.zeros(48_000, np.int16), voice(48_000, 0.5)))
    sent, rested, sequence = [], False, 0
    for n, frame in enumerate(frames[: len(frames) // 960 * 960].reshape(-1, 960)):
        payload = encoder.encode(frame)
        resting = len(payload) <= DTX_LENGTH
        if not (resting and rested):
            sent.append((0.02 * n, MediaPacket(sequence, n * 960, 96, payload)))
            sequence += 1
        rested = resting
    assert len(sent) < 75, "a second of silence is nearly free"
    line.run(sent, 101)
    assert line.player.counters.concealed <= 3 * 960
    assert line.player.counters.noise > 25 * 960
    assert line.player.bursts.missing == 0
