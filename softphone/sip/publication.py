"""Publication of a state (RFC 3903), the publisher's side as an engine. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from softphone.sip.subscription import BACKOFF_FIRST, BACKOFF_LONGEST, FINAL, LEAST_PAUSE, REFRESH_AT

FORGOTTEN = 412
"Conditional Request Failed: the server does not know our publication any more."


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a PUBLISH."""

    body: bytes
    "Empty: nothing new (a refresh, or the end)."
    etag: str | None
    "For SIP-If-Match; None: the first one."
    expires: int


class Publisher:
    """One state at one server; one request at a time. ``jitter`` gives numbers from 0 to 1."""

    def __init__(self, expires: int, jitter: Callable[[], float]) -> None:
        self.timer: float | None = None
        self.failure = 0
        "Status of the refusal after which nothing more is tried; 0: there was none."
        self._expires = expires
        self._jitter = jitter
        self._etag: str | None = None
        self._body = b""
        self._sent: Publish | None = None
        self._changed = False
        self._leaving = False
        self._failures = 0

    def publish(self, body: bytes, now: float) -> list[Publish]:
        """A new state. What is not sent yet is skipped for it."""
        self._body, self._changed, self._leaving, self.failure = body, True, False, 0
        return self._next(now)

    def leave(self, now: float) -> list[Publish]:
        """Take it back."""
        self._leaving, self._changed = True, False
        return self._next(now)

    def answered(
        self, status: int, etag: str | None, granted: int | None, least: int | None, retry_after: int, now: float
    ) -> list[Publish]:
        """The final response: its status, SIP-ETag, Expires, Min-Expires, Retry-After (0: none)."""
        sent, self._sent = self._sent, None
        if sent is None:
            return []
        if 200 <= status < 300:
            self._failures = 0
            self._etag = etag if sent.expires else None
            self.timer = now + max(LEAST_PAUSE, (granted or sent.expires) * REFRESH_AT) if sent.expires else None
        elif status == FORGOTTEN and sent.etag is not None:
            self._etag, self._changed = None, not self._leaving
        elif status == 423 and least is not None and least > self._expires:
            self._expires, self._changed = least, not self._leaving
        elif status in FINAL or self._leaving:
            self.failure, self.timer, self._etag, self._changed = status, None, None, False
            return []
        else:
            bound = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(self._failures, 16))
            self._failures += 1
            self.timer = now + max(retry_after, bound * (0.5 + 0.5 * self._jitter()))
            self._changed = True
            return []
        return self._next(now)

    def handle_timer(self, now: float) -> list[Publish]:
        if self.timer is None or now < self.timer or self._sent is not None:
            return []
        self.timer = None
        return self._next(now, refresh=True)

    def _next(self, now: float, *, refresh: bool = False) -> list[Publish]:
        if self._sent is not None:
            return []
        if self._leaving:
            self.timer = None
            if self._etag is None:
                return []
            self._sent = Publish(b"", self._etag, 0)
        elif self._changed or self._etag is None:
            if not (self._changed or refresh):
                return []
            self._changed = False
            self._sent = Publish(self._body, self._etag, self._expires)
        elif refresh:
            self._sent = Publish(b"", self._etag, self._expires)
        else:
            return []
        return [self._sent]
