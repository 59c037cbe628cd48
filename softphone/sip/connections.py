"""The sockets of an endpoint: datagrams, listeners, connections that are used again (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import socket
import ssl

from softphone.errors import TransportError
from softphone.network.sockets import Sockets, connect
from softphone.sip.tls import TlsSettings
from softphone.sip.transport import Address, Connection, Flow, Receiver, Target, Transport, UdpFlow, UdpSocket
from softphone.sip.websocket import WebSocket

CONNECT_SECONDS = 10.0
MAX_CONNECTIONS = 100
"That peers have opened."
IDLE_SECONDS = 120.0
"After so long a silence a peer's connection makes room for another's, when there is none."
PORT_ATTEMPTS = 8
"To find one that is free for UDP and TCP."


class Connections:
    """All ways to peers over one local address. Reports what comes in to ``receiver``."""

    def __init__(
        self, sockets: Sockets, host: str, port: int, tls: TlsSettings, receiver: Receiver, websocket_path: str = "/"
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.open: set[Connection] = set()
        self.udp: UdpSocket | None = None
        self.servers: dict[Transport, tuple[asyncio.Server, int]] = {}
        "With their ports."
        self._sockets = sockets
        self._receiver = receiver
        self._websocket_path = websocket_path
        self._context: ssl.SSLContext | None = None
        self._connecting: dict[Target, asyncio.Task[Connection]] = {}
        self._closing = False

    async def start(self) -> None:
        """Bind UDP, and TCP (with a certificate also TLS) listeners. Raises TransportError, ConfigError."""
        datagrams, streams = await self._pair()
        try:
            _, self.udp = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: UdpSocket(self._receiver), sock=datagrams
            )
        except BaseException:
            streams.close()
            raise
        any_port, self.port = self.port == 0, self.udp.local.port
        await self._serve(Transport.TCP, streams, None)
        if (context := self.tls.server()) is not None:
            await self._serve(Transport.TLS, await self._listen(0 if any_port else self.port + 1), context)

    async def _pair(self) -> tuple[socket.socket, socket.socket]:
        """Sockets for UDP and TCP, on one port if any can be had."""
        for _ in range(PORT_ATTEMPTS if self.port == 0 else 0):
            datagrams = await self._sockets.udp(self.host, 0)
            try:
                return datagrams, await self._sockets.listen(self.host, int(datagrams.getsockname()[1]))
            except TransportError:
                datagrams.close()
        datagrams = await self._sockets.udp(self.host, self.port)
        try:
            return datagrams, await self._listen(int(datagrams.getsockname()[1]))
        except BaseException:
            datagrams.close()
            raise

    async def _listen(self, port: int) -> socket.socket:
        try:
            return await self._sockets.listen(self.host, port)
        except TransportError:
            return await self._sockets.listen(self.host, 0)  # taken by someone else; Contact names the real one

    async def _serve(self, transport: Transport, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        bound = int(sock.getsockname()[1])
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(transport, self._receiver, outgoing=False), sock=sock, ssl=context,
            ssl_handshake_timeout=None if context is None else CONNECT_SECONDS, start_serving=False,
        )  # fmt: skip
        self.servers[transport] = (server, bound)  # `close` finds it, also when this is cancelled in the next line
        await server.start_serving()

    async def close(self) -> None:
        """Close everything."""
        self._closing = True
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server, _ in self.servers.values():
            server.close()
        connections = list(self.open)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.gone for connection in connections], timeout=1.0)
        for connection in connections:
            connection.abort()
        if self.udp is not None:
            self.udp.close()
        await asyncio.sleep(0)  # lets the transports call connection_lost

    def admit(self, connection: Connection) -> bool:
        """A peer has connected; False: there are too many, and none of a peer that has been silent for long."""
        if self._closing:
            return False
        theirs = [other for other in self.open if not other.outgoing]
        if len(theirs) >= MAX_CONNECTIONS:
            longest = min(theirs, key=lambda other: other.last_heard)
            if longest.last_heard > connection.last_heard - IDLE_SECONDS:
                return False
            self._receiver.dropped("connection-idle", str(longest))
            longest.abort()
        self.open.add(connection)
        return True

    async def flow(self, target: Target, seconds: float = CONNECT_SECONDS) -> Flow:
        """A way to the target: the open connection if there is one. Raises TransportError."""
        if self._closing or self.udp is None:
            raise TransportError("the phone is shutting down")
        if target.transport is Transport.UDP:
            return UdpFlow(self.udp, target.address)
        for connection in self.open:
            if connection.reaches(target):
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
        context = self._client_context() if target.transport.secure else None
        sock = await self._sockets.tcp(self.host)
        await connect(sock, *target.address, seconds)
        connection = self._connection(target)
        where = f"{target.name} ({target.address.host} port {target.address.port})"
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, sock=sock, ssl=context, server_hostname=target.name if context else None
                )
                await connection.usable()
        except BaseException as exc:
            connection.abort()
            sock.close()
            match exc:
                case ssl.SSLCertVerificationError():
                    raise TransportError(
                        f"the certificate of {where} is not accepted: {exc.verify_message}; "
                        "check ca_file and the server's name"
                    ) from exc
                case TimeoutError():
                    raise TransportError(f"the handshake with {where} took more than {seconds:g} s") from exc
                case OSError():
                    raise TransportError(f"no {target.transport} connection to {where}: {exc}") from exc
            raise
        if connection.refused:
            raise TransportError(
                f"the certificate of {where} is not accepted: {connection.refused}; check ca_file and the server's name"
            )
        self.open.add(connection)
        return connection

    def _client_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self.tls.client()
        return self._context

    def _connection(self, target: Target) -> Connection:
        if target.transport.websocket:
            return WebSocket(target.transport, self._receiver, name=target.name, path=self._websocket_path)
        return Connection(target.transport, self._receiver, outgoing=True, name=target.name)

    def listener_port(self, transport: Transport) -> int | None:
        """The port where peers can reach us over that transport, or None."""
        if transport is Transport.UDP:
            return self.port
        return self.servers[transport][1] if transport in self.servers else None

    def local_port(self, flow: Flow) -> int:
        """The port for Via and Contact: our listener's, else the connection's own, which the peer can reuse."""
        listening = self.listener_port(flow.transport)
        return flow.local.port if listening is None else listening

    def udp_flow(self, host: str, port: int) -> UdpFlow:
        """Datagrams to any address. Raises TransportError."""
        if self.udp is None:
            raise TransportError("the UDP socket is closed")
        return UdpFlow(self.udp, Address(host, port))
