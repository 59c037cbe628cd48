"""Sound cards by PortAudio: the only module that imports sounddevice, which is optional, and only when it is needed.

PortAudio's callbacks run in a thread of its own and with a clock of its own; `Elastic` stands between it and the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from softphone.devices.device import RATE, Described, DeviceError, Kind
from softphone.devices.elastic import DELAY, Elastic
from softphone.media.audio import Resampler
from softphone.media.codecs import Samples

BLOCK = 0.01
"Seconds of a block that PortAudio asks for."
LATENCY = 0.03
"Seconds that PortAudio may hold back itself."
SILENT = 2.0
"Seconds without a callback after which a card counts as gone: some never say so."
_users = 0
"Streams that are open: only without any may PortAudio look for cards anew."
_guard = threading.Lock()
_looked = False


def _portaudio() -> Any:
    """Raises DeviceError where it is not installed."""
    try:
        import sounddevice
    except ImportError:
        raise DeviceError("sound cards need the Python package sounddevice: pip install 'roamphone[sound]'") from None
    except OSError:
        raise DeviceError("sound cards need PortAudio: install the package libportaudio2") from None
    return sounddevice


def _fresh() -> Any:
    """PortAudio with the cards that are there now, as far as it can look: not while a stream is open."""
    global _looked
    portaudio = _portaudio()
    with _guard:
        if _looked and not _users:
            try:
                with _silence():
                    portaudio._terminate()
                    portaudio._initialize()
            except portaudio.PortAudioError as exc:
                raise DeviceError(f"PortAudio does not start: {exc}") from exc
        _looked = True
    return portaudio


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """ALSA and JACK write to the process's stderr whatever they do not find."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def sound_cards() -> list[Described]:
    """Those that PortAudio finds; none on a machine without. Takes up to a second. Raises DeviceError."""
    return [
        Described(
            str(card["name"]), Kind.SOUNDDEVICE, int(card["max_input_channels"]), int(card["max_output_channels"])
        )
        for card in _fresh().query_devices()
    ]


@dataclass(slots=True)
class _Way:
    """One direction: a stream of PortAudio and what stands between its clock and ours."""

    stream: Any
    buffer: Elastic
    resampler: Resampler
    called: float


class SoundCard:
    """A `Device`. ``microphone`` and ``loudspeaker`` are names, or parts of them; None: what the system prefers."""

    kind = Kind.SOUNDDEVICE
    rate = RATE

    def __init__(self, microphone: str | None = None, loudspeaker: str | None = None) -> None:
        names = dict.fromkeys((microphone or "default", loudspeaker or "default"))
        self.name = ", ".join(names)
        self._names = (microphone, loudspeaker)
        self._in: _Way | None = None
        self._out: _Way | None = None
        self._lock = threading.Lock()
        self._lost: Callable[[str], None] = lambda why: None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def delay(self) -> float:
        return sum(DELAY + float(way.stream.latency) for way in (self._in, self._out) if way is not None)

    async def open(self, lost: Callable[[str], None]) -> None:
        if self._out is None:
            self._loop, self._lost = asyncio.get_running_loop(), lost
            self._out = await asyncio.to_thread(self._begin, False)

    async def listen(self) -> None:
        if self._in is None:
            self._in = await asyncio.to_thread(self._begin, True)

    async def close(self) -> None:
        self._lost = lambda why: None
        ways = [way for way in (self._in, self._out) if way is not None]
        self._in = self._out = None
        for way in ways:
            await asyncio.to_thread(_end, way)

    def read(self, count: int) -> Samples:
        way = self._in
        if way is None:
            return np.zeros(count, np.int16)
        self._watch(way)
        with self._lock:
            return way.buffer.read(count)

    def write(self, samples: Samples) -> None:
        way = self._out
        if way is None:
            return
        self._watch(way)
        converted = way.resampler.convert(samples)
        with self._lock:
            way.buffer.write(converted)

    def _watch(self, way: _Way) -> None:
        if time.monotonic() - way.called > SILENT:
            self._tell(f"it has not moved for {SILENT:g} s")

    def _tell(self, why: str) -> None:
        lost, self._lost = self._lost, lambda why: None
        lost(why)

    def _begin(self, microphone: bool) -> _Way:
        """In a thread: it may take a while."""
        global _users
        portaudio = _fresh()
        name = self._names[0 if microphone else 1]
        what = "microphone" if microphone else "loudspeaker"
        try:
            card = portaudio.query_devices(name, "input" if microphone else "output")
        except (ValueError, portaudio.PortAudioError) as exc:
            wanted = "there is none" if name is None else f"there is none named {name!r}, or several"
            raise DeviceError(f"no {what}: {wanted}; `softphone devices` lists them ({exc})") from None
        index = card["index"]
        channels = min(2, int(card["max_input_channels" if microphone else "max_output_channels"]))
        make = portaudio.InputStream if microphone else portaudio.OutputStream
        check = portaudio.check_input_settings if microphone else portaudio.check_output_settings
        form = {"device": index, "channels": channels, "dtype": "int16"}
        rate = RATE
        try:
            check(samplerate=RATE, **form)
        except (ValueError, portaudio.PortAudioError):
            rate = round(float(card["default_samplerate"]))
        way = _Way(
            None, Elastic(RATE if microphone else rate), Resampler(*((rate, RATE) if microphone else (RATE, rate))),
            time.monotonic(),
        )  # fmt: skip
        taking, giving = self._taking(way), self._giving(way)
        with _guard:
            _users += 1
        try:
            way.stream = make(
                samplerate=rate, blocksize=round(rate * BLOCK), latency=LATENCY,
                callback=taking if microphone else giving, finished_callback=self._finished, **form,
            )  # fmt: skip
            way.stream.start()
        except (ValueError, portaudio.PortAudioError) as exc:
            _end(way)
            raise DeviceError(f"the {what} {card['name']!r} cannot be used: {exc}") from exc
        way.called = time.monotonic()
        return way

    def _taking(self, way: _Way) -> Callable[..., None]:
        def take(data: Any, frames: int, at: object, status: object) -> None:
            way.called = time.monotonic()
            mono = data[:, 0] if data.shape[1] == 1 else data.mean(axis=1)
            samples = way.resampler.convert(np.array(mono, np.int16))
            with self._lock:
                way.buffer.write(samples)

        return take

    def _giving(self, way: _Way) -> Callable[..., None]:
        def give(data: Any, frames: int, at: object, status: object) -> None:
            way.called = time.monotonic()
            with self._lock:
                samples = way.buffer.read(frames)
            data[:] = samples[:, None]

        return give

    def _finished(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell, "it was unplugged, or its server has ended")


def _end(way: _Way) -> None:
    """In a thread: it may take a while."""
    global _users
    portaudio = _portaudio()
    if way.stream is not None:
        for step in (way.stream.abort, way.stream.close):
            with contextlib.suppress(portaudio.PortAudioError):  # it is gone
                step()
    with _guard:
        _users -= 1
