"""Sound files: play any WAV file, record WAV files."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from softphone.errors import SoftphoneError
from softphone.media.codecs import Samples

GREATEST_SECONDS = 3600
"A longer file would fill the memory."


class FileError(SoftphoneError, ValueError):
    """A sound file that cannot be used, and why."""


def read_sound(path: Path | str, rate: int | None = None) -> tuple[Samples, int]:
    """A whole file as mono samples and their rate; any channels, any format that FFmpeg reads.

    ``rate``: convert to this many samples a second; None: as in the file. Raises `FileError`.
    """
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.audio:
                raise FileError(f"{path} contains no sound")
            stream = container.streams.audio[0]
            target = rate or stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="s16", layout="mono", rate=target)
            parts: list[Samples] = []
            seconds = 0.0
            for frame in container.decode(stream):
                seconds += frame.samples / frame.sample_rate
                if seconds > GREATEST_SECONDS:
                    raise FileError(f"{path} is longer than {GREATEST_SECONDS} s")
                frame.pts = None
                parts += _mono(resampler.resample(frame))
            if parts:
                parts += _mono(resampler.resample(None))
    except (av.FFmpegError, OSError) as exc:
        raise FileError(f"{path} cannot be read as a sound file: {exc}") from exc
    if not parts:
        raise FileError(f"{path} contains no sound")
    return np.concatenate(parts).astype(np.int16, copy=False), target


def _mono(frames: list[av.AudioFrame]) -> list[Samples]:
    return [frame.to_ndarray().reshape(-1).astype(np.int16, copy=False) for frame in frames]


class SamplesSource:
    """Sound from memory; an `AudioSource`."""

    def __init__(self, samples: Samples, rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.done = asyncio.Event()
        "Set when the last sample was taken."
        self._position = 0

    def read(self, count: int) -> Samples:
        part = self.samples[self._position : self._position + count]
        self._position += len(part)
        if len(part) < count:
            self.done.set()
        return part


class LoopedSource:
    """A sound over and over, beginning at this sample of it; an `AudioSource`."""

    def __init__(self, samples: Samples, rate: int, begin: int = 0) -> None:
        self._samples, self.rate, self._at = samples, rate, begin

    def read(self, count: int) -> Samples:
        places = np.arange(self._at, self._at + count) % len(self._samples)
        self._at = (self._at + count) % len(self._samples)
        return np.asarray(self._samples[places], np.int16)


class WavSource(SamplesSource):
    """A sound file; an `AudioSource`. Raises `FileError`."""

    def __init__(self, path: Path | str, rate: int | None = None) -> None:
        super().__init__(*read_sound(path, rate))
        self.path = Path(path)


class MemorySink:
    """Keeps the sound; an `AudioSink`."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._parts: list[Samples] = []

    def write(self, samples: Samples) -> None:
        self._parts.append(samples)

    @property
    def samples(self) -> Samples:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.int16)


class WavRecorder:
    """Writes a WAV file, mono, 16 bits; an `AudioSink`. Closed by `close` or as a context manager."""

    def __init__(self, path: Path | str, rate: int = 16_000) -> None:
        """Raises `FileError` where the file cannot be made."""
        self.path, self.rate = Path(path), rate
        try:
            self._raw = open(path, "wb")
        except OSError as exc:
            raise FileError(f"{path} cannot be written: {exc}") from exc
        self._file = wave.open(self._raw, "wb")
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(rate)

    def write(self, samples: Samples) -> None:
        # The lengths in the header are put right by close().
        self._file.writeframesraw(samples.astype("<i2", copy=False).tobytes())

    def close(self) -> None:
        """Complete the file; may be called twice."""
        if not self._raw.closed:
            self._file.close()
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
