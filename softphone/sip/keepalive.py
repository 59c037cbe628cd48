"""Keeps a datagram flow open through NATs, and notices when it is another one: STUN keepalive (RFC 5626 section 4.4.2).

An engine: the caller sends the packets, hands in the answers and the time. aioice knows the format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aioice import stun

from softphone.sip.transport import Address

INTERVAL = 29.0
"Seconds between two questions at most, where the server does not say (section 4.4.2)."
RETRANSMISSIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 8.0)
"Seconds until the question is repeated, and in the end given up (RFC 5389 section 7.2.1)."


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to the server."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The flow is not what it was: register again."""

    why: str


@dataclass(frozen=True, slots=True)
class Silent:
    """The server has never answered: it knows no STUN, whatever it says."""


Output = Ask | Failed | Silent


class StunKeepalive:
    """One flow. ``random`` makes transaction ids, ``jitter`` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[int], bytes], jitter: Callable[[], float], interval: float = INTERVAL) -> None:
        self.timer: float | None = None
        self.mapped: Address | None = None
        "Where the server sees us."
        self._random = random
        self._jitter = jitter
        self._interval = interval
        self._question = b""
        self._transaction = b""
        self._attempt = 0

    def begin(self, now: float) -> list[Output]:
        """The first question, at once: its answer is what later ones are compared with."""
        self._transaction = self._random(12)
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, self._transaction)
        self._question = bytes(message)
        self._attempt = 0
        return self._ask(now)

    def handle_timer(self, now: float) -> list[Output]:
        """Something is due."""
        if self.timer is None or now < self.timer:
            return []
        if not self._transaction:
            return self.begin(now)
        if self._attempt == len(RETRANSMISSIONS):
            self.timer = None
            return [Silent() if self.mapped is None else Failed("the server does not answer keepalives any more")]
        return self._ask(now)

    def received(self, data: bytes, now: float) -> list[Output] | None:
        """A STUN message from the server; None: it is no answer to our question."""
        try:
            message = stun.parse_message(data)
        except ValueError:
            return None
        if not self._transaction or message.transaction_id != self._transaction:
            return None
        if message.message_method is not stun.Method.BINDING or message.message_class is not stun.Class.RESPONSE:
            return None
        mapped = message.attributes.get("XOR-MAPPED-ADDRESS")
        if mapped is None:
            return None
        self._transaction = b""
        self.timer = now + self._interval * (0.8 + 0.2 * self._jitter())
        before, self.mapped = self.mapped, Address(*mapped)
        if before is not None and before != self.mapped:
            self.timer = None
            return [Failed(f"the server sees us at {self.mapped.host} port {self.mapped.port} now")]
        return []

    def _ask(self, now: float) -> list[Output]:
        self.timer = now + RETRANSMISSIONS[self._attempt]
        self._attempt += 1
        return [Ask(self._question)]


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN: SIP begins with a letter (RFC 5389 section 6)."""
    return len(data) >= 20 and data[0] < 4 and data[4:8] == stun.COOKIE.to_bytes(4, "big")
