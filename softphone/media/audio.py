"""Where sound comes from and goes to: files, devices, tracks and mixers fit these two protocols."""

from __future__ import annotations

from typing import Protocol

import av
import numpy as np

from softphone.media.codecs import PACKET_TIME, Samples


class AudioSource(Protocol):
    """Gives sound to send. Called in the event loop every 20 ms: it must answer at once."""

    @property
    def rate(self) -> int:
        """Samples per second of what `read` gives."""

    def read(self, count: int) -> Samples:
        """The next ``count`` mono samples; fewer: the source has ended with them."""


class AudioSink(Protocol):
    """Takes the sound that was received, 20 ms at a time, without gaps. Called in the event loop."""

    @property
    def rate(self) -> int:
        """Samples per second that `write` wants."""

    def write(self, samples: Samples) -> None:
        """Mono samples that follow those before."""


class Resampler:
    """Changes the sample rate of a stream of mono sound."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self._resampler = None
        if source != target:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=target)

    def convert(self, samples: Samples) -> Samples:
        """The sound in the other rate; a fraction of a millisecond is held back until more comes or `flush`."""
        if self._resampler is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, :]), format="s16", layout="mono")
        frame.sample_rate = self.source
        return self._joined(self._resampler.resample(frame))

    def flush(self) -> Samples:
        """What was held back; the resampler must not be used afterwards."""
        if self._resampler is None:
            return np.zeros(0, np.int16)
        return self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(frames: list[av.AudioFrame]) -> Samples:
        parts = [frame.to_ndarray().reshape(-1) for frame in frames]
        return np.concatenate(parts).astype(np.int16, copy=False) if parts else np.zeros(0, np.int16)


class Feed:
    """Cuts a source into frames of a codec's length and rate."""

    def __init__(self, source: AudioSource, rate: int, frame: int) -> None:
        self.source = source
        self.ended = False
        "The source has ended; what is left is given out still."
        self._frame = frame
        self._resampler = Resampler(source.rate, rate)
        self._block = max(1, round(source.rate * PACKET_TIME))
        self._rest: Samples = np.zeros(0, np.int16)

    def next(self) -> Samples | None:
        """One frame, the last one filled up with silence; None: all is given out."""
        while len(self._rest) < self._frame and not self.ended:
            samples = self.source.read(self._block)
            parts = [self._rest, self._resampler.convert(samples)]
            if len(samples) < self._block:
                self.ended = True
                parts.append(self._resampler.flush())
            self._rest = np.concatenate(parts)
        if not len(self._rest):
            return None
        frame, self._rest = self._rest[: self._frame], self._rest[self._frame :]
        return frame if len(frame) == self._frame else np.pad(frame, (0, self._frame - len(frame)))


class Drain:
    """Gives frames of a codec's rate to a sink."""

    def __init__(self, sink: AudioSink, rate: int) -> None:
        self.sink = sink
        self._resampler = Resampler(rate, sink.rate)

    def write(self, samples: Samples) -> None:
        converted = self._resampler.convert(samples)
        if len(converted):
            self.sink.write(converted)
