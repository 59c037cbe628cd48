"""Subscriptions (RFC 6665): the state that NOTIFYs tell, and the subscriber's side as an engine. Does no I/O.

The dialog and the messages are the business of whoever runs the engine (`softphone.user_agent.subscriptions`); the
implicit subscription of a REFER has no SUBSCRIBE and uses the state alone (`softphone.calls.transfer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from softphone.sip.errors import SipParseError
from softphone.sip.headers import TOKEN, find_parameter, parse_number, parse_parameters
from softphone.sip.message import Request

NOTIFY_SECONDS = 32.0
"Timer N: how long the first NOTIFY may take after a SUBSCRIBE (section 4.1.2.4)."
REFRESH_AT = 0.75
"Fraction of the granted time."
BACKOFF_FIRST, BACKOFF_LONGEST = 5.0, 1800.0
"Seconds; doubles with every failure."
LEAST_PAUSE = 1.0
"Also a notifier that wants us back at once gets no storm of SUBSCRIBEs."
FINAL = frozenset([400, 401, 402, 403, 404, 405, 407, 410, 416, 420, 489, 501, 603, 604])
"Refusals that asking again does not change."
NEVER_AGAIN = frozenset(["rejected", "noresource", "invariant"])
"Reasons of an end after which one must not subscribe again (section 4.1.3)."
AT_ONCE = frozenset(["deactivated", "timeout"])
"Reasons after which one may subscribe again at once."
WHOLE_AGAIN = 10.0
"Seconds between two questions for the whole state, where the other side tells differences that do not fit."
BURST, PER_SECOND = 50.0, 10.0
"NOTIFYs of one subscription that are taken."


class SubscriptionState(NamedTuple):
    """``Subscription-State: active;expires=60`` (RFC 6665 section 8.2.3)."""

    state: str
    expires: int | None = None
    reason: str = ""
    retry_after: int | None = None
    "Seconds."

    @classmethod
    def of(cls, notify: Request) -> Self:
        """Raises SipParseError."""
        text = notify.headers.get("Subscription-State")
        if text is None:
            raise SipParseError("Subscription-State", 0, "missing")
        state, semicolon, rest = text.partition(";")
        if not TOKEN.match(state.strip()):
            raise SipParseError("Subscription-State", 0, f"{state[:40]!r} is no state")
        parameters = parse_parameters(semicolon + rest, "Subscription-State")

        def number(name: str) -> int | None:
            value = find_parameter(parameters, name)
            return None if value is None else parse_number(value, "Subscription-State")

        reason = (find_parameter(parameters, "reason") or "").lower()
        return cls(state.strip().lower(), number("expires"), reason, number("retry-after"))

    def __str__(self) -> str:
        expires = "" if self.expires is None else f";expires={self.expires}"
        retry = "" if self.retry_after is None else f";retry-after={self.retry_after}"
        return f"{self.state}{expires}" + (f";reason={self.reason}" if self.reason else "") + retry

    @property
    def terminated(self) -> bool:
        return self.state == "terminated"


class Phase(StrEnum):
    """How far a subscription is."""

    TRYING = "trying"
    "The first NOTIFY has not come."
    PENDING = "pending"
    "The other side has not decided yet whether we may know."
    ACTIVE = "active"
    WAITING = "waiting"
    "It failed, or ended, and is tried again later."
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send a SUBSCRIBE."""

    expires: int
    anew: bool
    "Outside of a dialog, with a new Call-ID and tag; else in the dialog that the first NOTIFY made."


@dataclass(frozen=True, slots=True)
class Moved:
    """The phase has changed."""

    phase: Phase
    reason: str
    "Why, where it is a failure or an end."


Output = Subscribe | Moved


class Subscriber:
    """One subscription. ``jitter`` gives numbers from 0 to 1; ``expires`` 0: fetch the state once (section 4.4.3)."""

    def __init__(self, expires: int, jitter: Callable[[], float]) -> None:
        self.phase = Phase.WAITING
        self.timer: float | None = None
        "Moment of the next `handle_timer`."
        self._expires = expires
        self._fetch = expires == 0
        self._jitter = jitter
        self._failures = 0
        self._until = 0.0
        self._in_dialog = False
        self._asked = -WHOLE_AGAIN
        self._leaving = False
        self._tokens, self._filled = BURST, 0.0

    @property
    def over(self) -> bool:
        return self.phase is Phase.ENDED

    def begin(self, now: float) -> list[Output]:
        """Subscribe, anew."""
        self._in_dialog = False
        self.timer = now + 2 * NOTIFY_SECONDS  # of the transaction, then of the NOTIFY
        return [*self._move(Phase.TRYING), Subscribe(self._expires, True)]

    def refresh(self, now: float) -> list[Output]:
        """Ask for the whole state again, in the dialog; a few times a minute at most."""
        if not self._in_dialog or self.over or self._leaving or now < self._asked + WHOLE_AGAIN:
            return []
        self._asked = now
        self.timer = now + NOTIFY_SECONDS
        return [Subscribe(self._expires, False)]

    def leave(self, now: float) -> list[Output]:
        """Unsubscribe (section 4.1.2.3)."""
        if self.over or self._leaving:
            return []
        self._leaving = True
        if not self._in_dialog:
            return self._end("unsubscribed")
        self.timer = now + NOTIFY_SECONDS
        return [Subscribe(0, False)]

    def answered(
        self, status: int, granted: int | None, least: int | None, retry_after: int, now: float
    ) -> list[Output]:
        """The final response to a SUBSCRIBE: its status, Expires, Min-Expires, Retry-After (0: none)."""
        if self.over:
            return []
        if 200 <= status < 300:
            if self.phase is Phase.TRYING:
                self.timer = now + NOTIFY_SECONDS
            elif not self._leaving:
                self._granted(self._expires if granted is None else granted, now)
            return []
        if self._leaving:
            return self._end("unsubscribed")
        if status == 423 and least is not None and least > self._expires > 0:
            self._expires = least
            return [Subscribe(self._expires, False)] if self._in_dialog else self.begin(now)
        if self._in_dialog and status == 481:
            return self._again("the other side has forgotten the subscription", LEAST_PAUSE, now)
        if self._in_dialog and status not in FINAL and now < self._until:
            # the subscription goes on until it expires (section 4.1.2.2)
            self.timer = min(self._until, now + max(retry_after, self._backoff()))
            return []
        if status in FINAL or self._fetch:
            return self._end(f"refused with {status}")
        return self._again(f"refused with {status}", max(retry_after, self._backoff()), now)

    def admits(self, now: float) -> bool:
        """Whether another NOTIFY may be taken: a flood is not."""
        self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def notified(self, state: SubscriptionState, now: float) -> list[Output]:
        """A NOTIFY in the dialog of the subscription."""
        if self.phase in (Phase.ENDED, Phase.WAITING):
            return []
        self._failures = 0
        if not state.terminated and not self._fetch:
            self._in_dialog = True
            if not self._leaving:
                self._granted(self._expires if state.expires is None else state.expires, now)
            return self._move(Phase.PENDING if state.state == "pending" else Phase.ACTIVE)
        if self._leaving or self._fetch or state.reason in NEVER_AGAIN:
            return self._end(state.reason or "terminated")
        pause = LEAST_PAUSE if state.reason in AT_ONCE else self._backoff()
        return self._again(state.reason or "terminated", max(pause, state.retry_after or 0), now)

    def handle_timer(self, now: float) -> list[Output]:
        if self.timer is None or now < self.timer or self.over:
            return []
        if self._leaving:
            return self._end("unsubscribed")
        match self.phase:
            case Phase.WAITING:
                return self.begin(now)
            case Phase.TRYING:
                if self._fetch:
                    return self._end("nothing was told")
                return self._again("nothing was told", self._backoff(), now)
            case _ if now >= self._until:
                return self._again("it expired", LEAST_PAUSE, now)
            case _:
                self.timer = self._until
                return [Subscribe(self._expires, False)]

    def _granted(self, seconds: int, now: float) -> None:
        self._until = now + seconds
        self.timer = now + max(LEAST_PAUSE, seconds * REFRESH_AT)

    def _backoff(self) -> float:
        bound = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return bound * (0.5 + 0.5 * self._jitter())

    def _again(self, reason: str, pause: float, now: float) -> list[Output]:
        self._in_dialog = False
        self.timer = now + pause
        return self._move(Phase.WAITING, reason)

    def _end(self, reason: str) -> list[Output]:
        self.timer = None
        return self._move(Phase.ENDED, reason)

    def _move(self, phase: Phase, reason: str = "") -> list[Output]:
        if phase is self.phase:
            return []
        self.phase = phase
        return [Moved(phase, reason)]
