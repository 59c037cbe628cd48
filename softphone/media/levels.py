"""How loud both sides of a call are, for meters on a screen."""

from __future__ import annotations

from collections import deque

import numpy as np

from softphone.media.codecs import Samples

SILENCE = -127.0
"dBov that stand for silence (RFC 6464 section 3)."
TICKS = 5
"Packet times that are looked at: the last 100 ms."


class LevelMeter:
    """Fed every 20 ms. Levels are in dBov: 0 is the loudest square wave there is, a sine at most -3."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque([0.0], TICKS)
        self._received: deque[float] = deque([0.0], TICKS)

    def take(self, sent: Samples | None, received: Samples | None) -> None:
        """What left and what was heard in one packet time; None: nothing."""
        self._sent.append(_power(sent))
        self._received.append(_power(received))

    @property
    def sent(self) -> float:
        return _dbov(self._sent)

    @property
    def received(self) -> float:
        return _dbov(self._received)


def _power(samples: Samples | None) -> float:
    if samples is None or not len(samples):
        return 0.0
    wide = samples.astype(np.float64)
    return float(np.dot(wide, wide)) / len(wide)


def _dbov(powers: deque[float]) -> float:
    power = sum(powers) / len(powers) / 32_768.0**2
    return SILENCE if power <= 0 else max(SILENCE, round(10 * float(np.log10(power)), 1))
