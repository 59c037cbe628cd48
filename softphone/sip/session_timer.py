"""Session timers (RFC 4028), sans-IO: what the two sides agree on, and when a refresh or the end is due."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Self

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers, find_parameter, parse_number, parse_parameters
from softphone.sip.message import Request, Response
from softphone.sip.reliable import asks_for

OPTION = "timer"
SHORTEST = 90
"Seconds; no session interval may be smaller (section 4)."


class Refresher(StrEnum):
    """Who refreshes, named by the roles in the transaction that says so."""

    UAC = "uac"
    UAS = "uas"


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """``Session-Expires: 1800;refresher=uac`` (section 4)."""

    interval: int
    "Seconds."
    refresher: Refresher | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        number, semicolon, rest = text.partition(";")
        word = find_parameter(parse_parameters(semicolon + rest, "Session-Expires"), "refresher")
        try:
            refresher = None if word is None else Refresher(word.lower())
        except ValueError:
            raise SipParseError("Session-Expires", 0, f"the refresher {word!r} is neither uac nor uas") from None
        return cls(parse_number(number, "Session-Expires"), refresher)

    @classmethod
    def of(cls, message: Request | Response) -> Self | None:
        """What a message says; None: nothing. Raises SipParseError."""
        text = message.headers.get("Session-Expires")
        return None if text is None else cls.parse(text)

    def __str__(self) -> str:
        return f"{self.interval}" if self.refresher is None else f"{self.interval};refresher={self.refresher}"


class TooSmall(Exception):
    """The peer wants a shorter interval than we do: 422 with ``Min-SE``."""

    def __init__(self, least: int) -> None:
        super().__init__(f"a session interval below {least} s")
        self.headers = Headers.of(("Min-SE", str(least)))


class Due(Enum):
    """What a timer that ran out asks for."""

    REFRESH = "send a re-INVITE or UPDATE"
    EXPIRED = "nobody refreshed the session: send BYE"


class SessionTimer:
    """The session timer of one dialog. ``interval`` is what we would like, seconds (0: no session timer)."""

    def __init__(self, interval: int, least: int = SHORTEST) -> None:
        self.agreed: int | None = None
        "The interval in force; None: the session does not expire."
        self.ours = False
        "We refresh."
        self.timer: float | None = None
        self._wanted = interval
        self._least = max(SHORTEST, least)
        self._expires = 0.0

    def ask(self) -> Headers:
        """For an INVITE or UPDATE of ours. A refresher once agreed on keeps its role (section 7.4)."""
        if not self._wanted:
            return Headers()
        refresher = None if self.agreed is None else Refresher.UAC if self.ours else Refresher.UAS
        headers = Headers.of(("Session-Expires", str(SessionExpires(self._interval, refresher))))
        return headers.add("Min-SE", str(self._least)) if self._least > SHORTEST else headers

    def refused(self, response: Response) -> bool:
        """Our request was answered with 422. True: ask again, with the interval that the other side demands."""
        least = response.number("Min-SE")
        if least is None or not self._wanted or least <= self._interval:
            return False
        self._least = least
        return True

    def answered(self, response: Response, now: float) -> None:
        """The 2xx to our request (section 7.2); what cannot be read in it counts as not said."""
        try:
            said = SessionExpires.of(response) if self._wanted else None
        except SipParseError:
            said = None
        self._start(said, said is not None and said.refresher is not Refresher.UAS, now)

    def check(self, request: Request) -> None:
        """Judge the peer's INVITE or UPDATE before anything else is done with it. Raises TooSmall, SipParseError."""
        said, _ = SessionExpires.of(request), request.number("Min-SE")
        if self._wanted and said is not None and said.interval < self._least and asks_for(request, "Supported", OPTION):
            raise TooSmall(self._least)

    def answer(self, request: Request, now: float) -> Headers:
        """The session timer's part of our 2xx (section 9), after `check`."""
        if not self._wanted:
            return Headers()
        said, capable = SessionExpires.of(request), asks_for(request, "Supported", OPTION)
        floor = max(self._least, request.number("Min-SE") or 0)
        interval = max(floor, self._wanted if said is None else min(self._wanted, said.interval))
        if not capable:
            refresher = Refresher.UAS
        elif said is not None and said.refresher is not None:
            refresher = said.refresher
        else:
            refresher = Refresher.UAS if self.agreed is not None and self.ours else Refresher.UAC
        agreed = SessionExpires(interval, refresher)
        self._start(agreed, refresher is Refresher.UAS, now)
        headers = Headers.of(("Session-Expires", str(agreed)))
        return headers.add("Require", OPTION) if refresher is Refresher.UAC else headers

    def stop(self) -> None:
        self.timer = None

    def handle_timer(self, now: float) -> Due | None:
        """What is due; after REFRESH the session is given up a little before it expires, unless a refresh comes."""
        if self.timer is None or now < self.timer:
            return None
        if self.ours and self.timer < self._give_up:
            self.timer = self._give_up
            return Due.REFRESH
        self.timer = None
        return Due.EXPIRED

    @property
    def _interval(self) -> int:
        """What we ask for."""
        return max(self._wanted if self.agreed is None else self.agreed, self._least)

    @property
    def _give_up(self) -> float:
        """When to say BYE (section 10)."""
        return self._expires - min(32.0, (self.agreed or 0) / 3)

    def _start(self, agreed: SessionExpires | None, ours: bool, now: float) -> None:
        if agreed is None:
            self.agreed, self.timer = None, None
            return
        interval = max(SHORTEST, agreed.interval)
        self.agreed, self.ours = interval, ours
        self._expires = now + interval
        self.timer = now + interval / 2 if ours else self._give_up
