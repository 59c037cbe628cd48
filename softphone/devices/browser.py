"""A browser as the headset: a device whose sound comes and goes by whatever way the page has found.

Over WebRTC (`softphone.devices.webrtc`), or as frames of samples over the page's WebSocket where only that passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from softphone.devices.device import RATE, DeviceError, Kind
from softphone.devices.elastic import Elastic
from softphone.media.audio import Resampler
from softphone.media.codecs import Samples

RATES = range(8_000, 192_001)
"Samples a second that a page may have."


class Way(Protocol):
    """How sound gets to the page."""

    def play(self, samples: Samples) -> None:
        """20 ms of `RATE`. Never waits."""


class BrowserDevice:
    """A `Device`. At most one page is it at a time: the latest."""

    name = "browser"
    kind = Kind.BROWSER
    rate = RATE
    delay = 0.0
    "Browsers cancel their own echo."

    def __init__(self) -> None:
        self.way: Way | None = None
        self._spoken = Elastic(RATE)
        self._lost: Callable[[str], None] = lambda why: None

    def connect(self, way: Way) -> None:
        """This page is the headset from now on."""
        self.way, self._spoken = way, Elastic(RATE)

    def disconnect(self, way: Way) -> None:
        """The page is gone."""
        if way is self.way:
            self.way = None
            lost, self._lost = self._lost, lambda why: None
            lost("the page was closed, or cannot be reached any more")

    def hear(self, way: Way, samples: Samples) -> None:
        """Sound of `RATE` came from the page."""
        if way is self.way:
            self._spoken.write(samples)

    async def open(self, lost: Callable[[str], None]) -> None:
        if self.way is None:
            raise DeviceError("no browser is connected: open the page that `softphone headset` tells")
        self._lost = lost

    async def listen(self) -> None:
        self._spoken = Elastic(RATE)

    async def close(self) -> None:
        self._lost = lambda why: None

    def read(self, count: int) -> Samples:
        return self._spoken.read(count)

    def write(self, samples: Samples) -> None:
        if self.way is not None:
            self.way.play(samples)


class FrameWay:
    """Samples of the page's own rate, 16 bits, little endian, in messages of a WebSocket."""

    def __init__(self, device: BrowserDevice, rate: int, send: Callable[[bytes], None]) -> None:
        """Raises DeviceError for a rate that is none."""
        if rate not in RATES:
            raise DeviceError(f"a page has {RATES.start} to {RATES.stop - 1} samples a second, not {rate}")
        self._device = device
        self._send = send
        self._out, self._in = Resampler(RATE, rate), Resampler(rate, RATE)

    def play(self, samples: Samples) -> None:
        if len(converted := self._out.convert(samples)):
            self._send(converted.astype("<i2", copy=False).tobytes())

    def received(self, data: bytes) -> None:
        """Raises ValueError for half a sample."""
        samples = np.frombuffer(data, "<i2").astype(np.int16, copy=False)
        self._device.hear(self, self._in.convert(samples))
