"""Concealment and shortening in the sound itself, at every sample rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.codecs import Samples
from softphone.media.concealment import FADED, LONGEST_PERIOD, Concealer, period_of, shorten
from tests.softphone.media.support import voice

RATES = [8_000, 16_000, 48_000]


def with_losses(sound: Samples, rate: int, lost: set[int]) -> Samples:
    concealer, frame = Concealer(rate), rate // 50
    parts = []
    for n in range(len(sound) // frame):
        parts.append(concealer.lost(frame) if n in lost else concealer.good(sound[n * frame : (n + 1) * frame]))
    return np.concatenate(parts)


def error_db(sound: Samples, other: Samples) -> float:
    """Level of the difference below the sound."""
    difference = sound.astype(float) - other
    return float(10 * np.log10(np.mean(difference**2) / np.mean(sound.astype(float) ** 2)))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [80, 120, 200, 330])
def test_the_period_of_a_voice_is_found(rate: int, pitch: int) -> None:
    t = np.arange(rate // 10) / rate
    sound = np.sin(2 * np.pi * pitch * t) + 0.5 * np.sin(4 * np.pi * pitch * t)
    period, fit = period_of((3000 * sound).astype(np.float32), rate)
    assert fit > 0.95
    # The period itself, or a small multiple that fits as well.
    assert min(abs(period - n * rate / pitch) for n in (1, 2)) <= max(1, rate // 8000)


@pytest.mark.parametrize("rate", RATES)
def test_nothing_is_changed_without_loss(rate: int) -> None:
    sound = voice(rate, 0.4)
    assert np.array_equal(with_losses(sound, rate, set()), sound)


@pytest.mark.parametrize("rate", RATES)
def test_one_lost_packet_of_a_vowel_is_guessed_closely(rate: int) -> None:
    sound = voice(rate, 0.6)
    frame = rate // 50
    concealed = with_losses(sound, rate, {15})
    place = slice(15 * frame, 16 * frame)
    silent = np.zeros(frame, np.int16)
    assert error_db(sound[place], concealed[place]) < -8 < error_db(sound[place], silent)
    # From one packet after the cross-fade on, everything is as it was.
    assert np.array_equal(concealed[17 * frame :], sound[17 * frame :])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("lost", [{15}, {15, 16}, {15, 16, 17}, {15, 17, 19}])
def test_there_are_no_clicks(rate: int, lost: set[int]) -> None:
    sound = voice(rate, 0.6)
    steepest = np.abs(np.diff(sound.astype(int))).max()
    concealed = with_losses(sound, rate, lost)
    assert np.abs(np.diff(concealed.astype(int))).max() < 1.3 * steepest


@pytest.mark.parametrize("rate", RATES)
def test_a_long_loss_fades_to_silence_and_recovers(rate: int) -> None:
    sound = voice(rate, 0.8)
    frame = rate // 50
    concealed = with_losses(sound, rate, set(range(10, 25)))
    levels = [np.abs(concealed[n * frame : (n + 1) * frame].astype(int)).mean() for n in range(8, 30)]
    assert levels[2] > 0.8 * levels[1]
    assert levels[2] > levels[3] > levels[4] > levels[5] > levels[6]
    silent_from = int(FADED * rate) + 10 * frame
    assert not concealed[silent_from : 25 * frame].any()
    assert np.array_equal(concealed[27 * frame :], sound[27 * frame :])


@pytest.mark.parametrize("rate", RATES)
def test_loss_before_the_first_packet_is_silence(rate: int) -> None:
    assert not Concealer(rate).lost(rate // 50).any()


@pytest.mark.parametrize("rate", RATES)
def test_loud_noise_stays_in_range(rate: int) -> None:
    noise = np.random.default_rng(1).choice(np.array([-32768, 32767], np.int16), rate // 2)
    concealed = with_losses(noise, rate, set(range(5, 25, 3)))
    assert len(concealed) == len(noise)
    frame = rate // 50
    gap = concealed[5 * frame : 6 * frame].astype(int)
    assert 5_000 < np.abs(gap).mean() <= 32_768


@given(st.sampled_from(RATES), st.lists(st.tuples(st.booleans(), st.integers(0, 1500)), max_size=20))
def test_any_lengths_of_gaps_and_packets_fit(rate: int, parts: list[tuple[bool, int]]) -> None:
    concealer = Concealer(rate)
    generator = np.random.default_rng(1)
    for lost, count in parts:
        if lost:
            assert concealer.lost(count).shape == (count,)
        else:
            sound = generator.integers(-32768, 32767, count).astype(np.int16)
            assert concealer.good(sound).shape == (count,)
    assert concealer.in_gap is any(lost for lost, _ in parts[-1:])


@pytest.mark.parametrize("rate", RATES)
def test_shortening_takes_out_whole_periods_without_clicks(rate: int) -> None:
    pitch = 150.0
    t = np.arange(rate // 50) / rate
    sound = (5000 * np.sin(2 * np.pi * pitch * t)).astype(np.int16)
    shorter = shorten(sound, rate)
    cut = len(sound) - len(shorter)
    assert 0 < cut <= LONGEST_PERIOD * rate
    assert abs(cut - rate / pitch) <= rate / 8000 or abs(cut - 2 * rate / pitch) <= rate / 8000
    assert np.abs(np.diff(shorter.astype(int))).max() <= 1.2 * np.abs(np.diff(sound.astype(int))).max()
    assert np.array_equal(shorter[-rate // 1000 :], sound[-rate // 1000 :])


@pytest.mark.parametrize("rate", RATES)
def test_noise_is_shortened_only_on_demand(rate: int) -> None:
    noise = np.random.default_rng(2).integers(-9000, 9000, rate // 50).astype(np.int16)
    assert np.array_equal(shorten(noise, rate, 0.85), noise)
    assert len(shorten(noise, rate, 0.0)) == len(noise) - int(LONGEST_PERIOD * rate)


def test_very_short_sound_is_left_alone() -> None:
    for count in range(0, 60):
        sound = np.ones(count, np.int16)
        assert np.array_equal(shorten(sound, 8_000, 0.0), sound)
