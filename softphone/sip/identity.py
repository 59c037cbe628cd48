"""Who calls, for whom, why a call ended, and whether to answer by itself: what header fields say about a call. Sans-IO.

RFC 3323, 3325 (privacy, asserted identity), 5806, 7044 (diversion), 3326 (Reason), 5373 (automatic answer).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers, NameAddr, find_parameter, parse_parameters, quote
from softphone.sip.message import Message
from softphone.sip.uri import SipUri, unescape

NOBODY = "anonymous"
ANONYMOUS = NameAddr(SipUri("anonymous.invalid", NOBODY), "Anonymous")
"From of a call that hides who makes it (RFC 3323 section 4.1.1.3)."
ELSEWHERE = 200
"Cause in the CANCEL of a fork: another branch has answered (RFC 3326 section 3.2)."
AUTO = frozenset(["alert-autoanswer", "auto-answer", "auto answer", "ring answer", "intercom"])
"Values of ``info`` in Alert-Info by which telephones ask for an answer at once; there is no standard for it."
CALL_WAITING = "<urn:alert:service:call-waiting>"
"Alert-Info of a 180: the callee is in another call (RFC 7462)."
MOST_ENTRIES = 20

Value = TypeVar("Value")


class Reason(NamedTuple):
    """Why a request was sent, or a call refused (RFC 3326, RFC 6432)."""

    protocol: str
    "``SIP`` or ``Q.850``."
    cause: int | None
    text: str = ""

    @classmethod
    def parse(cls, value: str) -> Self:
        """Raises SipParseError."""
        protocol, semicolon, rest = value.partition(";")
        parameters = parse_parameters(semicolon + rest, "Reason")
        cause = find_parameter(parameters, "cause")
        number = int(cause) if cause is not None and cause.isascii() and cause.isdigit() and len(cause) < 6 else None
        return cls(protocol.strip(), number, find_parameter(parameters, "text") or "")

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        return f"{self.protocol}{cause}" + (f";text={quote(self.text)}" if self.text else "")

    def headers(self) -> Headers:
        return Headers.of(("Reason", str(self)))


def reasons(message: Message) -> tuple[Reason, ...]:
    """All that a message says; what is malformed is left out."""
    return _tolerant(message.headers, "Reason", Reason.parse)


@dataclass(frozen=True, slots=True)
class Diversion:
    """A call was for somebody else at first (RFC 5806 Diversion, or an entry of History-Info, RFC 7044)."""

    by: NameAddr
    "Whom the call was for."
    reason: str = ""
    "For example ``no-answer``, ``user-busy``, ``unconditional``."


def diversions(message: Message) -> tuple[Diversion, ...]:
    """Who passed the call on, the latest first. Of History-Info only what was retargeted counts."""
    found = _tolerant(message.headers, "Diversion", _diversion)
    return found or tuple(reversed(_history(message)))


def _diversion(value: str) -> Diversion:
    by = NameAddr.parse(value, "Diversion")
    return Diversion(NameAddr(by.uri, by.display), by.parameter("reason") or "")


def _history(message: Message) -> list[Diversion]:
    """An entry whose successor is another address was passed on for the reason in the URI's headers."""
    entries = _tolerant(message.headers, "History-Info", lambda value: NameAddr.parse(value, "History-Info"))
    found = []
    for entry, following in itertools.pairwise(entries):
        uri, to = entry.sip_uri, following.sip_uri
        if uri is None or to is None or (uri.user, uri.host) == (to.user, to.host):
            continue
        why = [unescape(value) for name, value in uri.headers if name.lower() == "reason"]
        text = ""
        if why:
            try:
                reason = Reason.parse(why[0])
            except SipParseError:
                pass
            else:
                text = reason.text or f"{reason.protocol} {reason.cause}"
        found.append(Diversion(NameAddr(uri.bare(), entry.display), text))
    return found


def asserted(message: Message) -> tuple[NameAddr, ...]:
    """P-Asserted-Identity (RFC 3325 section 9.1). To be believed only from a proxy that one trusts."""
    return _tolerant(message.headers, "P-Asserted-Identity", lambda value: NameAddr.parse(value))


def privacy(message: Message) -> frozenset[str]:
    """What the sender wants hidden: ``id``, ``header``, ``user``... (RFC 3323 section 4.2)."""
    return frozenset(
        word.strip().lower()
        for line in message.headers.raw("Privacy")
        for word in re.split("[;,]", line)
        if word.strip()
    )


def answer_after(message: Message) -> float | None:
    """Seconds after which the caller would like us to answer by ourselves; None: it does not ask for that."""
    for value in _tolerant(message.headers, "Call-Info", lambda value: NameAddr.parse(value, "Call-Info")):
        text = value.parameter("answer-after")
        if text is not None and text.isascii() and text.isdigit() and len(text) < 5:
            return float(text)
    for line in message.headers.raw("Alert-Info"):
        info = re.search(r';\s*info\s*=\s*"?([^";,]+)', line, re.IGNORECASE)
        delay = re.search(r";\s*delay\s*=\s*(\d{1,4})", line, re.IGNORECASE)
        if info and info[1].strip().lower() in AUTO:
            return float(delay[1]) if delay else 0.0
    mode = (message.headers.get("Answer-Mode") or message.headers.get("Priv-Answer-Mode") or "").partition(";")[0]
    return 0.0 if mode.strip().lower() == "auto" else None


def _tolerant(headers: Headers, name: str, parse: Callable[[str], Value]) -> tuple[Value, ...]:
    """The values of a field that informs only: what is malformed is as if it were not there."""
    try:
        values = headers.values(name)[:MOST_ENTRIES]
    except SipParseError:
        return ()
    found = []
    for value in values:
        try:
            found.append(parse(value))
        except SipParseError:
            continue
    return tuple(found)
