"""SIP messages by call, and a call as a ladder: who sent what to whom, when. No widgets."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from textual.content import Content

from ui.model import shortened

FAINT, QUIET = "$foreground 50%", "$foreground 75%"
TIMES = 21
"Cells before the ladder: when, and how long after the message before."
_HEADER = re.compile(r"(?im)^(from|f|to|t|cseq|content-type|c)[ \t]*:[ \t]*(.*?)\r?$")
_LONG = {"f": "from", "t": "to", "c": "content-type"}


@dataclass(frozen=True)
class SipMessage:
    """One message as the daemon tells it."""

    time: float
    account: str
    sent: bool
    transport: str
    local: str
    remote: str
    call: str
    text: str

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> SipMessage:
        return cls(
            float(told.get("time") or 0.0), str(told.get("account", "")), told.get("sent") is True,
            str(told.get("transport", "")), str(told.get("local", "")), str(told.get("remote", "")),
            str(told.get("call", "")), str(told.get("text", "")),
        )  # fmt: skip

    @cached_property
    def first_line(self) -> str:
        return self.text.lstrip().partition("\n")[0].rstrip("\r")

    @cached_property
    def headers(self) -> dict[str, str]:
        """Those that displays want; the first of each."""
        head = self.text.partition("\r\n\r\n")[0]
        found: dict[str, str] = {}
        for match in _HEADER.finditer(head):
            name = match[1].lower()
            found.setdefault(_LONG.get(name, name), match[2])
        return found

    @property
    def status(self) -> int | None:
        """Of a response."""
        words = self.first_line.split(" ", 2)
        return int(words[1]) if words[0] == "SIP/2.0" and len(words) > 1 and words[1].isdigit() else None

    @property
    def method(self) -> str:
        """Of a request; of a response that of its CSeq."""
        if self.status is None:
            return self.first_line.partition(" ")[0]
        return self.headers.get("cseq", "").rpartition(" ")[2]

    @property
    def label(self) -> str:
        """Over the arrow."""
        words = self.first_line if self.status is None else self.first_line.partition(" ")[2]
        text = self.method if self.status is None else words
        if "sdp" in self.headers.get("content-type", ""):
            text += " (SDP)"
        return text if self.status is None or self.method == "INVITE" else f"{text} {self.method}"

    @property
    def style(self) -> str:
        match self.status:
            case None:
                return "bold $accent"
            case int(status) if status < 200:
                return "$foreground 70%"
            case int(status) if status < 300:
                return "bold $success"
            case int(status) if status < 400:
                return "$secondary"
        return "bold $error"


class SipCall:
    """All messages with one Call-ID."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.messages: list[SipMessage] = []

    @property
    def is_call(self) -> bool:
        """It has, or had, to do with an INVITE."""
        return any(message.method == "INVITE" for message in self.messages)

    @property
    def outcome(self) -> tuple[str, str]:
        """How far it has come, with a style: the latest final answer to what began it, or that it has ended."""
        methods = {message.method for message in self.messages if message.status is None}
        if "BYE" in methods:
            return "ended", QUIET
        begun = self.messages[0].method
        answers = [message for message in self.messages if message.status is not None and message.method == begun]
        if not answers:
            return "no answer yet", "$warning"
        return answers[-1].first_line.partition(" ")[2], answers[-1].style

    def line(self) -> Content:
        """For the list of calls."""
        first = self.messages[0]
        words, style = self.outcome
        other = _person(first.headers.get("to" if first.sent else "from", ""))
        return Content.assemble(
            (time.strftime("%H:%M:%S ", time.localtime(first.time)), FAINT),
            (f"{first.method:<10}", "bold $accent" if first.method == "INVITE" else "bold"),
            ("→ " if first.sent else "← ", "$success" if first.sent else "$secondary"),
            other, "  ", (words, style), (f"  {len(self.messages)} messages", FAINT),
        )  # fmt: skip


class SipLog:
    """Calls in the order of their first messages."""

    def __init__(self) -> None:
        self.calls: dict[str, SipCall] = {}
        self._known: set[tuple[float, bool, str]] = set()

    def clear(self) -> None:
        self.calls.clear()
        self._known.clear()

    def take(self, told: Iterable[Mapping[str, Any]]) -> None:
        """New messages; those that are here already are left out."""
        for one in told:
            message = SipMessage.of(one)
            key = (message.time, message.sent, message.text)
            if key in self._known:
                continue
            self._known.add(key)
            call = self.calls.get(message.call)
            if call is None:
                call = self.calls[message.call] = SipCall(message.call)
            call.messages.append(message)
            if len(call.messages) > 1 and call.messages[-2].time > message.time:
                call.messages.sort(key=lambda each: each.time)

    def chosen(self, *, calls_only: bool = False, search: str = "") -> list[SipCall]:
        """Those that are to be listed."""
        wanted = search.casefold()
        return [
            call
            for call in self.calls.values()
            if (not calls_only or call.is_call)
            and (not wanted or any(wanted in message.text.casefold() for message in call.messages))
        ]


# ---------------------------------------------------------------- the ladder


def parties(call: SipCall) -> list[str]:
    """Who takes part: we, then everybody whom we exchanged messages with."""
    found = dict.fromkeys(message.remote for message in call.messages)
    return [call.messages[0].local, *found]


def heading(call: SipCall, width: int) -> Content:
    """The names above the posts of the ladder."""
    names = parties(call)
    at = _posts(len(names), width)
    room = max(4, at[1] - at[0] - 2)
    labels = [f"we {names[0]}", *names[1:]]
    labels = [label if len(label) <= room else label[: room - 1] + "…" for label in labels]
    begins = [max(0, min(place - len(label) // 2, width - len(label))) for place, label in zip(at, labels, strict=True)]
    line = [" "] * width
    for label, begin, limit in zip(labels, begins, [*(begin - 1 for begin in begins[1:]), width], strict=True):
        label = label if begin + len(label) <= limit else label[: max(0, limit - begin - 1)] + "…"
        line[begin : begin + len(label)] = label
    return Content.styled("".join(line[:width]), "bold $primary")


def rung(call: SipCall, index: int, width: int) -> Content:
    """One message as an arrow between the posts."""
    message = call.messages[index]
    names = parties(call)
    at = _posts(len(names), width)
    here, there = at[0], at[names.index(message.remote)] if message.remote in names[1:] else at[-1]
    left, right = min(here, there), max(here, there)
    inside = right - left - 1
    label = f" {message.label} "
    if len(label) > inside - 3:
        label = label[: max(0, inside - 5)].rstrip() + "… " if inside > 8 else ""
    arrow = label.center(inside - 1, "─")
    arrow = f"{arrow}▶" if message.sent else f"◀{arrow}"
    posts = [" "] * width
    for place in at:
        posts[place] = "│"
    moment = time.strftime("%H:%M:%S", time.localtime(message.time)) + f".{int(message.time * 1000) % 1000:03d}"
    wait = "" if index == 0 else _wait(message.time - call.messages[index - 1].time)
    return Content.assemble(
        (moment, FAINT), (f"{wait:>8}", "$warning" if wait.endswith("s") and not wait.endswith("ms") else FAINT),
        ("".join(posts[len(moment) + 8 : left + 1]), FAINT), (arrow, message.style),
        ("".join(posts[right:width]), FAINT),
    )  # fmt: skip


def _posts(count: int, width: int) -> list[int]:
    room = width - TIMES - 6
    return [TIMES + 2 + round(place * room / max(1, count - 1)) for place in range(count)]


def _wait(seconds: float) -> str:
    return f"+{seconds * 1000:.0f} ms" if seconds < 1 else f"+{seconds:.1f} s"


def _person(value: str) -> str:
    """The name or address of a From or To."""
    name = value.partition("<")[0].strip().strip('"')
    address = re.search(r"<([^>]*)>", value)
    return name or shortened(address[1] if address else value.partition(";")[0])


# ---------------------------------------------------------------- texts


def coloured(message: SipMessage) -> Content:
    """The message as it was, with its parts in colours."""
    head, _, body = message.text.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    parts = [Content.styled(lines[0], message.style)]
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        parts.append(Content.assemble((name + colon, "$primary"), value) if colon else Content(line))
    if body:
        parts.append(Content(""))
        for line in body.rstrip("\n").split("\n"):
            kind, equals, value = line.partition("=")
            style = "$secondary" if equals and len(kind) == 1 else QUIET
            parts.append(Content.assemble((kind + equals, style), (value, QUIET)))
    return Content("\n").join(parts)


def written(messages: Sequence[SipMessage]) -> str:
    """A call as a text for a file."""
    pieces = []
    for message in messages:
        moment = (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.time)) + f".{int(message.time * 1e6) % 10**6:06d}"
        )
        way = f"{message.local} -> {message.remote}" if message.sent else f"{message.remote} -> {message.local}"
        text = message.text.replace("\r\n", "\n").rstrip("\n")
        pieces.append(f"{moment} {message.transport} {way}\n\n{text}\n")
    return ("\n" + "-" * 80 + "\n\n").join(pieces)
