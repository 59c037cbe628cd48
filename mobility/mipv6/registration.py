"""One home registration of the terminal: states, retransmission, refresh (RFC 6275 sections 11.7, 11.8 and 12).

One deviation: once a round trip to the home agent was measured, the first timeout follows it (as RFC 6298 does) instead
of INITIAL_BINDACK_TIMEOUT, for speech would wait a whole second whenever one binding update is lost. Section 12 allows
to configure the constants. The timeout doubles as before, so that there are four more transmissions at most until the
schedule of section 11.8 is reached; a home agent that is not known to answer is asked as the RFC says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.links import unmapped
from mobility.mipv6.refusals import why_refused
from mobility.outputs import Event, Output
from mobility.wire import mh

INITIAL_BINDACK_TIMEOUT = 1.0
"Seconds (section 12)."
INITIAL_BINDACK_TIMEOUT_FIRST_REGISTRATION = 1.5
"Seconds; the home agent may be doing duplicate address detection (section 11.8; its name in section 13)."
MAX_BINDACK_TIMEOUT = 32.0
SHORTEST_TIMEOUT = 0.1
"Seconds; the first timeout where the home agent is known to answer sooner."
REFUSED_RETRY = 60.0
"Seconds after which a refused registration is tried again: the reason is usually configuration, but people mend it."
REFRESH_AT = 0.8
"Fraction of the lifetime after which the binding is refreshed."
UNANSWERED_IS_UNREACHABLE = 2
"So many binding updates without an answer, and the user is told."
SILENCE_IS_UNREACHABLE = 4.0
"Seconds without an answer that tell the same, however often it was begun anew meanwhile."
OUTSTANDING_LIMIT = 8
RENUMBER_LIMIT = 3
"So many corrections of the sequence number are followed at once; beyond that the usual timer paces them."


def status_name(status: int) -> str:
    """The name of a status for people; unknown ones keep their number (RFC 6275 section 6.1.8)."""
    try:
        return mh.Status(status).name.lower().replace("_", "-")
    except ValueError:
        return f"status-{status}"


class State(Enum):
    """Of a registration."""

    IDLE = auto()
    "Nothing is registered and nothing is wanted."
    REGISTERING = auto()
    "A binding update for the present care-of address is on its way; the home agent may know an older one or none."
    BOUND = auto()
    REFRESHING = auto()
    "Still bound, and the next binding update is on its way."
    DEREGISTERING = auto()
    "Back home; the home agent is asked to forget the binding."
    REFUSED = auto()
    "The home agent said no; tried again slowly."


class Move(Enum):
    """What can happen to a registration."""

    BIND = auto()
    RELEASE = auto()
    ACCEPTED = auto()
    REFUSED = auto()
    DUE = auto()
    "The timer: time to refresh, or to try again."
    EXPIRED = auto()
    ABANDON = auto()


LEGAL: dict[tuple[State, Move], State] = {
    **{(state, Move.BIND): State.REGISTERING for state in State},
    **{(state, Move.RELEASE): State.DEREGISTERING for state in State},
    **{(state, Move.ABANDON): State.IDLE for state in State},
    (State.REGISTERING, Move.ACCEPTED): State.BOUND,
    (State.REFRESHING, Move.ACCEPTED): State.BOUND,
    (State.DEREGISTERING, Move.ACCEPTED): State.IDLE,
    (State.REGISTERING, Move.REFUSED): State.REFUSED,
    (State.REFRESHING, Move.REFUSED): State.REFUSED,
    (State.DEREGISTERING, Move.REFUSED): State.IDLE,
    (State.BOUND, Move.DUE): State.REFRESHING,
    (State.REFUSED, Move.DUE): State.REGISTERING,
    (State.REFRESHING, Move.EXPIRED): State.REGISTERING,
    (State.BOUND, Move.EXPIRED): State.REGISTERING,
}
"Every legal move; everything else is ignored."

WAITING = frozenset({State.REGISTERING, State.REFRESHING, State.DEREGISTERING})
"States in which an acknowledgement is expected."


@dataclass(frozen=True, slots=True)
class BindingRequested(Event):
    """A binding update is to be sent (and is sent at once by the mobile node)."""

    home_agent: IPv6Address
    care_of_address: IPv6Address
    sequence: int
    lifetime: int
    "Seconds; 0 deregisters."
    transmission: int
    "1 is the first for this purpose."


@dataclass(frozen=True, slots=True)
class Bound(Event):
    """The home agent acknowledged the binding."""

    home_agent: IPv6Address
    care_of_address: IPv6Address
    lifetime: int
    round_trip: float
    "Seconds between the binding update and its acknowledgement."


@dataclass(frozen=True, slots=True)
class BindingRefused(Event):
    """The home agent said no."""

    home_agent: IPv6Address
    status: str
    retry_in: float
    "Seconds."
    why: str
    "And what to do about it, for people."


@dataclass(frozen=True, slots=True)
class HomeAgentUnreachable(Event):
    """Several binding updates stayed unanswered; the terminal goes on trying."""

    home_agent: IPv6Address
    unanswered: int
    retry_in: float
    "Seconds."


@dataclass(frozen=True, slots=True)
class ReturnedHome(Event):
    """The binding is gone because the terminal is at home."""

    home_agent: IPv6Address
    round_trip: float
    "Seconds."


@dataclass(frozen=True, slots=True)
class BindingWithdrawn(Event):
    """The home agent forgot this binding, as it was asked to; others of the home address stay (RFC 5648)."""

    home_agent: IPv6Address
    care_of_address: IPv6Address


class SequenceNumbers:
    """Of binding updates to one home agent, modulo 2**16; all its registrations share them."""

    def __init__(self, last: int = 0) -> None:
        self.last = last & 0xFFFF

    def next(self) -> int:
        self.last = (self.last + 1) & 0xFFFF
        return self.last


class RoundTrip:
    """Time between binding updates and their acknowledgements, smoothed (RFC 6298 section 2)."""

    def __init__(self) -> None:
        self.smoothed: float | None = None
        "Seconds; None: never measured."
        self.variation = 0.0

    def measured(self, sample: float) -> None:
        """Every transmission has a number of its own, so it is clear which one was answered."""
        if self.smoothed is None:
            self.smoothed, self.variation = sample, sample / 2
        else:
            self.variation += (abs(self.smoothed - sample) - self.variation) / 4
            self.smoothed += (sample - self.smoothed) / 8


class Registration:
    """One binding with one home agent. Sends nothing itself: `BindingRequested` says what to send."""

    def __init__(
        self,
        home_agent: IPv6Address,
        lifetime: int,
        numbers: SequenceNumbers | None = None,
        *,
        round_trip: RoundTrip | None = None,
        lasts: Callable[[float], float] | None = None,
    ) -> None:
        """``round_trip``: what another registration with this home agent measured: it is known to answer.

        ``lasts``: for how many seconds from a time on the care-of address leads here; no update asks for more."""
        self.home_agent = home_agent
        self.wanted_lifetime = lifetime
        self.asked = lifetime
        "Seconds that the last binding update asked for, unless it deregistered."
        self._lasts = lasts
        self._numbers = SequenceNumbers() if numbers is None else numbers
        self.sequence = self._numbers.last
        "Of the last binding update of this registration."
        self.state = State.IDLE
        self.care_of_address: IPv6Address | None = None
        self.expires: float | None = None
        "When the binding at the home agent ends."
        self.granted = 0
        self.sent_at = 0.0
        self.transmissions = 0
        "Since the last answer."
        self._asking_since: float | None = None
        "When the first binding update since the last answer, or since the last move, was sent."
        self.timer: float | None = None
        self._outstanding: dict[int, float] = {}
        self._timeout = INITIAL_BINDACK_TIMEOUT
        self.round_trip = RoundTrip() if round_trip is None else round_trip
        self._ever_bound = self.round_trip.smoothed is not None
        self._withdrawing = False
        self._told_unreachable = False
        self._renumbered = 0
        self._refused_because = ""

    def bind(self, care_of_address: IPv6Address, now: float) -> list[Output]:
        """Register this care-of address, now."""
        if care_of_address != self.care_of_address:
            self._forget_binding()
            self._asking_since = None
        self.care_of_address = care_of_address
        self._move(Move.BIND)
        return self._begin(now)

    def release(self, home_address: IPv6Address, now: float) -> list[Output]:
        """Deregister: the terminal is at home (section 11.5.5)."""
        self._forget_binding()
        self.care_of_address = home_address
        self._withdrawing = False
        self._move(Move.RELEASE)
        return self._begin(now)

    def withdraw(self, now: float) -> list[Output]:
        """Deregister this binding; the terminal has another one with the same home agent (RFC 5648 section 5.3)."""
        self._forget_binding()
        self._withdrawing = True
        self._move(Move.RELEASE)
        return self._begin(now)

    @property
    def unanswered_for(self) -> int:
        """So many binding updates were sent since the last answer."""
        return self.transmissions if self.state in WAITING else 0

    def answers(self, acknowledgement: mh.BindingAcknowledgement) -> bool:
        """Whether an acknowledgement has the number of a binding update of this registration that is under way."""
        return self.state in WAITING and acknowledgement.sequence in self._outstanding

    def abandon(self) -> None:
        """No care-of address is left; nothing can be sent."""
        self._move(Move.ABANDON)
        self.timer, self._asking_since = None, None
        self._outstanding.clear()

    def refresh(self, now: float) -> list[Output]:
        """Register the same address again before it is due: asked for by the user or by the home agent."""
        match self.state:
            case State.BOUND | State.REFUSED:
                self._move(Move.DUE)
                return self._begin(now)
            case State.REGISTERING | State.REFRESHING | State.DEREGISTERING:
                return self._begin(now)
            case State.IDLE:
                return []

    def refresh_by(self, time: float) -> None:
        """Refresh the binding at this time, unless it is due before anyway."""
        if self.state is State.BOUND and self.timer is not None:
            self.timer = min(self.timer, time)

    @property
    def refresh_due(self) -> float | None:
        """When the binding is to be refreshed; None: it is being refreshed, or there is none."""
        return self.timer if self.state is State.BOUND else None

    @property
    def bound(self) -> bool:
        """Whether the home agent knows the present care-of address."""
        return self.state in (State.BOUND, State.REFRESHING)

    def acknowledged(self, ack: mh.BindingAcknowledgement, now: float) -> list[Output]:
        """An acknowledgement arrived. Raises `Discard` when it answers nothing that was asked."""
        if self.state not in WAITING:
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"in state {self.state.name}")
        if ack.status == mh.Status.SEQUENCE_OUT_OF_WINDOW:
            return self._renumber(ack.sequence, now)
        sent_at = self._outstanding.get(ack.sequence)
        if sent_at is None:
            raise Discard(Reason.SEQUENCE_UNEXPECTED, f"{ack.sequence} is not the number of an update under way")
        self.round_trip.measured(now - sent_at)
        self.transmissions = 0
        self._asking_since = None
        self._renumbered = 0
        self._told_unreachable = False
        self._outstanding.clear()
        if self.state is State.DEREGISTERING:
            return self._released(ack.status, now - sent_at)
        if not ack.accepted:
            return self._refused(ack.status, now)
        if ack.lifetime <= 0:
            # Accepted with no lifetime: there is no binding, and asking again at once would be a loop.
            return self._refused(mh.Status.REASON_UNSPECIFIED, now)
        self._move(Move.ACCEPTED)
        self._ever_bound = True
        care_of_address = self._present_address()
        # The home agent's clock started when it answered, ours when the update left: the cautious one counts.
        self.granted = ack.lifetime
        self.expires = sent_at + ack.lifetime
        refresh_after = ack.lifetime * REFRESH_AT
        if ack.refresh_interval is not None and 0 < ack.refresh_interval < ack.lifetime:
            refresh_after = min(refresh_after, float(ack.refresh_interval))
        self.timer = max(sent_at + refresh_after, now)
        return [Bound(self.home_agent, care_of_address, ack.lifetime, now - sent_at)]

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come: refresh, retransmit, try again."""
        if self.timer is None or now < self.timer:
            return []
        match self.state:
            case State.BOUND | State.REFUSED:
                self._move(Move.DUE)
                return self._begin(now)
            case State.REGISTERING | State.REFRESHING | State.DEREGISTERING:
                return self._retransmit(now)
            case State.IDLE:
                self.timer = None
                return []

    def expire(self, now: float) -> bool:
        """Whether the binding has just ended without having been refreshed; it is being registered anew."""
        if self.expires is None or now < self.expires or not self.bound:
            return False
        was_waiting = self.state in WAITING
        self._forget_binding()
        self._move(Move.EXPIRED)
        if not was_waiting:
            self.timer = now
        return True

    def _begin(self, now: float) -> list[Output]:
        self._timeout = self._first_timeout()
        self.transmissions = 0
        self._outstanding.clear()
        return self._send(now)

    def _first_timeout(self) -> float:
        if not self._ever_bound:
            return INITIAL_BINDACK_TIMEOUT_FIRST_REGISTRATION
        smoothed = self.round_trip.smoothed
        if smoothed is None:
            return INITIAL_BINDACK_TIMEOUT
        # Twice, because the next place may be farther away than the last one.
        wait = 2 * smoothed + 4 * self.round_trip.variation
        return min(max(wait, SHORTEST_TIMEOUT), INITIAL_BINDACK_TIMEOUT)

    def _send(self, now: float) -> list[Output]:
        care_of_address = self._present_address()
        self.sequence = self._numbers.next()
        self.sent_at = now
        if self._asking_since is None:
            self._asking_since = now
        self.transmissions += 1
        self._outstanding[self.sequence] = now
        while len(self._outstanding) > OUTSTANDING_LIMIT:
            del self._outstanding[next(iter(self._outstanding))]
        self.timer = now + self._timeout
        if self._lasts is not None:
            # The wire counts units of four seconds, and none would deregister.
            self.asked = max(int(min(self.wanted_lifetime, self._lasts(now))) // 4 * 4, 4)
        lifetime = 0 if self.state is State.DEREGISTERING else self.asked
        return [BindingRequested(self.home_agent, care_of_address, self.sequence, lifetime, self.transmissions)]

    def _retransmit(self, now: float) -> list[Output]:
        self._renumbered = 0
        self._timeout = min(self._timeout * 2, MAX_BINDACK_TIMEOUT)
        unanswered = self.transmissions
        since = now if self._asking_since is None else self._asking_since
        outputs = self._send(now)
        patient = self._timeout > UNANSWERED_IS_UNREACHABLE * INITIAL_BINDACK_TIMEOUT  # not after the quick ones
        patient = patient or now - since >= SILENCE_IS_UNREACHABLE
        if unanswered >= UNANSWERED_IS_UNREACHABLE and patient and not self._told_unreachable:
            self._told_unreachable = True
            outputs.append(HomeAgentUnreachable(self.home_agent, unanswered, self._timeout))
        return outputs

    def _renumber(self, last_accepted: int, now: float) -> list[Output]:
        # Section 11.7.3: go on from the number that the home agent knows, at once. An acknowledgement that
        # was delayed or repeated names a number that has been followed already.
        if last_accepted in self._outstanding:
            raise Discard(Reason.SEQUENCE_UNEXPECTED, f"{last_accepted} is the number of an update under way")
        self._renumbered += 1
        if self._renumbered > RENUMBER_LIMIT:
            raise Discard(Reason.SEQUENCE_UNEXPECTED, "the home agent corrects the sequence number again and again")
        self.sequence = self._numbers.last = last_accepted
        self._outstanding.clear()
        return self._send(now)

    def _released(self, status: int, round_trip: float) -> list[Output]:
        # A refusal (133: no such binding) leaves nothing to deregister either.
        care_of_address = self._present_address()
        self._move(Move.ACCEPTED if status < 128 else Move.REFUSED)
        self.timer = None
        if self._withdrawing:
            return [BindingWithdrawn(self.home_agent, care_of_address)]
        return [ReturnedHome(self.home_agent, round_trip)]

    def _refused(self, status: int, now: float) -> list[Output]:
        self._move(Move.REFUSED)
        self._forget_binding()
        self.timer = now + REFUSED_RETRY
        self._refused_because = why_refused(status)
        return [BindingRefused(self.home_agent, status_name(status), REFUSED_RETRY, self._refused_because)]

    def _forget_binding(self) -> None:
        self.expires = None
        self.granted = 0

    def _present_address(self) -> IPv6Address:
        if self.care_of_address is None:
            raise RuntimeError("a registration without a care-of address cannot send; call bind() or release() first")
        return self.care_of_address

    def _move(self, move: Move) -> None:
        self.state = LEGAL.get((self.state, move), self.state)

    def snapshot(self, now: float) -> dict[str, object]:
        """The registration for people, JSON-ready."""
        return {
            "home_agent": str(self.home_agent),
            "state": self.state.name.lower(),
            "care_of_address": None if self.care_of_address is None else str(unmapped(self.care_of_address)),
            "sequence": self.sequence,
            "lifetime": self.granted,
            "remaining": None if self.expires is None else round(max(self.expires - now, 0.0), 3),
            "unanswered": self.unanswered_for,
            "round_trip": None if self.round_trip.smoothed is None else round(self.round_trip.smoothed, 4),
            "next_action_in": None if self.timer is None else round(max(self.timer - now, 0.0), 3),
            "refused_because": self._refused_because if self.state is State.REFUSED else None,
        }
