"""Mixes the sound of a conference: everybody hears the sum of all others (N-1). Sans-IO.

A port is written to and read from 20 ms at a time, by clocks that run alike but not in step; between each two ports
there is a short queue, so that their order within a turn does not matter and a stall of one does not delay the others.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from softphone.media.codecs import Samples

RATE = 48_000
"Samples per second inside: what the best codec has."
LONGEST = round(0.08 * RATE)
"Samples that wait between two ports; of more the oldest are dropped, so that delay does not pile up."
LOUDEST = 32_767.0
KNEE = 24_000.0
"Above this the sum is bent, not cut: several who speak at once do not crackle."


class Port:
    """One participant: an `AudioSink` of what it says and an `AudioSource` of what it is to hear."""

    def __init__(self, mixer: Mixer) -> None:
        self.dropped = 0
        "Samples that nobody fetched in time."
        self.muted = False
        "Nobody hears what this participant says."
        self._mixer = mixer
        self._heard: dict[Port, deque[Samples]] = {}

    @property
    def rate(self) -> int:
        return RATE

    def write(self, samples: Samples) -> None:
        """What this participant says."""
        if self.muted:
            return
        for other in self._mixer.ports:
            if other is not self:
                other._hear(self, samples)

    def read(self, count: int) -> Samples:
        """What the others say, mixed; silence where they are silent. Never ends by itself."""
        total: np.ndarray[tuple[int], np.dtype[np.int32]] | None = None
        for queue in self._heard.values():
            if queue:
                samples = _take(queue, count)
                total = samples.astype(np.int32) if total is None else total + samples
        return np.zeros(count, np.int16) if total is None else limit(total)

    def _hear(self, speaker: Port, samples: Samples) -> None:
        queue = self._heard.setdefault(speaker, deque())
        queue.append(samples)
        waiting = sum(map(len, queue))
        while waiting > LONGEST:
            gone = len(queue.popleft())
            waiting -= gone
            self.dropped += gone

    def _forget(self, speaker: Port) -> None:
        self._heard.pop(speaker, None)


class Mixer:
    """The ports of one conference."""

    def __init__(self) -> None:
        self.ports: list[Port] = []

    def join(self) -> Port:
        """A new participant."""
        port = Port(self)
        self.ports.append(port)
        return port

    def leave(self, port: Port) -> None:
        """A participant is gone; its port gives silence from now on."""
        if port in self.ports:
            self.ports.remove(port)
        port._heard.clear()
        for other in self.ports:
            other._forget(port)


def _take(queue: deque[Samples], count: int) -> Samples:
    """The next samples of a queue, filled up with silence."""
    parts: list[Samples] = []
    missing = count
    while missing and queue:
        samples = queue.popleft()
        if len(samples) > missing:
            queue.appendleft(samples[missing:])
            samples = samples[:missing]
        parts.append(samples)
        missing -= len(samples)
    if missing:
        parts.append(np.zeros(missing, np.int16))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def limit(total: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Samples:
    """16 bits of a sum: what is above the knee is bent towards the loudest there is, the rest is untouched."""
    level = np.abs(total)
    if not len(total) or level.max() <= KNEE:
        return total.astype(np.int16)
    room = LOUDEST - KNEE
    excess = np.maximum(level - KNEE, 0.0)
    bent = np.where(level > KNEE, KNEE + room * excess / (excess + room), level)
    return (np.sign(total) * bent).astype(np.int16)
