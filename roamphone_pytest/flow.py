"""What a phone sent and received, as a list of words that a test can compare: ``INVITE 100 180 200 ACK BYE 200``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from softphone.sip.endpoint import Traced
from softphone.sip.errors import SipParseError
from softphone.sip.message import Request, parse_message

PATTERN = re.compile(r"[A-Z]+|[1-6](?:\d\d|xx)|\[|\]|\*")
"A method, a status or a class of them, brackets around what may be left out, anything."


@dataclass(frozen=True, slots=True)
class Step:
    """One message, as one phone saw it."""

    time: float
    "Seconds of the event loop's clock."
    sent: bool
    call: str
    "Call-ID."
    name: str
    "The method of a request, the status of a response."
    text: str
    "For people: ``INVITE sip:bob@home.test``, ``200 OK (INVITE)``."
    other: str
    "Where it went, or came from."


class Flow(tuple[Step, ...]):
    """Messages in the order in which one phone sent and received them, each once."""

    __slots__ = ()

    @property
    def names(self) -> list[str]:
        """``["INVITE", "100", ...]``"""
        return [step.name for step in self]

    def __str__(self) -> str:
        return " ".join(self.names)

    def matches(self, pattern: str) -> bool:
        """Whether the flow is this one.

        ``pattern``: methods and statuses in order. ``2xx`` is any status of a class, ``*`` any number of messages,
        and what is in brackets may be missing: ``INVITE [407 ACK INVITE] 100 [180] 200 ACK * BYE 200``. Raises
        ValueError for what is no pattern.
        """
        return re.fullmatch(_compiled(pattern), "".join(f"{name} " for name in self.names)) is not None

    def ladder(self) -> str:
        """Drawn for people: a line for each message."""
        return "\n".join(
            f"{step.time - self[0].time:8.3f} s {'-->' if step.sent else '<--'} {step.other}  {step.text}"
            for step in self
        )


def _compiled(pattern: str) -> str:
    words = pattern.replace("[", " [ ").replace("]", " ] ").split()
    for word in words:
        if not PATTERN.fullmatch(word):
            raise ValueError(f"{word!r} is no method, status, bracket or *")
    if words.count("[") != words.count("]"):
        raise ValueError(f"{pattern!r} has brackets without a partner")
    parts = {"[": "(?:", "]": ")?", "*": r"(?:\S+ )*"}
    return "".join(parts.get(word, word.replace("xx", r"\d\d") + " ") for word in words)


def steps(messages: Iterable[Traced]) -> list[Step]:
    """The messages of one phone without retransmissions, and without what is no SIP (keepalives)."""
    found, seen = [], set[tuple[bool, bytes]]()
    for message in messages:
        if (key := (message.sent, message.data)) in seen:
            continue
        seen.add(key)
        try:
            parsed = parse_message(message.data)
            call, method = parsed.call_id, parsed.cseq.method
        except SipParseError:
            continue
        if isinstance(parsed, Request):
            name, text = parsed.method, f"{parsed.method} {parsed.uri}"
        else:
            name, text = str(parsed.status), f"{parsed.status} {parsed.reason} ({method})"
        other = f"{message.peer.host} {message.peer.port}/{message.transport}"
        found.append(Step(message.time, message.sent, call, name, text, other))
    return found


def of_call(found: Sequence[Step], call: str) -> Flow:
    """Those of one call."""
    return Flow(step for step in found if step.call == call)


def calls(found: Iterable[Step]) -> list[str]:
    """The Call-IDs with an INVITE, in order."""
    return list(dict.fromkeys(step.call for step in found if step.name == "INVITE"))
