"""The asyncio shell around the transaction layer: sockets in, transactions out (RFC 3261 sections 17 and 18)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from softphone.errors import TransportError
from softphone.network.sockets import Sockets
from softphone.sip.auth import retry_after
from softphone.sip.connections import CONNECT_SECONDS, Connections
from softphone.sip.errors import SipError, SipParseError
from softphone.sip.handles import ClientTransaction, ServerTransaction
from softphone.sip.headers import Headers, Via
from softphone.sip.keepalive import is_stun
from softphone.sip.location import Locator, Names
from softphone.sip.message import MAGIC_COOKIE, Message, Request, Response, parse_message, refuse, respond
from softphone.sip.tls import TlsSettings, proves
from softphone.sip.transaction import (
    Key,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    Terminated,
    Unanswered,
    Unreachable,
)
from softphone.sip.transaction_layer import TransactionLayer, cancel_for
from softphone.sip.transport import Address, Connection, Flow, Target, Transport, UdpFlow
from softphone.sip.uri import SipUri, Uri

__all__ = ["Admission", "ClientTransaction", "Endpoint", "ServerTransaction", "Traced"]

SWITCH_SECONDS = 2.0
"How long the switch of a large request from UDP to TCP may take before it goes over UDP after all."
NO_TCP_SECONDS = 300.0
"How long a peer that refused TCP is not asked again."
LARGE = 1300
"Bytes; larger requests leave UDP (RFC 3261 section 18.1.1)."
DOWN_SECONDS = 60.0
"How long a target that failed is tried after all others."


class Traced(NamedTuple):
    """One message on the wire, for traces."""

    time: float
    sent: bool
    transport: Transport
    local: Address
    peer: Address
    data: bytes


class Admission(Enum):
    """What a request is to us before anything is done about it."""

    IGNORED = "ignored"
    "Its sender hears nothing."
    NEW = "new"
    KNOWN = "known"
    "It belongs to a call that we have: a flood of others does not keep it out."


class Endpoint:
    """Sockets on one local address and the transactions that run over them.

    ``on_request`` gets every new request but CANCEL and ACK, ``on_ack`` every ACK for a 2xx, ``on_connection_lost``
    every flow that broke. ``admission`` looks at every request first. ``counters`` counts everything that was
    dropped, by name. ``names`` replaces the DNS of ``sockets``.
    """

    def __init__(
        self, sockets: Sockets, host: str, port: int = 0, *, tls: TlsSettings | None = None, websocket_path: str = "/",
        random: Callable[[int], bytes] = os.urandom, names: Callable[[], Names] | None = None,
        on_request: Callable[[ServerTransaction], None], on_ack: Callable[[Request], None],
        on_connection_lost: Callable[[Flow, str], None] = lambda flow, why: None,
        admission: Callable[[Request, Flow], Admission] = lambda request, flow: Admission.NEW,
        trace: Callable[[Traced], None] | None = None,
    ) -> None:  # fmt: skip
        self.host = host
        self.layer = TransactionLayer()
        self.counters: Counter[str] = self.layer.counters
        self.connections = Connections(sockets, host, port, TlsSettings() if tls is None else tls, self, websocket_path)
        self.locator = Locator(names or sockets.names, 6 if ":" in host else 4, random)
        self.keepers: dict[Address, Callable[[bytes], None]] = {}
        "Who gets the STUN messages of a peer."
        self.random = random
        self._on_request = on_request
        self._on_ack = on_ack
        self._on_connection_lost = on_connection_lost
        self._admission = admission
        self._trace = trace
        self._no_tcp: dict[Address, float] = {}
        self._clients: dict[Key, ClientTransaction] = {}
        self._answering: dict[Key, ServerTransaction] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # life

    async def start(self) -> None:
        """Bind UDP, and TCP (with a certificate also TLS) listeners. Raises TransportError, ConfigError."""
        try:
            await self.connections.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close everything; transactions in progress end as unreachable."""
        self._closing = True
        if self._alarm is not None:
            self._alarm.cancel()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transaction in set(self._clients.values()):
            transaction.put(None)
        self._clients.clear()
        self._answering.clear()
        await self.connections.close()

    @property
    def port(self) -> int:
        """That of UDP and TCP."""
        return self.connections.port

    # sending

    def new_tag(self) -> str:
        return self.random(8).hex()

    async def locate(self, uri: Uri, prefer: Transport) -> list[Target]:
        """Where a URI leads, best first, targets that failed lately last (RFC 3263). Raises TransportError."""
        if not isinstance(uri, SipUri):
            raise TransportError(f"{uri} does not say where to send to; set an outbound proxy or use a sip: URI")
        return await self.locator.targets(uri, prefer, self._now())

    async def flow(self, target: Target, seconds: float = CONNECT_SECONDS) -> Flow:
        """A way to the target: the open connection if there is one. Raises TransportError."""
        try:
            return await self.connections.flow(target, seconds)
        except TransportError:
            self.locator.failed(target, self._now() + DOWN_SECONDS)
            raise

    def failed(self, flow: Flow) -> bool:
        """Whether a flow is closed, or requests over it went unanswered lately."""
        return flow.closed or any(map(flow.leads_to, self.locator.down))

    def listener_port(self, transport: Transport) -> int | None:
        """The port where peers can reach us over that transport, or None."""
        return self.connections.listener_port(transport)

    def contact(self, user: str | None, flow: Flow) -> SipUri:
        """Where peers reach us, for the Contact of requests and responses on that flow."""
        name = "ws" if flow.transport.websocket else str(flow.transport)
        parameters = () if flow.transport is Transport.UDP else (("transport", name),)
        return SipUri(self.host, user, self.connections.local_port(flow), parameters)

    async def request(self, request: Request, flow: Flow, alternatives: Sequence[Target] = ()) -> ClientTransaction:
        """Send a request (not ACK) in a new transaction; if that target fails, to the alternatives in turn.

        Raises TransportError where a ``sips:`` URI would go without TLS.
        """
        transaction = ClientTransaction(request, alternatives, self)
        await self._begin(transaction, flow)
        return transaction

    async def _begin(self, transaction: ClientTransaction, flow: Flow) -> None:
        request = transaction.unsent
        wired = self._with_via(request, flow)
        if isinstance(flow, UdpFlow) and len(bytes(wired)) > LARGE:
            flow = await self._switch(flow)
            wired = self._with_via(request, flow)
        key, outputs = self.layer.request(wired, flow.transport.reliable, self._now())
        transaction.begin(key, wired, flow)
        self._clients[key] = transaction
        self._carry_out(outputs)

    def send_ack(self, ack: Request, flow: Flow) -> bytes:
        """Send the ACK for a 2xx, which is no transaction; returns the bytes to send again for a repeated 2xx.

        Raises TransportError where a ``sips:`` URI would go without TLS.
        """
        data = bytes(self._with_via(ack, flow))
        self.send_raw(data, flow)
        return data

    def send_raw(self, data: bytes, flow: Flow) -> None:
        """Send once, without transaction; a failure is counted."""
        try:
            self._write(data, flow)
        except TransportError as exc:
            self.dropped("unsent", str(exc))

    def send_cancel(self, invite: ClientTransaction, headers: Headers | None = None) -> None:
        if invite.key not in self.layer.transactions:
            return
        cancel = cancel_for(invite.request, headers)
        key, outputs = self.layer.request(cancel, invite.flow.transport.reliable, self._now())
        self._clients[key] = ClientTransaction(cancel, (), self)
        self._clients[key].begin(key, cancel, invite.flow)
        self._carry_out(outputs)

    def send_response(self, key: Key, response: Response) -> None:
        self._carry_out(self.layer.respond(key, response, self._now()))

    async def _switch(self, flow: UdpFlow) -> Flow:
        """The same peer over TCP if it has TCP, else UDP all the same (section 18.1.1)."""
        if self._no_tcp.get(flow.peer, 0.0) > self._now():
            return flow
        try:
            return await self.flow(Target(Transport.TCP, flow.peer, flow.peer.host), SWITCH_SECONDS)
        except TransportError as exc:
            self.dropped("no-tcp-for-large-request", str(exc))
            self._no_tcp[flow.peer] = self._now() + NO_TCP_SECONDS
            return flow

    def _with_via(self, request: Request, flow: Flow) -> Request:
        if isinstance(request.uri, SipUri) and request.uri.secure and not flow.transport.secure:
            raise TransportError(
                f"{request.uri} demands TLS, but its way leads over {flow.transport}: "
                "use TLS, or a sips: URI, for the proxy"
            )
        branch = MAGIC_COOKIE + self.random(12).hex()
        parameters: tuple[tuple[str, str | None], ...] = (("branch", branch), ("rport", None))
        if flow.transport is Transport.TLS and self.connections.tls.certificate is not None:
            parameters += (("alias", None),)
        return request.with_via(Via(flow.transport.upper(), self.host, self.connections.local_port(flow), parameters))

    # receiving (Receiver)

    def received(self, data: bytes, flow: Flow) -> None:
        """Bytes of one message from the wire, whatever they are."""
        if isinstance(flow, UdpFlow) and is_stun(data):
            if (keeper := self.keepers.get(flow.peer)) is not None:
                keeper(data)
            else:
                self.counters["stun-stray"] += 1
            return
        if not data.strip(b"\r\n\0"):
            self.counters["keepalive"] += 1
            return
        if self._trace is not None:
            self._trace(Traced(self._now(), False, flow.transport, flow.local, flow.peer, data))
        try:
            message = parse_message(data, stream=flow.transport.reliable and not flow.transport.websocket)
        except SipParseError as exc:
            self._malformed(exc, flow)
            return
        try:
            if isinstance(message, Response):
                self._response(message, flow)
            else:
                self._request(message, flow)
        except SipParseError as exc:
            self.dropped("value-malformed", str(exc))

    def opened(self, flow: Connection) -> bool:
        admitted = self.connections.admit(flow)
        if not admitted:
            self.dropped("connections-full", str(flow))
        return admitted

    def closed(self, flow: Connection, why: str) -> None:
        if flow not in self.connections.open:
            return
        self.connections.open.discard(flow)
        if self._closing:
            return
        for key in [key for key, client in self._clients.items() if client.flows[key] is flow]:
            self._carry_out(self.layer.transport_failed(key, f"{flow}: {why}", self._now()))
        self._on_connection_lost(flow, why)

    def dropped(self, reason: str, detail: str) -> None:
        self.counters[reason] += 1

    def _malformed(self, exc: SipParseError, flow: Flow) -> None:
        self.counters["message-malformed"] += 1
        if exc.request is None or self._admission(exc.request, flow) is Admission.IGNORED:
            return
        try:
            request = _seen_from(exc.request, flow)
        except SipParseError:  # the Via itself is malformed: back to where it came from
            self.send_raw(bytes(refuse(exc.request, exc, self.new_tag())), flow)
            return
        self._send_stateless(refuse(request, exc, self.new_tag()), request, flow)

    def _response(self, response: Response, flow: Flow) -> None:
        via = response.via
        if via.host != self.host or len(response.vias) != 1:
            self.counters["response-not-ours"] += 1
            return
        self._carry_out(self.layer.received(response, flow.transport.reliable, self._now()))

    def _request(self, request: Request, flow: Flow) -> None:
        admission = self._admission(request, flow)
        if admission is Admission.IGNORED:
            self.counters["stranger-ignored"] += 1
            return
        if isinstance(flow, Connection):
            _learn_alias(request.via, flow)
        request = _seen_from(request, flow)
        known = admission is Admission.KNOWN or (
            request.method == "CANCEL" and self.layer.find_cancelled(request) is not None
        )
        for output in self.layer.received(request, flow.transport.reliable, self._now(), known=known):
            if isinstance(output, RequestArrived) and output.key is not None and output.key not in self._answering:
                self._answering[output.key] = ServerTransaction(output.key, output.request, self, flow)
            self._carry_out([output], flow)
        self._rearm()

    # engine outputs

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _carry_out(self, outputs: list[Output], flow: Flow | None = None) -> None:
        for output in outputs:
            match output:
                case Send(key, message):
                    self._send(key, message, flow)
                case RequestArrived(None, request) | RequestArrived(_, Request(method="ACK") as request):
                    self._on_ack(request)
                case RequestArrived(key, request) if key is not None:
                    self._arrived(self._answering[key])
                case ResponseArrived(key, response):
                    self._answer(key, response)
                case Unanswered(key):
                    self._answer(key, None, 408, "no answer")
                case Unreachable(key, why):
                    self._answer(key, None, 503, why)
                case Terminated(key):
                    self._answering.pop(key, None)
                    if (client := self._clients.pop(key, None)) is not None and client.key == key:
                        client.put(None)
        self._rearm()

    def _arrived(self, transaction: ServerTransaction) -> None:
        if transaction.request.method == "CANCEL":
            self._cancelled(transaction)
        else:
            self._on_request(transaction)

    def _cancelled(self, cancel: ServerTransaction) -> None:
        """CANCEL (section 9.2): answered by itself, then the INVITE is told."""
        key = self.layer.find_cancelled(cancel.request)
        invite = None if key is None else self._answering.get(key)
        if invite is None:
            cancel.respond(481)
            return
        cancel.respond(200)
        if invite.final is None and invite.on_cancel is not None:
            invite.on_cancel(cancel.request)

    def _answer(self, key: Key, response: Response | None, status: int = 0, why: str = "") -> None:
        client = self._clients.get(key)
        if client is None or client.key != key:
            return
        unavailable = response is None or response.status == 503
        if response is None:
            text = f"{'Request Timeout' if status == 408 else 'Unreachable'}: {why}"
            response = respond(client.request, status, text)
        if unavailable and client.alternatives and not client.settled:
            self._fail_over(client, response)
            return
        client.settled = True
        client.put(response)

    def _fail_over(self, client: ClientTransaction, outcome: Response) -> None:
        """The next target (RFC 3263 section 4.3); ``outcome`` is told if there is none."""
        self.counters["target-failed"] += 1
        name = client.alternatives[0].name
        until = self._now() + max(DOWN_SECONDS, retry_after(outcome))
        self.locator.failed(Target(client.flow.transport, client.flow.peer, name), until)
        client.key = Key(True, "", "", "")  # what still comes for the old transaction concerns nobody
        self._spawn(self._next_target(client, outcome))

    async def _next_target(self, client: ClientTransaction, outcome: Response) -> None:
        while client.alternatives and not client.settled:
            target = client.alternatives.pop(0)
            try:
                flow = await self.flow(target)
                if not client.settled:
                    await self._begin(client, flow)
                    return
            except TransportError as exc:
                self.dropped("target-failed", str(exc))
        client.put(outcome)
        client.put(None)

    def _send(self, key: Key, message: Message, arrived_on: Flow | None) -> None:
        client = self._clients.get(key)
        server = self._answering.get(key)
        flow = client.flows[key] if client else server.flow if server else arrived_on
        if flow is None:
            return
        try:
            if isinstance(message, Response) and server is not None:
                self._send_back(message, server.request, flow)
            elif isinstance(message, Response):
                self._send_stateless(message, None, flow)
            else:
                self._write(bytes(message), flow)
        except (TransportError, SipError) as exc:
            self.dropped("unsent", str(exc))
            why = str(exc)  # not from inside the layer's own call
            asyncio.get_running_loop().call_soon(self._failed, key, why)

    def _failed(self, key: Key, why: str) -> None:
        if not self._closing:
            self._carry_out(self.layer.transport_failed(key, why, self._now()))

    def _send_stateless(self, response: Response, request: Request | None, flow: Flow) -> None:
        try:
            self._send_back(response, request or Request(method="", uri=SipUri("-"), headers=response.headers), flow)
        except (TransportError, SipError) as exc:
            self.dropped("unsent", str(exc))

    def _send_back(self, response: Response, request: Request, flow: Flow) -> None:
        """Where a response goes (section 18.2.2, RFC 3581 section 4)."""
        data = bytes(response)
        via = request.via
        if isinstance(flow, UdpFlow):
            port = flow.peer.port if "rport" in dict(via.parameters) else 5060 if via.port is None else via.port
            self._write(data, self.connections.udp_flow(flow.peer.host, port))
        elif not flow.closed:
            self._write(data, flow)
        else:  # the connection is gone: open another to where the peer listens
            default = flow.transport.default_port
            address = Address(flow.peer.host, default if via.port is None else via.port)
            self._spawn(self._send_anew(data, Target(flow.transport, address, via.host)))

    async def _send_anew(self, data: bytes, target: Target) -> None:
        try:
            self._write(data, await self.flow(target))
        except TransportError as exc:
            self.dropped("unsent", str(exc))

    def _write(self, data: bytes, flow: Flow) -> None:
        flow.send(data)
        if self._trace is not None:
            self._trace(Traced(self._now(), True, flow.transport, flow.local, flow.peer, data))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rearm(self) -> None:
        moment = self.layer.timer
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if moment is not None and not self._closing:
            self._alarm = asyncio.get_running_loop().call_at(moment, self._tick)

    def _tick(self) -> None:
        # A timer may fire a clock tick early; the engine compares exactly.
        due = self.layer.timer
        self._carry_out(self.layer.handle_timer(max(self._now(), 0.0 if due is None else due)))


def _seen_from(request: Request, flow: Flow) -> Request:
    """The request with the true source in its Via (section 18.2.1, RFC 3581)."""
    via = request.via
    source = flow.peer.host.partition("%")[0]  # a zone means nothing to others
    if "rport" in dict(via.parameters):
        via = via.with_parameter("received", source).with_parameter("rport", str(flow.peer.port))
    elif via.host != source:
        via = via.with_parameter("received", source)
    else:
        return request
    others = request.headers.values("Via")[1:]
    return replace(request, headers=request.headers.set("Via", str(via), *others))


def _learn_alias(via: Via, flow: Connection) -> None:
    """A peer that wants its connection used for what goes to where it listens, and is who it says (RFC 5923)."""
    if (
        flow.transport is Transport.TLS
        and not flow.outgoing
        and via.parameter("alias") is not None
        and proves(flow.certificate, via.host)
    ):
        flow.alias = Address(flow.peer.host, Transport.TLS.default_port if via.port is None else via.port)
