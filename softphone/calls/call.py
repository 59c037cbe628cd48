"""A call as whoever makes or takes it sees it, whichever engine carries it: its state, its sound, what one may do.

`softphone.calls.dialog_call` is what our own SIP makes of it, `softphone.pjsua.call` the other engine's.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Protocol

from softphone.calls.playback import Playable, Playback, Player
from softphone.calls.sound import Sound
from softphone.calls.transfer import TransferRequest
from softphone.errors import CallError, CallRejected
from softphone.events import (
    CallAnswered,
    CallDigit,
    CallEnded,
    CallIpsec,
    CallMedia,
    CallMuted,
    EndedBy,
    EventHub,
)
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.dtmf import DURATION, INFO_TYPES, DigitMethod, DigitReceived, checked, info_body
from softphone.media.events import MediaEvent, MediaFailed
from softphone.media.monitor import MediaTimeout
from softphone.media.pcm import PcmSink, PcmSource
from softphone.media.recorder import CallRecorder
from softphone.media.tracks import CallTrack
from softphone.sip.headers import NameAddr
from softphone.sip.identity import Reason
from softphone.user_agent.agent import SoundSession
from softphone.user_agent.changes import Changes

KEPT_DIGITS = 64
"Of the other side, that wait to be gathered; then the oldest goes."


class CallHost(Protocol):
    """What a call needs of its phone."""

    @property
    def hub(self) -> EventHub: ...

    def begins(self, call: Call) -> None: ...

    def over(self, call: Call) -> None: ...

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the phone at the latest."""

    def free(self, media: SoundSession) -> None:
        """Close a session in the background."""


class CallState(Enum):
    CALLING = "calling"
    RINGING = "ringing"
    "We call and the other side rings, or we are called and do."
    CONFIRMED = "confirmed"
    "Answered; media flows."
    ENDED = "ended"


class Call(ABC):
    """One call. Made by `Telephone.dial` and `Telephone.incoming`."""

    def __init__(self, host: CallHost, call_id: str, remote: NameAddr) -> None:
        """Whoever inherits tells the host at the end of its own that the call begins."""
        self.id = call_id
        self.remote = remote
        self.state = CallState.CALLING
        self.ended_event: CallEnded | None = None
        "How the call ended, once it has."
        self.replaced_by: Call | None = None
        "The call that took the place of this one (RFC 3891)."
        self._host = host
        self._sound = Sound(self._on_media)
        self._player = Player(host, self._sound, self._on_media)
        self._digits: deque[str] = deque(maxlen=KEPT_DIGITS)
        self._changes = Changes()
        self._on_end: list[Callable[[Call], None]] = []
        self.began_at = asyncio.get_running_loop().time()
        "In seconds of the event loop's clock."
        self.answered_at: float | None = None
        "When both sides agreed, by the same clock; None: not yet."

    # what everybody may know

    @property
    @abstractmethod
    def incoming(self) -> bool:
        """Whether the other side called us."""

    @property
    @abstractmethod
    def on_hold(self) -> bool:
        """We hold the other side."""

    @property
    @abstractmethod
    def held(self) -> bool:
        """The other side holds us."""

    @property
    def answers_itself_after(self) -> float | None:
        """Seconds after which the phone answers a call that comes in by itself; None: it does not."""
        return None

    @property
    def transfer_request(self) -> TransferRequest | None:
        """The other side's wish that we talk to somebody else, while it waits for an answer."""
        return None

    @property
    def ipsec(self) -> CallIpsec | None:
        """How it stands with IPsec between the two ends; None: nobody here makes keys, or nothing is agreed on yet."""
        return None

    @property
    def muted(self) -> bool:
        """The other side hears nothing of us, by our will."""
        return self._sound.muted

    @property
    def recorder(self) -> CallRecorder | None:
        """What records both sides at this moment."""
        return self._sound.recorder

    def statistics(self) -> object:
        """Those of the media session; after the end the last ones. None before media was opened."""
        return self._sound.statistics()

    @property
    def media(self) -> SoundSession | None:
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
            self._host.hub.emit(CallMuted(self.id, on))

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

    async def ring(self) -> None:
        """Of a call that comes in: tell the caller that we ring. Raises CallError when it is too late for that."""
        raise CallError("that is a call of ours: it rings there")

    async def answer(self) -> None:
        """Of a call that comes in: accept it, media starts. Raises CallError when it is too late for that."""
        raise CallError("that is a call of ours: the other side answers")

    async def reject(self, status: int = 486) -> None:
        """Of a call that comes in: refuse it, from 300 to 699. Raises CallError when it is too late for that."""
        raise CallError("that is a call of ours: hang up")

    @abstractmethod
    async def hold(self, music: AudioSource | None = None) -> None:
        """Put the other side on hold (RFC 3264 section 8.4): it hears ``music`` and nothing else, we hear nothing.

        Raises ChangeRefused, CallError, TransportError.
        """

    @abstractmethod
    async def resume(self) -> None:
        """End the hold. The other side may still hold us. Raises ChangeRefused, CallError, TransportError."""

    @abstractmethod
    async def transfer(self, target: str) -> None:
        """Blind transfer (RFC 3515): the other side shall call ``target``; when it has reached it, we hang up.

        ``target`` is what `Telephone.dial` takes. Raises ChangeRefused when the other side does not do it or does not
        reach the target: then the call goes on. Raises CallError, TransportError, SipParseError.
        """

    @abstractmethod
    async def transfer_to(self, other: Call) -> None:
        """Attended transfer: connect the other sides of two answered calls of ours with each other (RFC 3891).

        Both calls end here when they talk. Raises as `transfer`.
        """

    @abstractmethod
    async def info(self, content_type: str, body: bytes) -> None:
        """Send a SIP INFO (RFC 6086). Raises ChangeRefused, CallError, TransportError."""

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

    @abstractmethod
    async def hangup(self, reason: Reason | None = None) -> None:
        """End the call the way its state asks for: CANCEL, a refusal, or BYE. No error if it has ended already.

        ``reason`` tells the other side why (RFC 3326).
        """

    def abandon(self) -> None:
        """The phone shuts down and could not say goodbye."""
        self._end(EndedBy.LOCAL, 200, "the phone was shut down")

    # what happens

    @abstractmethod
    def _lost(self, why: str) -> None:
        """No sound comes any more: hang up."""

    def _on_media(self, event: MediaEvent) -> None:
        """The media session tells something."""
        self._player.heard(event)
        match event:
            case DigitReceived(digit, duration, method):
                self._digits.append(digit)
                self._changes.tell()
                self._host.hub.emit(CallDigit(self.id, digit, duration, method))
                return
            case MediaTimeout(seconds) if not (self.on_hold or self.held):
                self._lost(f"the other side is gone: nothing came for {seconds:.0f} s")
            case MediaFailed(why):
                self._lost(f"no sound is possible: {why}")
            case _:
                pass
        self._host.hub.emit(CallMedia(self.id, event))

    @property
    def _talking(self) -> bool:
        """Answered, and media flows."""
        return self.state is CallState.CONFIRMED and self._sound.flows

    async def _start_media(self) -> None:
        if self.state is not CallState.ENDED:
            await self._sound.start()
            self._changes.tell()

    def _confirmed(self) -> None:
        self.state = CallState.CONFIRMED
        self.answered_at = asyncio.get_running_loop().time()
        self._host.hub.emit(CallAnswered(self.id, str(self.remote.uri)))
        self._changes.tell()

    def _end(self, by: EndedBy, status: int, reason: str, *, causes: tuple[Reason, ...] = ()) -> None:
        """The call is over for the user; media closes in a task of its own."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        if (media := self._sound.end()) is not None:
            self._host.free(media)
        self._host.over(self)
        self.ended_event = CallEnded(self.id, by, status, reason, causes)
        self._player.end(self._failure())
        self._host.hub.emit(self.ended_event)
        for tell in self._on_end:
            tell(self)
        self._changes.tell()

    def _failure(self) -> CallError:
        event = self.ended_event
        if event is None or event.status == 200:
            return CallError(f"the call is over: {event.reason if event else 'ended'}")
        return CallRejected(event.status, event.reason)
