"""Subscriptions of a phone: the engine of RFC 6665 with its dialogs, and publication (RFC 3903)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from softphone.errors import SubscriptionError, TransportError
from softphone.events import Event, PublicationFailed, Published, SubscriptionChanged
from softphone.packages import Package, PackageError
from softphone.packages.dialog_info import MissingVersion
from softphone.sip.auth import retry_after
from softphone.sip.dialog import Dialog, DialogId, next_hop
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.errors import SipError, SipParseError
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Request, Response
from softphone.sip.publication import Publish, Publisher
from softphone.sip.subscription import Moved, Output, Phase, Subscribe, Subscriber, SubscriptionState
from softphone.sip.uri import SipUri
from softphone.user_agent.agent import Agent
from softphone.user_agent.alarm import Alarm, reached
from softphone.user_agent.capabilities import flow_contact
from softphone.user_agent.changes import Changes

State = TypeVar("State")
LARGEST = 64 * 1024
"Bytes of a body that is looked at."
PAUSE = 5
"Seconds for Retry-After of a NOTIFY that was too much."


class Subscription(Generic[State]):
    """What we want to know of somebody. Made by `Softphone.subscribe`; goes on until it is closed or refused."""

    def __init__(
        self, agent: Agent, uri: SipUri, package: Package[State], expires: int,
        tell: Callable[[str, State], Event], forget: Callable[[Subscription[State]], None],
    ) -> None:  # fmt: skip
        self.uri = uri
        self.package = package
        self.state: State | None = None
        "What was told last; None: nothing yet."
        self.reason = ""
        "Why it ended, or has to be tried again."
        self._agent = agent
        self._tell = tell
        self._forget = forget
        self._engine = Subscriber(expires, agent.jitter)
        self._alarm = Alarm(self._due)
        self._call_id, self._tag, self._sequence = "", "", 0
        self._contact: NameAddr | None = None
        self._dialog: Dialog | None = None
        self._base: State | None = None
        "What documents that tell differences begin from: of this dialog only."
        self._changes = Changes()

    @property
    def phase(self) -> Phase:
        return self._engine.phase

    async def told(self, timeout: float | None = None) -> State:
        """The state, as soon as it was told once. Raises TimeoutError, SubscriptionError when it ends without."""
        await self._changes.until(lambda: self.state is not None or self._engine.over, timeout)
        if self.state is None:
            raise SubscriptionError(self.package.name, self.reason)
        return self.state

    async def active(self, timeout: float | None = None) -> None:
        """Until the other side has accepted it; it may have nothing to tell yet.

        Raises TimeoutError, SubscriptionError when it ends without.
        """
        await self._changes.until(lambda: self.phase is Phase.ACTIVE or self._engine.over, timeout)
        if self.phase is not Phase.ACTIVE:
            raise SubscriptionError(self.package.name, self.reason)

    async def over(self, timeout: float | None = None) -> None:
        """Until it has ended. Raises TimeoutError."""
        await self._changes.until(lambda: self._engine.over, timeout)

    def close(self) -> None:
        """Unsubscribe; the last NOTIFY is waited for in the background."""
        self._carry_out(self._engine.leave(_now()))

    def abandon(self) -> None:
        """The phone is gone."""
        self._alarm.cancel()

    # used by `Subscriptions`

    def begin(self) -> None:
        self._carry_out(self._engine.begin(_now()))

    def owns(self, notify: Request) -> bool:
        """Whether a NOTIFY is for this subscription, and of its dialog (a fork makes others)."""
        if self._engine.phase in (Phase.WAITING, Phase.ENDED):
            return False
        event, _, parameters = (notify.headers.get("Event") or "").partition(";")
        if notify.call_id != self._call_id or notify.to.tag != self._tag or notify.from_.tag is None:
            return False
        if event.strip().lower() != self.package.name or "id=" in parameters.replace(" ", "").lower():
            return False
        return self._dialog is None or self._dialog.id == DialogId.of_request(notify)

    def on_notify(self, transaction: ServerTransaction) -> None:
        """A NOTIFY that it owns. Raises SipParseError."""
        request, now = transaction.request, _now()
        state = SubscriptionState.of(request)
        if not self._engine.admits(now):
            self._agent.endpoint.counters["notify-flood"] += 1
            transaction.respond(500, "Too Many NOTIFY", headers=Headers.of(("Retry-After", str(PAUSE))))
            return
        if self._dialog is None:
            self._dialog = self._make_dialog(request)
        elif not self._dialog.accepts(request):
            transaction.respond(500, "CSeq out of order")
            return
        else:
            self._dialog.refresh(request)
        if not self._read(transaction):
            return
        transaction.respond(200)
        self._carry_out(self._engine.notified(state, now))

    def _make_dialog(self, notify: Request) -> Dialog:
        """The first NOTIFY makes it (RFC 6665 section 4.4.1)."""
        assert self._contact is not None
        dialog = Dialog.as_callee(notify, self._tag, self._contact)
        dialog.local_sequence = self._sequence
        return dialog

    def _read(self, transaction: ServerTransaction) -> bool:
        """Take the body; False: the NOTIFY was answered with an error."""
        request = transaction.request
        if not request.body:
            return True
        if request.content_type != self.package.content_type:
            transaction.respond(415, headers=Headers.of(("Accept", self.package.content_type)))
            return False
        if len(request.body) > LARGEST:
            transaction.respond(413)
            return False
        try:
            state = self.package.parse(request.body, self._base)
        except MissingVersion:
            self._agent.endpoint.counters["notify-version-missed"] += 1
            self._carry_out(self._engine.refresh(_now()))
            return True
        except PackageError as exc:
            self._agent.endpoint.counters["notify-malformed"] += 1
            transaction.respond(400, f"Bad Request ({exc})")
            return False
        self._base = state
        if state != self.state:
            self.state = state
            self._agent.hub.emit(self._tell(str(self.uri), state))
        return True

    def _due(self) -> None:
        self._carry_out(self._engine.handle_timer(reached(self._engine.timer)))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Subscribe(expires, anew):
                    if anew:
                        self._call_id, self._tag = self._agent.new_call_id(), self._agent.endpoint.new_tag()
                        self._sequence, self._dialog, self._base = 0, None, None
                    self._agent.spawn(self._subscribe(expires, self._call_id), f"SUBSCRIBE {self.uri}")
                case Moved(phase, reason):
                    self.reason = reason
                    self._agent.hub.emit(SubscriptionChanged(str(self.uri), self.package.name, phase, reason))
        self._alarm.set(self._engine.timer)
        if self._engine.over:
            self._forget(self)
        self._changes.tell()

    async def _subscribe(self, expires: int, call_id: str) -> None:
        headers = Headers.of(
            ("Event", self.package.name), ("Accept", self.package.content_type), ("Expires", str(expires)),
        )  # fmt: skip
        try:
            response = await self._ask(headers)
            granted, least = response.number("Expires"), response.number("Min-Expires")
        except (TransportError, SipError) as exc:
            self._agent.endpoint.counters["subscribe-failed"] += 1
            self.reason = str(exc)
            status, granted, least, pause = 503, None, None, 0
        else:
            status, pause = response.status, retry_after(response)
        if call_id == self._call_id:  # else it was begun anew meanwhile
            self._carry_out(self._engine.answered(status, granted, least, pause, _now()))

    async def _ask(self, headers: Headers) -> Response:
        if (dialog := self._dialog) is not None:

            def again() -> Request:
                request = dialog.request("SUBSCRIBE", headers)
                self._sequence = dialog.local_sequence
                return request

            return await self._agent.complete(again, dialog.first_hop)
        way = await self._agent.flow_to(next_hop(self._first(headers)))
        self._contact = flow_contact(self._agent, way, secure=self.uri.secure)
        return await self._agent.complete(lambda: self._first(headers))

    def _first(self, headers: Headers) -> Request:
        self._sequence += 1
        agent = self._agent
        request = agent.initial(
            "SUBSCRIBE", self.uri, NameAddr(self.uri.name()), agent.identity(self._tag), self._call_id, self._sequence
        )
        contact = Headers() if self._contact is None else Headers.of(("Contact", str(self._contact)))
        return replace(request, headers=Headers.of(*request.headers, *contact, *headers))


class Subscriptions:
    """All subscriptions of a phone."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._all: set[Subscription[object]] = set()

    def add(
        self, uri: SipUri, package: Package[State], expires: int, tell: Callable[[str, State], Event]
    ) -> Subscription[State]:
        made = Subscription(self._agent, uri, package, expires, tell, self._all.discard)
        self._all.add(made)  # type: ignore[arg-type]
        made.begin()
        return made

    def find(self, request: Request) -> Subscription[object] | None:
        """Whose NOTIFY this is. Raises SipParseError."""
        if request.method != "NOTIFY":
            return None
        return next((each for each in self._all if each.owns(request)), None)

    def on_notify(self, transaction: ServerTransaction) -> bool:
        """False: nobody here asked for it."""
        try:
            found = self.find(transaction.request)
            if found is not None:
                found.on_notify(transaction)
        except SipParseError as exc:
            transaction.respond(400, f"Bad Request ({exc})")
            return True
        return found is not None

    async def leave(self) -> None:
        """Unsubscribe from everything, and wait for the last NOTIFYs."""
        leaving = list(self._all)
        for each in leaving:
            each.close()
        await asyncio.gather(*(each.over() for each in leaving))

    def close(self) -> None:
        for each in self._all:
            each.abandon()


class Publication:
    """The state of our account at its server (RFC 3903), kept fresh."""

    def __init__(self, agent: Agent, package: str, content_type: str, expires: int) -> None:
        self._agent = agent
        self._package = package
        self._content_type = content_type
        self._engine = Publisher(expires, agent.jitter)
        self._alarm = Alarm(self._due)
        self._call_id, self._tag, self._sequence = agent.new_call_id(), agent.endpoint.new_tag(), 0
        self._sending: set[asyncio.Task[None]] = set()

    def publish(self, body: bytes) -> None:
        """Tell this from now on; `Published` or `PublicationFailed` follows."""
        self._carry_out(self._engine.publish(body, _now()))

    async def leave(self) -> None:
        """Take it back."""
        self._carry_out(self._engine.leave(_now()))
        while self._sending:
            await asyncio.wait(self._sending)

    def close(self) -> None:
        self._alarm.cancel()

    def _due(self) -> None:
        self._carry_out(self._engine.handle_timer(reached(self._engine.timer)))

    def _carry_out(self, outputs: list[Publish]) -> None:
        for output in outputs:
            task = self._agent.spawn(self._send(output), "PUBLISH")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._alarm.set(self._engine.timer)

    async def _send(self, output: Publish) -> None:
        try:
            response = await self._agent.complete(lambda: self._request(output))
            granted, least = response.number("Expires"), response.number("Min-Expires")
        except (TransportError, SipError) as exc:
            status, reason, etag, granted, least, pause = 503, str(exc), None, None, None, 0
        else:
            status, reason, pause = response.status, response.reason, retry_after(response)
            etag = response.headers.get("SIP-ETag")
        self._carry_out(self._engine.answered(status, etag, granted, least, pause, _now()))
        if 200 <= status < 300:
            self._agent.hub.emit(Published(self._package, output.expires if granted is None else granted))
        elif self._engine.timer is not None or self._engine.failure:
            self._agent.hub.emit(PublicationFailed(self._package, status, reason))

    def _request(self, output: Publish) -> Request:
        self._sequence += 1
        agent, aor = self._agent, self._agent.account.aor
        request = agent.initial("PUBLISH", aor, NameAddr(aor), agent.identity(self._tag), self._call_id, self._sequence)
        lines = [("Event", self._package), ("Expires", str(output.expires))]
        if output.etag is not None:
            lines.append(("SIP-If-Match", output.etag))
        if output.body:
            lines.append(("Content-Type", self._content_type))
        return replace(request, headers=Headers.of(*request.headers, *lines), body=output.body)


def _now() -> float:
    return asyncio.get_running_loop().time()
