"""Comfort noise (RFC 3389) and the detection of silence that goes with it. Sans-IO.

Of the spectrum in a packet only the level is used, and only the level is sent: the RFC allows a model of order 0.
"""

from __future__ import annotations

import math

import numpy as np

from softphone.media.codecs import PACKET_TIME, Samples

PAYLOAD_TYPE = 13
CLOCK_RATE = 8_000
SILENCE_LEVEL = 127
"dB below overload: the lowest that can be said."
LOUDEST_LEVEL = 30
"Comfort noise that is louder would not be comfortable, whoever asks for it."

_OVERLOAD = 32768.0
_HANGOVER = round(0.200 / PACKET_TIME)
"Packets of silence that are sent as they are: ends of words are soft."
_REPEAT = round(0.500 / PACKET_TIME)
_CHANGED = 4
"dB by which a new level is worth a packet."
_MARGIN = 2.5
"How much louder than the background speech is."
_SOFT = 400.0
"Root mean square above which nothing counts as silence."
_LEAST = 4.0


def level_of(samples: Samples) -> int:
    """The noise level of sound as a packet says it, in -dBov."""
    power = float(np.square(samples.astype(np.float32)).mean()) if len(samples) else 0.0
    if power <= 0:
        return SILENCE_LEVEL
    return max(0, min(SILENCE_LEVEL, round(-20 * math.log10(math.sqrt(power) / _OVERLOAD))))


class NoiseGenerator:
    """The listening side: noise of the level that the packets tell."""

    def __init__(self) -> None:
        self._dice = np.random.default_rng(3389)
        self._amplitude = 0.0

    def tell(self, payload: bytes) -> None:
        """A packet of comfort noise; an empty one is silence."""
        level = max(payload[0] & 0x7F, LOUDEST_LEVEL) if payload else SILENCE_LEVEL
        self._amplitude = _OVERLOAD * 10 ** (-level / 20)

    def make(self, count: int) -> Samples:
        noise = self._dice.standard_normal(count, np.float32) * self._amplitude
        return np.asarray(np.clip(noise, -32768, 32767), np.int16)


class SilenceDetector:
    """The speaking side: says of each frame what is to be sent."""

    def __init__(self) -> None:
        self._background = _SOFT / _MARGIN
        self._silent = 0
        self._told = SILENCE_LEVEL + _CHANGED
        self._since = 0

    def judge(self, samples: Samples) -> bytes | None:
        """None: send the frame itself. Else the payload of a comfort noise packet; empty: send nothing."""
        loudness = max(_LEAST, math.sqrt(float(np.square(samples.astype(np.float32)).mean())))
        # The background is followed down at once and up slowly: speech is not background.
        self._background = min(loudness, self._background * 1.02)
        if loudness > min(_SOFT, max(_MARGIN * self._background, 2 * _LEAST)):
            self._silent = 0
            return None
        self._silent += 1
        if self._silent <= _HANGOVER:
            return None
        level = level_of(samples)
        first = self._silent == _HANGOVER + 1
        self._since += 1
        if first or self._since >= _REPEAT or abs(level - self._told) >= _CHANGED:
            self._told, self._since = level, 0
            return bytes([level])
        return b""
