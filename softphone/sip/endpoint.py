"""The asyncio shell around the transaction layer: sockets in, transactions out (RFC 3261 sections 17 and 18)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from softphone.errors import TransportError
from softphone.sip.errors import SipError, SipParseError
from softphone.sip.headers import Headers, Via
from softphone.sip.message import MAGIC_COOKIE, Message, Request, Response, parse_message, refuse, respond
from softphone.sip.transaction import (
    Key,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    Terminated,
    TransactionLayer,
    Unanswered,
    Unreachable,
    cancel_for,
)
from softphone.sip.transport import Address, Connection, Flow, Target, TlsSettings, Transport, UdpFlow, UdpSocket
from softphone.sip.uri import SipUri, TelUri, Uri
from softphone.sockets import Sockets, connect, family_of

CONNECT_SECONDS = 10.0
SWITCH_SECONDS = 2.0
"How long the switch of a large request from UDP to TCP may take before it goes over UDP after all."
NO_TCP_SECONDS = 300.0
"How long a peer that refused TCP is not asked again."
LARGE = 1300
"Bytes; larger requests leave UDP (RFC 3261 section 18.1.1)."
MAX_CONNECTIONS = 100

Resolver = Callable[[str, int], Awaitable[str]]
"Name and address family to a numeric address; raises OSError."


class Traced(NamedTuple):
    """One message on the wire, for traces."""

    time: float
    sent: bool
    transport: Transport
    local: Address
    peer: Address
    data: bytes


class ClientTransaction:
    """A request of ours and what comes back.

    No answer reads as a 408, a dead transport as a 503 (RFC 3261 section 8.1.3.1).
    """

    def __init__(self, key: Key, request: Request, endpoint: Endpoint, flow: Flow) -> None:
        self.key = key
        self.request = request
        "As it was sent."
        self.flow = flow
        self._endpoint = endpoint
        self._queue: asyncio.Queue[Response | None] = asyncio.Queue()
        self._over = False

    async def responses(self) -> AsyncIterator[Response]:
        """All responses until the transaction is over; a 2xx to INVITE may come more than once (forking)."""
        while (response := await self.next()) is not None:
            yield response

    async def next(self) -> Response | None:
        """The next response; None when there will be no more."""
        if self._over:
            return None
        response = await self._queue.get()
        self._over = response is None
        return response

    async def final(self) -> Response:
        """The first final response."""
        async for response in self.responses():
            if response.final:
                return response
        raise TransportError("the transaction was given up before an answer came")

    async def cancel(self) -> None:
        """Send CANCEL for this INVITE; its outcome shows as the INVITE's final response (487, as a rule)."""
        self._endpoint.send_cancel(self)

    def _put(self, response: Response | None) -> None:
        self._queue.put_nowait(response)


class ServerTransaction:
    """A peer's request, to be answered."""

    def __init__(self, key: Key, request: Request, endpoint: Endpoint, flow: Flow) -> None:
        self.key = key
        self.request = request
        self.flow = flow
        self.final: Response | None = None
        "The final response, once sent."
        self.on_cancel: Callable[[], None] | None = None
        self._endpoint = endpoint

    def respond(
        self, status: int, reason: str | None = None, *,
        to_tag: str | None = None, headers: Headers | None = None, body: bytes = b"",
    ) -> Response:  # fmt: skip
        """Answer. After a final response only the same 2xx may be sent again."""
        tag = to_tag if to_tag is not None else self._endpoint.new_tag()
        response = respond(self.request, status, reason, to_tag=tag, headers=headers, body=body)
        self.send(response)
        return response

    def send(self, response: Response) -> None:
        if response.final:
            self.final = response
        self._endpoint.send_response(self.key, response)


class Endpoint:
    """Sockets on one local address and the transactions that run over them.

    ``on_request`` gets every new request but CANCEL and ACK, ``on_ack`` every ACK for a 2xx, ``on_connection_lost``
    every flow that broke. ``counters`` counts everything that was dropped, by name. ``resolver`` replaces that of
    ``sockets``.
    """

    def __init__(
        self, sockets: Sockets, host: str, port: int = 0, *, tls: TlsSettings | None = None,
        random: Callable[[int], bytes] = os.urandom, resolver: Resolver | None = None,
        on_request: Callable[[ServerTransaction], None], on_ack: Callable[[Request], None],
        on_connection_lost: Callable[[Flow, str], None] = lambda flow, why: None,
        trace: Callable[[Traced], None] | None = None,
    ) -> None:  # fmt: skip
        self.host = host
        self.port = port
        self.layer = TransactionLayer()
        self.counters: Counter[str] = self.layer.counters
        self._sockets = sockets
        self._tls = TlsSettings() if tls is None else tls
        self._random = random
        self._resolver = sockets.resolve if resolver is None else resolver
        self._on_request = on_request
        self._on_ack = on_ack
        self._on_connection_lost = on_connection_lost
        self._trace = trace
        self._udp: UdpSocket | None = None
        self._servers: dict[Transport, tuple[asyncio.Server, int]] = {}
        self._connections: set[Connection] = set()
        self._connecting: dict[Target, asyncio.Task[Connection]] = {}
        self._no_tcp: dict[Address, float] = {}
        self._clients: dict[Key, ClientTransaction] = {}
        self._answering: dict[Key, ServerTransaction] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # life

    async def start(self) -> None:
        """Bind UDP, and TCP (with a certificate also TLS) listeners. Raises TransportError, ConfigError."""
        loop = asyncio.get_running_loop()
        try:
            sock = await self._sockets.udp(self.host, self.port)
            _, self._udp = await loop.create_datagram_endpoint(lambda: UdpSocket(self), sock=sock)
            self.port = self._udp.local.port
            await self._listen(Transport.TCP, self.port, None)
            if (context := self._tls.server()) is not None:
                await self._listen(Transport.TLS, 0 if self.port == 0 else self.port + 1, context)
        except BaseException:
            await self.close()
            raise

    async def _listen(self, transport: Transport, port: int, context: ssl.SSLContext | None) -> None:
        try:
            sock = await self._sockets.listen(self.host, port)
        except TransportError:
            sock = await self._sockets.listen(self.host, 0)  # taken by someone else; Contact names the real one
        bound = int(sock.getsockname()[1])
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(transport, self, outgoing=False), sock=sock, ssl=context)
        self._servers[transport] = (server, bound)

    async def close(self) -> None:
        """Close everything; transactions in progress end as unreachable."""
        self._closing = True
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [*self._tasks, *self._connecting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transaction in [*self._clients.values()]:
            transaction._put(None)
        self._clients.clear()
        self._answering.clear()
        for server, _ in self._servers.values():
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.gone for connection in connections], timeout=1.0)
        for connection in connections:
            connection.abort()
        if self._udp is not None:
            self._udp.close()
        await asyncio.sleep(0)  # lets the transports call connection_lost

    # sending

    def new_tag(self) -> str:
        return self._random(8).hex()

    async def resolve(self, uri: Uri, prefer: Transport) -> Target:
        """Transport and address for a URI. Raises TransportError."""
        if isinstance(uri, TelUri) or not isinstance(uri, SipUri):
            raise TransportError(f"{uri} does not say where to send to; set an outbound proxy or use a sip: URI")
        wanted = (uri.parameter("transport") or "").lower()
        if uri.secure:
            transport = Transport.TLS
        elif wanted in ("udp", "tcp", "tls"):
            transport = Transport(wanted)
        elif wanted:
            raise TransportError(f"{uri}: the transport {wanted!r} is not supported; use udp, tcp or tls")
        else:
            transport = prefer
        name = uri.parameter("maddr") or uri.host
        address = Address(await self._numeric(name), transport.default_port if uri.port is None else uri.port)
        return Target(transport, address, uri.host)

    async def _numeric(self, name: str) -> str:
        family = family_of(self.host)
        try:
            address = str(ip_address(name))
        except ValueError:
            try:
                return await self._resolver(name, family)
            except (OSError, UnicodeError) as exc:
                raise TransportError(f"the name {name!r} has no address: {exc}; check it and the resolver") from exc
        if family_of(address) != family:
            raise TransportError(f"{address} cannot be reached from {self.host}: the IP versions differ")
        return address

    async def flow(self, target: Target, seconds: float = CONNECT_SECONDS) -> Flow:
        """A way to the target: the open connection if there is one. Raises TransportError."""
        if self._closing or self._udp is None:
            raise TransportError("the phone is shutting down")
        if target.transport is Transport.UDP:
            return UdpFlow(self._udp, target.address)
        for connection in self._connections:
            if (
                (connection.transport, connection.peer) == (target.transport, target.address)
                and not connection.closed
                and (target.transport is Transport.TCP or connection.name == target.name or _numeric(target.name))
            ):
                return connection
        task = self._connecting.get(target)
        if task is None:
            task = asyncio.create_task(self._connect(target, seconds))
            self._connecting[target] = task
            task.add_done_callback(lambda done: self._connected(target, done))
        return await asyncio.shield(task)

    def _connected(self, target: Target, task: asyncio.Task[Connection]) -> None:
        self._connecting.pop(target, None)
        if not task.cancelled():
            task.exception()  # whoever waits has got it; nobody may be left to

    async def _connect(self, target: Target, seconds: float) -> Connection:
        context = self._tls.client() if target.transport is Transport.TLS else None
        sock = await self._sockets.tcp(self.host)
        await connect(sock, *target.address, seconds)
        connection = Connection(target.transport, self, outgoing=True, name=target.name)
        where = f"{target.name} ({target.address.host} port {target.address.port})"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(
                    lambda: connection, sock=sock, ssl=context, server_hostname=target.name if context else None
                )
        except BaseException as exc:
            sock.close()
            match exc:
                case ssl.SSLCertVerificationError():
                    raise TransportError(
                        f"the certificate of {where} is not accepted: {exc.verify_message}; "
                        "check ca_file and the server's name"
                    ) from exc
                case TimeoutError():
                    raise TransportError(f"TLS handshake with {where} took more than {seconds:g} s") from exc
                case OSError():
                    raise TransportError(f"no {target.transport} connection to {where}: {exc}") from exc
            raise
        self._connections.add(connection)
        return connection

    def listener_port(self, transport: Transport) -> int | None:
        """The port where peers can reach us over that transport, or None."""
        if transport is Transport.UDP:
            return self.port
        return self._servers[transport][1] if transport in self._servers else None

    def local_port(self, flow: Flow) -> int:
        """The port for Via and Contact: our listener's, else the connection's own, which the peer can reuse."""
        listening = self.listener_port(flow.transport)
        return flow.local.port if listening is None else listening

    def contact(self, user: str | None, flow: Flow) -> SipUri:
        """Where peers reach us, for the Contact of requests and responses on that flow."""
        parameters = () if flow.transport is Transport.UDP else (("transport", str(flow.transport)),)
        return SipUri(self.host, user, self.local_port(flow), parameters)

    async def request(self, request: Request, flow: Flow) -> ClientTransaction:
        """Send a request (not ACK) in a new transaction."""
        wired = self._with_via(request, flow)
        if isinstance(flow, UdpFlow) and len(bytes(wired)) > LARGE:
            flow = await self._switch(flow)
            wired = self._with_via(request, flow)
        key, outputs = self.layer.request(wired, flow.transport.reliable, self._now())
        transaction = ClientTransaction(key, wired, self, flow)
        self._clients[key] = transaction
        self._carry_out(outputs)
        return transaction

    def send_ack(self, ack: Request, flow: Flow) -> bytes:
        """Send the ACK for a 2xx, which is no transaction; returns the bytes to send again for a repeated 2xx."""
        data = bytes(self._with_via(ack, flow))
        self.send_raw(data, flow)
        return data

    def send_raw(self, data: bytes, flow: Flow) -> None:
        """Send once, without transaction; a failure is counted."""
        try:
            self._write(data, flow)
        except TransportError as exc:
            self.dropped("unsent", str(exc))

    def send_cancel(self, invite: ClientTransaction) -> None:
        if invite.key not in self.layer.transactions:
            return
        cancel = cancel_for(invite.request)
        key, outputs = self.layer.request(cancel, invite.flow.transport.reliable, self._now())
        self._clients[key] = ClientTransaction(key, cancel, self, invite.flow)
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
        branch = MAGIC_COOKIE + self._random(12).hex()
        parameters = (("branch", branch), ("rport", None))
        return request.with_via(Via(flow.transport.upper(), self.host, self.local_port(flow), parameters))

    # receiving (Receiver)

    def received(self, data: bytes, flow: Flow) -> None:
        """Bytes of one message from the wire, whatever they are."""
        if not data.strip(b"\r\n\0"):
            self.counters["keepalive"] += 1
            return
        if self._trace is not None:
            self._trace(Traced(self._now(), False, flow.transport, flow.local, flow.peer, data))
        try:
            message = parse_message(data, stream=flow.transport.reliable)
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
        if self._closing or len(self._connections) >= MAX_CONNECTIONS:
            self.dropped("connections-full", str(flow))
            return False
        self._connections.add(flow)
        return True

    def closed(self, flow: Connection, why: str) -> None:
        if flow not in self._connections:
            return
        self._connections.discard(flow)
        if self._closing:
            return
        for transaction in [t for t in self._clients.values() if t.flow is flow]:
            self._carry_out(self.layer.transport_failed(transaction.key, f"{flow}: {why}", self._now()))
        self._on_connection_lost(flow, why)

    def dropped(self, reason: str, detail: str) -> None:
        self.counters[reason] += 1

    def _malformed(self, exc: SipParseError, flow: Flow) -> None:
        self.counters["message-malformed"] += 1
        if exc.request is None:
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
        request = _seen_from(request, flow)
        for output in self.layer.received(request, flow.transport.reliable, self._now()):
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
                    if (client := self._clients.pop(key, None)) is not None:
                        client._put(None)
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
            invite.on_cancel()

    def _answer(self, key: Key, response: Response | None, status: int = 0, why: str = "") -> None:
        client = self._clients.get(key)
        if client is None:
            return
        if response is None:
            response = respond(
                client.request, status, f"{'Request Timeout' if status == 408 else 'Unreachable'}: {why}"
            )
        client._put(response)

    def _send(self, key: Key, message: Message, arrived_on: Flow | None) -> None:
        client = self._clients.get(key)
        server = self._answering.get(key)
        flow = client.flow if client else server.flow if server else arrived_on
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
            self._write(data, UdpFlow(flow._socket, Address(flow.peer.host, port)))
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
    if "rport" in dict(via.parameters):
        via = via.with_parameter("received", flow.peer.host).with_parameter("rport", str(flow.peer.port))
    elif via.host != flow.peer.host:
        via = via.with_parameter("received", flow.peer.host)
    else:
        return request
    others = request.headers.values("Via")[1:]
    return replace(request, headers=request.headers.set("Via", str(via), *others))


def _numeric(name: str) -> bool:
    """Routes and contacts name addresses; a connection there whose peer was verified under its name will do."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
