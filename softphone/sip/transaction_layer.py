"""All transactions of a user agent: which one a message belongs to, when its timers are due (RFC 3261 section 17)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count

from softphone.sip.headers import CSeq, Headers
from softphone.sip.message import MAGIC_COOKIE, Request, Response, respond
from softphone.sip.transaction import (
    Input,
    InviteClient,
    InviteServer,
    Key,
    NonInviteClient,
    NonInviteServer,
    Output,
    RequestArrived,
    Send,
    State,
    Terminated,
    Transaction,
    kind_of,
)

MAX_SERVER_TRANSACTIONS = 1000
RESERVE = 100
"Of these, beyond the limit: for requests of calls that we have. A flood of strangers does not disturb them."
REMEMBERED = 4.0
"Seconds for which an answered request is kept for its repetitions at least (T2); longer where there is room."


_ANSWERED = (State.ACCEPTED, State.COMPLETED, State.CONFIRMED)


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

    def __init__(self, limit: int = MAX_SERVER_TRANSACTIONS, reserve: int = RESERVE) -> None:
        self.transactions: dict[Key, Transaction] = {}
        self.counters: Counter[str] = Counter()
        "Messages that were dropped, by name."
        self._alarms: list[tuple[float, int, Transaction]] = []
        "A heap; entries whose transaction has another timer by now are skipped."
        self._order = count()
        self._limit = limit
        self._reserve = reserve
        self._servers = 0
        self._answered: dict[Key, float] = {}
        "When: of those that only wait for repetitions, the oldest first."
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
            outputs += self._run(transaction, transaction.handle_timer(now), now)
        return outputs

    def request(self, request: Request, reliable: bool, now: float) -> tuple[Key, list[Output]]:
        """Begin a client transaction with a request that has its Via. An ACK for a 2xx does not belong here."""
        key = client_key(request)
        machine = InviteClient if request.method == "INVITE" else NonInviteClient
        transaction = machine(key, request, reliable)
        transaction._latest = request
        self.transactions[key] = transaction
        transaction.begin(now)
        return key, self._run(transaction, [Send(key, request)], now)

    def respond(self, key: Key, response: Response, now: float) -> list[Output]:
        """Answer a request; nothing happens when its transaction is over."""
        transaction = self.transactions.get(key)
        if transaction is None:
            self.counters["response-too-late"] += 1
            return []
        return self._run(transaction, transaction.step(kind_of(response), now, response), now)

    def transport_failed(self, key: Key, why: str, now: float) -> list[Output]:
        """The message of the latest `Send` could not be sent."""
        transaction = self.transactions.get(key)
        if transaction is None:
            return []
        return self._run(transaction, transaction.step(Input.TRANSPORT_ERROR, now, why=why), now)

    def received(self, message: Request | Response, reliable: bool, now: float, *, known: bool = False) -> list[Output]:
        """A well-formed message came in; ``known``: a request that belongs to a call of ours."""
        if isinstance(message, Response):
            return self._response(message, now)
        key = server_key(message)
        transaction = self.transactions.get(key)
        if transaction is not None:
            event = Input.ACK if message.method == "ACK" else Input.REQUEST
            return self._run(transaction, transaction.step(event, now, message), now)
        if message.method == "ACK":
            return [RequestArrived(None, message)]
        if self._servers >= self._limit + (self._reserve if known else 0) and not self._make_room(now):
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
            refusal = respond(message, 482, to_tag="merged")
            return self._run(transaction, transaction.step(Input.FAILURE, now, refusal), now)
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
        return self._run(transaction, [Terminated(key)], now)

    def _response(self, response: Response, now: float) -> list[Output]:
        transaction = self.transactions.get(client_key(response))
        if transaction is None:
            self.counters["response-stray"] += 1
            return []
        return self._run(transaction, transaction.step(kind_of(response), now, response), now)

    def _make_room(self, now: float) -> bool:
        """Forgets the request that was answered longest ago: who takes many calls would else be full of them."""
        for key, answered in self._answered.items():
            if now - answered < REMEMBERED:
                break
            self.counters["server-transaction-forgotten"] += 1
            self.forget(key, now)
            return True
        return False

    def _run(self, transaction: Transaction, outputs: list[Output], now: float) -> list[Output]:
        moment = transaction.timer
        if moment is not None and moment != transaction.alarm:
            transaction.alarm = moment
            heappush(self._alarms, (moment, next(self._order), transaction))
        if transaction.state is State.TERMINATED and self.transactions.pop(transaction.key, None) is not None:
            if not transaction.key.client:
                self._servers -= 1
                self._answered.pop(transaction.key, None)
                request = transaction.request
                merge = (request.from_.tag, request.call_id, request.cseq)
                if self._merging.get(merge) == transaction.key:
                    del self._merging[merge]
        elif not transaction.key.client and transaction.state in _ANSWERED:
            self._answered.setdefault(transaction.key, now)
        return outputs
