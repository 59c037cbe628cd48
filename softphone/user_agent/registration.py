"""Registration with a registrar (RFC 3261 section 10): refresh, backoff, Path (RFC 3327), Service-Route (RFC 3608)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from softphone.errors import RegistrationError, TransportError
from softphone.events import Registered, RegistrationFailed, Unregistered
from softphone.sip.auth import retry_after
from softphone.sip.dialog import next_hop
from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers, NameAddr, parse_addresses, parse_number
from softphone.sip.message import Request, Response
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri
from softphone.user_agent.agent import Agent
from softphone.user_agent.changes import Changes
from softphone.user_agent.flow_keeper import FlowKeeper

BACKOFF_FIRST = 1.0
"Seconds; doubles with every failure."
BACKOFF_LONGEST = 60.0
FLOW_BACKOFF_FIRST = 60.0
"Where the registrar uses flows: many phones lose theirs at once (RFC 5626 section 4.5, its base time doubled once)."
FLOW_BACKOFF_LONGEST = 1800.0
HOLDS_SECONDS = 30.0
"A flow that failed sooner is not made anew at once, the second time."
MAX_CORRECTIONS = 3
"So often a REGISTER is sent again with what the registrar wants instead."
REG_ID = "1"
"We keep one flow."
REFRESH_AT = 0.75
"Fraction of the granted time after which we register again."
UNREGISTER_SECONDS = 3.0
FIRST_HOP_LACKS_OUTBOUND = 439
FINAL = frozenset([400, 401, 402, 403, 404, 405, 407, 410, 416, 420, 501, 505, 604])
"Refusals that asking again does not change."


class RegistrationState(Enum):
    IDLE = "idle"
    TRYING = "trying"
    REGISTERED = "registered"
    REFUSED = "refused"
    "For good, until somebody changes the account."


class Registration:
    """Keeps one contact of the account registered. ``jitter`` gives numbers from 0 to 1."""

    def __init__(self, agent: Agent, jitter: Callable[[], float]) -> None:
        self.state = RegistrationState.IDLE
        self.failure: RegistrationError | None = None
        "Why the latest attempt failed."
        self.granted = 0
        "Seconds, as the registrar said."
        self._agent = agent
        self._jitter = jitter
        self._call_id = agent.new_call_id()
        self._tag = agent.endpoint.new_tag()
        self._sequence = 0
        self._keeper: FlowKeeper | None = None
        self._ask_outbound = agent.account.outbound
        self._contact = ""
        self._asked = agent.account.expires
        self._wake = asyncio.Event()
        self._changes = Changes()

    @property
    def registered(self) -> bool:
        return self.state is RegistrationState.REGISTERED

    async def wait(self, timeout: float | None = None) -> None:
        """Until registered. Raises RegistrationError when the registrar refuses for good, TimeoutError."""

        def settled() -> bool:
            if self.state is RegistrationState.REFUSED and self.failure is not None:
                raise self.failure
            return self.registered

        await self._changes.until(settled, timeout)

    async def run(self) -> None:
        """Register, refresh, try again; returns only when refused for good."""
        failures = broken = 0
        while True:
            self._wake.clear()
            try:
                response = await self._register(self._asked)
            except (TransportError, SipParseError) as exc:
                response, why = None, str(exc)
            if response is not None and response.success:
                failures = 0
                held = await self._hold()
                broken = 0 if held else broken + 1
                if broken > 1:  # the first time at once
                    self._wake.clear()
                    await self._sleep(self._backoff(broken - 2, 0))
                continue
            status, reason = (0, why) if response is None else (response.status, response.reason)
            final = status in FINAL
            wait = self._backoff(failures, 0 if response is None else retry_after(response))
            failures += 1
            self.failure = RegistrationError(status, reason)
            self._set(RegistrationState.REFUSED if final else RegistrationState.TRYING)
            self._agent.hub.emit(RegistrationFailed(status, reason, None if final else wait))
            if final:
                return
            await self._sleep(wait)

    def connection_lost(self, flow: Flow, why: str) -> None:
        """A connection broke: if the registrar reaches us over it, register again at once."""
        if self._keeper is not None and self._keeper.same(flow):
            self._flow_failed(why)

    def _flow_failed(self, why: str) -> None:
        self._agent.endpoint.counters["flow-failed"] += 1
        self._drop_flow()
        self._wake.set()

    def _drop_flow(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._agent.flow = None

    def close(self) -> None:
        """Stop looking after the flow."""
        self._drop_flow()

    async def unregister(self) -> None:
        """Take the contact back, for at most a few seconds; a registrar that is gone does not matter."""
        if not self.registered:
            return
        self._set(RegistrationState.IDLE)
        try:
            async with asyncio.timeout(UNREGISTER_SECONDS):
                response = await self._register(0)
        except (TimeoutError, TransportError, SipParseError):
            return
        if response.success:
            self._agent.hub.emit(Unregistered())

    async def _hold(self) -> bool:
        """Until it is time to refresh, or the flow fails; False: it failed so soon that it may always do so."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._sleep(self.granted * REFRESH_AT)
        return not self._wake.is_set() or loop.time() - begun >= HOLDS_SECONDS

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _backoff(self, failures: int, at_least: float) -> float:
        """Exponential with jitter (RFC 5626 section 4.5): from half the bound to the bound."""
        first, longest = BACKOFF_FIRST, BACKOFF_LONGEST
        if self._agent.outbound:
            first, longest = FLOW_BACKOFF_FIRST, FLOW_BACKOFF_LONGEST
        bound = min(longest, first * 2.0 ** min(failures, 16))
        return max(at_least, bound * (0.5 + 0.5 * self._jitter()))

    async def _register(self, expires: int) -> Response:
        way = await self._agent.flow_to(next_hop(self._request(expires, None)))
        contact = NameAddr(self._agent.endpoint.contact(self._agent.account.aor.user, way))
        for _ in range(MAX_CORRECTIONS):
            asked = expires
            response, flow = await self._agent.exchange(lambda: self._request(asked, contact))  # noqa: B023 - used at once
            if response.status == 423 and (least := response.number("Min-Expires")) and least > expires > 0:
                self._asked = expires = least
            elif response.status == FIRST_HOP_LACKS_OUTBOUND and self._ask_outbound:
                self._ask_outbound = False
            else:
                break
        if response.success and expires:
            # one that was too large for a datagram took a connection that nobody else will use
            self._accept(response, contact, expires, flow if flow.transport is way.transport else way)
        return response

    def _request(self, expires: int, contact: NameAddr | None) -> Request:
        agent = self._agent
        if contact is not None:
            self._sequence += 1
        to = NameAddr(agent.account.aor, agent.account.display_name)
        request = agent.initial(
            "REGISTER",
            agent.account.registrar_uri,
            to,
            agent.identity(self._tag),
            self._call_id,
            max(self._sequence, 1),
        )
        headers = request.headers
        if agent.service_route:  # is for other requests, not for REGISTER (RFC 3608 section 5)
            proxy = agent.preloaded_route()[:1] if agent.account.proxy_uri else []
            headers = headers.without("Route")
            headers = Headers.of(*(("Route", str(hop)) for hop in proxy), *headers)
        if contact is not None:
            headers = headers.add("Contact", str(self._registered(contact, expires))).add("Expires", str(expires))
            headers = headers.add("Supported", ", ".join(self._options()))
        return Request(method="REGISTER", uri=request.uri, headers=headers)

    def _options(self) -> list[str]:
        account = self._agent.account
        return ["path", *(["outbound"] if self._ask_outbound else []), *(["gruu"] if account.gruu else [])]

    def _registered(self, contact: NameAddr, expires: int) -> NameAddr:
        """The contact as it is registered: which phone it is (RFC 5626 section 4.2)."""
        if self._ask_outbound or self._agent.account.gruu:
            contact = contact.with_parameter("+sip.instance", f'"<{self._agent.account.instance_urn}>"')
        if self._ask_outbound:
            contact = contact.with_parameter("reg-id", REG_ID)
        return contact.with_parameter("expires", str(expires))

    def _accept(self, response: Response, contact: NameAddr, asked: int, flow: Flow) -> None:
        granted = response.number("Expires")
        for other in response.contacts:
            if not other.uri.matches(contact.uri):
                continue
            if (text := other.parameter("expires")) is not None:
                granted = parse_number(text, "Contact expires")
            if self._agent.account.gruu and (text := other.parameter("pub-gruu")):
                self._agent.gruu = self._gruu(text)
        self._keep(response, flow)
        self.granted = max(1, asked if granted is None else granted)
        self._contact = str(contact.uri)
        self._agent.service_route = tuple(parse_addresses(response.headers, "Service-Route"))
        self._agent.path = tuple(parse_addresses(response.headers, "Path"))
        self.failure = None
        self._set(RegistrationState.REGISTERED)
        self._agent.hub.emit(Registered(self._contact, self.granted))

    def _gruu(self, text: str) -> SipUri | None:
        try:
            return SipUri.parse(text)
        except SipParseError:
            self._agent.endpoint.counters["gruu-malformed"] += 1
            return None

    def _keep(self, response: Response, flow: Flow) -> None:
        """Look after the flow of the registration."""
        agent = self._agent
        agent.outbound = self._ask_outbound and "outbound" in response.headers.values("Require")
        agent.flow = flow
        if self._keeper is not None and self._keeper.same(flow):
            return
        self._drop_flow()
        agent.flow = flow
        via = response.via
        try:
            seconds = response.number("Flow-Timer")
        except SipParseError:
            seconds = None
        self._keeper = FlowKeeper(
            agent.endpoint, flow, outbound=agent.outbound, seconds=seconds,
            translated=via.received not in (None, flow.local.host) or via.rport not in (None, flow.local.port),
            random=agent.endpoint.random, jitter=self._jitter, failed=self._flow_failed,
        )  # fmt: skip

    def _set(self, state: RegistrationState) -> None:
        self.state = state
        self._changes.tell()
