"""Transactions (RFC 3261 section 17 with the corrections of RFC 6026), sans-IO.

Four machines, each a table: (state, input) -> (next state, actions). `TransactionLayer` finds the machine that a
message belongs to and runs the timers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from heapq import heappop, heappush
from itertools import count
from typing import ClassVar, NamedTuple

from softphone.sip.headers import CSeq, Headers
from softphone.sip.message import MAGIC_COOKIE, Request, Response, respond

T1 = 0.5
"Estimate of the round-trip time, seconds (RFC 3261 section 17.1.1.1)."
T2 = 4.0
"The longest interval between retransmissions of a non-INVITE request or an INVITE response, seconds."
T4 = 5.0
"The longest time a message stays in the network, seconds."
MAX_SERVER_TRANSACTIONS = 1000


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


def cancel_for(invite: Request, extra: Headers | None = None) -> Request:
    """The CANCEL for an INVITE of ours (RFC 3261 section 9.1); ``extra`` may say why (RFC 3326)."""
    headers = Headers.of(
        ("Via", str(invite.via)),
        *(("Route", value) for value in invite.headers.raw("Route")),
        ("From", invite.headers.get("From") or ""),
        ("To", invite.headers.get("To") or ""),
        ("Call-ID", invite.call_id),
        ("CSeq", str(CSeq(invite.cseq.number, "CANCEL"))),
        ("Max-Forwards", "70"),
        *(extra or Headers()),
    )
    return Request(method="CANCEL", uri=invite.uri, headers=headers)


def client_key(message: Request | Response) -> Key:
    """RFC 3261 section 17.1.3: branch and the method of CSeq."""
    return Key(True, message.via.branch, "", message.cseq.method)


def server_key(request: Request) -> Key:
    """RFC 3261 section 17.2.3; an ACK has the key of its INVITE, a CANCEL one of its own."""
    via = request.via
    method = "INVITE" if request.method == "ACK" else request.method
    if via.branch.startswith(MAGIC_COOKIE) and len(via.branch) > len(MAGIC_COOKIE):
        return Key(False, via.branch, via.sent_by, method)
    old = f"{request.uri} {request.from_.tag} {request.call_id} {request.cseq.number} {replace(via, parameters=())}"
    return Key(False, old, via.sent_by, method)


class TransactionLayer:
    """All transactions of one user agent."""

    def __init__(self, limit: int = MAX_SERVER_TRANSACTIONS) -> None:
        self.transactions: dict[Key, Transaction] = {}
        self.counters: Counter[str] = Counter()
        "Messages that were dropped, by name."
        self._alarms: list[tuple[float, int, Transaction]] = []
        "A heap; entries whose transaction has another timer by now are skipped."
        self._order = count()
        self._limit = limit
        self._servers = 0
        self._merging: dict[tuple[str | None, str, CSeq], Key] = {}
        "Requests without To tag in progress, to find merged ones (RFC 3261 section 8.2.2.2)."

    @property
    def timer(self) -> float | None:
        while self._alarms:
            moment, _, transaction = self._alarms[0]
            if transaction.timer == moment:
                return moment
            heappop(self._alarms)  # stopped or moved meanwhile
        return None

    def handle_timer(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        while (moment := self.timer) is not None and moment <= now:
            transaction = heappop(self._alarms)[2]
            transaction.alarm = None
            outputs += self._run(transaction, transaction.handle_timer(now))
        return outputs

    def request(self, request: Request, reliable: bool, now: float) -> tuple[Key, list[Output]]:
        """Begin a client transaction with a request that has its Via. An ACK for a 2xx does not belong here."""
        key = client_key(request)
        machine = InviteClient if request.method == "INVITE" else NonInviteClient
        transaction = machine(key, request, reliable)
        transaction._latest = request
        self.transactions[key] = transaction
        transaction.begin(now)
        return key, self._run(transaction, [Send(key, request)])

    def respond(self, key: Key, response: Response, now: float) -> list[Output]:
        """Answer a request; nothing happens when its transaction is over."""
        transaction = self.transactions.get(key)
        if transaction is None:
            self.counters["response-too-late"] += 1
            return []
        return self._run(transaction, transaction.step(kind_of(response), now, response))

    def transport_failed(self, key: Key, why: str, now: float) -> list[Output]:
        """The message of the latest `Send` could not be sent."""
        transaction = self.transactions.get(key)
        if transaction is None:
            return []
        return self._run(transaction, transaction.step(Input.TRANSPORT_ERROR, now, why=why))

    def received(self, message: Request | Response, reliable: bool, now: float) -> list[Output]:
        """A well-formed message came in."""
        if isinstance(message, Response):
            return self._response(message, now)
        key = server_key(message)
        transaction = self.transactions.get(key)
        if transaction is not None:
            event = Input.ACK if message.method == "ACK" else Input.REQUEST
            return self._run(transaction, transaction.step(event, now, message))
        if message.method == "ACK":
            return [RequestArrived(None, message)]
        if self._servers >= self._limit:
            self.counters["server-transactions-full"] += 1
            return []
        merge = (message.from_.tag, message.call_id, message.cseq)
        merged = message.to.tag is None and merge in self._merging
        machine = InviteServer if message.method == "INVITE" else NonInviteServer
        transaction = machine(key, message, reliable)
        self.transactions[key] = transaction
        self._servers += 1
        if merged:
            self.counters["request-merged"] += 1
            return self._run(transaction, transaction.step(Input.FAILURE, now, respond(message, 482, to_tag="merged")))
        if message.to.tag is None:
            self._merging[merge] = key
        return [RequestArrived(key, message)]

    def find_cancelled(self, cancel: Request) -> Key | None:
        """The INVITE transaction that a CANCEL is about (RFC 3261 section 9.2)."""
        key = server_key(replace(cancel, method="INVITE"))
        return key if key in self.transactions else None

    def forget(self, key: Key, now: float) -> list[Output]:
        """End a transaction at once, without a word."""
        transaction = self.transactions.get(key)
        if transaction is None:
            return []
        transaction.state = State.TERMINATED
        transaction.timers.clear()
        return self._run(transaction, [Terminated(key)])

    def _response(self, response: Response, now: float) -> list[Output]:
        transaction = self.transactions.get(client_key(response))
        if transaction is None:
            self.counters["response-stray"] += 1
            return []
        return self._run(transaction, transaction.step(kind_of(response), now, response))

    def _run(self, transaction: Transaction, outputs: list[Output]) -> list[Output]:
        moment = transaction.timer
        if moment is not None and moment != transaction.alarm:
            transaction.alarm = moment
            heappush(self._alarms, (moment, next(self._order), transaction))
        if transaction.state is State.TERMINATED and self.transactions.pop(transaction.key, None) is not None:
            if not transaction.key.client:
                self._servers -= 1
                request = transaction.request
                merge = (request.from_.tag, request.call_id, request.cseq)
                if self._merging.get(merge) == transaction.key:
                    del self._merging[merge]
        return outputs
