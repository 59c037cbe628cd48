"""Files in place of microphone and loudspeaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from softphone.devices.device import RATE, DeviceError, Kind
from softphone.media.codecs import Samples
from softphone.media.files import FileError, SamplesSource, read_sound
from softphone.media.recorder import CallRecorder, Legs


class FileDevice:
    """A `Device`: ``spoken`` is played once each time the device listens, then it is silent; ``heard`` is recorded to.

    Any format that FFmpeg reads, ``.wav`` or ``.opus`` to record. Opened again it writes beside it: ``heard-2.wav``...
    """

    kind = Kind.FILE
    rate = RATE
    delay = 0.0

    def __init__(self, spoken: Path | None, heard: Path | None) -> None:
        self.name = f"file {spoken or 'silence'}, {heard or 'nothing recorded'}"
        self._spoken, self._heard = spoken, heard
        self._openings = 0
        self._source: SamplesSource | None = None
        self._recorder: CallRecorder | None = None
        self._lost: Callable[[str], None] = lambda why: None

    async def open(self, lost: Callable[[str], None]) -> None:
        self._lost = lost
        if self._heard is None or self._recorder is not None:
            return
        self._openings += 1
        path = self._heard
        if self._openings > 1:
            path = path.with_stem(f"{path.stem}-{self._openings}")
        try:
            self._recorder = CallRecorder(path, legs=Legs.MIXED, rate=RATE)
        except FileError as exc:
            raise DeviceError(str(exc)) from exc

    async def listen(self) -> None:
        if self._spoken is None or self._source is not None:
            return
        try:
            samples, rate = await asyncio.to_thread(read_sound, self._spoken, RATE)
        except FileError as exc:
            raise DeviceError(str(exc)) from exc
        self._source = SamplesSource(samples, rate)

    async def close(self) -> None:
        recorder, self._recorder, self._source = self._recorder, None, None
        if recorder is not None:
            await asyncio.to_thread(recorder.close)

    def read(self, count: int) -> Samples:
        given = np.zeros(0, np.int16) if self._source is None else self._source.read(count)
        return np.pad(given, (0, count - len(given)))

    def write(self, samples: Samples) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if recorder.ended is not None:
            self._recorder = None
            self._lost(recorder.ended.why)
            return
        recorder.write(np.zeros(len(samples), np.int16), RATE, samples, RATE)
