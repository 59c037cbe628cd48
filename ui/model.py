"""What the user interface knows: state that the daemon's events update and widgets watch. No Textual, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Values = Mapping[str, Any]
"A JSON object of the daemon's."

SAMPLES = 60
"Seconds of a call's quality that are kept for its sparkline."
ENDED_CALLS_KEPT = 3
LOG_LINES = 2000
FLOOR_DBOV = -60.0
"Below this a level meter shows nothing."


class Part(StrEnum):
    """What may change. Widgets name the parts that they show."""

    LINK = "link"
    ACCOUNTS = "accounts"
    CALLS = "calls"
    LOG = "log"
    HISTORY = "history"
    LEVELS = "levels"
    QUALITY = "quality"
    MESSAGES = "messages"
    PEOPLE = "people"
    "Presence of others, mailboxes."
    MOBILITY = "mobility"
    CLOCK = "clock"
    "A second has gone by while there is a call."


@dataclass(slots=True)
class AccountState:
    """One account of the daemon's."""

    name: str
    address: str = ""
    registered: bool = False
    register: bool = True
    "False: calls go directly, nothing is registered."
    where: str = ""
    "Where the phone listens."
    network: str = "direct"
    do_not_disturb: bool = False
    failure: str = ""
    "Why it does not run, or why it is not registered."
    voicemail: str = ""
    "What to dial for messages."


@dataclass(frozen=True, slots=True)
class Quality:
    """One second of a call."""

    mos: float | None
    loss: float
    "A ratio."
    jitter_ms: float
    round_trip_ms: float | None


@dataclass(slots=True)
class CallView:
    """One call, as its card shows it."""

    id: str
    account: str
    remote: str
    remote_name: str = ""
    incoming: bool = False
    state: str = "calling"
    on_hold: bool = False
    "By us."
    held: bool = False
    "By the other side."
    muted: bool = False
    recording: str | None = None
    started: float | None = None
    "Seconds since 1970."
    answered: float | None = None
    codec: str = ""
    suite: str | None = None
    "How the speech is encrypted (SRTP); None: it is not."
    ipsec: Values | None = None
    "How it stands with IPsec between the two ends: ``state``, ``algorithm``, ``reason``; None: it is not the call's."
    conference: str | None = None
    ended: float | None = None
    words: str = ""
    "What happens now, or how it ended."
    note: str = ""
    transfer_to: str | None = None
    "The other side wants us to talk to somebody else."
    sent_dbov: float = FLOOR_DBOV
    received_dbov: float = FLOOR_DBOV
    quality: deque[Quality] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    @property
    def who(self) -> str:
        """The name, or the address without ``sip:``."""
        return self.remote_name or shortened(self.remote)

    @property
    def rings_here(self) -> bool:
        """Somebody calls us and waits for an answer."""
        return self.incoming and self.state in ("calling", "ringing")

    @property
    def established(self) -> bool:
        return self.state == "confirmed"

    @property
    def live(self) -> bool:
        return self.state != "ended"


@dataclass(frozen=True, slots=True)
class TextMessage:
    """One text, in or out."""

    time: float
    account: str
    peer: str
    incoming: bool
    text: str


@dataclass(frozen=True, slots=True)
class Recent:
    """A call that was."""

    began: float
    remote: str
    who: str
    incoming: bool
    result: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the daemon's log, or an event in words."""

    time: float
    level: str
    "``EVENT``, ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR``..."
    source: str
    text: str


class Model:
    """``apply`` takes the daemon's events, ``take_status`` its status; ``changed`` is told which parts changed."""

    def __init__(self, changed: Callable[[Part], None] = lambda part: None) -> None:
        self.changed = changed
        self.accounts: dict[str, AccountState] = {}
        self.calls: dict[str, CallView] = {}
        "In the order in which they began; the last few that ended stay."
        self.messages: list[TextMessage] = []
        self.presence: dict[str, Values] = {}
        "By URI: what a PresenceChanged told."
        self.mobility: dict[str, Values] = {}
        "By account: what its mobility process told last. An account is not in here while there is none."
        self.log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self.recent: list[Recent] = []
        "The latest calls, the last one first."
        self.selected: str | None = None
        "The call that keys act upon."
        self.version = ""

    # -- questions ----------------------------------------------------------------------------------------------------

    @property
    def live_calls(self) -> list[CallView]:
        return [call for call in self.calls.values() if call.live]

    @property
    def ringing(self) -> CallView | None:
        """The first call that waits for our answer."""
        return next((call for call in self.calls.values() if call.rings_here), None)

    @property
    def asks(self) -> CallView | None:
        """The first call whose other side wants us to talk to somebody else."""
        return next((call for call in self.live_calls if call.transfer_to is not None), None)

    @property
    def current(self) -> CallView | None:
        """The selected call, or the one that is meant when none is."""
        chosen = self.calls.get(self.selected or "")
        if chosen is not None and chosen.live:
            return chosen
        live = self.live_calls
        talking = [call for call in live if call.established and not call.on_hold]
        return next(iter(talking or [call for call in live if not call.rings_here] or live), None)

    def select(self, call: str) -> None:
        if call in self.calls and call != self.selected:
            self.selected = call
            self.changed(Part.CALLS)

    def select_next(self, step: int) -> None:
        """Up and down through the live calls."""
        live = [call.id for call in self.live_calls]
        if live:
            current = self.current
            at = live.index(current.id) if current is not None and current.id in live else 0
            self.select(live[(at + step) % len(live)])

    # -- what the daemon says -----------------------------------------------------------------------------------------

    def take_status(self, status: Values) -> None:
        """The answer to ``status``: accounts and calls are these and no others."""
        self.version = str(status.get("version", ""))
        accounts: dict[str, AccountState] = {}
        calls: dict[str, CallView] = {}
        for entry in status.get("accounts", ()):
            name = str(entry["account"])
            accounts[name] = AccountState(
                name, str(entry.get("address", "")), bool(entry.get("registered")), bool(entry.get("register", True)),
                _where(entry), str(entry.get("network", "direct")), bool(entry.get("do_not_disturb")),
                str(entry.get("failure") or ""), str(entry.get("voicemail") or ""),
            )  # fmt: skip
            for values in entry.get("calls", ()):
                call = self._call_of({"account": name, **values})
                calls[call.id] = call
        for name, why in status.get("failures", {}).items():
            accounts[name] = AccountState(name, failure=str(why))
        gone = {id: call for id, call in self.calls.items() if id not in calls}
        for call in gone.values():
            call.state = "ended"  # how, `call-ended` tells, which may come later
        self.accounts, self.calls = accounts, {**gone, **calls}
        self._forget_old()
        for part in (Part.ACCOUNTS, Part.CALLS):
            self.changed(part)

    def take_history(self, answer: Values) -> None:
        """The latest calls."""
        self.recent = [
            Recent(
                float(one["began"]), str(one["remote"]),
                str(one.get("contact") or one.get("name") or shortened(str(one["remote"]))),
                bool(one["incoming"]), str(one["result"]),
            )
            for one in answer.get("entries", ())
        ]  # fmt: skip
        self.changed(Part.HISTORY)

    def take_call(self, values: Values) -> CallView:
        """A call object, out of an answer."""
        call = self._call_of(values)
        self.calls[call.id] = call
        self.changed(Part.CALLS)
        return call

    def _call_of(self, values: Values) -> CallView:
        known = self.calls.get(str(values["call"]))
        call = known or CallView(str(values["call"]), str(values.get("account", "")), str(values.get("remote", "")))
        transfer = values.get("transfer")
        if "transfer" in values:
            call.transfer_to = str(transfer["target"]) if isinstance(transfer, Mapping) else None
        for name in (
            "account", "remote", "remote_name", "incoming", "state", "on_hold", "held", "muted", "recording", "started",
            "answered", "codec", "suite", "ipsec", "conference", "note",
        ):  # fmt: skip
            if name in values:
                value = values[name]
                setattr(call, name, "" if value is None and name in ("remote_name", "codec", "note") else value)
        return call

    def apply(self, event: Values, now: float) -> bool:
        """One event; ``now`` in seconds since 1970. True: only a new ``status`` tells what it means for us."""
        name = str(event.get("event"))
        known = _APPLY.get(name)
        if known is not None:
            known(self, event, now)
        if name == "log" or name not in _NOT_LOGGED:
            self.log.append(_logged(event, now))
            self.changed(Part.LOG)
        return name in _WANT_STATUS

    def _of(self, event: Values) -> CallView | None:
        return self.calls.get(str(event.get("call")))

    def _registration(self, event: Values, now: float) -> None:
        if (account := self.accounts.get(str(event.get("account")))) is None:
            return
        account.registered = event["event"] == "registered"
        account.failure = ""
        if event["event"] == "registration-failed":
            account.failure = f"{event.get('status')} {event.get('reason')}"
        self.changed(Part.ACCOUNTS)

    def _incoming(self, event: Values, now: float) -> None:
        call = self._call_of({"incoming": True, "state": "ringing", "started": now, **event})
        self.calls[call.id] = call
        self.changed(Part.CALLS)

    def _progress(self, event: Values, now: float) -> None:
        if (call := self._of(event)) is None:
            return
        match event["event"]:
            case "call-progress":
                call.words = str(event.get("reason", ""))
                if call.state == "calling" and event.get("status") in (180, 183):
                    call.state = "ringing"
            case "call-redirected":
                call.remote, call.words = str(event.get("target")), "redirected"
            case "call-answered":
                call.state, call.answered, call.words = "confirmed", call.answered or now, ""
                call.remote = str(event.get("remote") or call.remote)
            case "call-hold":
                call.on_hold, call.held = bool(event.get("local")), bool(event.get("remote"))
            case "call-transfer-requested":
                call.transfer_to = str(event.get("target"))
            case "call-transferred":
                call.transfer_to, call.words = None, "transferred"
            case "transfer-progress":
                call.words = f"transfer: {event.get('status')} {event.get('reason')}"
            case "call-digit":
                call.words = f"they pressed {event.get('digit')}"
            case "call-ipsec":
                call.ipsec = event
            case "secured":
                call.suite = str(event.get("suite"))
            case "recording-ended":
                call.recording = None
                why = str(event.get("why") or "")
                call.words = f"recording ended: {why}" if why else "recorded"
            case "one-way-audio":
                call.words = f"no sound is {'arriving' if event.get('way') == 'in' else 'getting through'}"
            case "audio-restored":
                call.words = ""
            case "media-failed":
                call.words = f"no sound: {event.get('why')}"
            case "media-timeout":
                call.words = f"nothing was heard for {event.get('seconds')} s"
        self.changed(Part.CALLS)

    def _ended(self, event: Values, now: float) -> None:
        if (call := self._of(event)) is None:
            return
        call.state, call.ended = "ended", now
        handed_on = call.words.startswith("transfer: 2")
        call.words = "transferred" if handed_on else ended_in_words(event, call)
        self._forget_old()
        if self.selected == call.id:
            self.selected = None
        self.changed(Part.CALLS)

    def _forget_old(self) -> None:
        over = [call.id for call in self.calls.values() if not call.live]
        for old in over[:-ENDED_CALLS_KEPT]:
            del self.calls[old]

    def _levels(self, event: Values, now: float) -> None:
        for values in event.get("calls", ()):
            if (call := self._of(values)) is not None:
                call.sent_dbov = _level(values.get("sent_dbov"))
                call.received_dbov = _level(values.get("received_dbov"))
        self.changed(Part.LEVELS)

    def _quality(self, event: Values, now: float) -> None:
        if (call := self._of(event)) is None:
            return
        mos, round_trip = event.get("mos"), event.get("round_trip_ms")
        call.quality.append(
            Quality(
                None if mos is None else float(mos),
                float(event.get("loss") or 0.0),
                float(event.get("jitter_ms") or 0.0),
                None if round_trip is None else float(round_trip),
            )
        )
        if event.get("codec"):
            call.codec = str(event["codec"])
        if "suite" in event:
            call.suite = event["suite"]
        self.changed(Part.QUALITY)

    def _message(self, event: Values, now: float) -> None:
        incoming = event["event"] == "message-received"
        text = str(event.get("text" if not incoming else "body", ""))
        self.messages.append(
            TextMessage(now, str(event.get("account", "")), str(event.get("remote", "")), incoming, text)
        )
        self.changed(Part.MESSAGES)

    def _presence(self, event: Values, now: float) -> None:
        presence = event.get("presence")
        self.presence[str(event.get("uri"))] = presence if isinstance(presence, Mapping) else {}
        self.changed(Part.PEOPLE)

    def _mobility(self, event: Values, now: float) -> None:
        account = str(event.get("account"))
        if event["event"] == "mobility":
            self.mobility[account] = event
        elif event["event"] == "mobility-lost":
            self.mobility.pop(account, None)
        self.changed(Part.MOBILITY)

    def mobility_of(self, account: str) -> Values | None:
        """Of the process that an account goes through: accounts with the same one share what the first is told."""
        return self.mobility.get(account) or next(iter(self.mobility.values()), None)


def _each(names: Iterable[str], method: Callable[[Model, Values, float], None]) -> dict[str, Any]:
    return dict.fromkeys(names, method)


_PROGRESS = (
    "call-progress", "call-early-media", "call-redirected", "call-answered", "call-changed", "call-hold",
    "call-transfer-requested", "call-transferred", "transfer-progress", "call-digit", "secured", "call-ipsec",
    "recording-ended", "one-way-audio", "audio-restored", "media-failed", "media-timeout", "remote-left",
)  # fmt: skip
_APPLY: dict[str, Callable[[Model, Values, float], None]] = {
    **_each(("registered", "registration-failed", "unregistered"), Model._registration),
    **_each(_PROGRESS, Model._progress),
    **_each(("message-received", "message-sent"), Model._message),
    **_each(("mobility", "mobility-lost", "mobility-event"), Model._mobility),
    "call-incoming": Model._incoming,
    "call-ended": Model._ended,
    "levels": Model._levels,
    "quality": Model._quality,
    "presence-changed": Model._presence,
}
_NOT_LOGGED = frozenset(("levels", "quality", "sip-message", "sip-missed", "packets", "packets-missed", "mobility"))
"Streams that other screens show."
_WANT_STATUS = frozenset(
    (
        "call-incoming",
        "call-answered",
        "call-changed",
        "call-transferred",
        "call-replaced",
        "conference-changed",
        "call-ended",
        "recording-started",
        "do-not-disturb",
        "reloaded",
        "registered",
    )
)
"Events after which calls may have become others than the event itself tells."


_NOT_WORDS = ("event", "account", "call", "time")


def _logged(event: Values, now: float) -> LogLine:
    if event.get("event") == "log":
        return LogLine(
            float(event.get("time") or now), str(event.get("level", "")), str(event.get("logger", "")),
            str(event.get("text", "")),
        )  # fmt: skip
    happened = event.get("happened")  # an event of the mobility process, with a time of its own
    name, values = (happened.get("event"), happened) if isinstance(happened, Mapping) else (event.get("event"), event)
    words = " ".join(f"{key}={value}" for key, value in values.items() if key not in _NOT_WORDS and value != "")
    return LogLine(now, "EVENT", str(event.get("account") or "daemon"), f"{name} {words}".rstrip())


def shortened(uri: str) -> str:
    """``alice@example.org`` for ``<sip:alice@example.org;transport=tls>``."""
    plain = uri.strip().removeprefix("<").partition(">")[0]
    scheme, colon, rest = plain.partition(":")
    plain = rest if colon and scheme.lower() in ("sip", "sips", "tel") else plain
    return plain.partition(";")[0].partition("?")[0]


def ended_in_words(event: Values, call: CallView) -> str:
    """How a call ended, for its card."""
    status, reason = event.get("status"), str(event.get("reason") or "")
    match event.get("by"):
        case "local":
            return "you hung up" if call.answered else ("refused" if call.incoming else "cancelled")
        case "remote" if call.answered:
            return "they hung up"
        case "remote" if call.incoming:
            return "missed"
    return f"failed: {status} {reason}" if status else f"failed: {reason or 'no answer'}"


def _where(entry: Values) -> str:
    host, port = str(entry.get("host") or ""), entry.get("port")
    return "" if not host else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _level(value: object) -> float:
    return float(value) if isinstance(value, int | float) else FLOOR_DBOV
