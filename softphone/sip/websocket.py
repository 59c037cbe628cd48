"""SIP over WebSocket, client side (RFC 7118): wsproto speaks the protocol, one WebSocket message is one SIP message."""

from __future__ import annotations

import asyncio
from typing import Any

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
from wsproto.utilities import ProtocolError

from softphone.errors import TransportError
from softphone.sip.message import MAX_BODY_BYTES, MAX_HEADER_BYTES
from softphone.sip.transport import Connection, Receiver, Transport
from softphone.sip.uri import host_port

SUBPROTOCOL = "sip"
GOODBYES = (1000, 1001, 1005)
"Close codes without complaint (RFC 6455 section 7.4)."
MAX_MESSAGE = MAX_HEADER_BYTES + MAX_BODY_BYTES


class WebSocket(Connection):
    """One connection to a WebSocket server."""

    def __init__(self, transport: Transport, receiver: Receiver, *, name: str, path: str) -> None:
        super().__init__(transport, receiver, outgoing=True, name=name)
        self._path = path
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []
        self._size = 0

    async def usable(self) -> None:
        await self._opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.refused or self.closed:
            self._fail(self.refused or "closed by the peer")
            return
        default = self.peer.port == self.transport.default_port
        host = host_port(self.name, None if default else self.peer.port)
        self._emit(Request(host=host, target=self._path, subprotocols=[SUBPROTOCOL]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "closed by the peer")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._event(event)
        except ProtocolError as exc:
            self._drop("websocket-broken", str(exc))

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportError(f"the connection to {self.peer.host} port {self.peer.port} is closed")
        self._emit(BytesMessage(data=data))

    def _event(self, event: Event) -> None:
        match event:
            case AcceptConnection(subprotocol=subprotocol):
                if subprotocol != SUBPROTOCOL:
                    self._fail(f"it speaks {subprotocol or 'no subprotocol'}, not {SUBPROTOCOL}")
                    self.abort()
                elif not self._opened.done():
                    self._opened.set_result(None)
            case RejectConnection(status_code=status):
                self._fail(f"it answers HTTP {status}; check the path {self._path}")
                self.abort()
            case Message():
                self._message(event)
            case Ping():
                self._emit(event.response())
            case Pong():
                self.ponged()
            case CloseConnection(code=code, reason=reason):
                if code not in GOODBYES:  # its frames made no sense, or ours made none to it
                    self._receiver.dropped("websocket-broken", f"{self}: {code} {reason}")
                self._emit(event.response())
                self.close()

    def _message(self, event: Message[Any]) -> None:
        data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        self._size += len(data)
        if self._size > MAX_MESSAGE:
            self._drop("websocket-too-long", f"more than {MAX_MESSAGE} octets")
            return
        self._pieces.append(data)
        if event.message_finished:
            whole, self._pieces, self._size = b"".join(self._pieces), [], 0
            self.heard(whole)

    def _ping(self) -> None:
        self._emit(Ping())

    def _emit(self, event: Event) -> None:
        self._write(self._protocol.send(event))

    def _drop(self, reason: str, detail: str) -> None:
        self._receiver.dropped(reason, f"{self}: {detail}")
        self.abort()

    def _fail(self, why: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(ConnectionError(why))
