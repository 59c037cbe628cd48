"""SIP over WebSocket (RFC 7118) against a small server that wsproto speaks for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from softphone.errors import TransportError
from softphone.sip.message import Request as SipRequest
from softphone.sip.message import parse_message, respond
from softphone.sip.tls import TlsSettings
from softphone.sip.transport import KEEPALIVE, PONG_WAIT, Transport
from softphone.sip.uri import SipUri
from softphone.sip.websocket import MAX_MESSAGE
from tests.softphone.certificates import make_certificate
from tests.softphone.support import simulate
from tests.softphone.test_endpoint import OPTIONS, Station


class Server:
    """Answers SIP requests with 200; ``accept`` says how it answers the handshake."""

    def __init__(self, accept: Event, text: bool = False) -> None:
        self.accept = accept
        self.text = text
        self.events: list[Event] = []
        self.answers_pings = True
        self.writer: asyncio.StreamWriter
        self.protocol: WSConnection
        self.port = 0
        self.pieces = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.protocol, self.writer = WSConnection(ConnectionType.SERVER), writer
        while data := await reader.read(9000):
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                self.events.append(event)
                match event:
                    case Request():
                        self.send(self.accept)
                    case Message():
                        self.pieces += bytes(event.data)
                        if event.message_finished:
                            self.answer(self.pieces)
                            self.pieces = b""
                    case Ping() if self.answers_pings:
                        self.send(event.response())
        writer.close()

    def answer(self, data: bytes) -> None:
        request = parse_message(data)
        if not isinstance(request, SipRequest):
            return
        answer = bytes(respond(request, 200, to_tag="t"))
        self.send(TextMessage(data=answer.decode()) if self.text else BytesMessage(data=answer))

    def send(self, event: Event) -> None:
        self.writer.write(self.protocol.send(event))


@asynccontextmanager
async def serving(
    accept: Event | None = None, *, text: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(AcceptConnection(subprotocol="sip") if accept is None else accept, text)
    listener = await asyncio.start_server(server.serve, "::1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def uri(server: Server, scheme: str = "sip") -> SipUri:
    return SipUri("::1", "b", server.port, (("transport", "ws"),), scheme=scheme)


@pytest.mark.parametrize("text", [True, False])
def test_requests_and_responses_are_messages_of_the_websocket(text: bool) -> None:
    async def work() -> None:
        async with serving(text=text) as server, Station() as a:
            for _ in range(2):
                assert (await a.options(uri(server))).status == 200
            [opened, first, _second] = server.events
            assert isinstance(opened, Request)
            assert (opened.host, opened.target, opened.subprotocols) == (f"[::1]:{server.port}", "/", ["sip"])
            assert isinstance(first, Message)
            request = parse_message(bytes(first.data))
            [flow] = a.connections.open
            assert (request.via.transport, request.via.port) == ("WS", flow.local.port)
            assert str(a.contact("a", flow)) == f"sip:a@[::1]:{flow.local.port};transport=ws"
            assert not a.counters

    simulate(work)


def test_a_request_of_the_server_in_pieces_is_answered() -> None:
    async def work() -> None:
        async with serving() as server, Station() as a:
            await a.options(uri(server))
            whole = OPTIONS % (b";rport", b"")
            server.send(BytesMessage(data=whole[:100], message_finished=False))
            server.send(Ping())
            server.send(BytesMessage(data=whole[100:]))
            await asyncio.sleep(1)
            assert [type(event) for event in server.events[2:]] == [Pong, BytesMessage]
            assert len(a.seen) == 1

    simulate(work)


def test_over_tls_and_never_without_for_sips(tmp_path: Path) -> None:
    async def work() -> None:
        made = make_certificate(tmp_path, ["::1"])
        tls = TlsSettings(made.ca)
        context = TlsSettings(None, made.certificate, made.key).server()
        async with serving(context=context) as server, Station(tls=tls) as a, Station() as stranger:
            target = (await a.locate(uri(server, "sips"), Transport.UDP))[0]
            assert target.transport is Transport.WSS
            assert (await a.options(uri(server, "sips"))).status == 200
            with pytest.raises(TransportError, match="check ca_file"):
                await stranger.options(uri(server, "sips"))

    asyncio.run(work())


@pytest.mark.parametrize(
    ("accept", "why"),
    [
        (AcceptConnection(), "it speaks no subprotocol, not sip"),
        (RejectConnection(status_code=404), "it answers HTTP 404; check the path /"),
    ],
)
def test_a_server_that_speaks_no_sip(accept: Event, why: str) -> None:
    async def work() -> None:
        async with serving(accept) as server, Station() as a:
            with pytest.raises(TransportError, match=why):
                await a.options(uri(server))
            assert not a.connections.open

    simulate(work)


def test_a_port_that_speaks_no_websocket() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            with pytest.raises(TransportError, match="no ws connection"):
                await a.options(SipUri("::1", "b", b.port, (("transport", "ws"),)))

    simulate(work)


def garbage(server: Server) -> None:
    server.writer.write(b"\xff" * 40)


def far_too_long(server: Server) -> None:
    for _ in range(MAX_MESSAGE // 4096 + 1):
        server.send(BytesMessage(data=bytes(4096), message_finished=False))


@pytest.mark.parametrize(("do", "counter"), [(garbage, "websocket-broken"), (far_too_long, "websocket-too-long")])
def test_a_server_that_breaks_the_rules_is_left(do: Callable[[Server], None], counter: str) -> None:
    async def work() -> None:
        async with serving() as server, Station() as a:
            await a.options(uri(server))
            do(server)
            await asyncio.sleep(1)
            assert a.counters == {counter: 1}
            assert not a.connections.open

    simulate(work)


def test_a_server_that_says_goodbye_is_answered() -> None:
    async def work() -> None:
        async with serving() as server, Station() as a:
            await a.options(uri(server))
            server.send(CloseConnection(code=1000))
            await asyncio.sleep(1)
            assert isinstance(server.events[-1], CloseConnection)
            assert not a.connections.open

    simulate(work)


def test_pings_find_a_dead_server() -> None:
    async def work() -> None:
        async with serving() as server, Station() as a:
            await a.options(uri(server))
            await asyncio.sleep(KEEPALIVE + PONG_WAIT + 1)
            assert isinstance(server.events[-1], Ping)
            assert a.connections.open
            server.answers_pings = False
            await asyncio.sleep(KEEPALIVE + PONG_WAIT)
            assert not a.connections.open
            assert a.counters == {"connection-dead": 1}

    simulate(work)


def test_large_messages() -> None:
    async def work() -> None:
        async with serving() as server, Station() as a:
            assert (await a.options(uri(server), 20000)).status == 200

    simulate(work)
