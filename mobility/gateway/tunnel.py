"""One inner TCP connection on its way through outer sessions, of which it can outlive several.

What was sent is kept until the other end has passed it on: HTTP/2 says so by its flow control, since both ends here
give a stream's window back only for what was passed on. What is kept is never more than a window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW = 1 << 18
"Octets of a tunnel that may be on their way, each direction."


@dataclass(slots=True)
class Tunnel:
    """Both directions, seen from one end. Offsets count octets from the beginning of the connection."""

    number: int
    host: str
    port: int
    token: str = ""
    "Names the tunnel over all its connections, and proves the right to it; empty: it cannot be resumed."
    carrier: int | None = None
    "Number of the outer connection that carries it now; None: it waits for one."
    stream: int = 0
    "Of HTTP/2, in this connection."
    accepted: bool = False
    "The gateway has said yes, once."
    open: bool = False
    "In this connection octets may be sent."
    received: int = 0
    peer_ended: bool = False
    "The other end sends no more."
    passed_on: int = 0
    "Of what was received."
    base: int = 0
    "Offset of the first octet that is kept."
    kept: bytearray = field(default_factory=bytearray)
    next: int = 0
    "Offset of the next octet to be sent in this connection."
    ended: bool = False
    "Our side sends no more than what is kept."
    end_sent: bool = False
    _stale: int = 0
    "Octets that came in an earlier connection and are not passed on yet: nobody waits for their window."

    @property
    def destination(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def room(self) -> int:
        """How many more octets it takes."""
        return WINDOW - len(self.kept)

    @property
    def taken(self) -> int:
        """Octets that it was given to carry."""
        return self.base + len(self.kept)

    @property
    def unsent(self) -> int:
        return self.taken - self.next

    @property
    def finished(self) -> bool:
        """Both directions have come to their end in this connection."""
        return self.end_sent and self.peer_ended

    def put(self, data: bytes) -> None:
        """Octets to carry; at most `room`."""
        self.kept += data

    def chunk(self, limit: int) -> bytes:
        """The next octets to send, at most ``limit``; they count as sent."""
        begin = self.next - self.base
        data = bytes(self.kept[begin : begin + limit])
        self.next += len(data)
        if not self.token:
            self._forget(self.next)
        return data

    def acknowledged(self, octets: int) -> None:
        """The other end has passed on so many more."""
        self._forget(min(self.base + octets, self.next))

    def take(self, octets: int) -> None:
        """So many more have been received."""
        self.received += octets

    def pass_on(self, octets: int) -> int:
        """So many of what was received have reached the program or destination; returns for how many of them the
        other end waits in this connection.
        """
        self.passed_on += octets
        old = min(octets, self._stale)
        self._stale -= old
        return octets - old

    def suspend(self) -> None:
        """Its connection is gone."""
        self.carrier, self.stream, self.open = None, 0, False
        self._stale = self.received - self.passed_on
        self.end_sent = False

    def resume(self, peer_received: int) -> bool:
        """The other end has so many octets; sending goes on from there. False: that cannot be, something is lost."""
        if not self.base <= peer_received <= self.taken:
            return False
        self._forget(peer_received)
        self.next = peer_received
        return True

    def _forget(self, upto: int) -> None:
        if upto > self.base:
            del self.kept[: upto - self.base]
            self.base = upto

    def snapshot(self) -> dict[str, object]:
        """JSON-ready."""
        state = "open" if self.open else "waiting" if self.accepted else "opening"
        return {"destination": self.destination, "state": state, "sent": self.taken, "received": self.received}
