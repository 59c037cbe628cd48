"""Transactions (RFC 3261 section 17 with the corrections of RFC 6026), sans-IO.

Four machines, each a table: (state, input) -> (next state, actions). `softphone.sip.transaction_layer` finds the
machine that a message belongs to and runs the timers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import ClassVar, NamedTuple

from softphone.sip.headers import CSeq, Headers
from softphone.sip.message import Request, Response

T1 = 0.5
"Estimate of the round-trip time, seconds (RFC 3261 section 17.1.1.1)."
T2 = 4.0
"The longest interval between retransmissions of a non-INVITE request or an INVITE response, seconds."
T4 = 5.0
"The longest time a message stays in the network, seconds."


class State(Enum):
    """States of all four machines."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Timer(StrEnum):
    """Timers A to K of RFC 3261 table 4; L and M of RFC 6026."""

    A = "A"
    B = "B"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741 - its name in the RFC
    J = "J"
    K = "K"
    L = "L"
    M = "M"


class Input(Enum):
    """What drives a machine besides its timers."""

    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    REQUEST = "request again"
    ACK = "ACK"
    TRANSPORT_ERROR = "transport error"


class Act(Enum):
    """Actions of the tables; starting and stopping of timers are `Start` and `Stop`."""

    SEND = "send the latest message again"
    RESPOND = "remember the response and send it"
    ACK = "acknowledge the failure hop by hop"
    DELIVER = "hand the message to the user"
    TIMEOUT = "tell the user that nobody answered"
    FAILED = "tell the user that the transport failed"


class Start(NamedTuple):
    timer: Timer


class Stop(NamedTuple):
    timer: Timer


Action = Act | Start | Stop
Table = Mapping[tuple[State, Input | Timer], tuple[State, tuple[Action, ...]]]


class Key(NamedTuple):
    """Which transaction: ours (client) or a peer's (server)."""

    client: bool
    branch: str
    sent_by: str
    method: str


@dataclass(frozen=True, slots=True)
class Send:
    """Put the message on the wire, the way the transaction was created with."""

    key: Key
    message: Request | Response


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A new request; ``key`` is None for an ACK that belongs to no transaction (it acknowledges a 2xx)."""

    key: Key | None
    request: Request


@dataclass(frozen=True, slots=True)
class ResponseArrived:
    key: Key
    response: Response


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Timer B, F or H: no response, or no ACK."""

    key: Key


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The transport could not carry the transaction's message."""

    key: Key
    why: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """The transaction is gone; nothing follows for this key."""

    key: Key


Output = Send | RequestArrived | ResponseArrived | Unanswered | Unreachable | Terminated


class Transaction:
    """One machine. Subclasses give the table and the durations."""

    TABLE: ClassVar[Table]
    FIRST: ClassVar[State]
    FIRST_TIMERS: ClassVar[tuple[Timer, ...]]

    def __init__(self, key: Key, request: Request, reliable: bool) -> None:
        self.key = key
        self.request = request
        self.reliable = reliable
        self.state = self.FIRST
        self.timers: dict[Timer, float] = {}
        self._interval: dict[Timer, float] = {}
        self._latest: Request | Response | None = None
        self.alarm: float | None = None
        "The moment for which the layer has noted this transaction."

    def begin(self, now: float) -> None:
        for timer in self.FIRST_TIMERS:
            self._start(timer, now)

    @property
    def timer(self) -> float | None:
        return min(self.timers.values(), default=None)

    def step(
        self, event: Input | Timer, now: float, message: Request | Response | None = None, why: str = ""
    ) -> list[Output]:
        """Run one input through the table; what the table does not know is absorbed."""
        entry = self.TABLE.get((self.state, event))
        if entry is None:
            return []
        self.state, actions = entry
        if self.state is State.TERMINATED:
            self.timers.clear()
        outputs: list[Output] = []
        for action in actions:
            match action:
                case Start(timer):
                    self._start(timer, now)
                case Stop(timer):
                    self.timers.pop(timer, None)
                case Act.SEND:
                    if self._latest is not None:
                        outputs.append(Send(self.key, self._latest))
                case Act.RESPOND:
                    self._latest = message
                    if message is not None:
                        outputs.append(Send(self.key, message))
                case Act.ACK:
                    if isinstance(message, Response):
                        self._latest = acknowledge_failure(self.request, message)
                        outputs.append(Send(self.key, self._latest))
                case Act.DELIVER:
                    if isinstance(message, Response):
                        outputs.append(ResponseArrived(self.key, message))
                    elif isinstance(message, Request):
                        outputs.append(RequestArrived(self.key, message))
                case Act.TIMEOUT:
                    outputs.append(Unanswered(self.key))
                case Act.FAILED:
                    outputs.append(Unreachable(self.key, why))
        return self._ended(outputs, now)

    def handle_timer(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        while self.timers:
            due = min(self.timers, key=lambda timer: self.timers[timer])
            if (moment := self.timers[due]) > now:
                break
            del self.timers[due]
            outputs += self.step(due, moment)
        return outputs

    def _ended(self, outputs: list[Output], now: float) -> list[Output]:
        """A wait of no time (reliable transports) ends at once; say when all is over."""
        due = [timer for timer, moment in self.timers.items() if moment <= now and self._duration(timer) == 0]
        for timer in due:
            del self.timers[timer]
            outputs += self.step(timer, now)
        if self.state is State.TERMINATED and Terminated(self.key) not in outputs:
            outputs.append(Terminated(self.key))
        return outputs

    def _start(self, timer: Timer, now: float) -> None:
        duration = self._duration(timer)
        if duration is not None:
            self.timers[timer] = now + duration

    def _duration(self, timer: Timer) -> float | None:
        """Seconds, or None if the timer does not run on this transport; doubling timers count themselves."""
        match timer:
            case Timer.A | Timer.E | Timer.G:
                if self.reliable:
                    return None
                interval = self._interval.get(timer, T1)
                if timer is Timer.E and self.state is State.PROCEEDING:
                    interval = T2
                self._interval[timer] = 2 * interval if timer is Timer.A else min(2 * interval, T2)
                return interval
            case Timer.B | Timer.F | Timer.H | Timer.L | Timer.M:
                return 64 * T1
            case Timer.D:
                return 0 if self.reliable else 32.0
            case Timer.J:
                return 0 if self.reliable else 64 * T1
            case Timer.I | Timer.K:
                return 0 if self.reliable else T4


_DEAD = State.TERMINATED
Rows = Mapping[Input | Timer, tuple[State, tuple[Action, ...]]]
INVITE_ANSWERS: Rows = {
    Input.PROVISIONAL: (State.PROCEEDING, (Stop(Timer.A), Stop(Timer.B), Act.DELIVER)),
    Input.SUCCESS: (State.ACCEPTED, (Stop(Timer.A), Stop(Timer.B), Act.DELIVER, Start(Timer.M))),
    Input.FAILURE: (State.COMPLETED, (Stop(Timer.A), Stop(Timer.B), Act.ACK, Act.DELIVER, Start(Timer.D))),
}
ANSWERS: Rows = {
    Input.PROVISIONAL: (State.PROCEEDING, (Act.DELIVER,)),
    Input.SUCCESS: (State.COMPLETED, (Stop(Timer.E), Stop(Timer.F), Act.DELIVER, Start(Timer.K))),
    Input.FAILURE: (State.COMPLETED, (Stop(Timer.E), Stop(Timer.F), Act.DELIVER, Start(Timer.K))),
    Input.TRANSPORT_ERROR: (_DEAD, (Act.FAILED,)),
    Timer.F: (_DEAD, (Act.TIMEOUT,)),
}


def _rows(state: State, rows: Rows) -> Table:
    """The rows of one state; states that share rows differ in little else."""
    return {(state, event): then for event, then in rows.items()}


class InviteClient(Transaction):
    """RFC 3261 section 17.1.1, RFC 6026 section 7.2."""

    FIRST = State.CALLING
    FIRST_TIMERS = (Timer.A, Timer.B)
    TABLE: ClassVar[Table] = {
        (State.CALLING, Timer.A): (State.CALLING, (Act.SEND, Start(Timer.A))),
        (State.CALLING, Timer.B): (_DEAD, (Act.TIMEOUT,)),
        (State.CALLING, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.COMPLETED, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.COMPLETED, Input.FAILURE): (State.COMPLETED, (Act.SEND,)),
        (State.COMPLETED, Timer.D): (_DEAD, ()),
        (State.ACCEPTED, Input.SUCCESS): (State.ACCEPTED, (Act.DELIVER,)),
        (State.ACCEPTED, Timer.M): (_DEAD, ()),
        **_rows(State.CALLING, INVITE_ANSWERS),
        **_rows(State.PROCEEDING, INVITE_ANSWERS),
    }


class NonInviteClient(Transaction):
    """RFC 3261 section 17.1.2."""

    FIRST = State.TRYING
    FIRST_TIMERS = (Timer.E, Timer.F)
    TABLE: ClassVar[Table] = {
        (State.TRYING, Timer.E): (State.TRYING, (Act.SEND, Start(Timer.E))),
        (State.PROCEEDING, Timer.E): (State.PROCEEDING, (Act.SEND, Start(Timer.E))),
        (State.COMPLETED, Timer.K): (_DEAD, ()),
        **_rows(State.TRYING, ANSWERS),
        **_rows(State.PROCEEDING, ANSWERS),
    }


class InviteServer(Transaction):
    """RFC 3261 section 17.2.1, RFC 6026 section 7.1."""

    FIRST = State.PROCEEDING
    FIRST_TIMERS = ()
    TABLE: ClassVar[Table] = {
        (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, (Act.SEND,)),
        (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, (Act.RESPOND,)),
        (State.PROCEEDING, Input.SUCCESS): (State.ACCEPTED, (Act.RESPOND, Start(Timer.L))),
        (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, (Act.RESPOND, Start(Timer.G), Start(Timer.H))),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.ACCEPTED, Input.SUCCESS): (State.ACCEPTED, (Act.RESPOND,)),
        (State.ACCEPTED, Input.ACK): (State.ACCEPTED, (Act.DELIVER,)),
        (State.ACCEPTED, Timer.L): (_DEAD, ()),
        (State.COMPLETED, Input.REQUEST): (State.COMPLETED, (Act.SEND,)),
        (State.COMPLETED, Timer.G): (State.COMPLETED, (Act.SEND, Start(Timer.G))),
        (State.COMPLETED, Timer.H): (_DEAD, (Act.TIMEOUT,)),
        (State.COMPLETED, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.COMPLETED, Input.ACK): (State.CONFIRMED, (Stop(Timer.G), Stop(Timer.H), Start(Timer.I))),
        (State.CONFIRMED, Timer.I): (_DEAD, ()),
    }


class NonInviteServer(Transaction):
    """RFC 3261 section 17.2.2."""

    FIRST = State.TRYING
    FIRST_TIMERS = ()
    TABLE: ClassVar[Table] = {
        (State.TRYING, Input.PROVISIONAL): (State.PROCEEDING, (Act.RESPOND,)),
        (State.TRYING, Input.SUCCESS): (State.COMPLETED, (Act.RESPOND, Start(Timer.J))),
        (State.TRYING, Input.FAILURE): (State.COMPLETED, (Act.RESPOND, Start(Timer.J))),
        (State.TRYING, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, (Act.RESPOND,)),
        (State.PROCEEDING, Input.SUCCESS): (State.COMPLETED, (Act.RESPOND, Start(Timer.J))),
        (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, (Act.RESPOND, Start(Timer.J))),
        (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, (Act.SEND,)),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.COMPLETED, Input.REQUEST): (State.COMPLETED, (Act.SEND,)),
        (State.COMPLETED, Input.TRANSPORT_ERROR): (_DEAD, (Act.FAILED,)),
        (State.COMPLETED, Timer.J): (_DEAD, ()),
    }


def kind_of(response: Response) -> Input:
    if response.status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if response.status < 300 else Input.FAILURE


def acknowledge_failure(invite: Request, response: Response) -> Request:
    """The ACK for a final response other than 2xx (RFC 3261 section 17.1.1.3)."""
    headers = Headers.of(
        ("Via", str(invite.via)),
        *(("Route", value) for value in invite.headers.raw("Route")),
        ("From", invite.headers.get("From") or ""),
        ("To", response.headers.get("To") or ""),
        ("Call-ID", invite.call_id),
        ("CSeq", str(CSeq(invite.cseq.number, "ACK"))),
        ("Max-Forwards", "70"),
    )
    return Request(method="ACK", uri=invite.uri, headers=headers)
