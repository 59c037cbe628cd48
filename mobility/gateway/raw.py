"""The terminal's end where the gateway is any terminator of TLS, such as stunnel or HAProxy.

One TLS connection for each connection of a program, all of them resumed from one session; where it leads to, the
terminator knows by port or by name (SNI). What is under way is lost with the connection that carries it: the program
sees a reset and begins anew.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from mobility.gateway.causes import Cause
from mobility.gateway.ends import LOW, MOST_AT_ONCE
from mobility.gateway.outputs import (
    Break,
    Close,
    Connect,
    Deliver,
    Finish,
    Listen,
    Output,
    Room,
    SessionOpened,
    Transmit,
    TunnelBroken,
    TunnelClosed,
    TunnelOpened,
)
from mobility.gateway.secure import SecureLink, SecureLinkError
from mobility.gateway.session import MOST_TUNNELS
from mobility.gateway.settings import Destination, GatewayAccess
from mobility.gateway.tunnel import WINDOW

TIME_TO_CONNECT = 10.0
"Seconds for TCP and TLS."


@dataclass(slots=True)
class _Connection:
    """A program's connection and the outer one that carries it; both have the same number."""

    number: int
    destination: Destination
    port: int
    deadline: float | None
    link: SecureLink | None = None
    held: bytearray = field(default_factory=bytearray)
    "Of the program, until TLS stands."
    queued: int = 0
    "Octets that the network has not taken yet."
    undelivered: int = 0
    sent: int = 0
    received: int = 0
    ended: bool = False
    peer_ended: bool = False
    told: bool = False
    "TLS stands and an event has said so."

    @property
    def name(self) -> str:
        host = self.destination.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class RawSession:
    """Offers what `mobility.gateway.session.GatewaySession` offers to its shell."""

    def __init__(self, access: GatewayAccess, context: ssl.SSLContext) -> None:
        self.access = access
        self._context = context
        self._connections: dict[int, _Connection] = {}
        self._numbers = 0
        self._tickets: dict[str, ssl.SSLSession] = {}
        self._failure = ""

    # ------------------------------------------------------------ what the shell tells

    def start(self, now: float) -> list[Output]:
        return []

    def moved(self, now: float) -> list[Output]:
        return []

    def open(self, host: str, port: int, now: float) -> tuple[int, list[Output]]:
        """A program has connected; returns the number of the connection."""
        self._numbers += 1
        destination = next(each for each in self.access.destinations if each.host == host and port in each.ports)
        connection = _Connection(self._numbers, destination, port, now + TIME_TO_CONNECT)
        if len(self._connections) >= MOST_TUNNELS:
            return connection.number, self._break(
                connection, Cause.TOO_MANY_TUNNELS, f"there are {MOST_TUNNELS} already"
            )
        self._connections[connection.number] = connection
        outer = self.access.port if destination.outer_port is None else destination.outer_port
        return connection.number, [Connect(connection.number, self.access.host, outer)]

    def connected(self, number: int, now: float) -> list[Output]:
        connection = self._connections.get(number)
        if connection is None:
            return [Close(number)]
        name = self._name(connection)
        connection.link = SecureLink(self._context, server_name=name, session=self._tickets.get(name))
        try:
            connection.link.start()
        except SecureLinkError as error:
            return self._break(connection, error.cause, error.why)
        return self._sent(connection)

    def failed(self, number: int, why: str, now: float) -> list[Output]:
        connection = self._connections.get(number)
        return [] if connection is None else self._break(connection, Cause.UNREACHABLE, why)

    def received(self, number: int, data: bytes, now: float) -> list[Output]:
        connection = self._connections.get(number)
        if connection is None or connection.link is None:
            return []
        link = connection.link
        if not data:
            if connection.peer_ended:
                return [Close(number)]
            return self._break(connection, Cause.CUT_OFF, "the connection ended without a word")
        outputs: list[Output] = []
        try:
            plain = link.receive(data)
            if link.established and connection.deadline is not None:
                connection.deadline = None
                if connection.held:
                    link.send(bytes(connection.held))
                    connection.held.clear()
                if connection.ended:
                    link.close()
        except SecureLinkError as error:
            return [*self._sent(connection), *self._break(connection, error.cause, error.why)]
        if plain or link.ended:
            self._tell(connection, outputs)
        if plain:
            connection.received += len(plain)
            connection.undelivered += len(plain)
            outputs.append(Deliver(number, plain))
        outputs += self._sent(connection)
        if link.ended and not connection.peer_ended:
            connection.peer_ended = True
            outputs += [Finish(number), *self._over(connection)]
        return outputs

    def written(self, number: int, octets: int, now: float) -> list[Output]:
        connection = self._connections.get(number)
        if connection is None:
            return []
        before = self.room(number)
        connection.queued -= octets
        return [Room(number)] if before < LOW <= self.room(number) else []

    def appetite(self, number: int) -> int:
        connection = self._connections.get(number)
        return MOST_AT_ONCE if connection is None or connection.undelivered < WINDOW else 0

    def room(self, number: int) -> int:
        connection = self._connections.get(number)
        if connection is None:
            return 0
        return max(0, WINDOW - connection.queued - len(connection.held))

    def put(self, number: int, data: bytes, now: float) -> list[Output]:
        connection = self._connections[number]
        connection.sent += len(data)
        if connection.link is None or not connection.link.established:
            connection.held += data
            return []
        try:
            connection.link.send(data)
        except SecureLinkError as error:
            return self._break(connection, error.cause, error.why)
        return self._sent(connection)

    def finish(self, number: int, now: float) -> list[Output]:
        connection = self._connections.get(number)
        if connection is None or connection.ended:
            return []
        connection.ended = True
        if connection.link is None or not connection.link.established:
            return []
        connection.link.close()
        return [*self._sent(connection), *self._over(connection)]

    def broken(self, number: int, now: float) -> list[Output]:
        connection = self._connections.get(number)
        return (
            [] if connection is None else self._break(connection, Cause.PROGRAM_BROKEN, "it has reset the connection")
        )

    def passed_on(self, number: int, octets: int, now: float) -> list[Output]:
        connection = self._connections.get(number)
        if connection is None:
            return []
        stopped = connection.undelivered >= WINDOW
        connection.undelivered -= octets
        return [Listen(number)] if stopped and connection.undelivered < WINDOW else []

    @property
    def timer(self) -> float | None:
        return min((each.deadline for each in self._connections.values() if each.deadline is not None), default=None)

    def wake(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for connection in list(self._connections.values()):
            if connection.deadline is not None and connection.deadline <= now:
                outputs += self._break(connection, Cause.HANDSHAKE_TIMEOUT, f"no session within {TIME_TO_CONNECT:g} s")
        return outputs

    def close(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for connection in list(self._connections.values()):
            outputs += self._break(connection, Cause.CLOSED, "the terminal is being stopped")
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        values: dict[str, object] = {
            "gateway": self.access.name,
            "server": f"{self.access.host} port {self.access.port}",
            "via": str(self.access.via),
            "protocol": "raw",
            "state": "ready",
            "tunnels": [
                {
                    "destination": each.name,
                    "state": "open" if each.told else "opening",
                    "sent": each.sent,
                    "received": each.received,
                }
                for each in self._connections.values()
            ],
        }
        if self._failure:
            values["because"] = self._failure
        return values

    # ------------------------------------------------------------ inside

    def _name(self, connection: _Connection) -> str:
        named = connection.destination.outer_name
        return self.access.server_name if named is None else named

    def _tell(self, connection: _Connection, outputs: list[Output]) -> None:
        link = connection.link
        if connection.told or link is None:
            return
        connection.told, self._failure = True, ""
        server = f"{self.access.host} port {self.access.port}"
        outputs += [
            SessionOpened(self.access.name, server, link.version, link.resumed, 0),
            TunnelOpened(self.access.name, connection.name),
        ]

    def _sent(self, connection: _Connection) -> list[Output]:
        data = b"" if connection.link is None else connection.link.outgoing()
        connection.queued += len(data)
        return [Transmit(connection.number, data)] if data else []

    def _over(self, connection: _Connection) -> list[Output]:
        if not (connection.ended and connection.peer_ended):
            return []
        self._leave(connection)
        closed = TunnelClosed(self.access.name, connection.name, connection.sent, connection.received)
        return [Close(connection.number), closed]

    def _break(self, connection: _Connection, cause: Cause, why: str) -> list[Output]:
        self._leave(connection)
        self._failure = f"{cause}: {why}"
        told = TunnelBroken(self.access.name, connection.name, cause, why)
        return [Break(connection.number), Close(connection.number), told]

    def _leave(self, connection: _Connection) -> None:
        self._connections.pop(connection.number, None)
        if connection.link is not None and connection.link.established:
            ticket = connection.link.session
            if ticket is not None:
                self._tickets[self._name(connection)] = ticket
