"""Watches a running call: is it heard on both ends, is the other side still there, how good is it. Sans-IO."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from softphone.media.emodel import burst_ratio, mos_of, mouth_to_ear, r_factor
from softphone.media.rtp import PeerReport
from softphone.media.voip_metrics import LossBursts

ONE_WAY = 5.0
"Seconds of silence in one direction that are told."
REPORTS = 2
"Reports of the other side that must agree that it does not hear us."
HISTORY = 3600
"Seconds of quality that are remembered."


class Way(StrEnum):
    """Which direction of the sound."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


@dataclass(frozen=True, slots=True)
class OneWayAudio:
    """Nothing passes in one direction although it should: often a firewall, a NAT or a wrong address in the middle."""

    way: Way
    seconds: float
    "For how long."


@dataclass(frozen=True, slots=True)
class AudioRestored:
    """It passes again."""

    way: Way


@dataclass(frozen=True, slots=True)
class MediaTimeout:
    """Neither sound nor reports came for so long: the other side has probably disappeared. Told once."""

    seconds: float


MonitorEvent = OneWayAudio | AudioRestored | MediaTimeout


@dataclass(frozen=True, slots=True)
class Quality:
    """One second of the received sound."""

    at: float
    "Monotonic seconds, at the end."
    mos: float
    "Estimated by the E-model, 1 to 4.4."
    loss: float
    "Share of packets that could not be played."
    jitter_ms: float
    delay_ms: float
    "From mouth to ear, as far as it is known: half of the round trip, jitter buffer, packet time."


class Monitor:
    """One call. `check` is called about once a second."""

    def __init__(self, codec: str, now: float, timeout: float | None) -> None:
        self.codec = codec
        self.history: deque[Quality] = deque(maxlen=HISTORY)
        self._timeout = timeout
        self._rtp_at = self._any_at = now
        self._reports_heard = False
        self._timed_out = False
        self._told: set[Way] = set()
        self._deaf = 0
        "Reports in a row that do not mention new packets of ours."
        self._deaf_since = now
        self._reported_highest: int | None = None
        self._sent_then = 0
        self._packets = self._missing = 0

    def heard(self, now: float, *, sound: bool) -> None:
        """A packet of RTP, or of RTCP."""
        self._any_at = max(self._any_at, now)
        if sound:
            self._rtp_at = max(self._rtp_at, now)
        else:
            self._reports_heard = True
        self._timed_out = False

    def reported(self, report: PeerReport, sent: int, now: float) -> None:
        """What the other side says of our stream, when so many packets of it were ``sent``."""
        highest = report.highest
        if sent - self._sent_then < 50:
            # Too little was sent since the last report to conclude anything from it.
            if highest != self._reported_highest:
                self._deaf, self._deaf_since = 0, now
            return
        if highest is not None and highest != self._reported_highest:
            self._deaf, self._deaf_since = 0, now
        else:
            self._deaf += 1
        self._reported_highest, self._sent_then = highest, sent

    def resumed(self, now: float) -> None:
        """A new agreement: the clocks of silence begin anew."""
        self._rtp_at = self._any_at = self._deaf_since = now
        self._deaf = 0
        self._timed_out = False

    def check(self, now: float, *, receives: bool, sends: bool) -> list[MonitorEvent]:
        """What there is to tell; the arguments: what the agreed direction allows."""
        events: list[MonitorEvent] = []
        silent = now - self._rtp_at
        self._tell(events, Way.INCOMING, receives and silent >= ONE_WAY, silent)
        self._tell(events, Way.OUTGOING, sends and self._deaf >= REPORTS, now - self._deaf_since)
        # On hold only reports can come, and not everybody sends them.
        expected = receives or self._reports_heard
        if self._timeout is not None and expected and not self._timed_out and now - self._any_at >= self._timeout:
            self._timed_out = True
            events.append(MediaTimeout(now - self._any_at))
        return events

    def _tell(self, events: list[MonitorEvent], way: Way, wrong: bool, seconds: float) -> None:
        if wrong and way not in self._told:
            self._told.add(way)
            events.append(OneWayAudio(way, seconds))
        elif not wrong and way in self._told:
            self._told.discard(way)
            events.append(AudioRestored(way))

    def measure(
        self, now: float, bursts: LossBursts, jitter: float, buffer_delay: float, round_trip: float | None
    ) -> Quality | None:
        """One more second for `history`; None: no packet was due in it. Times in seconds."""
        packets, missing, runs = bursts.packets, bursts.missing, bursts.runs
        since, lost = packets - self._packets, missing - self._missing
        if since < 0:
            since, lost = packets, missing  # another player, which counts anew
        self._packets, self._missing = packets, missing
        if since <= 0:
            return None
        loss, delay = lost / since, mouth_to_ear(round_trip, buffer_delay)
        r = r_factor(self.codec, loss, burst_ratio(missing, runs, packets), delay)
        quality = Quality(now, mos_of(r), loss, 1000 * jitter, 1000 * delay)
        self.history.append(quality)
        return quality
