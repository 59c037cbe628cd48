"""From packets to an unbroken flow of sound: jitter buffer, decoder, concealment, adjustment of the delay. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softphone.media.codecs import Codec, CodecError, Decoder, Samples
from softphone.media.concealment import Concealer, shorten
from softphone.media.drops import Drop, DropCounter
from softphone.media.jitter import (
    GREATEST_DELAY,
    LEAST_DELAY,
    TOLERANCE,
    Empty,
    JitterBuffer,
    MediaPacket,
    Missing,
)

QUIET = 150.0
"Root mean square of sound that may be cut anywhere; -47 dB of full scale."
HURRY = 0.080
"Seconds of excess above which the sound is shortened in every packet, and where it fits less well."
REST = 0.060
"Seconds between two adjustments otherwise."
STRETCH = 0.010
"Seconds of sound that are put in when the delay is too small."
CODEC_CONCEALS = 3
"Missing packets in a row that are left to the codec's own concealment, which does not fade; then ours fades it out."


@dataclass(slots=True)
class PlayoutCounters:
    """What happened to the sound, in samples of the codec."""

    concealed: int = 0
    "Invented for packets that were lost or late."
    shortened: int = 0
    stretched: int = 0


class Player:
    """The receiving half of one stream: `put` packets as they come, `pull` sound as the clock of the listener asks."""

    def __init__(
        self, codec: Codec, drops: DropCounter, least: float = LEAST_DELAY, greatest: float = GREATEST_DELAY
    ) -> None:
        self.codec = codec
        self.counters = PlayoutCounters()
        self.buffer = JitterBuffer(codec.clock_rate, least, greatest)
        self._drops = drops
        self._decoder = Decoder(codec)
        self._concealer = Concealer(codec.sample_rate)
        self._queue: list[Samples] = []
        self._queued = 0
        self._missing = 0
        "Packets concealed in a row."
        self._adjusted = float("-inf")

    def put(self, packet: MediaPacket, now: float) -> bool:
        """A packet that arrived at ``now``; False: not wanted, and counted."""
        drop = self.buffer.put(packet, now)
        if drop is not None:
            self._drops[drop] += 1
        return drop is None

    def pull(self, now: float) -> Samples:
        """The next 20 ms, to be played from ``now`` on."""
        wanted = self.codec.frame
        while self._queued < wanted:
            self._append(self._next(now))
        sound = self._queue[0] if len(self._queue) == 1 else np.concatenate(self._queue)
        rest = sound[wanted:]
        self._queue = [rest] if len(rest) else []
        self._queued = len(rest)
        return sound[:wanted]

    def _append(self, samples: Samples) -> None:
        self._queue.append(samples)
        self._queued += len(samples)

    def _next(self, now: float) -> Samples:
        excess = self.buffer.excess(now, self._queued / self.codec.sample_rate)
        skipped = self.buffer.skipped
        match self.buffer.take(now, self.codec.ticks):
            case MediaPacket() as packet:
                self._drops[Drop.LATE] += self.buffer.skipped - skipped
                return self._decoded(packet, excess, now)
            case Missing(ticks):
                return self._conceal(ticks * self.codec.sample_rate // self.codec.clock_rate)
            case Empty(started=True):
                return self._conceal(self.codec.frame)
            case _:
                return np.zeros(self.codec.frame, np.int16)

    def _decoded(self, packet: MediaPacket, excess: float, now: float) -> Samples:
        try:
            samples = self._decoder.decode(packet.payload)
        except CodecError:
            self._drops[Drop.UNKNOWN_PAYLOAD] += 1
            self.buffer.played(self.codec.ticks)
            return self._conceal(self.codec.frame)
        self.buffer.played(len(samples) * self.codec.clock_rate // self.codec.sample_rate)
        self._missing = 0
        rested = now - self._adjusted >= REST
        if excess < -TOLERANCE and rested and not self._concealer.in_gap:
            self._adjusted = now
            added = self._concealer.lost(round(STRETCH * self.codec.sample_rate))
            self.counters.stretched += len(added)
            self._append(added)
        samples = self._concealer.good(samples)
        if excess > HURRY or (excess > TOLERANCE and rested):
            shorter = shorten(samples, self.codec.sample_rate, QUIET, 0.6 if excess > HURRY else 0.85)
            if len(shorter) < len(samples):
                self._adjusted = now
                self.counters.shortened += len(samples) - len(shorter)
                return shorter
        return samples

    def _conceal(self, count: int) -> Samples:
        self.counters.concealed += count
        self._missing += 1
        if count == self.codec.frame and self._missing <= CODEC_CONCEALS:
            samples = self._decoder.conceal()
            if samples is not None and len(samples) == count:
                self._concealer.spliced(samples)
                return samples
        return self._concealer.lost(count)
