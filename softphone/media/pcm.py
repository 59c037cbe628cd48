"""Raw sound in and out of a call: 16-bit mono samples of this machine's byte order, paced by the call's own clock."""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np

from softphone.errors import CallError
from softphone.media.codecs import Samples

AHEAD = 0.2
"Seconds of sound that may wait to be sent; then `PcmSource.write` waits."
KEPT = 2.0
"Seconds of sound that wait for a reader; then the oldest goes."


class PcmSource:
    """Sound that a program writes; an `AudioSource`. What is late is silence, nothing that was written gets lost."""

    def __init__(self, rate: int = 16_000, ahead: float = AHEAD) -> None:
        self.rate = rate
        self.underruns = 0
        "Packet times that were silent because nothing was there yet."
        self._ahead = round(rate * ahead) * 2
        self._data = bytearray()
        self._room = asyncio.Event()
        self._closed = self._over = False

    async def write(self, data: bytes) -> None:
        """Send this after what was written before; waits until all but `AHEAD` of it has left.

        Raises CallError when nobody takes it any more: the call is over, or plays something else; ValueError for half a
        sample.
        """
        if len(data) % 2:
            raise ValueError(f"samples have 16 bits: {len(data)} bytes are no whole number of them")
        if self._closed:
            raise CallError("this sound was closed: the call is over, or plays something else")
        self._data += data
        while len(self._data) > self._ahead:
            self._room.clear()
            await self._room.wait()
            if self._over:
                raise CallError("nobody takes this sound any more: the call is over, or plays something else")

    def close(self) -> None:
        """No more is coming: what was written is still sent, then the source has ended."""
        self._closed = True

    def abandon(self) -> None:
        """Nobody reads any more."""
        self._closed = self._over = True
        self._data.clear()
        self._room.set()

    def read(self, count: int) -> Samples:
        given = np.frombuffer(bytes(self._data[: 2 * count]), np.int16)
        del self._data[: 2 * count]
        self._room.set()
        if len(given) == count or self._closed:
            return given
        self.underruns += not len(given)
        return np.pad(given, (0, count - len(given)))


class PcmSink:
    """Sound that a program reads; an `AudioSink`. Also an asynchronous iterator, which ends with the call."""

    def __init__(self, rate: int = 16_000, kept: float = KEPT) -> None:
        self.rate = rate
        self.lost = 0
        "Samples that nobody read in time."
        self._kept = round(rate * kept)
        self._parts: deque[Samples] = deque()
        self._length = 0
        self._wake = asyncio.Event()
        self._closed = False

    def write(self, samples: Samples) -> None:
        self._parts.append(samples)
        self._length += len(samples)
        while self._length > self._kept:
            gone = len(self._parts.popleft())
            self._length -= gone
            self.lost += gone
        self._wake.set()

    def close(self) -> None:
        """No more is coming; what is there can still be read."""
        self._closed = True
        self._wake.set()

    async def read(self) -> bytes:
        """The next sound, about 20 ms of it; empty: the call is over."""
        while not self._parts:
            if self._closed:
                return b""
            self._wake.clear()
            await self._wake.wait()
        part = self._parts.popleft()
        self._length -= len(part)
        return part.tobytes()

    def __aiter__(self) -> PcmSink:
        return self

    async def __anext__(self) -> bytes:
        if not (data := await self.read()):
            raise StopAsyncIteration
        return data
