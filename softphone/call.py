"""A call: the session that an INVITE dialog and a media session make. What both directions have in common.

`softphone.outgoing` and `softphone.incoming` add how a call comes about.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from softphone.agent import ALLOW, METHODS, SUPPORTED, USER_AGENT, Agent, Media
from softphone.errors import CallError, CallRejected, TransportError
from softphone.events import CallAnswered, CallChanged, CallEnded, EndedBy
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip import message
from softphone.sip.dialog import Dialog, SuccessKeeper
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.errors import SipError
from softphone.sip.headers import Headers, NameAddr, quote
from softphone.sip.message import Request, Response
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri

SDP = "application/sdp"
BYE_SECONDS = 32.0
"After that a BYE counts as done, whether it was answered or not (timer F)."


class CallState(Enum):
    CALLING = "calling"
    RINGING = "ringing"
    "We call and the other side rings, or we are called and do."
    CONFIRMED = "confirmed"
    "Answered; media flows."
    ENDED = "ended"


def capabilities() -> Headers:
    """What we understand, for 2xx, OPTIONS and 405 (RFC 3261 section 11.2)."""
    return Headers.of(("Allow", ALLOW), ("Accept", SDP), ("Supported", SUPPORTED), ("User-Agent", USER_AGENT))


def refuse_early(transaction: ServerTransaction) -> bool:
    """The checks that hold for every request (RFC 3261 section 8.2); True if it was refused."""
    request = transaction.request
    if request.method not in METHODS:
        transaction.respond(405 if request.method in message.METHODS else 501, headers=Headers.of(("Allow", ALLOW)))
    elif not isinstance(request.uri, SipUri):
        transaction.respond(416)
    elif unsupported := [option for option in request.headers.values("Require") if option.lower() != SUPPORTED]:
        transaction.respond(420, headers=Headers.of(("Unsupported", ", ".join(unsupported))))
    elif request.body and request.method == "INVITE" and request.content_type != SDP:
        transaction.respond(415, headers=Headers.of(("Accept", SDP)))
    elif request.method == "INVITE" and not _takes_sdp(request):
        transaction.respond(406)
    elif any(coding.lower() != "identity" for coding in request.headers.values("Content-Encoding")):
        transaction.respond(415, headers=Headers.of(("Accept-Encoding", "identity")))
    else:
        return False
    return True


def _takes_sdp(request: Request) -> bool:
    """Whether the caller could read our session description (RFC 3261 section 20.1)."""
    accepted = [value.partition(";")[0].strip().lower() for value in request.headers.values("Accept")]
    return "Accept" not in request.headers or any(kind in (SDP, "application/*", "*/*") for kind in accepted)


def warning(host: str, text: str) -> Headers:
    """A Warning header (RFC 3261 section 20.43)."""
    agent = f"[{host}]" if ":" in host else host
    plain = "".join(char if " " <= char <= "~" else "?" for char in text)[:200]
    return Headers.of(("Warning", f"399 {agent} {quote(plain)}"))


class Call(ABC):
    """One call. Made by `Softphone.dial` and `Softphone.incoming`."""

    def __init__(self, agent: Agent, call_id: str, remote: NameAddr) -> None:
        self.id = call_id
        self.remote = remote
        self.state = CallState.CALLING
        self.local_sdp = ""
        "The latest session description that we sent."
        self.remote_sdp = ""
        self.ended_event: CallEnded | None = None
        "How the call ended, once it has."
        self.media: Media | None = None
        self._agent = agent
        self._dialog: Dialog | None = None
        self._media_started = False
        self._closed_media: Media | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._keeper: SuccessKeeper | None = None
        self._keeper_alarm: asyncio.TimerHandle | None = None
        self._keeper_transaction: ServerTransaction | None = None
        self._awaiting_answer = False
        "We sent an offer in a 2xx; the ACK brings the answer."
        self._renegotiating: asyncio.Task[None] | None = None
        agent.calls.add(self)

    # what everybody may know

    @property
    @abstractmethod
    def incoming(self) -> bool:
        """Whether the other side called us."""

    @property
    def acknowledged(self) -> bool:
        """The three-way handshake is done: a BYE may be sent."""
        return self._keeper is None

    def statistics(self) -> object:
        """Those of the media session; after the end the last ones. None before media was opened."""
        media = self._closed_media if self.media is None else self.media
        return None if media is None else media.statistics()

    def play(self, source: AudioSource | None) -> None:
        """Send this sound from now on; None: silence. Raises CallError after the end."""
        self._open_media().play(source)

    def record(self, sink: AudioSink | None) -> None:
        """Give the received sound to this sink; None: to nobody. Raises CallError after the end."""
        self._open_media().record(sink)

    async def answered(self, timeout: float | None = None) -> None:
        """Until both sides have agreed and media flows. Raises CallRejected, CallError, TimeoutError."""
        await self._until(lambda: self.state is CallState.ENDED or self._media_started, timeout)
        if self.state is CallState.ENDED:
            raise self._failure()

    async def ringing(self, timeout: float | None = None) -> None:
        """Until the other side rings or has answered. Raises CallRejected, CallError, TimeoutError."""
        await self._until(lambda: self.state is not CallState.CALLING, timeout)
        if self.state is CallState.ENDED:
            raise self._failure()

    async def ended(self, timeout: float | None = None) -> CallEnded:
        """Until the call is over. Raises TimeoutError."""
        await self._until(lambda: self.ended_event is not None, timeout)
        if self.ended_event is None:
            raise CallError("the call has not ended")
        return self.ended_event

    @abstractmethod
    async def hangup(self) -> None:
        """End the call the way its state asks for: CANCEL, a refusal, or BYE. No error if it has ended already."""

    def abandon(self) -> None:
        """The phone shuts down and could not say goodbye."""
        self._end(EndedBy.LOCAL, 200, "the phone was shut down")

    # requests inside the dialog

    async def handle(self, transaction: ServerTransaction) -> None:
        """A request of the peer inside the dialog."""
        request = transaction.request
        dialog = self._dialog
        if dialog is None or self.state is CallState.ENDED:
            transaction.respond(481)
        elif not dialog.accepts(request):
            transaction.respond(500, "CSeq out of order")
        elif refuse_early(transaction):
            return
        elif request.method == "BYE":
            transaction.respond(200)
            self._end(EndedBy.REMOTE, 200, "hung up")
        elif request.method == "OPTIONS":
            transaction.respond(200, headers=capabilities())
        elif request.method == "INVITE":
            await self._reinvited(transaction, dialog)
        else:
            transaction.respond(500)

    def acknowledge(self, ack: Request) -> None:
        """The ACK for a 2xx of ours."""
        if self._keeper is None or not self._keeper.acknowledged(ack):
            return
        self._stop_keeper()
        if self._awaiting_answer:
            self._awaiting_answer = False
            self._agent.spawn(self._answer_in_ack(ack), f"answer in ACK {self.id}")
        self._changed()

    async def _answer_in_ack(self, ack: Request) -> None:
        try:
            self._accept(ack.body)
            await self._start_media()
        except (NotAcceptable, SdpError) as exc:
            await self._bye(str(exc), EndedBy.FAILURE, 488)

    async def _reinvited(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """A new offer, or the wish for one, in mid call (RFC 3261 section 14.2)."""
        request = transaction.request
        if self.state is not CallState.CONFIRMED or self._keeper is not None:
            transaction.respond(491)
            return
        if self.media is None:
            transaction.respond(500)
            return
        try:
            if request.body:
                sdp = self._answer(request.body)
            else:
                sdp = self.local_sdp = self.media.offer()
                self._awaiting_answer = True
        except NotAcceptable as exc:
            transaction.respond(488, headers=warning(self._agent.endpoint.host, str(exc)))
            return
        except SdpError as exc:
            transaction.respond(400, headers=warning(self._agent.endpoint.host, str(exc)))
            return
        dialog.refresh(request)
        self._accept_invite(transaction, sdp, dialog)
        self._agent.hub.emit(CallChanged(self.id))

    def _accept_invite(self, transaction: ServerTransaction, sdp: str, dialog: Dialog) -> None:
        """Send a 2xx with a session description and keep it alive until its ACK."""
        headers = Headers.of(("Contact", str(dialog.contact)), *capabilities(), ("Content-Type", SDP))
        response = transaction.respond(200, to_tag=dialog.id.local_tag, headers=headers, body=sdp.encode())
        self._keeper_transaction = transaction
        loop = asyncio.get_running_loop()
        self._keeper = SuccessKeeper.begin(response, loop.time())
        self._arm_keeper()

    def _arm_keeper(self) -> None:
        if self._keeper is not None and self._keeper.timer is not None:
            self._keeper_alarm = asyncio.get_running_loop().call_at(self._keeper.timer, self._keeper_due)

    def _keeper_due(self) -> None:
        if self._keeper is None or self._keeper_transaction is None or self._keeper.timer is None:
            return
        response = self._keeper.handle_timer(max(asyncio.get_running_loop().time(), self._keeper.timer))
        if response is not None:
            self._keeper_transaction.send(response)
            self._arm_keeper()
            return
        self._stop_keeper()
        self._agent.spawn(self._bye("the answer was never acknowledged", EndedBy.FAILURE, 408), f"no ACK {self.id}")

    def _stop_keeper(self) -> None:
        if self._keeper_alarm is not None:
            self._keeper_alarm.cancel()
        self._keeper = self._keeper_alarm = self._keeper_transaction = None

    async def _bye(self, reason: str, by: EndedBy = EndedBy.LOCAL, status: int = 200) -> None:
        """Hang up: the media stops at once, the BYE may take its time."""
        dialog = self._dialog
        if dialog is None or self.state is CallState.ENDED:
            return
        self._end(by, status, reason, dialog_ends=False)
        try:
            async with asyncio.timeout(BYE_SECONDS):
                await self._agent.complete(lambda: dialog.request("BYE"), dialog.first_hop)
        except (TransportError, SipError, TimeoutError):
            self._agent.endpoint.counters["bye-unanswered"] += 1
        finally:
            dialog.end()
            self._agent.dialogs.pop(dialog.id, None)

    # session descriptions and media

    def _open_media(self) -> Media:
        if self.media is None:
            raise CallError(f"the call has no audio: it is {self.state.value}")
        return self.media

    def _answer(self, offer: bytes) -> str:
        text = offer.decode("utf-8", "replace")
        answer = self._open_media().answer(text)
        self.remote_sdp, self.local_sdp = text, answer
        return answer

    def _accept(self, answer: bytes) -> None:
        """Raises NotAcceptable, SdpError."""
        if not answer:
            raise NotAcceptable("the answer to our offer is missing")
        text = answer.decode("utf-8", "replace")
        self._open_media().accept(text)
        self.remote_sdp = text

    async def _start_media(self) -> None:
        if self.media is None or self._media_started or self.state is CallState.ENDED:
            return
        await self.media.start()
        self._media_started = True
        self._changed()

    def _confirmed(self) -> None:
        self.state = CallState.CONFIRMED
        self._agent.hub.emit(CallAnswered(self.id, str(self.remote.uri)))
        self._changed()

    def _use_dialog(self, dialog: Dialog) -> None:
        self._dialog = dialog
        self._agent.dialogs[dialog.id] = self

    def _end(self, by: EndedBy, status: int, reason: str, *, dialog_ends: bool = True) -> None:
        """The call is over for the user; media closes in a task of its own."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        self._stop_keeper()
        if self._dialog is not None and dialog_ends:
            self._dialog.end()
            self._agent.dialogs.pop(self._dialog.id, None)
        if self.media is not None:
            self._closed_media, self.media = self.media, None
            self._agent.free(self._closed_media)
        self._agent.calls.discard(self)
        self.ended_event = CallEnded(self.id, by, status, reason)
        self._agent.hub.emit(self.ended_event)
        self._changed()

    def _failure(self) -> CallError:
        event = self.ended_event
        if event is None or event.status == 200:
            return CallError(f"the call is over: {event.reason if event else 'ended'}")
        return CallRejected(event.status, event.reason)

    # waiting

    async def _until(self, reached: Callable[[], bool], timeout: float | None) -> None:
        async with asyncio.timeout(timeout):
            while not reached():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def flow_contact(agent: Agent, flow: Flow, *, secure: bool) -> NameAddr:
    """Our Contact on a flow; a ``sips:`` URI where the call is one (RFC 3261 section 8.1.1.8)."""
    uri = agent.endpoint.contact(agent.account.aor.user, flow)
    return NameAddr(replace(uri, scheme="sips", parameters=()) if secure else uri)


def reason_of(response: Response) -> str:
    """The reason phrase with the text of a Warning, if there is one."""
    text = response.headers.get("Warning")
    return f"{response.reason} ({text})" if text else response.reason
