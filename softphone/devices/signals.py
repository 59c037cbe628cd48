"""What a person hears from the phone itself: that somebody calls, that it rings there, that it is busy. Sans-IO."""

from __future__ import annotations

from enum import Enum

import numpy as np

from softphone.devices.device import RATE
from softphone.media.codecs import Samples

AMPLITUDE = 6000.0
SECOND = RATE


class Signal(Enum):
    """Frequencies in Hz; then seconds on, off, on..."""

    RING = ((440.0, 554.0), (0.4, 0.2, 0.4, 2.0))
    "Somebody calls."
    WAITING = ((425.0,), (0.2, 0.2, 0.2, 4.4))
    "Somebody calls while we talk."
    RINGBACK = ((425.0,), (1.0, 4.0))
    "It rings there (ETSI TR 101 041-2, as in most of Europe)."
    BUSY = ((425.0,), (0.48, 0.48, 0.48, 0.48, 0.48, 0.48))
    "Nothing came of the call. Told once, the others again and again."


class Sounding:
    """One signal, from its beginning."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.over = False
        self._sound = _made(signal)
        self._position = 0

    def next(self, count: int) -> Samples:
        """The next samples."""
        end = self._position + count
        if end <= len(self._sound):
            given = self._sound[self._position : end]
        elif self.signal is Signal.BUSY:
            self.over = True
            return np.zeros(count, np.int16)
        else:
            given = np.take(self._sound, range(self._position, end), mode="wrap")
        self._position = end % len(self._sound) if self.signal is not Signal.BUSY else end
        return given


def _made(signal: Signal) -> Samples:
    frequencies, cadence = signal.value
    parts: list[Samples] = []
    for number, seconds in enumerate(cadence):
        t = np.arange(round(seconds * SECOND)) / RATE
        if number % 2:
            parts.append(np.zeros(len(t), np.int16))
            continue
        sound = sum(np.sin(2 * np.pi * hertz * t) for hertz in frequencies)
        edge = np.clip(np.minimum(t, t[::-1]) / 0.01, 0, 1)
        parts.append(np.asarray(AMPLITUDE / len(frequencies) * sound * edge, np.int16))
    return np.concatenate(parts)
