"""What the engines of both ends answer with. Connections and tunnels have numbers, which their shells use too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mobility.gateway.causes import Cause
from mobility.outputs import Event


class Connect(NamedTuple):
    """Open a TCP connection to the gateway (terminal), or to a destination (gateway: ``number`` is the tunnel's)."""

    number: int
    host: str
    port: int


class Transmit(NamedTuple):
    """Octets for a connection to the other end of the outer session."""

    connection: int
    data: bytes


class Close(NamedTuple):
    """No more of this outer connection: close it when all is sent."""

    connection: int


class Deliver(NamedTuple):
    """Octets for the program (terminal) or destination (gateway) of a tunnel."""

    tunnel: int
    data: bytes


class Finish(NamedTuple):
    """Nothing more comes for the program or destination: half-close it when all is delivered."""

    tunnel: int


class Break(NamedTuple):
    """The tunnel is over before its end: reset the connection of the program or destination."""

    tunnel: int


class Room(NamedTuple):
    """The tunnel takes octets of the program or destination (again)."""

    tunnel: int


class Listen(NamedTuple):
    """What the other end sent in this outer connection is wanted (again)."""

    connection: int


Output = Connect | Transmit | Close | Deliver | Finish | Break | Room | Listen | Event


@dataclass(frozen=True, slots=True)
class SessionOpened(Event):
    """The outer session stands (709 in Fig. 39)."""

    gateway: str
    "At the gateway: who the terminal has proven to be, or its address."
    address: str
    tls: str
    resumed: bool
    "By a ticket of an earlier TLS session."
    tunnels: int
    "That were moved over from an earlier connection."


@dataclass(frozen=True, slots=True)
class SessionLost(Event):
    """The outer session ended or could not be."""

    gateway: str
    cause: Cause
    why: str
    retry_in: float | None = None
    "Seconds; None: nobody tries again."


@dataclass(frozen=True, slots=True)
class TunnelOpened(Event):
    gateway: str
    destination: str


@dataclass(frozen=True, slots=True)
class TunnelClosed(Event):
    """Both directions came to their end."""

    gateway: str
    destination: str
    sent: int
    "Octets of the program at the terminal, of the destination at the gateway."
    received: int


@dataclass(frozen=True, slots=True)
class TunnelBroken(Event):
    """A tunnel was refused or ended before its end; the program sees a reset connection."""

    gateway: str
    destination: str
    cause: Cause
    why: str
