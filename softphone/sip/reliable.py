"""Responses to INVITE that are sent until the other side has confirmed them, sans-IO.

A 2xx is confirmed by ACK (RFC 3261 section 13.3.1.4), a reliable provisional response by PRACK (RFC 3262).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from softphone.sip.errors import SipParseError
from softphone.sip.headers import TOKEN, Headers, parse_number
from softphone.sip.message import Message, Request, Response
from softphone.sip.transaction import T1, T2

OPTION = "100rel"
GIVE_UP = 64 * T1


@dataclass(slots=True)
class Repetition:
    """One response, sent at growing intervals until somebody stops it."""

    response: Response
    timer: float | None
    "When it is due again; None: it was confirmed, or given up."
    _deadline: float
    _longest: float
    _interval: float = T1

    @classmethod
    def begin(cls, response: Response, now: float, longest: float = T2) -> Self:
        """The response has just been sent for the first time. ``longest`` bounds the interval, seconds."""
        return cls(response, now + T1, now + GIVE_UP, longest)

    def stop(self) -> None:
        self.timer = None

    def handle_timer(self, now: float) -> Response | None:
        """The response to send again, or None: the peer never confirmed it."""
        if now >= self._deadline:
            self.timer = None
            return None
        self._interval = min(2 * self._interval, self._longest)
        self.timer = min(now + self._interval, self._deadline)
        return self.response


class SuccessKeeper(Repetition):
    """Sends a 2xx again until its ACK comes; on every transport, for it goes end to end."""

    __slots__ = ()

    def acknowledged(self, ack: Request) -> bool:
        """An ACK came. True if it is the one we wait for."""
        if self.timer is None or ack.cseq.number != self.response.cseq.number:
            return False
        self.stop()
        return True


class RAck(NamedTuple):
    """Which provisional response a PRACK is about (RFC 3262 section 7.2)."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        parts = text.split()
        if len(parts) != 3 or not TOKEN.match(parts[2]):
            raise SipParseError("RAck", 0, f"{text[:40]!r} is not two numbers and a method")
        return cls(parse_number(parts[0], "RAck"), parse_number(parts[1], "RAck", 2**31 - 1), parts[2])

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


class ReliableSender:
    """The callee's half: one provisional response at a time, until its PRACK (RFC 3262 section 3).

    ``first`` is the first RSeq, a random number from 1 to 2**31 - 1.
    """

    def __init__(self, first: int) -> None:
        self._next = first
        self._repetition: Repetition | None = None
        self._rack: RAck | None = None

    @property
    def waiting(self) -> bool:
        """A response is not confirmed yet: the next must wait."""
        return self.timer is not None

    @property
    def timer(self) -> float | None:
        return None if self._repetition is None else self._repetition.timer

    def headers(self) -> Headers:
        """What makes the next response reliable."""
        return Headers.of(("Require", OPTION), ("RSeq", str(self._next)))

    def sent(self, response: Response, now: float) -> None:
        """It has just been sent for the first time, with `headers`."""
        self._rack = RAck(self._next, response.cseq.number, response.cseq.method)
        self._next += 1
        self._repetition = Repetition.begin(response, now, longest=GIVE_UP)

    def confirmed(self, prack: Request) -> bool:
        """A PRACK came. True if it is the one we wait for; else it is answered with 481. Raises SipParseError."""
        if not self.waiting or self._repetition is None or RAck.parse(prack.headers.get("RAck") or "") != self._rack:
            return False
        self._repetition.stop()
        return True

    def stop(self) -> None:
        """The INVITE was answered finally: provisional responses are not repeated any more."""
        if self._repetition is not None:
            self._repetition.stop()

    def handle_timer(self, now: float) -> Response | None:
        """The response to send again, or None: no PRACK came, refuse the INVITE (RFC 3262 section 3)."""
        return None if self._repetition is None else self._repetition.handle_timer(now)


class ReliableReceiver:
    """The caller's half in one early dialog: keeps the order, notices repetitions (RFC 3262 section 4)."""

    def __init__(self) -> None:
        self._last: int | None = None

    def receive(self, response: Response) -> RAck | None:
        """A reliable provisional response; the RAck of the PRACK to send, or None: drop it.

        Dropped is what came already, and what came before its predecessor did: it will come again.
        Raises SipParseError.
        """
        rseq = response.number("RSeq")
        if rseq is None or (self._last is not None and rseq != self._last + 1):
            return None
        self._last = rseq
        return RAck(rseq, response.cseq.number, response.cseq.method)


def is_reliable(response: Response) -> bool:
    """Whether a response wants a PRACK."""
    return 100 < response.status < 200 and "RSeq" in response.headers and asks_for(response, "Require", OPTION)


def asks_for(message: Message, header: str, option: str) -> bool:
    """Whether an option tag stands in Supported or Require. Raises SipParseError."""
    return option in (value.lower() for value in message.headers.values(header))
