"""What happens in the phone, as values, and the hub that hands them to whoever listens."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from softphone.errors import SoftphoneError
from softphone.media.dtmf import DigitMethod
from softphone.media.events import MediaEvent
from softphone.packages.dialog_info import DialogInfo
from softphone.packages.message_summary import MessageSummary
from softphone.packages.presence import Presence
from softphone.sip.identity import ELSEWHERE, Reason
from softphone.sip.subscription import Phase

BACKLOG = 1000
"Events a listener may lag behind before it loses the oldest."


class EndedBy(StrEnum):
    """Who ended a call."""

    LOCAL = "local"
    REMOTE = "remote"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Event:
    """Root of all events."""


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """The registrar knows where we are."""

    contact: str
    expires: int
    "Seconds."


@dataclass(frozen=True, slots=True)
class RegistrationFailed(Event):
    """The registrar refused or does not answer."""

    status: int
    reason: str
    retry_in: float | None
    "Seconds until the next attempt; None: there will be none (wrong password, unknown user)."


@dataclass(frozen=True, slots=True)
class Unregistered(Event):
    """We took our contact back."""


@dataclass(frozen=True, slots=True)
class Handover(Event):
    """The terminal is in another network, and packets flow again."""

    from_link: str
    to_link: str
    from_address: str
    "Care-of addresses."
    to_address: str
    since_noticed_ms: float
    "Milliseconds since the terminal noticed that it moves."
    since_update_ms: float
    "Milliseconds since the first binding update of the new place."
    sent_again: int
    "Packets of ours that the old place had lost; the same from the other side."
    received_again: int
    make_before_break: bool
    "The old place was used until the new one had proven to work."


@dataclass(frozen=True, slots=True)
class CallEvent(Event):
    """Root of the events of a call."""

    call: str
    "Call-ID."


@dataclass(frozen=True, slots=True)
class CallIncoming(CallEvent):
    remote: str
    waiting: bool = False
    "We are in another call."


@dataclass(frozen=True, slots=True)
class CallRefused(CallEvent):
    """A call came in and the phone refused it by itself: do not disturb, or too many calls."""

    remote: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallProgress(CallEvent):
    """A provisional response to our call, for example 180 Ringing."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallEarlyMedia(CallEvent):
    """The other side can be heard although it has not answered: tones, announcements (RFC 3960)."""


@dataclass(frozen=True, slots=True)
class CallRedirected(CallEvent):
    """Our call goes on to somebody else."""

    target: str


@dataclass(frozen=True, slots=True)
class CallAnswered(CallEvent):
    remote: str


@dataclass(frozen=True, slots=True)
class CallChanged(CallEvent):
    """The peer renegotiated the session in mid call."""


@dataclass(frozen=True, slots=True)
class CallHold(CallEvent):
    """Who holds whom has changed."""

    local: bool
    "We hold the other side."
    remote: bool
    "The other side holds us."


@dataclass(frozen=True, slots=True)
class CallMuted(CallEvent):
    """Whether the other side hears us has changed, by our will."""

    muted: bool


class IpsecState(StrEnum):
    """How it stands with IPsec between the two ends of a call."""

    NEGOTIATING = "negotiating"
    "Both sides want it, the keys are on their way; until they are there nothing goes in clear."
    PROTECTED = "protected"
    NONE = "none"
    "The call does without."


@dataclass(frozen=True, slots=True)
class CallIpsec(CallEvent):
    """How it stands with IPsec between the two ends has changed (RFC 6193)."""

    state: IpsecState
    peer: str
    "The address of the other end; empty: nothing was agreed on."
    algorithm: str
    "Of the keys that are in use; empty: there are none, or it is not known."
    reason: str
    "Why there are no keys (any more); else empty."


@dataclass(frozen=True, slots=True)
class CallTransferRequested(CallEvent):
    """The other side wants us to talk to somebody else: see `Call.transfer_request`."""

    target: str
    referred_by: str
    "Empty: not said."


@dataclass(frozen=True, slots=True)
class CallTransferred(CallEvent):
    """The call that the other side wanted has begun; this one ends when it hangs up."""

    to: str
    "Call-ID of the new call."


@dataclass(frozen=True, slots=True)
class TransferProgress(CallEvent):
    """How far the other side is with the transfer that we wanted."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallReplaced(CallEvent):
    """A new call has taken the place of this one (RFC 3891); it is answered already."""

    by: str
    "Call-ID of the new call."


@dataclass(frozen=True, slots=True)
class CallDigit(CallEvent):
    """The other side pressed a key."""

    digit: str
    duration: float
    "Seconds."
    method: DigitMethod
    "How it came."


@dataclass(frozen=True, slots=True)
class CallMedia(CallEvent):
    """What else the media session tells: playback that ended, audio in one direction only, recordings..."""

    event: MediaEvent


@dataclass(frozen=True, slots=True)
class InfoReceived(CallEvent):
    """A SIP INFO (RFC 6086, the usage without package) that is no digit."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class MessageSent(Event):
    """A text of ours was accepted."""

    remote: str
    text: str


@dataclass(frozen=True, slots=True)
class SubscriptionChanged(Event):
    """How far a subscription is (RFC 6665)."""

    uri: str
    package: str
    phase: Phase
    reason: str
    "Why it ended, or has to be tried again; else empty."


@dataclass(frozen=True, slots=True)
class PresenceChanged(Event):
    """Somebody whose presence we watch (RFC 3856)."""

    uri: str
    presence: Presence


@dataclass(frozen=True, slots=True)
class DialogsChanged(Event):
    """The calls of somebody whose calls we watch (RFC 4235): `DialogInfo.lamp` for a busy lamp."""

    uri: str
    dialogs: DialogInfo


@dataclass(frozen=True, slots=True)
class MailboxChanged(Event):
    """What is in our mailbox (RFC 3842)."""

    uri: str
    summary: MessageSummary


@dataclass(frozen=True, slots=True)
class Published(Event):
    """The server has our state (RFC 3903)."""

    package: str
    expires: int
    "Seconds; 0: it was taken back."


@dataclass(frozen=True, slots=True)
class PublicationFailed(Event):
    """The server does not take our state; temporary failures are tried again."""

    package: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    """A SIP MESSAGE (RFC 3428)."""

    remote: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DeviceChanged(Event):
    """The user speaks and hears by this device from now on."""

    device: str
    kind: str
    "``sounddevice``, ``browser``, ``file`` or ``null``."


@dataclass(frozen=True, slots=True)
class DeviceLost(Event):
    """A device was unplugged, or cannot be used; the calls go on with another one, or in silence."""

    device: str
    why: str


@dataclass(frozen=True, slots=True)
class EngineLost(Event):
    """The process of another engine has ended; its calls with it. It is started again."""

    engine: str
    why: str


@dataclass(frozen=True, slots=True)
class ConferenceChanged(Event):
    """Somebody joined or left a conference."""

    calls: tuple[str, ...]
    "Call-IDs of who is in it now."


@dataclass(frozen=True, slots=True)
class CallEnded(CallEvent):
    by: EndedBy
    status: int
    "Final status of a call that never came about, else 200; 408 or 503 when the peer could not be reached."
    reason: str
    causes: tuple[Reason, ...] = ()
    "What Reason headers of the other side say (RFC 3326)."

    @property
    def elsewhere(self) -> bool:
        """An incoming call was answered by another phone of the same account: it was not missed."""
        return any(cause.protocol.upper() == "SIP" and cause.cause == ELSEWHERE for cause in self.causes)


Kind = TypeVar("Kind", bound=Event)


class EventHub:
    """Every listener gets every event from the moment it began to listen."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.counters: Counter[str] = Counter()

    def emit(self, event: Event) -> None:
        self.counters[type(event).__name__] += 1
        for listener in self._listeners:
            listener.put(event)

    def listen(self) -> Listener:
        """A new listener; it is an async iterator and counts from now on. Close it, or leave its iteration."""
        listener = Listener(self._listeners.discard)
        self._listeners.add(listener)
        return listener

    def close(self) -> None:
        """End all iterations."""
        for listener in list(self._listeners):
            listener.finish()


class Listener(AsyncIterator[Event]):
    """One reader of events."""

    def __init__(self, leave: Callable[[Listener], None]) -> None:
        self._leave = leave
        self._events: deque[Event] = deque(maxlen=BACKLOG)
        self._wake = asyncio.Event()
        self._finished = False

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._wake.set()

    def finish(self) -> None:
        self._finished = True
        self._wake.set()

    def close(self) -> None:
        self.finish()
        self._leave(self)

    async def wait_for(self, kind: type[Kind], timeout: float | None = None) -> Kind:
        """The next event of a kind; those before it are gone. Raises TimeoutError, SoftphoneError at the end."""
        async with asyncio.timeout(timeout):
            async for event in self:
                if isinstance(event, kind):
                    return event
        raise SoftphoneError(f"the phone was closed before {kind.__name__} happened")

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._finished:
                self._leave(self)
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()
