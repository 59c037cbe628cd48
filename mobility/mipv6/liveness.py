"""Whether anything comes through the tunnel: echo requests to the home agent when it is silent.

They go through the tunnel, so they are authenticated, keep the mappings of NAT on the way, and let the home agent
follow a mapping that changed (RFC 5555 section 5.3). Their answers tell the round trip.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

SILENCE = 0.4
"Seconds without a packet of the home agent, while the terminal sends, until it is asked."
SHORTEST_WAIT = 0.15
"Seconds for an answer; more where the round trip is longer."
QUESTIONS = 4
"Echo requests without an answer after which the path is dead."
TICK = 0.2
"Seconds between two looks while packets flow."
IDLE_TICK = 1.0
SAMPLES = 60
"Round trips that are remembered."
PROBES = 8
"Requests for a round trip that may be without an answer at a time."


class Verdict(Enum):
    """What `Liveness.look` asks for."""

    NOTHING = auto()
    ASK = auto()
    "Send an echo request with the number `Liveness.sequence`."
    DEAD = auto()


class Liveness:
    """Of the path in use. Reset it whenever another is. Times are monotonic seconds."""

    def __init__(self, silence: float = SILENCE) -> None:
        """``silence``: seconds of it, while packets are sent, after which it is asked."""
        self._silence = silence
        self.link = ""
        "That is looked after."
        self._keepalive = 0.0
        self.timer: float | None = None
        "When `look` wants to be called."
        self.sequence = 0
        self.asked = 0
        self.answered = 0
        self.round_trip: float | None = None
        "Seconds, of the last answer."
        self._heard_at = 0.0
        self._received = 0
        self._sent = 0
        "Counter of the terminal when it last heard anything."
        self._seen = 0
        "The same counter at the last look."
        self._unanswered: dict[int, float] = {}
        self.round_trips: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        "When an answer came, and the seconds that it took; the oldest first."
        self._probes: dict[int, float] = {}
        "Requests that only ask for the round trip: they prove the path, but their loss says nothing."
        self._proven = False
        "The home agent has answered an echo request once; before that its silence says nothing."

    def begin(self, link: str, keepalive: float, now: float, sent: int, received: int) -> None:
        """A path is in use from now on; the counters are those of the terminal.

        ``keepalive``: seconds of silence after which the home agent is asked with nothing to send; 0: never.
        """
        self.link, self._keepalive = link, keepalive
        self._probes.clear()
        self._heard(now, sent, received)
        self.timer = now + TICK

    def end(self) -> None:
        """No path is in use."""
        self.timer = None
        self._unanswered.clear()

    def look(self, now: float, sent: int, received: int) -> Verdict:
        """The time in `timer` has come, or may have."""
        if self.timer is None or now < self.timer:
            return Verdict.NOTHING
        busy = received != self._received or sent != self._seen
        self._seen = sent
        if received != self._received:
            self._heard(now, sent, received)
        quiet, sending = now - self._heard_at, sent != self._sent
        self.timer = now + (TICK if busy or sending else IDLE_TICK)
        if not self._unanswered:
            wanted = (sending and quiet >= self._silence) or (self._keepalive > 0 and quiet >= self._keepalive)
            return self._ask(now) if wanted or not self._proven else Verdict.NOTHING
        due = max(self._unanswered.values()) + self._wait()
        if now < due:
            self.timer = due
            return Verdict.NOTHING
        if len(self._unanswered) < QUESTIONS:
            return self._ask(now)
        self._unanswered.clear()
        if not self._proven:
            self.timer = now + max(self._keepalive, IDLE_TICK)
            return Verdict.NOTHING
        self._heard_at = now  # not again at once
        return Verdict.DEAD

    def probe(self, now: float) -> bool:
        """Somebody wants to know the round trip. Whether to send an echo request with the number `sequence`."""
        if self.timer is None:
            return False
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._probes[self.sequence] = now
        if len(self._probes) > PROBES:
            del self._probes[next(iter(self._probes))]
        return True

    def reply(self, sequence: int, now: float) -> bool:
        """An echo reply came through the tunnel; whether it answers one of ours."""
        asked_at = self._unanswered.pop(sequence, self._probes.pop(sequence, None))
        if asked_at is None:
            return False
        self.answered += 1
        self._proven = True
        self.round_trip = now - asked_at
        self.round_trips.append((now, self.round_trip))
        self._unanswered.clear()
        self._heard_at = now
        return True

    def _heard(self, now: float, sent: int, received: int) -> None:
        self._heard_at, self._sent, self._received = now, sent, received
        self._unanswered.clear()

    def _ask(self, now: float) -> Verdict:
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._unanswered[self.sequence] = now
        self.asked += 1
        self.timer = now + self._wait()
        return Verdict.ASK

    def _wait(self) -> float:
        return SHORTEST_WAIT if self.round_trip is None else max(2 * self.round_trip, SHORTEST_WAIT)

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "asked": self.asked,
            "answered": self.answered,
            "round_trip_ms": None if self.round_trip is None else round(self.round_trip * 1000, 3),
            "round_trips": [[round(now - at, 1), round(trip * 1000, 3)] for at, trip in self.round_trips],
            "silent_for": None if self.timer is None else round(now - self._heard_at, 3),
        }
