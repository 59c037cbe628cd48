"""A call of our own SIP: the session that an INVITE dialog and a media session make; what both directions have.

`softphone.calls.outgoing` and `softphone.calls.incoming` add how a call comes about,
`softphone.calls.renegotiation` how it changes, `softphone.calls.transfer` how it is handed on.
"""

from __future__ import annotations

import asyncio
from typing import cast

from softphone.calls.call import Call, CallState
from softphone.calls.leg import Leg
from softphone.calls.protection import Protection
from softphone.calls.renegotiation import Renegotiation
from softphone.calls.transfer import TransferRequest, Transfers
from softphone.errors import CallError, TransportError
from softphone.events import CallChanged, CallHold, CallIpsec, EndedBy, InfoReceived
from softphone.media.audio import AudioSource
from softphone.media.dtmf import INFO_TYPES
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.dialog import Dialog, DialogId
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.errors import SipError, SipParseError
from softphone.sip.exchange import Turn
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.identity import Reason, reasons
from softphone.sip.message import Request
from softphone.sip.reliable import SuccessKeeper
from softphone.sip.session_timer import Due, SessionTimer, TooSmall
from softphone.user_agent.agent import Agent, Media
from softphone.user_agent.alarm import Alarm, reached
from softphone.user_agent.capabilities import SDP, capabilities, refuse_early, warning
from softphone.user_agent.messages import take_message

BYE_SECONDS = 32.0
"After that a BYE counts as done, whether it was answered or not (timer F)."
NO_PACKAGE = Headers.of(("Recv-Info", ""))
"We take no packages of INFO (RFC 6086 section 4.2.2)."


class DialogCall(Call):
    """A call in one dialog, and in several early ones before. Made by `Softphone.dial` and `Softphone.incoming`."""

    def __init__(self, agent: Agent, call_id: str, remote: NameAddr) -> None:
        super().__init__(agent, call_id, remote)
        self._agent = agent
        self._leg: Leg | None = None
        "The dialog that counts."
        self._legs: dict[DialogId, Leg] = {}
        self._keeper: SuccessKeeper | None = None
        self._keeper_transaction: ServerTransaction | None = None
        self._keeper_alarm = Alarm(self._keeper_due)
        self._timer = SessionTimer(agent.account.session_expires, agent.account.least_session_expires)
        self._timer_alarm = Alarm(self._timer_due)
        self._renegotiation = Renegotiation(self)
        self._transfers = Transfers(self)
        self._protection = Protection(self)
        agent.begins(self)

    @property
    def media(self) -> Media | None:
        return cast("Media | None", self._sound.media)  # no other is ever used

    @property
    def acknowledged(self) -> bool:
        """The three-way handshake is done: a BYE may be sent."""
        return self._keeper is None

    @property
    def local_sdp(self) -> str:
        """The latest session description that we sent."""
        return "" if self._leg is None else self._leg.local_sdp

    @property
    def remote_sdp(self) -> str:
        return "" if self._leg is None else self._leg.remote_sdp

    @property
    def on_hold(self) -> bool:
        return self._renegotiation.on_hold

    @property
    def held(self) -> bool:
        return self._leg is not None and self._leg.held

    @property
    def ipsec(self) -> CallIpsec | None:
        return self._protection.status

    @property
    def transfer_request(self) -> TransferRequest | None:
        return self._transfers.waiting

    async def hold(self, music: AudioSource | None = None) -> None:
        await self._renegotiation.hold(music)

    async def resume(self) -> None:
        await self._renegotiation.resume()

    async def transfer(self, target: str) -> None:
        await self._transfers.blind(target)

    async def transfer_to(self, other: Call) -> None:
        if not isinstance(other, DialogCall):
            raise CallError("calls of different engines cannot be connected with each other: transfer blindly")
        await self._transfers.attended(other)

    async def info(self, content_type: str, body: bytes) -> None:
        await self._renegotiation.info(content_type, body)

    async def handle(self, transaction: ServerTransaction) -> None:
        """A request of the peer inside the dialog."""
        try:
            await self._judge(transaction)
        except SipParseError as exc:
            if transaction.final is None:
                transaction.respond(400, f"Bad Request ({exc})")

    async def _judge(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        leg = self._legs.get(DialogId.of_request(request))
        if leg is None or self.state is CallState.ENDED:
            transaction.respond(481)
        elif not leg.dialog.accepts(request):
            transaction.respond(500, "CSeq out of order")
        elif refuse_early(self._agent, transaction):
            return
        else:
            await self._take(transaction, leg)

    async def _take(self, transaction: ServerTransaction, leg: Leg) -> None:
        request = transaction.request
        match request.method:
            case "BYE":
                transaction.respond(200)
                self._on_bye(request, leg)
            case "OPTIONS":
                transaction.respond(200, headers=capabilities(self._agent))
            case "INVITE" | "UPDATE":
                self._on_offer(transaction, leg)
            case "PRACK":
                self._on_prack(transaction, leg)
            case "REFER":
                self._transfers.on_refer(transaction, leg)
            case "NOTIFY":
                self._transfers.on_notify(transaction)
            case "INFO" if "Info-Package" in request.headers:
                transaction.respond(469, "Bad Info Package", headers=NO_PACKAGE)
            case "INFO":
                self._on_info(transaction)
            case "MESSAGE":
                take_message(self._agent, transaction)
            case _:
                transaction.respond(500)

    def _on_bye(self, bye: Request, leg: Leg) -> None:
        told = reasons(bye)
        text = next((cause.text for cause in told if cause.text), "hung up")
        self._end(EndedBy.REMOTE, 200, text, causes=told)

    def _on_info(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.content_type not in INFO_TYPES or self.media is None:
            transaction.respond(200)
            self._agent.hub.emit(InfoReceived(self.id, request.content_type, request.body))
            return
        try:
            self.media.take_info(request.content_type, request.body.decode("utf-8", "replace"))
        except ValueError as exc:
            transaction.respond(400, headers=warning(self._agent.endpoint.host, str(exc)))
        else:
            transaction.respond(200)

    def _lost(self, why: str) -> None:
        if self.state is CallState.CONFIRMED:
            self._agent.spawn(self._bye(why, EndedBy.FAILURE, 408), f"BYE {self.id}")

    def _on_prack(self, transaction: ServerTransaction, leg: Leg) -> None:
        transaction.respond(481)

    def acknowledge(self, ack: Request) -> None:
        """The ACK for a 2xx of ours."""
        leg = self._leg
        if self._keeper is None or leg is None or not self._keeper.acknowledged(ack):
            return
        self._stop_keeper()
        if leg.exchange.turn is Turn.OURS:
            self._agent.spawn(self._answer_in_ack(ack, leg), f"answer in ACK {self.id}")
        self._changes.tell()

    async def _answer_in_ack(self, ack: Request, leg: Leg) -> None:
        held, first = leg.held, not self._sound.flows
        try:
            leg.accept(ack.body)
            await self._protection.agreed(leg)
            await self._start_media()
        except (NotAcceptable, SdpError) as exc:
            await self._bye(str(exc), EndedBy.FAILURE, 488)
        else:
            if not first:
                self._session_changed(held)

    def _on_offer(self, transaction: ServerTransaction, leg: Leg) -> None:
        """re-INVITE or UPDATE: a new offer, the wish for one, or a refresh (RFC 3261 section 14.2, RFC 3311)."""
        request = transaction.request
        invite, held = request.method == "INVITE", leg.held
        if status := self._clash(request, leg):
            later = Headers.of(("Retry-After", str(round(10 * self._agent.jitter())))) if status == 500 else None
            transaction.respond(status, headers=later)
            return
        if self.media is None and (request.body or invite):
            transaction.respond(500)
            return
        try:
            self._timer.check(request)
            sdp = leg.answer(request.body) if request.body else leg.offer() if invite else ""
        except TooSmall as exc:
            transaction.respond(422, "Session Interval Too Small", headers=exc.headers)
            return
        except (NotAcceptable, SdpError) as exc:
            status = 488 if isinstance(exc, NotAcceptable) else 400
            transaction.respond(status, headers=warning(self._agent.endpoint.host, str(exc)))
            return
        leg.dialog.refresh(request)
        leg.learn(request)
        if invite:
            self._accept_invite(transaction, sdp, leg)
        else:
            self._succeed(transaction, sdp, leg)
        if request.body:
            self._agent.spawn(self._protect(leg), f"protection of {self.id}")
            self._session_changed(held)

    async def _protect(self, leg: Leg) -> None:
        """What was agreed on anew is to be in force, and a call that has to be protected and cannot ends."""
        try:
            await self._protection.agreed(leg)
        except NotAcceptable as exc:
            await self._bye(str(exc), EndedBy.FAILURE, 488)

    @property
    def _answer_open(self) -> bool:
        """Our first answer to the other side's offer is not out yet."""
        return False

    def _confirmed(self) -> None:
        super()._confirmed()
        self._protection.confirmed()

    def _clash(self, request: Request, leg: Leg) -> int | None:
        """The status for an offer that comes at the wrong time."""
        if request.method == "INVITE":
            if self.state is not CallState.CONFIRMED or leg is not self._leg:
                return 500 if self.incoming else 491
            if self._keeper is not None or self._renegotiation.inviting:
                return 491
            return leg.exchange.refusal()
        return leg.exchange.refusal() if request.body else None

    def _succeed(self, transaction: ServerTransaction, sdp: str, leg: Leg) -> None:
        """Answer INVITE or UPDATE with 200."""
        headers = Headers.of(("Contact", str(leg.dialog.contact)), *capabilities(self._agent))
        if self.state is CallState.CONFIRMED:  # an UPDATE before the answer does not begin the session timer
            loop = asyncio.get_running_loop()
            headers = Headers.of(*headers, *self._timer.answer(transaction.request, loop.time()))
            self._timer_alarm.set(self._timer.timer)
        if sdp:
            headers = headers.add("Content-Type", SDP)
        transaction.respond(200, to_tag=leg.dialog.id.local_tag, headers=headers, body=sdp.encode())

    def _accept_invite(self, transaction: ServerTransaction, sdp: str, leg: Leg) -> None:
        """Answer INVITE with 200 and repeat that until its ACK."""
        self._succeed(transaction, sdp, leg)
        if transaction.final is not None:
            self._keeper_transaction = transaction
            self._keeper = SuccessKeeper.begin(transaction.final, asyncio.get_running_loop().time())
            self._keeper_alarm.set(self._keeper.timer)

    def _keeper_due(self) -> None:
        if self._keeper is None or self._keeper_transaction is None:
            return
        response = self._keeper.handle_timer(reached(self._keeper.timer))
        if response is not None:
            self._keeper_transaction.send(response)
            self._keeper_alarm.set(self._keeper.timer)
            return
        self._stop_keeper()
        self._agent.spawn(self._bye("the answer was never acknowledged", EndedBy.FAILURE, 408), f"no ACK {self.id}")

    def _stop_keeper(self) -> None:
        self._keeper_alarm.cancel()
        self._keeper = self._keeper_transaction = None

    def _timer_due(self) -> None:
        due = self._timer.handle_timer(reached(self._timer.timer))
        self._timer_alarm.set(self._timer.timer)
        if due is Due.REFRESH:
            self._agent.spawn(self._renegotiation.refresh(), f"refresh {self.id}")
        elif due is Due.EXPIRED:
            self._lost("the other side is gone: the session expired")

    async def _bye(
        self, text: str, by: EndedBy = EndedBy.LOCAL, status: int = 200, reason: Reason | None = None
    ) -> None:
        """Hang up: the media stops at once, the BYE may take its time."""
        leg = self._leg
        if leg is None or self.state is CallState.ENDED:
            return
        self._end(by, status, text, dialog_ends=False)
        await self._agent.finish(self._say_bye(leg, reason), f"BYE {self.id}")

    async def _say_bye(self, leg: Leg, reason: Reason | None = None) -> None:
        try:
            async with asyncio.timeout(BYE_SECONDS):
                await leg.request("BYE", Headers if reason is None else reason.headers)
        except (TransportError, SipError, TimeoutError):
            self._agent.endpoint.counters["bye-unanswered"] += 1
        finally:
            self._drop(leg)

    def _session_changed(self, held: bool) -> None:
        """Offer and answer were exchanged anew; ``held``: whether the other side held us before."""
        self._agent.hub.emit(CallChanged(self.id))
        if held != self.held:
            self._agent.hub.emit(CallHold(self.id, self.on_hold, self.held))
        self._changes.tell()

    def _add_leg(self, dialog: Dialog, media: Media | None, turn: Turn, local_sdp: str = "") -> Leg:
        leg = Leg(self._agent, dialog, media, turn, local_sdp)
        self._legs[dialog.id] = leg
        self._agent.dialogs[dialog.id] = self
        return leg

    def _drop(self, leg: Leg) -> None:
        """The dialog is over."""
        leg.dialog.end()
        self._legs.pop(leg.dialog.id, None)
        self._agent.dialogs.pop(leg.dialog.id, None)
        if leg.media is not None and not self._sound.belongs(leg.media):
            self._agent.free(leg.media)
            leg.media = None

    def _end(
        self, by: EndedBy, status: int, reason: str, *, dialog_ends: bool = True, causes: tuple[Reason, ...] = ()
    ) -> None:
        """The call is over for the user; media closes in a task of its own."""
        if self.state is CallState.ENDED:
            return
        self._stop_keeper()
        self._timer_alarm.cancel()
        for leg in list(self._legs.values()):
            if leg is not self._leg or (dialog_ends and not self._transfers.notifying):
                self._drop(leg)
        super()._end(by, status, reason, causes=causes)
        self._protection.over()
