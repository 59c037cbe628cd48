"""Moves SIP bytes: UDP, TCP, TLS over sockets that somebody else made (RFC 3261 section 18, RFC 5626 keepalive)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple, Protocol, cast

from softphone.errors import TransportError
from softphone.sip.errors import SipParseError
from softphone.sip.message import Frame, FrameKind, StreamFramer
from softphone.sip.tls import Certificate, identities, proves

KEEPALIVE = 25.0
"Seconds between two pings on a connection that we opened."
PONG_WAIT = 10.0
"Seconds for the pong, from a peer that has ever sent one (RFC 5626 section 4.4.1)."
SILENT_PEER = 60.0
"Seconds after which an incoming connection without one whole message is closed."
MAX_UNSENT = 1 << 20
"Bytes waiting in a connection whose peer does not read; then it is closed."


class Transport(StrEnum):
    """Ways to carry SIP."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    WS = "ws"
    "WebSocket (RFC 7118)."
    WSS = "wss"
    "WebSocket over TLS; URIs say ``ws`` and ``sips:``."

    @property
    def reliable(self) -> bool:
        return self is not Transport.UDP

    @property
    def secure(self) -> bool:
        return self in (Transport.TLS, Transport.WSS)

    @property
    def websocket(self) -> bool:
        return self in (Transport.WS, Transport.WSS)

    @property
    def default_port(self) -> int:
        return {Transport.TLS: 5061, Transport.WS: 80, Transport.WSS: 443}.get(self, 5060)


class Address(NamedTuple):
    """Numeric host (IPv6 without brackets) and port."""

    host: str
    port: int


class Target(NamedTuple):
    """Where a request goes."""

    transport: Transport
    address: Address
    name: str
    "The domain that a TLS server must prove (RFC 5922)."


def numeric(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Flow(ABC):
    """A way to one peer."""

    transport: Transport
    peer: Address
    local: Address

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Raises TransportError when the flow is closed or its peer does not read."""

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    def leads_to(self, target: Target) -> bool:
        """Whether its peer is that target. URIs say ``sip:`` and ``ws`` also where they mean WebSocket over TLS."""
        same = self.transport is target.transport
        return self.peer == target.address and (
            same or (self.transport is Transport.WSS and target.transport is Transport.WS)
        )

    def __str__(self) -> str:
        return f"{self.transport} {self.peer.host} port {self.peer.port}"


class Receiver(Protocol):
    """Whom the transports report to. Never raises."""

    def received(self, data: bytes, flow: Flow) -> None: ...

    def opened(self, flow: Connection) -> bool:
        """A peer has connected; False: too many, close it."""

    def closed(self, flow: Connection, why: str) -> None: ...

    def dropped(self, reason: str, detail: str) -> None: ...


class UdpSocket(asyncio.DatagramProtocol):
    """One bound datagram socket."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._transport: asyncio.DatagramTransport | None = None
        self.local = Address("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # not a subclass of it before Python 3.12
        self.local = Address(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._receiver.received(data, UdpFlow(self, Address(str(addr[0]), int(addr[1]))))

    def error_received(self, exc: Exception) -> None:
        self._receiver.dropped("udp-error", str(exc))

    def send(self, data: bytes, peer: Address) -> None:
        if self._transport is None or self._transport.is_closing():
            raise TransportError("the UDP socket is closed")
        self._transport.sendto(data, peer)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()


class UdpFlow(Flow):
    """A peer behind the datagram socket; answers go where requests came from (RFC 3581)."""

    def __init__(self, sock: UdpSocket, peer: Address) -> None:
        self._socket = sock
        self.transport = Transport.UDP
        self.peer = peer
        self.local = sock.local

    def send(self, data: bytes) -> None:
        self._socket.send(data, self.peer)

    @property
    def closed(self) -> bool:
        return self._socket.is_closed


class Connection(asyncio.Protocol, Flow):
    """One TCP or TLS connection, ours (``outgoing``) or a peer's."""

    def __init__(self, transport: Transport, receiver: Receiver, *, outgoing: bool, name: str = "") -> None:
        self.transport = transport
        self.name = name
        "What the peer of a TLS connection that we open has to prove."
        self.certificate: Certificate = {}
        "Of the TLS peer, verified."
        self.refused = ""
        "Why the peer is not the one we wanted."
        self.keepalive = KEEPALIVE
        "Seconds between two pings."
        self.alias: Address | None = None
        "Where this peer also can be reached: over this connection (RFC 5923)."
        self.peer = self.local = Address("", 0)
        self.outgoing = outgoing
        self.last_heard = asyncio.get_running_loop().time()
        "When something came last, on the clock of the loop."
        self._receiver = receiver
        self._framer = StreamFramer()
        self._wire: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pinged = self._pong_came = False
        self._ponged = False
        "This peer has ever answered a ping; only then silence means something."
        self._heard = False
        self.gone = asyncio.get_running_loop().create_future()
        "Done when the connection is closed."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        if not peer or not local:  # gone before we could look
            self._wire.abort()
            return
        self.peer, self.local = Address(*peer[:2]), Address(*local[:2])
        self.certificate = transport.get_extra_info("peercert") or {}
        if self.outgoing:
            if self.transport.secure and not proves(self.certificate, self.name):
                self.refused = f"it stands for {', '.join(identities(self.certificate)) or 'nobody'}"
                self._wire.abort()
                return
            self._arm(self.keepalive)
        else:
            self._arm(SILENT_PEER)
            if not self._receiver.opened(self):
                self._wire.abort()

    def data_received(self, data: bytes) -> None:
        self.last_heard = asyncio.get_running_loop().time()
        try:
            while frames := self._framer.feed(data):
                data = b""
                for frame in frames:
                    self._frame(frame)
        except SipParseError as exc:
            self._receiver.dropped("stream-unframed", f"{self}: {exc}")
            if unframed := self._framer.unframed:
                self._receiver.received(unframed, self)  # so that its sender hears why
            self.close()

    def _frame(self, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.MESSAGE:
                self.heard(frame.data)
            case FrameKind.PING:
                if not self.closed:
                    self._write(b"\r\n")
            case FrameKind.PONG:
                self.ponged()

    def heard(self, message: bytes) -> None:
        """One whole message came."""
        self._heard = True
        self._receiver.received(message, self)

    def ponged(self) -> None:
        """The peer has answered a ping."""
        self._ponged = self._pong_came = True

    async def usable(self) -> None:
        """Until messages can be sent. Raises OSError."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wire = None
        if not self.gone.done():
            self.gone.set_result(None)
        self._receiver.closed(self, str(exc) if exc else "closed by the peer")

    def reaches(self, target: Target) -> bool:
        """Whether what goes to that target may go this way."""
        if self.closed:
            return False
        if self.transport is target.transport and target.address == self.alias:
            return proves(self.certificate, target.name)
        # Routes and contacts name addresses; there a peer that was verified under another name will do.
        return self.leads_to(target) and (
            not self.transport.secure or numeric(target.name) or proves(self.certificate, target.name)
        )

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportError(f"the connection to {self.peer.host} port {self.peer.port} is closed")
        self._write(data)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    @property
    def closed(self) -> bool:
        return self._wire is None or self._wire.is_closing()

    def _write(self, data: bytes) -> None:
        if self._wire is None:
            return
        if self._wire.get_write_buffer_size() > MAX_UNSENT:
            self._wire.abort()
            raise TransportError(f"{self.peer.host} port {self.peer.port} does not read what we send")
        self._wire.write(data)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        if self.closed:
            return
        if not self.outgoing:
            if not self._heard:
                self._receiver.dropped("connection-silent", str(self))
                self.close()
            return
        if self._pinged:  # time is up for the pong
            if self._ponged and not self._pong_came:
                self._receiver.dropped("connection-dead", str(self))
                self.abort()
                return
            self._pinged = False
            self._arm(max(self.keepalive - PONG_WAIT, 0.0))
            return
        self._pinged, self._pong_came = True, False
        try:
            self._ping()
        except TransportError:
            return  # connection_lost tells the rest
        self._arm(PONG_WAIT)

    def _ping(self) -> None:
        self._write(b"\r\n\r\n")
