"""Keypad tones in the sound itself (ITU-T Q.23): making them, and finding them (Goertzel's filters). Sans-IO."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.dtmf import GAP, GREATEST_QUEUE, DigitMethod, DigitReceived, checked, packets_of

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477, 1633)
"Hz."
KEYS = ("123A", "456B", "789C", "*0#D")

AMPLITUDE = 5000.0
"Of each of the two tones that we make: -13 dBm0 or so, and no overflow together."
_LEAST = 200.0
"Amplitude of a tone that is one."
_SHARE = 0.70
"Of all energy that the two tones must have: speech has it elsewhere as well."
_NEIGHBOURS = 4.0
"How much stronger in energy a tone is than others of its group."
_TWIST, _REVERSE_TWIST = 6.4, 4.0
"How much stronger in energy the row (8 dB) or the column (6 dB) may be than the other (ITU-T Q.24, 8 and 4 dB)."
_HITS = 2
"Blocks of 20 ms that must agree: a digit lasts at least 40 ms."
_MISSES = 2

_Floats = NDArray[np.float32]


def tone(digit: str, rate: int, seconds: float) -> Samples:
    """The two tones of a digit, with soft edges. Raises `ValueError` for what is not on the keypad."""
    place = next(((r, row.index(digit)) for r, row in enumerate(KEYS) if digit in row), None)
    if place is None or len(digit) != 1:
        raise ValueError(f"{digit!r} is not on the keypad")
    t = np.arange(round(rate * seconds)) / rate
    sound = np.sin(2 * np.pi * ROWS[place[0]] * t) + np.sin(2 * np.pi * COLUMNS[place[1]] * t)
    edge = np.clip(np.minimum(t, t[::-1]) / 0.002, 0, 1)
    return np.asarray(AMPLITUDE * sound * edge, np.int16)


class ToneSender:
    """Digits that wait to be put into the sound of one codec, a frame at a time."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frame = round(rate * PACKET_TIME)
        self._frames: deque[Samples] = deque()

    def add(self, digits: str, duration: float) -> None:
        """Raises `ValueError`."""
        digits, packets, pause = checked(digits), packets_of(duration), round(GAP / PACKET_TIME)
        if len(self._frames) + len(digits) * (packets + pause) > GREATEST_QUEUE * (packets + pause):
            raise ValueError(f"more than {GREATEST_QUEUE} digits wait to be sent")
        for digit in digits:
            self._frames.extend(tone(digit, self._rate, packets * PACKET_TIME).reshape(packets, self._frame))
            self._frames.extend(np.zeros((pause, self._frame), np.int16))

    def next(self) -> Samples | None:
        """The frame to send instead of other sound; None: no digit."""
        return self._frames.popleft() if self._frames else None


class ToneDetector:
    """Finds digits in the sound of one stream, 20 ms at a time."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._frame = round(rate * PACKET_TIME)
        t = np.arange(self._frame) / rate
        # A window widens what a filter hears just enough for the tolerance of 1.5 % and dampens what is far away.
        window = np.hamming(self._frame)
        window /= window.sum() / 2
        frequencies = np.array(ROWS + COLUMNS)[:, None]
        self._cosines = np.asarray(np.cos(2 * np.pi * frequencies * t) * window, np.float32)
        self._sines = np.asarray(np.sin(2 * np.pi * frequencies * t) * window, np.float32)
        self._window = np.asarray(window * self._frame / 2, np.float32)
        self._candidate = ""
        self._hits = self._misses = 0
        self._digit = ""
        self._blocks = 0

    def hear(self, samples: Samples) -> list[DigitReceived]:
        """The next frame; a digit is told when it ends."""
        if len(samples) != self._frame:
            return []
        found = self._judge(samples)
        if self._digit:
            if found == self._digit:
                self._blocks += 1 + self._misses
                self._misses = 0
                return []
            self._misses += 1
            if self._misses < _MISSES:
                return []
            ended = DigitReceived(self._digit, self._blocks * PACKET_TIME, DigitMethod.TONE)
            self._digit, self._candidate, self._hits = "", found, 1 if found else 0
            return [ended]
        self._hits = self._hits + 1 if found and found == self._candidate else bool(found)
        self._candidate = found
        if self._hits >= _HITS:
            self._digit, self._blocks, self._misses = found, self._hits, 0
        return []

    def _judge(self, samples: Samples) -> str:
        """The digit of a block; empty: none."""
        sound = samples.astype(np.float32)
        if float(np.abs(sound).max()) < _LEAST:
            return ""
        energy = (self._cosines @ sound) ** 2 + (self._sines @ sound) ** 2
        rows, columns = energy[:4], energy[4:]
        row, column = int(rows.argmax()), int(columns.argmax())
        one, other = float(rows[row]), float(columns[column])
        if min(one, other) < _LEAST**2 or one > _TWIST * other or other > _REVERSE_TWIST * one:
            return ""
        if any(float(np.partition(group, -2)[-2]) * _NEIGHBOURS > group.max() for group in (rows, columns)):
            return ""
        # Two tones of amplitudes a and b have the mean square (a² + b²) / 2, weighted as the filters weight.
        total = float((sound**2 * self._window).sum()) / self._frame
        return KEYS[row][column] if (one + other) / 2 > _SHARE * total else ""
