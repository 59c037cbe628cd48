"""What registration and calls share: identity, the endpoint, credentials, dialogs, tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from softphone.config import Account
from softphone.errors import CallError, TransportError
from softphone.events import EventHub
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.dtmf import DURATION, DigitMethod
from softphone.media.events import MediaEvent
from softphone.media.ike_description import IkePeer
from softphone.media.offer_answer import Agreed, Direction
from softphone.media.recorder import CallRecorder
from softphone.sip import reliable, session_timer
from softphone.sip.auth import Authenticator
from softphone.sip.dialog import DialogId, next_hop
from softphone.sip.endpoint import ClientTransaction, Endpoint
from softphone.sip.headers import CSeq, Headers, NameAddr
from softphone.sip.message import Request, Response
from softphone.sip.transport import Flow, Target
from softphone.sip.uri import SipUri, TelUri, Uri, escape

if TYPE_CHECKING:
    from softphone.calls.call import Call
    from softphone.calls.dialog_call import DialogCall
    from softphone.calls.home_network import HomeNetwork

USER_AGENT = "roamphone/0.1"
METHODS = (
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "REFER", "NOTIFY", "INFO", "MESSAGE",
)  # fmt: skip
ALLOW = ", ".join(METHODS)
EXTENSIONS = (reliable.OPTION, "replaces", "norefersub", session_timer.OPTION)
"Option tags of calls."
MAX_CHALLENGES = 5
FREE_SECONDS = 2.0
"How long shutting down waits for media sessions to close."

Result = TypeVar("Result")


class SoundSession(Protocol):
    """The audio of a call as the call sees it."""

    on_event: Callable[[MediaEvent], None]
    muted: bool

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def play(self, source: AudioSource | None) -> None: ...

    def record(self, sink: AudioSink | None) -> None: ...

    def record_call(self, recorder: CallRecorder | None) -> None: ...

    def send_dtmf(self, digits: str, method: DigitMethod | None = None, duration: float = DURATION) -> DigitMethod: ...

    def statistics(self) -> object: ...


class Media(SoundSession, Protocol):
    """The same as our own user agent sees it, with descriptions; `softphone.media.session.MediaSession` is one."""

    def offer(self, direction: Direction = Direction.SENDRECV) -> str: ...

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str: ...

    def accept(self, answer: str) -> None: ...

    def refuse(self, offer: str) -> str: ...

    @property
    def remote_direction(self) -> Direction: ...

    @property
    def agreed(self) -> Agreed | None: ...

    @property
    def ike(self) -> IkePeer | None: ...

    @property
    def offers_ike(self) -> bool: ...

    @property
    def ike_refusal(self) -> str: ...

    def give_up_ike(self) -> None: ...

    def let_flow(self, peer: IkePeer | None) -> None: ...

    def take_info(self, content_type: str, body: str) -> None: ...


class Agent:
    """The state of one running phone."""

    def __init__(
        self, account: Account, endpoint: Endpoint, authenticator: Authenticator, hub: EventHub,
        open_media: Callable[[], Awaitable[Media]], dial: Callable[[SipUri, Headers], Awaitable[DialogCall]],
        random: Callable[[int], bytes], jitter: Callable[[], float],
    ) -> None:  # fmt: skip
        self.account = account
        self.endpoint = endpoint
        self.authenticator = authenticator
        self.hub = hub
        self.open_media = open_media
        self.dial = dial
        "Begins a call with header fields of its own; it is the application's from the start."
        self.random = random
        self.jitter = jitter
        "A number from 0 to 1."
        self.home: HomeNetwork | None = None
        "The mobility process that this phone lives behind; None: it does not."
        self.dialogs: dict[DialogId, DialogCall] = {}
        self.calls: set[Call] = set()
        self.on_call: Callable[[Call], None] = lambda call: None
        "Gets every call at its beginning, in both directions."
        self.service_route: tuple[NameAddr, ...] = ()
        "From the registrar (RFC 3608)."
        self.flow: Flow | None = None
        "That of the registration: what goes to the same server goes this way (RFC 5626 section 4.3)."
        self.outbound = False
        "The registrar sends over the flow (RFC 5626)."
        self.gruu: SipUri | None = None
        "The address that leads to this phone and no other of the account (RFC 5627), if the account wants it."
        self.path: tuple[NameAddr, ...] = ()
        "The way from the registrar to us as it was stored (RFC 3327)."
        self._proxies: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._freeing: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the phone at the latest."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, work: Coroutine[object, object, Result], name: str) -> Result:
        """What work that owes the other side something comes to; it goes on when whoever waits here is cancelled.

        Raises CallError when the phone is shut down before its end.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is None or waiting.cancelling():
                raise  # it is the one who waits that was cancelled
            raise CallError("the phone was shut down") from None

    def begins(self, call: Call) -> None:
        """A call comes into being."""
        self.calls.add(call)
        self.on_call(call)

    def over(self, call: Call) -> None:
        """It has ended."""
        self.calls.discard(call)

    def free(self, media: SoundSession) -> None:
        """Close a media session in the background."""
        self._freeing.add(self.spawn(media.close(), "close media"))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freeing.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.endpoint.counters["task-failed"] += 1
            context = {"message": f"{task.get_name()} failed", "exception": exc, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    async def close(self) -> None:
        """End all tasks and the endpoint; those that free media may finish."""
        tasks = self._tasks - self._freeing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._freeing:
            await asyncio.wait(self._freeing, timeout=FREE_SECONDS)
        for task in self._freeing:
            task.cancel()
        await self.endpoint.close()

    def preloaded_route(self) -> list[NameAddr]:
        """Route of requests outside dialogs: the outbound proxy, then the registrar's Service-Route (RFC 3608)."""
        proxy = self.account.proxy_uri
        hops = [] if proxy is None else [NameAddr(loose(proxy))]
        return [*hops, *(hop for hop in self.service_route if not hops or not _same_host(hop, hops[0]))]

    def initial(self, method: str, uri: Uri, to: NameAddr, from_: NameAddr, call_id: str, sequence: int) -> Request:
        """A request outside dialogs, without Via and Contact (RFC 3261 section 8.1.1)."""
        headers = Headers.of(
            *(("Route", str(hop)) for hop in self.preloaded_route()),
            ("From", str(from_)),
            ("To", str(to)),
            ("Call-ID", call_id),
            ("CSeq", str(CSeq(sequence, method))),
            ("Max-Forwards", "70"),
            ("User-Agent", USER_AGENT),
        )
        return Request(method=method, uri=uri, headers=headers)

    def identity(self, tag: str) -> NameAddr:
        """Our From."""
        return NameAddr(self.account.aor, self.account.display_name, (("tag", tag),))

    def new_call_id(self) -> str:
        return self.endpoint.new_tag() + self.endpoint.new_tag()

    def new_rseq(self) -> int:
        """The first RSeq of a call (RFC 3262 section 3)."""
        return 1 + (int.from_bytes(self.random(4)) >> 2)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Option tags of what we understand, for Supported."""
        left_out = () if self.account.session_expires else (session_timer.OPTION,)
        flows = ("outbound",) if self.outbound else ()
        gruu = ("gruu",) if self.gruu is not None else ()
        return (*(tag for tag in EXTENSIONS if tag not in left_out), *flows, *gruu)

    def trusts(self, flow: Flow) -> bool:
        """Whether a request came from our own proxy: only there is an asserted identity worth something (RFC 3325)."""
        return flow.peer.host in self._proxies

    async def flow_to(self, hop: Uri) -> Flow:
        """The way to the first target of the next hop that can be reached. Raises TransportError."""
        flow = await self._first_flow(await self.endpoint.locate(hop, self.account.transport))
        ours = self.account.registrar_uri if self.account.proxy_uri is None else self.account.proxy_uri
        if isinstance(hop, SipUri) and (hop.host, hop.port) == (ours.host, ours.port):
            self._proxies.add(flow.peer.host)
        return flow

    async def _first_flow(self, targets: Sequence[Target]) -> Flow:
        registered = self.flow
        if registered is not None and not self.endpoint.failed(registered) and any(map(registered.leads_to, targets)):
            return registered
        for target in targets[:-1]:
            try:
                return await self.endpoint.flow(target)
            except TransportError:
                self.endpoint.counters["target-failed"] += 1
        return await self.endpoint.flow(targets[-1])

    async def send(self, request: Request, flow: Flow | None = None, hop: Uri | None = None) -> ClientTransaction:
        """Send in a new transaction, with credentials where we were asked for some before. Raises TransportError."""
        hop = next_hop(request) if hop is None else hop
        if flow is None or flow.closed:
            flow = await self.flow_to(hop)
        request = self.authenticator.authorize(request, flow.peer.host)
        return await self.endpoint.request(request, flow, await self._alternatives(hop, flow))

    async def _alternatives(self, hop: Uri, flow: Flow) -> list[Target]:
        """The targets of a hop besides the one that the flow leads to."""
        try:
            targets = await self.endpoint.locate(hop, self.account.transport)
        except TransportError:
            return []  # a flow of the peer's making, to a name that only the peer knows
        others = [target for target in targets if not flow.leads_to(target)]
        return others if len(others) < len(targets) else []

    def challenged(self, transaction: ClientTransaction, response: Response) -> bool:
        """Take the challenges of a 401 or 407; False: trying again is pointless."""
        return self.authenticator.challenged(transaction.request, response, transaction.flow.peer.host)

    def accepted(self, transaction: ClientTransaction, response: Response) -> None:
        """A 2xx came: our credentials, if there were any, were right."""
        self.authenticator.accepted(transaction.request, response, transaction.flow.peer.host)

    async def complete(self, make: Callable[[], Request], hop: Uri | None = None) -> Response:
        """The final response to a request other than INVITE; ``make`` makes it anew after every challenge.

        ``hop`` is where it goes first; None: as its Route says. Raises TransportError.
        """
        return (await self.exchange(make, hop))[0]

    async def exchange(self, make: Callable[[], Request], hop: Uri | None = None) -> tuple[Response, Flow]:
        """As `complete`, with the flow of the response."""
        for _ in range(MAX_CHALLENGES):
            transaction = await self.send(make(), hop=hop)
            response = await transaction.final()
            if response.status not in (401, 407) or not self.challenged(transaction, response):
                break
        if response.success:
            self.accepted(transaction, response)
        return response, transaction.flow

    def contact(self, flow: Flow, user: str | None = None) -> SipUri:
        """Where peers reach us in calls: the GRUU, else our address, over the registered flow if there is one.

        ``user`` stands in for that of the account, and for the GRUU, which names it.
        """
        if self.gruu is not None and user is None:
            return self.gruu
        uri = self.endpoint.contact(self.account.aor.user if user is None else user, flow)
        return replace(uri, parameters=(*uri.parameters, ("ob", None))) if self.outbound else uri

    def peer_uri(self, text: str) -> SipUri:
        """As the function, for our account."""
        return peer_uri(self.account, text)


def peer_uri(account: Account, text: str) -> SipUri:
    """What a person typed: a SIP URI, ``user@host``, or a user or number at our own domain.

    Raises TransportError, SipParseError.
    """
    scheme = text.partition(":")[0].lower()
    if scheme == "tel":
        number = TelUri.parse(text).number
        return SipUri(account.domain.lower(), escape(number, "+"), None, (("user", "phone"),))
    if scheme in ("sip", "sips"):
        return SipUri.parse(text)
    if "@" in text:
        return SipUri.parse(f"sip:{text}")
    if not text or any(char.isspace() for char in text):
        raise TransportError(f"{text!r} is nobody to call: give a SIP URI or a number")
    return SipUri(account.domain.lower(), escape(text, "&=+$,;?/"))


def loose(uri: SipUri) -> SipUri:
    """The URI of a proxy as it stands in a Route."""
    return uri if uri.loose else SipUri(uri.host, uri.user, uri.port, (*uri.parameters, ("lr", None)), (), uri.scheme)


def _same_host(one: NameAddr, other: NameAddr) -> bool:
    a, b = one.sip_uri, other.sip_uri
    return a is not None and b is not None and (a.host, a.port) == (b.host, b.port)
