"""Concealment of lost packets in the sound itself, and shortening of sound, at every sample rate.

The idea is that of ITU-T G.711 Appendix I: speech repeats itself with the period of the voice, so the last period is
repeated, ever more softly, and cross-faded into the first packet that arrives again. The same search for the period
serves to take one period out (`shorten`), which lowers the delay without a change of pitch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softphone.media.codecs import Samples

SHORTEST_PERIOD = 0.0025
"Seconds: a voice of 400 Hz."
LONGEST_PERIOD = 0.015
"Seconds: a voice of 67 Hz."
HOLD = 0.015
"Seconds of a loss at full strength."
FADED = 0.090
"Seconds after which a concealed loss is silent."

_Floats = NDArray[np.float32]
_MATCH = 0.010
"Seconds of sound that are compared."
_VOICED = 0.5
"Correlation above which the sound counts as periodic."


def period_of(history: _Floats, rate: int) -> tuple[int, float]:
    """The period at the end of ``history`` in samples, and how well it fits (normalized correlation, 1: exactly).

    The search runs on a coarse copy of about 8 kHz; only the neighbours of the best period are compared in full.
    """
    step = max(1, rate // 8000)
    coarse = history[len(history) % step :].reshape(-1, step).mean(axis=1) if step > 1 else history
    lags, fits = _fits(
        coarse, rate // step, range(int(SHORTEST_PERIOD * rate / step), int(LONGEST_PERIOD * rate / step) + 1)
    )
    # The first peak that is nearly the best: twice the period fits as well as the period.
    best = int(np.flatnonzero(fits >= 0.95 * fits.max())[0]) if fits.max() > 0 else int(fits.argmax())
    while best + 1 < len(fits) and fits[best + 1] > fits[best]:
        best += 1
    if step == 1:
        return int(lags[best]), float(fits[best])
    centre = int(lags[best]) * step
    fine = range(max(centre - step, int(SHORTEST_PERIOD * rate)), min(centre + step, int(LONGEST_PERIOD * rate)) + 1)
    lags, fits = _fits(history, rate, fine)
    return int(lags[fits.argmax()]), float(fits.max())


def _fits(sound: _Floats, rate: int, candidates: range) -> tuple[NDArray[np.int64], _Floats]:
    """The normalized correlation of the end of ``sound`` with itself, every candidate of samples earlier."""
    width = int(_MATCH * rate)
    lags = np.arange(candidates.start, candidates.stop)
    windows = np.lib.stride_tricks.sliding_window_view(sound[-width - candidates.stop + 1 :], width)[-1 - lags]
    end = sound[-width:]
    energy = np.einsum("ij,ij->i", windows, windows) * float(end @ end)
    return lags, (windows @ end / np.sqrt(energy + 1.0)).astype(np.float32)


class Concealer:
    """Follows the sound of one stream, fills its gaps and smooths what comes after them."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._needed = int((LONGEST_PERIOD + _MATCH) * rate) + rate // 1000
        self._history = np.zeros(self._needed, np.float32)
        self._template: _Floats | None = None
        "The period that is being repeated; None: no gap."
        self._join = 0.0
        self._position = 0
        "Samples since the gap began."

    @property
    def in_gap(self) -> bool:
        return self._template is not None

    def good(self, samples: Samples) -> Samples:
        """Sound that arrived; changed only where a gap ends just before it."""
        if self._template is not None:
            # The longer the gap, the longer the cross-fade: the phase has drifted further.
            length = min(len(samples), int((0.004 + min(self._position / self._rate, 0.020) * 0.2) * self._rate))
            synthetic = self._synthesize(length)
            rise = np.linspace(0, 1, length, endpoint=False, dtype=np.float32)
            mixed = samples.astype(np.float32)
            mixed[:length] = mixed[:length] * rise + synthetic * (1 - rise)
            samples = mixed.astype(np.int16)
            self._template = None
        self._remember(samples)
        return samples

    def spliced(self, samples: Samples) -> None:
        """Sound that the codec itself put in place of a lost packet."""
        self._template = None
        self._remember(samples)

    def lost(self, count: int) -> Samples:
        """``count`` samples in the place of sound that is missing."""
        if self._template is None:
            self._begin()
        samples = self._synthesize(count).astype(np.int16)
        self._remember(samples)
        return samples

    def waiting(self, about: int) -> Samples:
        """Sound while what comes next is late: whole periods of about this length, so that it goes on in phase."""
        if self._template is None:
            self._begin()
        assert self._template is not None
        period = len(self._template)
        return self.lost(max(1, round(about / period)) * period)

    def _begin(self) -> None:
        period, fit = period_of(self._history, self._rate)
        if fit < _VOICED:
            period = int(LONGEST_PERIOD * self._rate)  # noise: the longer the piece, the less it hums
        template = self._history[-period:].copy()
        # The end of the period leads into its beginning.
        tail = period // 4
        before = self._history[-period - tail : -period]
        rise = np.linspace(0, 1, tail, endpoint=False, dtype=np.float32)
        template[-tail:] = template[-tail:] * (1 - rise) + before * rise
        self._template, self._position = template, 0
        # What still differs where history meets template vanishes within a millisecond or two.
        self._join = float(self._history[-1] - self._history[-period - 1])

    def _synthesize(self, count: int) -> _Floats:
        assert self._template is not None
        index = np.arange(self._position, self._position + count)
        seconds = index / self._rate
        gain = np.clip((FADED - seconds) / (FADED - HOLD), 0, 1)
        sound = self._template[index % len(self._template)] * gain + self._join * np.exp(-seconds / 0.0007)
        self._position += count
        return np.clip(sound, -32768, 32767).astype(np.float32)

    def _remember(self, samples: Samples) -> None:
        if len(samples) >= self._needed:
            self._history = samples[-self._needed :].astype(np.float32)
        else:
            self._history = np.concatenate((self._history[len(samples) :], samples)).astype(np.float32)


def shorten(samples: Samples, rate: int, fit: float = 0.85) -> Samples:
    """The same sound without one period of it, or unchanged where that would be heard.

    ``fit``: the correlation that the two sides of the cut must have; 0: any (for sound that is quiet). At most
    `LONGEST_PERIOD` is taken out, and less from sound shorter than that and 5 ms.
    """
    overlap = int(0.005 * rate)
    longest = min(int(LONGEST_PERIOD * rate), len(samples) - overlap)
    shortest = int(SHORTEST_PERIOD * rate)
    if longest <= shortest:
        return samples
    if fit <= 0:
        cut = longest
    else:
        sound = samples.astype(np.float32)
        step = max(1, rate // 16000)
        head = sound[:overlap]
        windows = np.lib.stride_tricks.sliding_window_view(sound, overlap)[shortest : longest + 1 : step]
        energy = np.einsum("ij,ij->i", windows, windows) * float(head @ head)
        fits = windows @ head / np.sqrt(energy + 1.0)
        best = int(fits.argmax())
        if fits[best] < fit:
            return samples
        cut = shortest + best * step
    rise = np.linspace(0, 1, overlap, endpoint=False, dtype=np.float32)
    joined = samples[:overlap] * (1 - rise) + samples[cut : cut + overlap] * rise
    return np.concatenate((joined.astype(np.int16), samples[cut + overlap :]))
