"""A call: the session that an INVITE dialog and a media session make. What both directions have in common.

`softphone.calls.outgoing` and `softphone.calls.incoming` add how a call comes about,
`softphone.calls.renegotiation` how it changes, `softphone.calls.transfer` how it is handed on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from enum import Enum

from softphone.calls.leg import Leg
from softphone.calls.playback import Playable, Playback, Player
from softphone.calls.renegotiation import Renegotiation
from softphone.calls.sound import Sound
from softphone.calls.transfer import TransferRequest, Transfers
from softphone.errors import CallError, CallRejected, TransportError
from softphone.events import (
    CallAnswered,
    CallChanged,
    CallDigit,
    CallEnded,
    CallHold,
    CallMedia,
    CallMuted,
    EndedBy,
    InfoReceived,
)
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.dtmf import DURATION, INFO_TYPES, DigitMethod, DigitReceived, checked, info_body
from softphone.media.events import MediaEvent, MediaFailed
from softphone.media.monitor import MediaTimeout
from softphone.media.offer_answer import NotAcceptable
from softphone.media.pcm import PcmSink, PcmSource
from softphone.media.recorder import CallRecorder
from softphone.media.sdp import SdpError
from softphone.media.tracks import CallTrack
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
from softphone.user_agent.changes import Changes
from softphone.user_agent.messages import take_message

BYE_SECONDS = 32.0
"After that a BYE counts as done, whether it was answered or not (timer F)."
KEPT_DIGITS = 64
"Of the other side, that wait to be gathered; then the oldest goes."
NO_PACKAGE = Headers.of(("Recv-Info", ""))
"We take no packages of INFO (RFC 6086 section 4.2.2)."


class CallState(Enum):
    CALLING = "calling"
    RINGING = "ringing"
    "We call and the other side rings, or we are called and do."
    CONFIRMED = "confirmed"
    "Answered; media flows."
    ENDED = "ended"


class Call(ABC):
    """One call. Made by `Softphone.dial` and `Softphone.incoming`."""

    def __init__(self, agent: Agent, call_id: str, remote: NameAddr) -> None:
        self.id = call_id
        self.remote = remote
        self.state = CallState.CALLING
        self.ended_event: CallEnded | None = None
        "How the call ended, once it has."
        self.replaced_by: Call | None = None
        "The call that took the place of this one (RFC 3891)."
        self._agent = agent
        self._leg: Leg | None = None
        "The dialog that counts."
        self._legs: dict[DialogId, Leg] = {}
        self._sound = Sound(self._on_media)
        self._player = Player(agent, self._sound, self._on_media)
        self._digits: deque[str] = deque(maxlen=KEPT_DIGITS)
        self._changes = Changes()
        self._on_end: list[Callable[[Call], None]] = []
        self._keeper: SuccessKeeper | None = None
        self._keeper_transaction: ServerTransaction | None = None
        self._keeper_alarm = Alarm(self._keeper_due)
        self._timer = SessionTimer(agent.account.session_expires, agent.account.least_session_expires)
        self._timer_alarm = Alarm(self._timer_due)
        self._renegotiation = Renegotiation(self)
        self._transfers = Transfers(self)
        self.began_at = asyncio.get_running_loop().time()
        "In seconds of the event loop's clock."
        self.answered_at: float | None = None
        "When both sides agreed, by the same clock; None: not yet."
        agent.begins(self)

    # what everybody may know

    @property
    @abstractmethod
    def incoming(self) -> bool:
        """Whether the other side called us."""

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
        """We hold the other side."""
        return self._renegotiation.on_hold

    @property
    def held(self) -> bool:
        """The other side holds us."""
        return self._leg is not None and self._leg.held

    @property
    def muted(self) -> bool:
        """The other side hears nothing of us, by our will."""
        return self._sound.muted

    @property
    def recorder(self) -> CallRecorder | None:
        """What records both sides at this moment."""
        return self._sound.recorder

    @property
    def transfer_request(self) -> TransferRequest | None:
        """The other side's wish that we talk to somebody else, while it waits for an answer."""
        return self._transfers.waiting

    def statistics(self) -> object:
        """Those of the media session; after the end the last ones. None before media was opened."""
        return self._sound.statistics()

    @property
    def media(self) -> Media | None:
        """The media session; None before it is open and after the end."""
        return self._sound.media

    def play(self, sound: Playable | None) -> Playback:
        """Send this sound from now on (while the other side is on hold: when it is resumed); None: silence.

        It plays whether it is awaited or not; ``await call.play("hello.wav")`` waits for its end. A file may have any
        format that FFmpeg reads; a track of aiortc is fetched from until it ends. Raises CallError after the end.
        """
        return self._player.play(sound)

    def speak(self, rate: int = 16_000) -> PcmSource:
        """Play what the program writes into this source, in the pace of the call. Raises CallError after the end."""
        source = PcmSource(rate)
        self.play(source)
        return source

    def listen(self, rate: int = 16_000) -> PcmSink:
        """What the other side says, for the program to read until the call ends; in place of the sink of `record`.

        Raises CallError after the end.
        """
        sink = PcmSink(rate)
        self.record(sink)
        self.on_end(lambda _: sink.close())
        return sink

    def track(self) -> CallTrack:
        """What the other side says, as a track of aiortc that ends with the call; in place of the sink of `record`.

        Raises CallError after the end.
        """
        track = CallTrack()
        self.record(track)
        self.on_end(lambda _: track.stop())
        return track

    async def gather(self, count: int | None = None, *, timeout: float | None = None, terminators: str = "") -> str:
        """Digits that the other side presses, also those that nobody has gathered yet; ``count`` at most.

        Ends early with one of the ``terminators``, which is not in the result, and after ``timeout`` seconds with
        what there is. Raises CallError when the call ends before, ValueError where nothing would end it.
        """
        if not terminators and timeout is None and count is None:
            raise ValueError("gathering digits needs a count, terminators or a timeout")
        gathered: list[str] = []
        ended = False

        def complete() -> bool:
            nonlocal ended
            while not ended and self._digits and len(gathered) != count:
                digit = self._digits.popleft()
                ended = digit in terminators
                gathered.extend(() if ended else digit)
            return ended or len(gathered) == count or self.state is CallState.ENDED

        try:
            await self._changes.until(complete, timeout)
        except TimeoutError:
            return "".join(gathered)
        except asyncio.CancelledError:
            self._digits.extendleft(reversed(gathered))
            raise
        if not ended and len(gathered) != count:
            raise self._failure()
        return "".join(gathered)

    def record(self, sink: AudioSink | None) -> None:
        """Give the received sound to this sink; None: to nobody. Raises CallError after the end."""
        self._sound.record(sink)

    def record_call(self, recorder: CallRecorder | None) -> None:
        """Record both sides from now on; None: end it. Raises CallError after the end."""
        self._sound.record_call(recorder)

    def mute(self, on: bool = True) -> None:
        """Let the other side hear nothing of us; what is played goes on unheard. `CallMuted` tells."""
        if on != self.muted:
            self._sound.mute(on)
            self._agent.hub.emit(CallMuted(self.id, on))

    def attach(self, microphone: AudioSource | None, loudspeaker: AudioSink | None) -> None:
        """A device for the call: what is sent while nothing else is played, and who hears while nobody else does.

        Raises CallError after the end.
        """
        self._sound.attach(microphone, loudspeaker)

    @property
    def has_sound(self) -> bool:
        """The other side can be heard: it has answered, or lets us hear something before (RFC 3960)."""
        return self._sound.flows

    def take_sound_of(self, other: Call) -> None:
        """Play and record here what the other call plays and records. Raises CallError after the end."""
        self._sound.take(other._sound)

    def on_end(self, tell: Callable[[Call], None]) -> None:
        """Call this when the call is over."""
        self._on_end.append(tell)

    # what one may do

    async def answered(self, timeout: float | None = None) -> None:
        """Until both sides have agreed and media flows. Raises CallRejected, CallError, TimeoutError."""
        await self._changes.until(lambda: self.state is CallState.ENDED or self._talking, timeout)
        if self.state is CallState.ENDED:
            raise self._failure()

    async def ringing(self, timeout: float | None = None) -> None:
        """Until the other side rings or has answered. Raises CallRejected, CallError, TimeoutError."""
        await self._changes.until(lambda: self.state is not CallState.CALLING, timeout)
        if self.state is CallState.ENDED:
            raise self._failure()

    async def ended(self, timeout: float | None = None) -> CallEnded:
        """Until the call is over. Raises TimeoutError."""
        await self._changes.until(lambda: self.ended_event is not None, timeout)
        if self.ended_event is None:
            raise CallError("the call has not ended")
        return self.ended_event

    async def hold(self, music: AudioSource | None = None) -> None:
        """Put the other side on hold (RFC 3264 section 8.4): it hears ``music`` and nothing else, we hear nothing.

        Raises ChangeRefused, CallError, TransportError.
        """
        await self._renegotiation.hold(music)

    async def resume(self) -> None:
        """End the hold. The other side may still hold us. Raises ChangeRefused, CallError, TransportError."""
        await self._renegotiation.resume()

    async def transfer(self, target: str) -> None:
        """Blind transfer (RFC 3515): the other side shall call ``target``; when it has reached it, we hang up.

        ``target`` is what `Softphone.dial` takes. Raises ChangeRefused when the other side does not do it or does not
        reach the target: then the call goes on. Raises CallError, TransportError, SipParseError.
        """
        await self._transfers.blind(target)

    async def transfer_to(self, other: Call) -> None:
        """Attended transfer: connect the other sides of two answered calls of ours with each other (RFC 3891).

        Both calls end here when they talk. Raises as `transfer`.
        """
        await self._transfers.attended(other)

    async def send_dtmf(
        self, digits: str, method: DigitMethod | None = None, duration: float = DURATION
    ) -> DigitMethod:
        """Send digits of the keypad; returns how they go. None: by telephone events (RFC 4733), else as tones.

        ``duration`` is that of one, seconds. Raises ValueError for what is no digit, CallError; with INFO also
        ChangeRefused and TransportError.
        """
        if method is not DigitMethod.INFO:
            return self._sound.session.send_dtmf(digits, method, duration)
        for digit in checked(digits):
            await self.info(INFO_TYPES[0], info_body(digit, duration).encode())
        return method

    async def info(self, content_type: str, body: bytes) -> None:
        """Send a SIP INFO (RFC 6086). Raises ChangeRefused, CallError, TransportError."""
        await self._renegotiation.info(content_type, body)

    @abstractmethod
    async def hangup(self, reason: Reason | None = None) -> None:
        """End the call the way its state asks for: CANCEL, a refusal, or BYE. No error if it has ended already.

        ``reason`` tells the other side why (RFC 3326).
        """

    def abandon(self) -> None:
        """The phone shuts down and could not say goodbye."""
        self._end(EndedBy.LOCAL, 200, "the phone was shut down")

    # requests inside the dialog

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

    def _on_media(self, event: MediaEvent) -> None:
        """The media session tells something."""
        self._player.heard(event)
        match event:
            case DigitReceived(digit, duration, method):
                self._digits.append(digit)
                self._changes.tell()
                self._agent.hub.emit(CallDigit(self.id, digit, duration, method))
                return
            case MediaTimeout(seconds) if not (self.on_hold or self.held):
                self._lost(f"the other side is gone: nothing came for {seconds:.0f} s")
            case MediaFailed(why):
                self._lost(f"no sound is possible: {why}")
            case _:
                pass
        self._agent.hub.emit(CallMedia(self.id, event))

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
            self._session_changed(held)

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

    # session descriptions and media

    @property
    def _talking(self) -> bool:
        """Answered, and media flows."""
        return self.state is CallState.CONFIRMED and self._sound.flows

    async def _start_media(self) -> None:
        if self.state is not CallState.ENDED:
            await self._sound.start()
            self._changes.tell()

    def _session_changed(self, held: bool) -> None:
        """Offer and answer were exchanged anew; ``held``: whether the other side held us before."""
        self._agent.hub.emit(CallChanged(self.id))
        if held != self.held:
            self._agent.hub.emit(CallHold(self.id, self.on_hold, self.held))
        self._changes.tell()

    def _confirmed(self) -> None:
        self.state = CallState.CONFIRMED
        self.answered_at = asyncio.get_running_loop().time()
        self._agent.hub.emit(CallAnswered(self.id, str(self.remote.uri)))
        self._changes.tell()

    # legs

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
        self.state = CallState.ENDED
        self._stop_keeper()
        self._timer_alarm.cancel()
        for leg in list(self._legs.values()):
            if leg is not self._leg or (dialog_ends and not self._transfers.notifying):
                self._drop(leg)
        if (media := self._sound.end()) is not None:
            self._agent.free(media)
        self._agent.calls.discard(self)
        self.ended_event = CallEnded(self.id, by, status, reason, causes)
        self._player.end(self._failure())
        self._agent.hub.emit(self.ended_event)
        for tell in self._on_end:
            tell(self)
        self._changes.tell()

    def _failure(self) -> CallError:
        event = self.ended_event
        if event is None or event.status == 200:
            return CallError(f"the call is over: {event.reason if event else 'ended'}")
        return CallRejected(event.status, event.reason)
