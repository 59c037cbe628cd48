"""The phone: ``async with Softphone(account) as phone: call = await phone.dial("sip:6002@example.org")``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random as dice
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from softphone.calls.call import Call, CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.home_network import HomeNetwork
from softphone.calls.incoming import IncomingCall
from softphone.calls.outgoing import DialOptions, OutgoingCall
from softphone.config import Account
from softphone.errors import CallError, ConfigError, SoftphoneError
from softphone.events import (
    CallIncoming,
    CallRefused,
    DialogsChanged,
    Event,
    MailboxChanged,
    PresenceChanged,
)
from softphone.media.ike_description import IpsecMode
from softphone.media.session import MediaSession, PacketTrace
from softphone.network.sockets import DirectSockets, HomeSockets, Sockets
from softphone.packages import Package
from softphone.packages.dialog_info import DIALOG, DialogInfo
from softphone.packages.message_summary import MESSAGE_SUMMARY, MessageSummary
from softphone.packages.presence import PRESENCE, Presence, print_pidf
from softphone.people.call_log import CallLog
from softphone.sip.auth import Authenticator, Credentials
from softphone.sip.dialog import DialogId
from softphone.sip.endpoint import Admission, Endpoint, ServerTransaction, Traced
from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers
from softphone.sip.location import Names
from softphone.sip.message import Request
from softphone.sip.tls import TlsSettings
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri
from softphone.telephone import Telephone
from softphone.user_agent.agent import Agent, Media
from softphone.user_agent.capabilities import capabilities, refuse_early
from softphone.user_agent.messages import send_message, take_message
from softphone.user_agent.registration import Registration
from softphone.user_agent.subscriptions import Publication, State, Subscription, Subscriptions

GOODBYE_SECONDS = 3.0
"How long shutting down waits for BYEs and the unregistration."

MediaFactory = Callable[[Sockets, str], Awaitable[Media]]
"Opens the audio of one call on a local address."


class Softphone(Telephone):
    """A telephone of our own SIP and media.

    ``mobility``: the runtime directory of a mobility process (``host.sock``, ``control.sock``): the phone lives at the
    home address, and `Handover` is among its events. ``log`` puts the calls into a history. ``media`` replaces the
    audio of calls (tests, other media engines); ``random`` and ``jitter`` the dice.
    """

    engine = "roamphone"

    def __init__(
        self, account: Account, sockets: Sockets | None = None, *, mobility: str | os.PathLike[str] | None = None,
        media: MediaFactory | None = None, random: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = dice.random, names: Callable[[], Names] | None = None,
        trace: Callable[[Traced], None] | None = None, media_trace: PacketTrace | None = None,
        log: CallLog | None = None,
    ) -> None:  # fmt: skip
        super().__init__(account)
        if mobility is not None:
            if sockets is not None:
                raise ConfigError("the sockets come from the mobility process, or are given; choose one")
            sockets = HomeSockets(Path(mobility) / "host.sock")
        self._sockets: Sockets = DirectSockets() if sockets is None else sockets
        self._media = self._open_session if media is None else media
        self._random = random
        self._jitter = jitter
        self._names = names
        self.media_trace = media_trace
        self._traces: list[Callable[[Traced], None]] = [] if trace is None else [trace]
        self._log = log
        self._agent: Agent | None = None
        self._registration: Registration | None = None
        self._subscriptions: Subscriptions | None = None
        self._publication: Publication | None = None
        self._mailbox: Subscription[MessageSummary] | None = None
        self._arrived: asyncio.Queue[IncomingCall | None] = asyncio.Queue()

    async def start(self) -> None:
        account = self.account
        host = account.local_host
        if host is None:
            host = self._sockets.local_address(account.family)
        endpoint = Endpoint(
            self._sockets, str(ip_address(host)), account.local_port,
            tls=TlsSettings(account.ca_file, account.certificate, account.private_key, account.verify_clients),
            websocket_path=account.websocket_path,
            random=self._random, names=self._names, trace=self._traced,
            on_request=self._on_request, on_ack=self._on_ack, on_connection_lost=self._on_connection_lost,
            admission=self._admission,
        )  # fmt: skip
        await endpoint.start()
        auth_user = account.user if account.auth_user is None else account.auth_user
        authenticator = Authenticator(Credentials(auth_user, account.password), self._random)
        self._agent = Agent(
            account, endpoint, authenticator, self._hub, lambda: self._media(self._sockets, endpoint.host),
            self._call, self._random, self._jitter,
        )  # fmt: skip
        if self._log is not None:
            self._agent.on_call = self._log.began
        if isinstance(self._sockets, HomeSockets) and self._sockets.control is not None:
            home = HomeNetwork(self._sockets.control, self._hub, keys=account.ipsec is not IpsecMode.OFF)
            self._agent.home = home
            self._agent.spawn(home.run(), "home network")
        self._registration = Registration(self._agent, self._jitter)
        self._subscriptions = Subscriptions(self._agent)
        if account.register:
            self._agent.spawn(self._registration.run(), "registration")
        if account.message_waiting:
            self._agent.spawn(self._watch_own_mailbox(self._registration), "mailbox")

    async def close(self) -> None:
        agent = self._agent
        if agent is None:
            return
        try:
            goodbyes = [asyncio.create_task(call.hangup()) for call in list(agent.calls)]
            if self._registration is not None:
                goodbyes.append(asyncio.create_task(self._registration.unregister()))
            if self._subscriptions is not None:
                goodbyes.append(asyncio.create_task(self._subscriptions.leave()))
            if self._publication is not None:
                goodbyes.append(asyncio.create_task(self._publication.leave()))
            if goodbyes:
                _, late = await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(*goodbyes, return_exceptions=True)
        finally:
            self._agent = None
            for call in list(agent.calls):
                call.abandon()
            if self._registration is not None:
                self._registration.close()
            if self._subscriptions is not None:
                self._subscriptions.close()
            if self._publication is not None:
                self._publication.close()
                self._publication = None
            await _to_the_end(_leave(agent))
            self._arrived.put_nowait(None)
            self._hub.close()

    # use

    async def dial(self, target: str, *, anonymous: bool = False, late_offer: bool = False) -> DialogCall:
        agent = self._running()
        call = OutgoingCall(agent, agent.peer_uri(target), DialOptions(anonymous=anonymous, late_offer=late_offer))
        await call.begin()
        return call

    async def _call(self, target: SipUri, headers: Headers) -> DialogCall:
        call = OutgoingCall(self._running(), target, DialOptions(headers=headers))
        await call.begin()
        return call

    async def message(self, target: str, text: str) -> None:
        agent = self._running()
        await send_message(agent, agent.peer_uri(target).bare(), text)

    def watch_presence(self, target: str) -> Subscription[Presence]:
        return self.subscribe(target, PRESENCE, PresenceChanged)

    def watch_calls(self, target: str) -> Subscription[DialogInfo]:
        return self.subscribe(target, DIALOG, DialogsChanged)

    def watch_mailbox(self, target: str | None = None) -> Subscription[MessageSummary]:
        return self.subscribe(str(self.account.aor) if target is None else target, MESSAGE_SUMMARY, MailboxChanged)

    def subscribe(
        self, target: str, package: Package[State], tell: Callable[[str, State], Event], expires: int | None = None
    ) -> Subscription[State]:
        """Any event package: ``tell`` makes an event of the URI and what was told. ``expires`` 0: once only.

        Subscriptions begin at once and go on by themselves until they are closed or refused for good: see
        `SubscriptionChanged`. Raises SipParseError, TransportError for nobody.
        """
        agent, subscriptions = self._running(), self._subscriptions
        assert subscriptions is not None
        seconds = package.expires if expires is None else expires
        return subscriptions.add(agent.peer_uri(target).bare(), package, seconds, tell)

    def publish(self, presence: Presence) -> None:
        agent = self._running()
        body = print_pidf(presence, str(agent.account.aor), agent.account.instance_urn)
        if self._publication is None:
            self._publication = Publication(agent, PRESENCE.name, PRESENCE.content_type, PRESENCE.expires)
        self._publication.publish(body)

    @property
    def voicemail(self) -> str | None:
        """What to dial to hear messages: as the account says, else as the mailbox tells."""
        if self.account.voicemail is not None or self._mailbox is None or self._mailbox.state is None:
            return self.account.voicemail
        return self._mailbox.state.account or None

    async def _watch_own_mailbox(self, registration: Registration) -> None:
        if self.account.register:
            await registration.wait()
        self._mailbox = self.watch_mailbox()

    async def incoming(self) -> AsyncIterator[IncomingCall]:
        while (call := await self._arrived.get()) is not None:
            yield call
        self._arrived.put_nowait(None)

    def watch_messages(self, tell: Callable[[Traced], None]) -> None:
        self._traces.append(tell)

    async def registered(self, timeout: float | None = None) -> None:
        if self._registration is None:
            raise SoftphoneError("the phone is not running: enter it with 'async with'")
        await self._registration.wait(timeout)

    @property
    def is_registered(self) -> bool:
        return self._registration is not None and self._registration.registered

    @property
    def calls(self) -> list[Call]:
        return list(self._running().calls)

    @property
    def host(self) -> str:
        return self._running().endpoint.host

    @property
    def port(self) -> int:
        return self._running().endpoint.port

    @property
    def counters(self) -> Counter[str]:
        """Everything that was dropped, by name."""
        return self._running().endpoint.counters

    @property
    def endpoint(self) -> Endpoint:
        return self._running().endpoint

    def _running(self) -> Agent:
        if self._agent is None:
            raise SoftphoneError("the phone is not running: enter it with 'async with'")
        return self._agent

    async def _open_session(self, sockets: Sockets, host: str) -> Media:
        settings = self.account.media
        if (home := self._running().home) is not None:
            settings = replace(settings, ike=await home.end())
        session = await MediaSession.open(sockets, host, settings)
        session.trace = self.media_trace
        return session

    # from the endpoint

    def _traced(self, message: Traced) -> None:
        for tell in self._traces:
            tell(message)

    def _admission(self, request: Request, flow: Flow) -> Admission:
        agent = self._agent
        if agent is None:
            return Admission.NEW
        try:
            if DialogId.of_request(request) in agent.dialogs or self._subscribed(request):
                return Admission.KNOWN
        except SipParseError:
            pass  # too malformed to belong to a call
        strange = self.account.ignore_strangers and not agent.trusts(flow)
        return Admission.IGNORED if strange else Admission.NEW

    def _subscribed(self, request: Request) -> bool:
        return self._subscriptions is not None and self._subscriptions.find(request) is not None

    def _on_request(self, transaction: ServerTransaction) -> None:
        agent = self._agent
        if agent is None:
            transaction.respond(503)
            return
        request = transaction.request
        if request.to.tag is not None:
            call = agent.dialogs.get(DialogId.of_request(request))
            if call is None:
                if self._subscriptions is None or not self._subscriptions.on_notify(transaction):
                    transaction.respond(481)
            else:
                agent.spawn(call.handle(transaction), f"{request.method} {request.call_id}")
        elif self._refused(agent, transaction):
            return
        elif request.method == "INVITE":
            self._on_invite(transaction, agent)
        elif request.method == "OPTIONS":
            transaction.respond(200, headers=capabilities(agent))
        elif request.method == "MESSAGE":
            take_message(agent, transaction)
        elif request.method == "REFER":
            transaction.respond(403, "Forbidden (transfers are taken inside calls only)")
        else:
            transaction.respond(481)

    @staticmethod
    def _refused(agent: Agent, transaction: ServerTransaction) -> bool:
        try:
            return refuse_early(agent, transaction)
        except SipParseError as exc:
            transaction.respond(400, f"Bad Request ({exc})")
            return True

    def _on_invite(self, transaction: ServerTransaction, agent: Agent) -> None:
        try:
            replaces = transaction.request.headers.get("Replaces")
            if replaces is None and (self.do_not_disturb or len(agent.calls) >= self.account.max_calls):
                transaction.respond(486)
                request = transaction.request
                why = "do not disturb" if self.do_not_disturb else "too many calls"
                agent.hub.emit(CallRefused(request.call_id, str(request.from_.uri), 486, why))
                if self._log is not None:
                    self._log.refused(request.call_id, request.from_, 486, why)
                return
            transaction.respond(100)
            call = IncomingCall(agent, transaction)
        except SipParseError as exc:
            transaction.respond(400, f"Bad Request ({exc})")
            return
        old: DialogCall | None = None
        if call.replaces is not None:
            old = agent.dialogs.get(call.replaces.dialog)
            if (status := _replaceable(old, early_only=call.replaces.early_only)) is not None:
                call.refuse(status, "the call to replace cannot be replaced")
                return
        agent.spawn(self._prepare(call, old), f"incoming {call.id}")

    async def _prepare(self, call: IncomingCall, old: DialogCall | None) -> None:
        try:
            good = await call.prepare()
        except Exception as exc:
            call.refuse(500, str(exc))
            raise
        if not good:
            return
        if old is None:
            self._hub.emit(CallIncoming(call.id, str(call.remote.uri), call.waiting))
            self._arrived.put_nowait(call)
        with contextlib.suppress(CallError):  # it is over, or was answered meanwhile
            if old is not None:
                await call.take_over(old)
            elif (seconds := call.answers_itself_after) is not None:
                await asyncio.sleep(seconds)
                await call.answer()

    def _on_ack(self, ack: Request) -> None:
        if self._agent is None:
            return
        call = self._agent.dialogs.get(DialogId.of_request(ack))
        if call is None:
            self._agent.endpoint.counters["ack-stray"] += 1
        else:
            call.acknowledge(ack)

    def _on_connection_lost(self, flow: Flow, why: str) -> None:
        if self._registration is not None:
            self._registration.connection_lost(flow, why)


async def _leave(agent: Agent) -> None:
    if agent.home is not None:
        await agent.home.close()
    await agent.close()


async def _to_the_end(work: Coroutine[object, object, None]) -> None:
    """Whoever is cancelled meanwhile finishes this first; cancelled twice it stops."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _replaceable(old: DialogCall | None, *, early_only: bool) -> int | None:
    """The status with which an INVITE that wants to replace this call is refused, or None (RFC 3891 section 3)."""
    if old is None or (old.state is not CallState.CONFIRMED and old.incoming):
        return 481
    if old.state is CallState.ENDED:
        return 603
    return 486 if early_only and old.state is CallState.CONFIRMED else None
