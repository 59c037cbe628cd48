"""From packets to an unbroken flow of sound: jitter buffer, decoder, concealment, adjustment of the delay. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softphone.media.codecs import Codec, CodecError, Decoder, Samples
from softphone.media.comfort_noise import NoiseGenerator
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
from softphone.media.voip_metrics import LossBursts

QUIET = 40.0
"Mean amplitude of sound that is quiet in any case; -58 dB of full scale."
QUIET_SHARE = 0.05
"Of the loudest of the last seconds: what is louder is never quiet."
NEAR_BACKGROUND = 1.5
"And how much louder than the background a pause may be: soft consonants are louder, and are missed when cut."
HURRY = 0.060
"Seconds of excess above which speech itself is shortened; less waits for a pause between words."
HASTE = 0.120
"Seconds of excess above which it is shortened where it fits less well, too."
PATIENCE = 8.0
"Seconds to wait for that pause: with loud music on the line it may never come."
REST = 0.040
"Seconds between two adjustments."
TOO_SMALL = 0.006
"Seconds that the delay may be smaller than wanted."
STRETCH = 0.010
"Seconds of sound that are put in when the delay is too small."
KEYS_LINGER = 0.1
"Seconds from the last packet of a telephone event until sound is due again, the jitter buffer's delay apart."
CODEC_CONCEALS = 3
"Missing packets in a row that are left to the codec's own concealment, which does not fade; then ours fades it out."


@dataclass(slots=True)
class PlayoutCounters:
    """What happened to the sound, in samples of the codec."""

    concealed: int = 0
    "Invented for packets that were lost or late."
    recovered: int = 0
    "Of lost packets, from the forward error correction in the next."
    noise: int = 0
    "While the other side sends nothing because there is nothing to hear."
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
        self.bursts = LossBursts()
        self._noise = NoiseGenerator()
        self._resting = False
        "The last packet was comfort noise."
        self._queue: list[Samples] = []
        self._queued = 0
        self._missing = 0
        "Packets concealed in a row."
        self._adjusted = float("-inf")
        self._content_at = float("-inf")
        "When the delay was right last."
        self._loudest = 0.0
        self._background = QUIET
        self._keys_at = float("-inf")
        "When the last packet of a telephone event came: while keys are pressed no sound is sent."

    def keys(self, now: float) -> None:
        """A packet of telephone events came in place of one with sound."""
        self._keys_at = now

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
        excess = self.buffer.excess(now)
        skipped = self.buffer.skipped
        match self.buffer.take(now, self.codec.ticks):
            case MediaPacket() as packet:
                if self.buffer.skipped > skipped:
                    self._drops[Drop.LATE] += self.buffer.skipped - skipped
                if self.buffer.made_up:
                    self._catch_up(now)
                return self._decoded(packet, excess, now)
            case Missing(ticks, following):
                count = ticks * self.codec.sample_rate // self.codec.clock_rate
                recovered = self._recovered(count, following)
                if recovered is not None:
                    return recovered
                if not self._expects_nothing(now):
                    self.bursts.missed()
                return self._conceal(count)
            case Empty(started=True):
                return self._wait()
            case _:
                return np.zeros(self.codec.frame, np.int16)

    def _decoded(self, packet: MediaPacket, excess: float, now: float) -> Samples:
        if packet.noise:
            self._resting = True
            self._noise.tell(packet.payload)
            self.buffer.played(self.codec.ticks)
            return self._conceal(self.codec.frame)
        self._resting = False
        try:
            samples = self._decoder.decode(packet.payload)
        except CodecError:
            self._drops[Drop.UNKNOWN_PAYLOAD] += 1
            self.buffer.played(self.codec.ticks)
            return self._conceal(self.codec.frame)
        self.buffer.played(len(samples) * self.codec.clock_rate // self.codec.sample_rate)
        self._missing = 0
        self.bursts.played()
        quiet = self._is_quiet(samples)
        if quiet and excess < -TOO_SMALL:
            self._stretch(now)
        samples = self._concealer.good(samples)
        return self._shortened(samples, excess, now, quiet=quiet)

    def _stretch(self, now: float) -> None:
        """Put a little sound in before the next, which is in a pause between words.

        Within a word it would be heard, and for nothing if no packet is late; if one is, waiting does the same.
        """
        if now - self._adjusted >= REST and not self._concealer.in_gap:
            self._adjusted = now
            added = self._concealer.waiting(round(STRETCH * self.codec.sample_rate))
            self.counters.stretched += len(added)
            self._append(added)

    def _shortened(self, samples: Samples, excess: float, now: float, *, quiet: bool) -> Samples:
        """Without a period of the sound where the delay is too great and it will not be heard."""
        if excess <= TOLERANCE:
            self._content_at = now
            return samples
        speech_too = excess > HURRY or now - self._content_at > PATIENCE
        if now - self._adjusted < REST or not (quiet or speech_too):
            return samples
        fit = 0.0 if quiet else 0.6 if excess > HASTE else 0.85
        shorter = shorten(samples, self.codec.sample_rate, fit)
        if len(shorter) < len(samples):
            self._adjusted = now
            self.counters.shortened += len(samples) - len(shorter)
        return shorter

    def _is_quiet(self, samples: Samples) -> bool:
        level = float(np.abs(samples).mean())
        self._loudest = max(level, self._loudest * 0.998)
        self._background = min(level, self._background * 1.005 + 0.01)
        return level < max(QUIET, min(NEAR_BACKGROUND * self._background, QUIET_SHARE * self._loudest))

    def _recovered(self, count: int, following: MediaPacket | None) -> Samples | None:
        """A lost packet that the next one brings again."""
        if following is None or count != self.codec.frame or self._resting or self._decoder.resting:
            return None
        samples = self._decoder.recover(following.payload)
        if samples is not None:
            self.counters.recovered += len(samples)
            self.bursts.played()
            self._missing = 0
            self._concealer.spliced(samples)
        return samples

    def _wait(self) -> Samples:
        """Sound while nothing is there; the packets may only be late.

        Not the codec's own concealment: it would take the decoder away from where the next packet finds it.
        """
        if self._resting or self._decoder.resting:
            samples = self._conceal(self.codec.frame)
        else:
            samples = self._concealer.waiting(self.codec.frame)
            self.counters.concealed += len(samples)
        self.buffer.waited(len(samples) * self.codec.clock_rate // self.codec.sample_rate)
        return samples

    def _expects_nothing(self, now: float) -> bool:
        """That no packet is there is no loss: the other side rests, or presses keys."""
        return self._resting or self._decoder.resting or now - self._keys_at <= self.buffer.delay + KEYS_LINGER

    def _catch_up(self, now: float) -> None:
        """What was waited for is lost after all: the decoder has to know, and whoever counts."""
        lost, self.buffer.made_up = self.buffer.made_up // self.codec.ticks, 0
        for n in range(lost):
            if self._expects_nothing(now):
                return
            self.bursts.missed()
            if n < CODEC_CONCEALS:
                self._decoder.conceal()

    def _conceal(self, count: int) -> Samples:
        if self._resting:
            self.counters.noise += count
            noise = self._noise.make(count)
            self._concealer.spliced(noise)
            return noise
        if self._decoder.resting and count == self.codec.frame:
            quiet = self._decoder.conceal()
            if quiet is not None:
                self.counters.noise += count
                self._concealer.spliced(quiet)
                return quiet
        self.counters.concealed += count
        self._missing += 1
        if count == self.codec.frame and self._missing <= CODEC_CONCEALS:
            samples = self._decoder.conceal()
            if samples is not None and len(samples) == count:
                self._concealer.spliced(samples)
                return samples
        return self._concealer.lost(count)
