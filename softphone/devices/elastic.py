"""Sound between two clocks that do not run alike: a sound card's, a browser's, and our own. Sans-IO.

What one side writes the other reads a little later, 40 ms or so. Where one clock is faster the sound is stretched, by
half a percent at most, which nobody hears, so that the delay stays what it is; after a standstill what is too old goes.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from softphone.media.codecs import Samples

DELAY = 0.04
"Seconds of sound that are aimed at."
LONGEST = 0.12
"Seconds that may wait; of more the oldest goes, down to `DELAY`."
STRETCH = 0.005
"Share by which the pace of reading differs at most."
BAND = 0.3
"Share of the delay that it may be off before anything is stretched: sound comes and goes in blocks."
_SMOOTHING = 0.03


class Elastic:
    """One direction of mono sound. Never ends: what is missing is silence."""

    def __init__(self, rate: int, delay: float = DELAY, longest: float = LONGEST) -> None:
        self.rate = rate
        self.underruns = 0
        "Times that nothing was there any more."
        self.dropped = 0
        "Samples that were too old."
        self._wanted = round(rate * delay)
        self._longest = round(rate * longest)
        self._parts: deque[Samples] = deque()
        self._length = 0
        self._flows = False
        self._level = float(self._wanted)
        self._fraction = 0.0
        "Of a sample, by which the next one to be read lies behind the first that is here."

    @property
    def delay(self) -> float:
        """Seconds of sound that wait."""
        return self._length / self.rate

    def write(self, samples: Samples) -> None:
        self._parts.append(samples)
        self._length += len(samples)
        if self._length > self._longest:
            gone = self._length - self._wanted
            self._take(gone)
            self.dropped += gone
            self._level = float(self._wanted)

    def read(self, count: int) -> Samples:
        """Exactly ``count`` samples."""
        if not self._flows:
            if self._length < self._wanted + count:
                return np.zeros(count, np.int16)
            self._take(self._length - self._wanted - count)
            self._flows, self._level, self._fraction = True, float(self._wanted), 0.0
        self._level += (self._length - count - self._level) * _SMOOTHING
        pace = self._pace()
        end = self._fraction + pace * (count - 1)
        needed = int(end) + 2 if end % 1 else int(end) + 1
        if needed > self._length:
            self.underruns += 1
            self._flows = False
            rest = self._take(self._length)[:count]
            return np.pad(rest, (0, count - len(rest)))
        if pace == 1.0 and not self._fraction:
            return self._take(count)
        sound = self._peek(needed)
        places = self._fraction + pace * np.arange(count)
        given: Samples = np.interp(places, np.arange(needed), sound).astype(np.int16)
        following = self._fraction + pace * count
        self._take(min(int(following), self._length))
        self._fraction = following % 1
        return given

    def _pace(self) -> float:
        """Samples that are used up for one that is given."""
        off = (self._level - self._wanted) / self._wanted
        if abs(off) <= BAND:
            self._fraction = 0.0
            return 1.0
        return 1.0 + max(-STRETCH, min(STRETCH, 2 * off * STRETCH))

    def _peek(self, count: int) -> Samples:
        whole: Samples = np.concatenate(self._parts)
        self._parts = deque([whole])
        return whole[:count]

    def _take(self, count: int) -> Samples:
        joined = np.concatenate([*self._parts, np.zeros(0, np.int16)])
        self._parts = deque([joined[count:]])
        self._length -= count
        return joined[:count]
