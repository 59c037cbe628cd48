"""The sound of a call as tracks of aiortc, both ways: players, recorders, relays and peer connections attach to them.

With `softphone.media.rtp` and `softphone.devices.webrtc` all that imports aiortc.
"""

from __future__ import annotations

import asyncio
from collections import deque
from fractions import Fraction

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.files import FileError

__all__ = ["CallTrack", "MediaStreamError", "MediaStreamTrack", "TrackSource", "mono"]

RATE = 48_000
"Samples a second of both kinds: what aiortc's Opus wants."
FIRST = 0.06
"Seconds of a track that are gathered before the first is sent: tracks come in frames and bursts of their own."
MOST = 0.4
"Seconds of a track that wait to be sent; a track that paces itself fills less."
KEPT = 50
"Frames of 20 ms that wait for whoever reads a `CallTrack`; then the oldest goes."


class TrackSource:
    """A track of somebody else as the sound to send; an `AudioSource`. The track itself belongs to whoever made it."""

    rate = RATE

    def __init__(self, track: MediaStreamTrack) -> None:
        """Raises FileError for a track of another kind."""
        if track.kind != "audio":
            raise FileError(f"a call takes tracks of sound, not of {track.kind}")
        self.track = track
        self._frames: deque[Samples] = deque()
        self._length = 0
        self._ended = self._flows = self._idle = False
        self._taken = asyncio.Event()
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[object, ...] = ()

    async def run(self) -> None:
        """Fetch from the track until it ends."""
        try:
            while True:
                frame = await self.track.recv()
                if not isinstance(frame, av.AudioFrame):
                    raise FileError(f"the track gave a {type(frame).__name__} instead of sound")
                self._put(self._convert(frame))
                await self._room(frame.samples / frame.sample_rate)
        except MediaStreamError:
            pass  # it has ended
        finally:
            self._ended = True

    def read(self, count: int) -> Samples:
        self._idle = False
        self._taken.set()
        if not self._flows and not self._ended and self._length < FIRST * RATE:
            return np.zeros(count, np.int16)
        self._flows = True
        given = np.concatenate([*self._frames, np.zeros(0, np.int16)])
        self._frames.clear()
        given, rest = given[:count], given[count:]
        if len(rest):
            self._frames.append(rest)
        self._length = len(rest)
        if len(given) == count or self._ended:
            return given
        self._flows = False  # gather anew
        return np.pad(given, (0, count - len(given)))

    def _convert(self, frame: av.AudioFrame) -> Samples:
        described = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or described != self._format:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            self._format = described
        return mono(self._resampler, frame)

    def _put(self, samples: Samples) -> None:
        self._frames.append(samples)
        self._length += len(samples)

    async def _room(self, seconds: float) -> None:
        """Wait while too much waits already. Where nobody reads (a hold), time passes and the oldest goes."""
        while self._length > MOST * RATE:
            if self._idle:
                await asyncio.sleep(seconds)
                self._length -= len(self._frames.popleft())
                return
            self._taken.clear()
            try:
                async with asyncio.timeout(5 * PACKET_TIME):
                    await self._taken.wait()
            except TimeoutError:
                self._idle = True


class CallTrack(MediaStreamTrack):
    """What the other side of a call says, as a track; an `AudioSink`. For one reader: `MediaRelay` makes more of it."""

    kind = "audio"
    rate = RATE

    def __init__(self) -> None:
        super().__init__()
        self._frames: deque[tuple[int, Samples]] = deque(maxlen=KEPT)
        self._position = 0
        self._wake = asyncio.Event()

    def write(self, samples: Samples) -> None:
        if self.readyState == "live":
            self._frames.append((self._position, samples))
            self._position += len(samples)
            self._wake.set()

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms or so. Raises MediaStreamError after the end."""
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._wake.clear()
            await self._wake.wait()
        position, samples = self._frames.popleft()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, :]), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, position, Fraction(1, RATE)
        return frame

    def stop(self) -> None:
        super().stop()
        self._wake.set()


def mono(resampler: av.AudioResampler, frame: av.AudioFrame) -> Samples:
    """What a resampler to one channel of 16 bits makes of a frame."""
    frame.pts = None
    parts = [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.int16, copy=False) if parts else np.zeros(0, np.int16)
