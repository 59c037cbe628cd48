"""What every engine of calls offers: `Softphone`, which is our own SIP, and `softphone.pjsua.phone.PjsuaPhone`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

from softphone.calls.call import Call, CallState
from softphone.calls.conference import Conference
from softphone.config import Account
from softphone.errors import Unsupported
from softphone.events import EventHub, Listener
from softphone.media.session import PacketTrace
from softphone.packages.dialog_info import DialogInfo
from softphone.packages.message_summary import MessageSummary
from softphone.packages.presence import Presence
from softphone.sip.endpoint import Traced
from softphone.user_agent.subscriptions import Subscription


class Telephone(ABC):
    """One account and its calls. All methods belong to the event loop that entered the context."""

    engine = ""
    "Its name in the configuration."

    def __init__(self, account: Account) -> None:
        self.account = account
        self.do_not_disturb = False
        "Refuse all calls that come in, as busy (486)."
        self.media_trace: PacketTrace | None = None
        "Told of every packet of the calls that begin from now on, by engines whose packets can be seen."
        self._hub = EventHub()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def start(self) -> None:
        """Begin to listen and to register. Raises TransportError, ConfigError."""

    @abstractmethod
    async def close(self) -> None:
        """Hang up all calls, unregister, free everything; takes a few seconds at most."""

    @abstractmethod
    async def dial(self, target: str, *, anonymous: bool = False, late_offer: bool = False) -> Call:
        """Call a SIP URI, ``user@host``, or a number at our own domain.

        ``anonymous`` hides from the other side who calls (RFC 3323); ``late_offer`` lets it propose the session.
        Returns when the INVITE is out; `Call.answered` waits for the rest. Raises TransportError, SipParseError.
        """

    @abstractmethod
    def incoming(self) -> AsyncIterator[Call]:
        """The calls that come in, until the phone is closed. For one reader."""

    def events(self) -> Listener:
        """An async iterator over everything that happens from now on."""
        return self._hub.listen()

    @abstractmethod
    async def registered(self, timeout: float | None = None) -> None:
        """Until the registrar has accepted us. Raises RegistrationError when it refuses for good, TimeoutError."""

    @property
    @abstractmethod
    def is_registered(self) -> bool:
        """The registrar knows where we are, at this moment."""

    @property
    @abstractmethod
    def calls(self) -> list[Call]: ...

    @property
    @abstractmethod
    def host(self) -> str:
        """The local address: what stands in Contact, Via and SDP."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port of UDP and TCP."""

    async def focus(self, call: Call) -> None:
        """Talk to this one: answer it or end its hold, after all others were put on hold.

        Raises CallError, ChangeRefused, TransportError.
        """
        for other in self.calls:
            if other is not call and other.state is CallState.CONFIRMED and not other.on_hold:
                await other.hold()
        if call.incoming and call.state in (CallState.CALLING, CallState.RINGING):
            await call.answer()
        elif call.on_hold:
            await call.resume()

    async def conference(self, *calls: Call) -> Conference:
        """Let the other sides of answered calls hear each other, and us: `Conference.local` (mixed here, N-1).

        Calls on hold are resumed. Raises CallError, ChangeRefused, TransportError.
        """
        made = Conference(self._hub)
        for call in calls:
            await made.add(call)
        return made

    # what an engine need not offer; then it raises Unsupported

    async def message(self, target: str, text: str) -> None:
        """Send a text (RFC 3428). Raises CallRejected, TransportError, SipParseError."""
        raise Unsupported(self.engine, "texts")

    def watch_presence(self, target: str) -> Subscription[Presence]:
        """How somebody is to be reached (RFC 3856), from now on: `PresenceChanged`. Raises SipParseError."""
        raise Unsupported(self.engine, "presence")

    def watch_calls(self, target: str) -> Subscription[DialogInfo]:
        """Which calls somebody has (RFC 4235), from now on: `DialogsChanged`. Raises SipParseError."""
        raise Unsupported(self.engine, "the calls of others")

    def watch_mailbox(self, target: str | None = None) -> Subscription[MessageSummary]:
        """What is in a mailbox (RFC 3842), None: ours, from now on: `MailboxChanged`. Raises SipParseError."""
        raise Unsupported(self.engine, "mailboxes")

    def publish(self, presence: Presence) -> None:
        """Tell the server how we are to be reached (RFC 3903), from now on. `Published` or `PublicationFailed` follow.

        Taken back when the phone is closed. Raises PackageError for what is no activity.
        """
        raise Unsupported(self.engine, "presence")

    @property
    def voicemail(self) -> str | None:
        """What to dial to hear messages."""
        return self.account.voicemail

    @abstractmethod
    def watch_messages(self, tell: Callable[[Traced], Any]) -> None:
        """Tell every SIP message from now on, also when the phone is started later.

        None come from an engine whose messages cannot be seen.
        """
