"""What a microphone hears, made fit to be sent: echo cancelled, noise suppressed, level controlled.

`Conditioned` wraps source and sink of a local device; any `CaptureProcessor` can do the work. The one here
is Xiph's libspeexdsp by ctypes: there is no wheel of it, and those of WebRTC's audio processing are under Apache-2.0.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Protocol

import numpy as np

from softphone.media.audio import AudioSink, AudioSource
from softphone.media.codecs import PACKET_TIME, Samples

TAIL = 0.150
"Seconds for which a room may answer."
NOISE_SUPPRESSION = -20
ECHO_SUPPRESSION, ECHO_SUPPRESSION_ACTIVE = -45, -20
"dB at most: of noise; of what is left of the echo, and while the near end speaks."
GREATEST_GAIN = 24
"dB."
WANTED_LEVEL = 8000.0
"Of speech, in libspeexdsp's measure (of 32768)."
_GREATEST_BACKLOG = 0.5
"Seconds of played sound that may wait for the microphone: devices start at different times."

_LIBRARY = "libspeexdsp.so.1"
_ECHO_SET_RATE = 24
_DENOISE, _AGC, _NOISE_SUPPRESS, _ECHO_SUPPRESS, _ECHO_SUPPRESS_ACTIVE, _ECHO_STATE = 0, 2, 18, 20, 22, 24
_AGC_MAX_GAIN, _AGC_TARGET = 30, 46


class CaptureError(RuntimeError):
    """Sound cannot be processed, and what to do about it."""


class CaptureProcessor(Protocol):
    """Works on 20 ms at a time."""

    @property
    def rate(self) -> int:
        """Samples per second of both arguments of `process`."""

    def process(self, captured: Samples, played: Samples) -> Samples:
        """What is to be sent of 20 ms from the microphone, while the loudspeaker was given ``played``."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise CaptureError(
            f"echo cancellation and noise suppression need {_LIBRARY}: install the package libspeexdsp1"
        ) from exc
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    for function, result, arguments in (
        ("speex_echo_state_init", pointer, [integer, integer]),
        ("speex_echo_state_destroy", None, [pointer]),
        ("speex_echo_cancellation", None, [pointer, pointer, pointer, pointer]),
        ("speex_echo_ctl", integer, [pointer, integer, pointer]),
        ("speex_preprocess_state_init", pointer, [integer, integer]),
        ("speex_preprocess_state_destroy", None, [pointer]),
        ("speex_preprocess_run", integer, [pointer, pointer]),
        ("speex_preprocess_ctl", integer, [pointer, integer, pointer]),
    ):
        entry = getattr(library, function)
        entry.restype, entry.argtypes = result, arguments
    return library


class SpeexProcessor:
    """Echo canceller (MDF) and preprocessor of libspeexdsp for one microphone. Raises `CaptureError` without it."""

    def __init__(self, rate: int, *, echo: bool = True, noise: bool = True, gain: bool = True) -> None:
        self.rate = rate
        self.frame = round(rate * PACKET_TIME)
        self._library = _library()
        self._echo = self._library.speex_echo_state_init(self.frame, round(rate * TAIL)) if echo else None
        self._state = self._library.speex_preprocess_state_init(self.frame, rate)
        if self._echo:
            self._library.speex_echo_ctl(self._echo, _ECHO_SET_RATE, ctypes.byref(ctypes.c_int(rate)))
            self._library.speex_preprocess_ctl(self._state, _ECHO_STATE, self._echo)
            self._set(_ECHO_SUPPRESS, ECHO_SUPPRESSION)
            self._set(_ECHO_SUPPRESS_ACTIVE, ECHO_SUPPRESSION_ACTIVE)
        # What is left of an echo is suppressed together with noise, or not at all.
        self._set(_DENOISE, int(noise or echo))
        self._set(_NOISE_SUPPRESS, NOISE_SUPPRESSION if noise else -1)
        self._set(_AGC, int(gain))
        if gain:
            self._set(_AGC_MAX_GAIN, GREATEST_GAIN)
            self._set(_AGC_TARGET, round(WANTED_LEVEL))

    def process(self, captured: Samples, played: Samples) -> Samples:
        """Raises `ValueError` unless both are 20 ms."""
        if len(captured) != self.frame or len(played) != self.frame:
            raise ValueError(f"{self.frame} samples are processed at a time, not {len(captured)} and {len(played)}")
        near, far = np.ascontiguousarray(captured, np.int16), np.ascontiguousarray(played, np.int16)
        out = np.array(near)
        if self._echo:
            self._library.speex_echo_cancellation(self._echo, near.ctypes.data, far.ctypes.data, out.ctypes.data)
        self._library.speex_preprocess_run(self._state, out.ctypes.data)
        return out

    def _set(self, request: int, value: int) -> None:
        if self._library.speex_preprocess_ctl(self._state, request, ctypes.byref(ctypes.c_int(value))) != 0:
            raise CaptureError(f"{_LIBRARY} refused the setting {request} = {value}")

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.speex_preprocess_state_destroy(self._state)
            self._state = None
        if getattr(self, "_echo", None):
            self._library.speex_echo_state_destroy(self._echo)
            self._echo = None


class Conditioned:
    """Microphone and loudspeaker of one place, with a processor between them: play from it, record to it.

    It is both an `AudioSource` and an `AudioSink` of the processor's rate; ``source`` and ``sink`` are the device's, at
    the same rate. What is given to the loudspeaker is kept until the microphone's next frame asks for it, and ``delay``
    seconds longer: what is known to lie between, of which the canceller's own `TAIL` need not be used up.
    """

    def __init__(self, source: AudioSource, sink: AudioSink, processor: CaptureProcessor, delay: float = 0.0) -> None:
        if not source.rate == sink.rate == processor.rate:
            raise ValueError(f"rates differ: {source.rate}, {sink.rate} and {processor.rate} samples a second")
        self.rate = processor.rate
        self._source, self._sink, self._process = source, sink, processor.process
        self._frame = round(self.rate * PACKET_TIME)
        self._played: Samples = np.zeros(round(self.rate * min(delay, _GREATEST_BACKLOG / 2)), np.int16)
        self._ready: Samples = np.zeros(0, np.int16)

    def write(self, samples: Samples) -> None:
        self._sink.write(samples)
        kept = round(self.rate * _GREATEST_BACKLOG)
        self._played = np.concatenate((self._played, samples))[-kept:]

    def read(self, count: int) -> Samples:
        ended = False
        while len(self._ready) < count and not ended:
            captured = self._source.read(self._frame)
            ended = len(captured) < self._frame
            if not ended:
                captured = self._process(captured, self._reference())
            self._ready = np.concatenate((self._ready, captured))
        given, self._ready = self._ready[:count], self._ready[count:]
        return given

    def _reference(self) -> Samples:
        """What was played in the next 20 ms; silence while nothing was."""
        if len(self._played) < self._frame:
            return np.zeros(self._frame, np.int16)
        reference, self._played = self._played[: self._frame], self._played[self._frame :]
        return reference
