"""Playing and recording sound files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from softphone.media.audio import Drain, Feed
from softphone.media.files import FileError, MemorySink, SamplesSource, WavRecorder, WavSource, read_sound
from tests.softphone.media.support import voice


def write(path: Path, rate: int, channels: int, width: int, seconds: float = 0.5) -> Path:
    t = np.arange(round(rate * seconds)) / rate
    sound = 0.5 * np.sin(2 * np.pi * 440 * t)
    samples = sound * 127 + 128 if width == 1 else sound * 32_767
    kind: type[np.generic] = np.uint8 if width == 1 else np.int16
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples.astype(kind), channels).tobytes())
    return path


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(("channels", "width"), [(1, 2), (2, 2), (1, 1)])
def test_every_wav_file_is_played(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    source = WavSource(write(tmp_path / "a.wav", rate, channels, width), 16_000)
    assert source.rate == 16_000
    assert len(source.samples) == pytest.approx(8_000, abs=20)
    spectrum = np.abs(np.fft.rfft(source.samples[1000:7000].astype(float)))
    assert np.argmax(spectrum) * 16_000 / 6_000 == pytest.approx(440, abs=3)
    assert np.abs(source.samples).max() == pytest.approx(16_384, rel=0.05)


def test_a_file_in_its_own_rate_is_unchanged(tmp_path: Path) -> None:
    samples, rate = read_sound(write(tmp_path / "a.wav", 22_050, 1, 2))
    t = np.arange(11_025) / 22_050
    assert rate == 22_050
    assert np.array_equal(samples, (0.5 * np.sin(2 * np.pi * 440 * t) * 32_767).astype(np.int16))


def test_files_that_are_no_sound_are_errors(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is no sound\n" * 20)
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    whole = write(tmp_path / "whole.wav", 8_000, 1, 2).read_bytes()
    no_data = tmp_path / "header.wav"
    no_data.write_bytes(whole[:44])
    for path in (text, empty, no_data, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(FileError, match=path.name):
            WavSource(path)


def test_every_truncation_is_played_or_an_error(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.wav", 8_000, 1, 2, 0.01).read_bytes()
    path = tmp_path / "cut.wav"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            samples, _ = read_sound(path)
        except FileError:
            continue
        assert len(samples) <= 80


def test_a_recording_is_read_back(tmp_path: Path) -> None:
    sound = voice(16_000, 1.0)
    path = tmp_path / "r.wav"
    with WavRecorder(path, 16_000) as recorder:
        for frame in sound.reshape(-1, 320):
            recorder.write(frame)
    recorder.close()
    samples, rate = read_sound(path)
    assert rate == 16_000
    assert np.array_equal(samples, sound)


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        WavRecorder(tmp_path / "no" / "r.wav")


def test_a_source_says_when_it_is_done() -> None:
    source = SamplesSource(np.arange(100, dtype=np.int16), 8_000)
    assert len(source.read(100)) == 100
    assert not source.done.is_set()
    assert len(source.read(1)) == 0
    assert source.done.is_set()


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(("target", "frame"), [(8_000, 160), (16_000, 320), (48_000, 960)])
def test_sound_is_cut_into_frames_and_none_is_lost(rate: int, target: int, frame: int) -> None:
    feed = Feed(SamplesSource(voice(rate, 1.0), rate), target, frame)
    sink = MemorySink(rate)
    drain = Drain(sink, target)
    count = 0
    while (samples := feed.next()) is not None:
        assert samples.shape == (frame,)
        drain.write(samples)
        count += 1
    assert feed.ended
    assert count in (50, 51)
    assert len(sink.samples) == pytest.approx(rate * count / 50, abs=rate // 200)
