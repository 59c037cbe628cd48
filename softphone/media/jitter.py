"""The adaptive jitter buffer: holds packets until it is their turn. Sans-IO; ``now`` is monotonic seconds.

Three ideas make it up.

*Delay.* Of every packet the transit is known up to a constant: arrival time minus RTP timestamp. The playing time of
a sample minus its timestamp is known in the same way. The wanted delay is a high quantile of the transits of the last
seconds plus a margin; `excess` says how far away the real one is, and the player shortens or lengthens sound by it.

*An empty buffer does not lose anything.* While nothing is there, time passes but the position stands still; so a burst
that a handover held up is played completely, and afterwards the delay shrinks again by shortened sound. Only when a
later packet arrives it shows what was really lost, and the time that was waited is taken off the gap.

*A pause is not jitter.* The late packets of a single pause (handover) do not count for the wanted delay; only pauses
that come again and again do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from softphone.media.drops import Drop

LEAST_DELAY = 0.040
"""Seconds. It bridges what a machine that is busy with other things holds back now and then: measured with stalls of
5 to 40 ms at 2 to 5 % of the packets, PESQ drops by nothing; with 20 ms, by 0.1 to 0.3."""
GREATEST_DELAY = 0.200
FIRST_DELAY = 0.034
"Seconds from the first packet to its playing at least, which begins with the listener's next 20 ms."
MARGIN = 0.012
"Seconds above the quantile of transits."
TOLERANCE = 0.020
"Seconds of excess that are left alone."
QUANTILE = 0.99
WINDOW = 400
"Transits that are remembered: 8 s."
CAPACITY = 200
"Packets, 4 s."
PAUSE = 0.080
"Seconds between two arrivals that count as a pause."
PAUSES_KEPT = 20.0
PAUSES_ALLOWED = 3
"So many pauses in `PAUSES_KEPT` seconds are jitter after all."
BURST = 1.0
"Seconds after a pause during which late packets belong to it."
TOO_LATE = 0.600
"Seconds of excess that are cut off instead of played."
JUMP = 3.0
"A change of transit by more seconds than this is a new beginning of the timestamps."


class MediaPacket(NamedTuple):
    """One packet of sound."""

    sequence: int
    "Extended (RFC 3550 appendix A.1)."
    timestamp: int
    payload_type: int
    payload: bytes
    noise: bool = False
    "Comfort noise: it lasts until the next packet."


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap before the next packet: sound for so many units of the RTP clock must be invented."""

    ticks: int
    following: MediaPacket | None = None
    "The packet right after these: it may carry what is missing once more."


class Empty:
    """Nothing to play: either nothing came yet (``started`` is false), or the packets are late."""

    __slots__ = ("started",)

    def __init__(self, started: bool) -> None:
        self.started = started


_NOT_STARTED, _WAITING = Empty(False), Empty(True)


class JitterBuffer:
    """Packets of one stream between arrival and playing."""

    def __init__(self, clock_rate: int, least: float = LEAST_DELAY, greatest: float = GREATEST_DELAY) -> None:
        self.clock_rate = clock_rate
        self._least, self._greatest = least, greatest
        self._packets: dict[int, MediaPacket] = {}
        "By extended timestamp."
        self._transits: deque[float] = deque(maxlen=WINDOW)
        self._pauses: deque[float] = deque()
        self._burst_until = float("-inf")
        self._last_arrival: float | None = None
        self._last_timestamp: int | None = None
        "The extended timestamp that came last, to extend the next by."
        self._position: int | None = None
        "The extended timestamp to be taken next; None: not started."
        self._start_at = 0.0
        self._waited = 0
        "Units of the RTP clock for which sound was invented while nothing was there."
        self.made_up = 0
        "Units of what was lost that the waiting before it has made up for, since somebody set it to 0."
        self._wanted = FIRST_DELAY
        self._since_measured = 0
        self.skipped = 0
        "Packets thrown away because the delay had grown by more than `TOO_LATE`."
        self.resynchronized = 0
        "New beginnings because the timestamps jumped."

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def wanted(self) -> float:
        """The transit at which packets should be played, plus margin; comparable with transits only."""
        return self._wanted

    # -- arrival ------------------------------------------------------------------------------------------------------

    def put(self, packet: MediaPacket, now: float) -> Drop | None:
        """Take a packet that arrived at ``now``; the reason if it is not wanted."""
        timestamp = self._extend(packet.timestamp)
        transit = now - timestamp / self.clock_rate
        if self._transits and abs(transit - self._transits[-1]) > JUMP:
            self._restart()
            timestamp = packet.timestamp
            transit = now - timestamp / self.clock_rate
        self._observe(transit, now)
        self._last_timestamp = timestamp
        if self._position is None:
            if not self._packets:
                self._start_at = now + FIRST_DELAY
        elif timestamp < self._position:
            return Drop.LATE
        if timestamp in self._packets:
            return Drop.DUPLICATE
        if len(self._packets) >= CAPACITY:
            return Drop.OVERFLOW
        self._packets[timestamp] = packet
        return None

    def _extend(self, timestamp: int) -> int:
        if self._last_timestamp is None:
            return timestamp
        difference = (timestamp - self._last_timestamp) & 0xFFFFFFFF
        return self._last_timestamp + (difference - (1 << 32) if difference >= 1 << 31 else difference)

    def _restart(self) -> None:
        self._packets.clear()
        self._transits.clear()
        self._position = self._last_arrival = self._last_timestamp = None
        self._burst_until = float("-inf")
        self._waited = 0
        self.resynchronized += 1

    def _observe(self, transit: float, now: float) -> None:
        """Count the transit for the wanted delay, unless it belongs to a single pause."""
        if self._last_arrival is not None and now - self._last_arrival > PAUSE:
            self._pauses.append(now)
            self._burst_until = now + BURST
        self._last_arrival = now
        while self._pauses and self._pauses[0] < now - PAUSES_KEPT:
            self._pauses.popleft()
        if now < self._burst_until:
            if transit > self._wanted and len(self._pauses) < PAUSES_ALLOWED:
                return
        elif transit > self._wanted and self._burst_until > float("-inf"):
            # What came after the pause stays late: the way has become longer, and what was known is past.
            self._transits.clear()
        self._burst_until = float("-inf")
        self._transits.append(transit)
        self._since_measured += 1
        # Early on every packet teaches something; later a fifth of a second is soon enough.
        if self._since_measured >= 10 or len(self._transits) < 50:
            self._since_measured = 0
            transits = sorted(self._transits)
            least, quantile = transits[0], transits[int(QUANTILE * (len(transits) - 1))] + MARGIN
            self._wanted = min(max(quantile, least + self._least), least + self._greatest)

    # -- playing ------------------------------------------------------------------------------------------------------

    def take(self, now: float, step: int) -> MediaPacket | Missing | Empty:
        """What comes next; ``step``: units of the RTP clock for which sound is invented at a time."""
        if self._position is None:
            if not self._packets or now < self._start_at:
                return _NOT_STARTED
            self._position = min(self._packets)
        if not self._packets:
            return _WAITING
        self._cut_off(now)
        first = self._position if self._position in self._packets else min(self._packets)
        gap = first - self._position
        if gap and self._waited:
            covered = min(gap, self._waited)
            self.made_up += covered
            self._position += covered
            gap -= covered
        self._waited = 0
        if gap:
            ticks = min(gap, step)
            self._position += ticks
            return Missing(ticks, self._packets[first] if ticks == gap else None)
        return self._packets.pop(first)

    def waited(self, ticks: int) -> None:
        """Sound of this length was invented because nothing was there."""
        self._waited += ticks

    def _cut_off(self, now: float) -> None:
        """After a very long pause skip what would be played much too late, up to the wanted delay."""
        assert self._position is not None
        latest = int((now - self._wanted) * self.clock_rate)
        if not self._transits or (latest - self._position) / self.clock_rate < TOO_LATE:
            return
        old = sorted(t for t in self._packets if t < latest)
        for timestamp in old[: len(self._packets) - 1]:
            del self._packets[timestamp]
            self.skipped += 1
        self._position = max(self._position, min(self._packets))

    def played(self, ticks: int) -> None:
        """The packet that was taken lasted so long."""
        if self._position is not None:
            self._position += ticks
            for timestamp in [t for t in self._packets if t < self._position]:
                # Overlaps what was just played: a sender with inconsistent timestamps.
                del self._packets[timestamp]

    def excess(self, now: float) -> float:
        """Seconds by which a packet that is taken ``now`` is taken later than wanted (negative: earlier).

        0 while that is not known: before the first packet, and while a burst after a pause is coming in.
        """
        if self._position is None or not self._transits or now < self._burst_until:
            return 0.0
        return now - self._position / self.clock_rate - self._wanted

    @property
    def delay(self) -> float:
        """The wanted delay above the fastest packet, seconds."""
        return self._wanted - min(self._transits) if self._transits else FIRST_DELAY
