"""Recording both sides of a call."""

from __future__ import annotations

import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from softphone.media import recorder as recording
from softphone.media.codecs import PCMU, Samples
from softphone.media.files import FileError, SamplesSource, read_sound
from softphone.media.recorder import CallRecorder, Legs, RecordingEnded
from softphone.media.session import MediaEvent, MediaSettings
from tests.softphone.media.support import voice
from tests.softphone.media.test_session import ended, pair, run, until


def channels(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())


def feed(recorder: CallRecorder, local: Samples, local_rate: int, remote: Samples, remote_rate: int) -> None:
    a = local.reshape(-1, local_rate // 50)
    b = remote.reshape(-1, remote_rate // 50)
    for one, other in zip(a, b, strict=True):
        recorder.write(one, local_rate, other, remote_rate)


def strength(samples: Samples) -> float:
    return float(np.sqrt(np.square(samples.astype(float)).mean()))


def test_we_are_on_the_left_and_they_on_the_right(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    recorder = CallRecorder(path)
    feed(recorder, voice(48_000, 1.0), 48_000, np.zeros(8_000, np.int16), 8_000)
    feed(recorder, np.zeros(8_000, np.int16), 8_000, voice(48_000, 1.0), 48_000)
    assert recorder.close() == RecordingEnded(path, 2.0, 0, "")
    left, right = channels(path).T
    assert len(left) == 32_000
    for silent, loud in ((left[17_000:], left[:16_000]), (right[:15_900], right[17_000:])):
        assert strength(silent) < 20
        assert strength(loud) > 2_000
    recorder.close()


@pytest.mark.parametrize("name", ["call.wav", "call.opus", "call.ogg"])
def test_both_together(tmp_path: Path, name: str) -> None:
    recorder = CallRecorder(tmp_path / name, legs=Legs.MIXED)
    feed(recorder, voice(16_000, 1.0), 16_000, voice(16_000, 1.0), 16_000)
    assert recorder.close() == RecordingEnded(tmp_path / name, 1.0, 0, "")
    samples, rate = read_sound(tmp_path / name)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.03)
    assert strength(samples) == pytest.approx(2 * strength(voice(16_000, 1.0)), rel=0.2)


def test_a_recording_is_bounded(tmp_path: Path) -> None:
    recorder = CallRecorder(tmp_path / "call.wav", greatest_seconds=0.5)
    feed(recorder, voice(8_000, 1.0), 8_000, voice(8_000, 1.0), 8_000)
    over = recorder.close()
    assert over is not None
    assert over.seconds == 0.5
    assert "greatest length, 0.5 s" in over.why
    assert len(channels(tmp_path / "call.wav")) == 8_000


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("call.wav", "call.opus"):
        link = tmp_path / name
        link.symlink_to("/dev/full")
        recorder = CallRecorder(link)
        feed(recorder, voice(8_000, 1.0), 8_000, voice(8_000, 1.0), 8_000)
        over = recorder.close()
        assert over is not None
        assert "No space left on device" in over.why
    # And before that, while others still have a little room.
    monkeypatch.setattr(recording, "LEAST_FREE", 1 << 62)
    recorder = CallRecorder(tmp_path / "other.wav")
    feed(recorder, voice(8_000, 1.0), 8_000, voice(8_000, 1.0), 8_000)
    over = recorder.close()
    assert over is not None
    assert over.why == "the disk is full"
    assert not len(channels(tmp_path / "other.wav"))


def test_a_slow_disk_loses_frames_and_not_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write = recording._WavWriter.write

    def slow(writer: recording._WavWriter, frame: Samples) -> None:
        gate.wait(10)
        write(writer, frame)

    monkeypatch.setattr(recording._WavWriter, "write", slow)
    recorder = CallRecorder(tmp_path / "call.wav")
    feed(recorder, voice(8_000, 12.0), 8_000, voice(8_000, 12.0), 8_000)
    recorder.finish()
    gate.set()
    over = recorder.close()
    assert over is not None
    assert 95 <= over.lost_frames <= 101


def test_a_place_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    for name in ("call.wav", "call.opus"):
        with pytest.raises(FileError, match="cannot be written"):
            CallRecorder(tmp_path / "nowhere" / name)


def test_a_call_is_recorded_and_its_end_told(tmp_path: Path) -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,))
        caller, callee = await pair(settings, settings)
        events: list[MediaEvent] = []
        caller.on_event = events.append
        callee.play(SamplesSource(voice(8_000, 5), 8_000))
        caller.record_call(CallRecorder(tmp_path / "call.wav"))
        await callee.start()
        await caller.start()
        await until(lambda: caller.statistics().received > 25)
        caller.record_call(None)
        await until(lambda: bool(events))
        over = events[0]
        assert isinstance(over, RecordingEnded)
        assert over.seconds > 0.4
        assert not over.why
        left, right = channels(tmp_path / "call.wav").T
        assert strength(left) < 5
        assert strength(right) > 1_000
        # The end of the call is the end of the recording, too.
        caller.record_call(CallRecorder(tmp_path / "rest.opus"))
        await until(lambda: caller.statistics().received > 50)
        await ended(caller, callee)
        over = events[-1]
        assert isinstance(over, RecordingEnded)
        assert over.path == tmp_path / "rest.opus"
        assert read_sound(over.path)[0].any()

    run(work())
