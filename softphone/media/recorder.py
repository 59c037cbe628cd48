"""Recording of a call, both legs, into a WAV or an Ogg/Opus file.

The event loop only puts frames into a bounded queue; a thread resamples, encodes and writes. A slow disk loses frames
of the recording (counted), a full one ends it; the call hears nothing of either.
"""

from __future__ import annotations

import os
import queue
import threading
import wave
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import numpy as np
from av.audio.stream import AudioStream

from softphone.media.audio import Resampler
from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.files import FileError

GREATEST_SECONDS = 4 * 3600.0
LEAST_FREE = 32 << 20
"Bytes that stay free on the disk."
_QUEUE = round(10 / PACKET_TIME)
"Frames that may wait for the disk."
_CHECK = round(1 / PACKET_TIME)
"Frames between two looks at the free space."
_OPUS_RATE = 48_000
_OPUS_BIT_RATE = 48_000


class Legs(StrEnum):
    """How the two sides are put into the file."""

    STEREO = "stereo"
    "We on the left, the other side on the right."
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """The file is complete."""

    path: Path
    seconds: float
    lost_frames: int
    "Of 20 ms, for which the disk was too slow."
    why: str
    "Empty: it was ended by us."


class _Writer(Protocol):
    def write(self, frame: Samples) -> None: ...
    def close(self) -> None: ...


class CallRecorder:
    """One recording. `write` is called every 20 ms and never waits."""

    def __init__(
        self,
        path: Path | str,
        *,
        legs: Legs = Legs.STEREO,
        rate: int = 16_000,
        greatest_seconds: float = GREATEST_SECONDS,
    ) -> None:
        """``.wav`` or ``.opus``/``.ogg`` by the name of the file; ``rate``: of WAV. Raises `FileError`."""
        self.path = Path(path)
        self.ended: RecordingEnded | None = None
        "Once it is over, whoever ended it."
        self._legs = legs
        self._greatest = greatest_seconds
        self._lost = 0
        self._queue: queue.Queue[tuple[Samples, int, Samples, int] | None] = queue.Queue(_QUEUE)
        channels = 2 if legs is Legs.STEREO else 1
        kind = self.path.suffix.lower()
        try:
            if kind in (".opus", ".ogg"):
                self._rate = _OPUS_RATE
                self._writer: _Writer = _OpusWriter(self.path, channels)
            else:
                self._rate = rate
                self._writer = _WavWriter(self.path, channels, rate)
        except (OSError, av.FFmpegError) as exc:
            raise FileError(f"{path} cannot be written: {exc}") from exc
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write(self, local: Samples, local_rate: int, remote: Samples, remote_rate: int) -> None:
        """The same 20 ms of both sides."""
        try:
            self._queue.put_nowait((local, local_rate, remote, remote_rate))
        except queue.Full:
            self._lost += 1

    def finish(self) -> None:
        """End it; `ended` is set a little later, when all is written."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._greatest = 0.0

    def close(self, timeout: float = 10.0) -> RecordingEnded | None:
        """`finish`, and wait; None: the disk does not answer."""
        if self.ended is None:
            self.finish()
            self._thread.join(timeout)
        return self.ended

    def _run(self) -> None:
        frames, why = 0, ""
        legs: tuple[_Leg, _Leg] = _Leg(self._rate), _Leg(self._rate)
        try:
            while (item := self._queue.get()) is not None:
                local, local_rate, remote, remote_rate = item
                one, other = legs[0].convert(local, local_rate), legs[1].convert(remote, remote_rate)
                if self._legs is Legs.STEREO:
                    frame = np.stack((one, other), axis=1)
                else:
                    frame = np.clip(one.astype(np.int32) + other, -32768, 32767).astype(np.int16)[:, None]
                if frames % _CHECK == 0 and _free(self.path) < LEAST_FREE:
                    why = "the disk is full"
                    break
                self._writer.write(frame)
                frames += 1
                if frames * PACKET_TIME >= self._greatest:
                    why = f"the recording has its greatest length, {self._greatest:g} s"
                    break
        except Exception as exc:  # whatever it was: it must be told, and the call goes on
            why = f"{self.path} cannot be written any more: {exc}"
        try:
            self._writer.close()
        except (OSError, av.FFmpegError) as exc:
            why = why or f"{self.path} could not be completed: {exc}"
        self.ended = RecordingEnded(self.path, frames * PACKET_TIME, self._lost, why)


def succession(present: CallRecorder | None, successor: CallRecorder | None) -> CallRecorder | None:
    """What records once ``successor`` is wanted; None: nothing. The present one is let go of when it has ended."""
    if present is None or present is successor:
        return successor
    present.finish()
    return present if successor is None else successor


class _Leg:
    """One side at the rate of the file; the codec of a call may change."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frame = round(rate * PACKET_TIME)
        self._resampler = Resampler(rate, rate)
        self._rest: Samples = np.zeros(0, np.int16)

    def convert(self, samples: Samples, rate: int) -> Samples:
        """Exactly 20 ms: what a resampler holds back comes as silence first."""
        if self._resampler.source != rate:
            self._resampler = Resampler(rate, self._rate)
        sound = np.concatenate((self._rest, self._resampler.convert(samples)))
        if len(sound) < self._frame:
            sound = np.pad(sound, (self._frame - len(sound), 0))
        # A millisecond may wait; more has come from a change of rates and goes.
        self._rest = sound[self._frame :][: self._frame]
        return sound[: self._frame]


class _WavWriter:
    def __init__(self, path: Path, channels: int, rate: int) -> None:
        self._raw: BinaryIO = open(path, "wb", buffering=0)
        self._file = wave.open(self._raw, "wb")
        self._file.setnchannels(channels)
        self._file.setsampwidth(2)
        self._file.setframerate(rate)

    def write(self, frame: Samples) -> None:
        self._file.writeframesraw(frame.astype("<i2", copy=False).tobytes())

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            self._raw.close()


class _OpusWriter:
    def __init__(self, path: Path, channels: int) -> None:
        self._layout = "stereo" if channels == 2 else "mono"
        # A file of our own: FFmpeg would open it with the first packet only.
        self._raw: BinaryIO = open(path, "wb")
        self._container = av.open(self._raw, "w", format="ogg")
        stream = self._container.add_stream("libopus", rate=_OPUS_RATE, layout=self._layout)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.bit_rate = _OPUS_BIT_RATE
        self._position = 0

    def write(self, frame: Samples) -> None:
        sound = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(frame.reshape(1, -1)), format="s16", layout=self._layout
        )
        sound.sample_rate = _OPUS_RATE
        sound.time_base = Fraction(1, _OPUS_RATE)
        sound.pts = self._position
        self._position += len(frame)
        self._container.mux(self._stream.encode(sound))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            try:
                self._container.close()
            finally:
                self._raw.close()


def _free(path: Path) -> int:
    """Bytes that an ordinary user may still write where this file is."""
    try:
        found = os.statvfs(path)
    except OSError:
        return LEAST_FREE
    # Devices have no blocks at all; writing says what is wrong with them.
    return found.f_bavail * found.f_frsize if found.f_blocks else LEAST_FREE
