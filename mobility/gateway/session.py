"""The terminal's end: one outer session with one gateway, kept up, and the tunnels of programs in it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from enum import StrEnum

from mobility.gateway.carrier import Answered, Carrier, Lost, Requested
from mobility.gateway.causes import Cause
from mobility.gateway.ends import RECEIVED, REFUSED, RESUME, TUNNEL, Ends
from mobility.gateway.outputs import (
    Close,
    Connect,
    Output,
    SessionLost,
    SessionOpened,
    TunnelOpened,
)
from mobility.gateway.secure import SecureLink
from mobility.gateway.settings import GatewayAccess
from mobility.gateway.tunnel import Tunnel

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"Seconds until the session is tried again; doubled with each failure."
SETTLED = 5.0
"Seconds after which a session counts as one that works: its loss is a first one again."
CONNECT_TIME = 5.0
"Seconds for TCP."
WAIT = 10.0
"Seconds for which a program that has connected waits for the session."
MOST_TUNNELS = 128


class State(StrEnum):
    """Of the session."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    "Until it is tried again."


class GatewaySession(Ends):
    """See the module; also `mobility.gateway.ends.Ends`."""

    _breaker = Cause.PROGRAM_BROKEN
    _far_breaker = Cause.DESTINATION_BROKEN

    def __init__(self, access: GatewayAccess, context: ssl.SSLContext, random: Callable[[int], bytes]) -> None:
        super().__init__()
        self.access = access
        self._context = context
        self._random = random
        self._connections = 0
        self._tunnels = 0
        self._current: int | None = None
        "The connection that carries the tunnels."
        self._next: int | None = None
        "One that is being made."
        self._since = 0.0
        "When the current one was established, or the next one begun."
        self._deadline: float | None = None
        "For TCP of the next one."
        self._retry_at: float | None = None
        self._failures = 0
        self._ticket: ssl.SSLSession | None = None
        self.last_failure: SessionLost | None = None

    @property
    def state(self) -> State:
        if self._current is not None:
            return State.OPEN
        return State.CONNECTING if self._next is not None else State.WAITING

    # ------------------------------------------------------------ what the shell tells

    def start(self, now: float) -> list[Output]:
        """From now on there is to be a session."""
        return self._begin(now)

    def connected(self, connection: int, now: float) -> list[Output]:
        """TCP stands."""
        if connection != self._next:
            return [Close(connection)]
        self._deadline = None
        if self._current is not None:
            self._keep_ticket(self.carriers[self._current])
        link = SecureLink(self._context, server_name=self.access.server_name, session=self._ticket)
        carrier = Carrier(link, client=True, now=now, keepalive=self.access.keepalive, streams=0)
        self.carriers[connection] = carrier
        return self._work(connection, carrier, carrier.start(now), now)

    def failed(self, connection: int, why: str, now: float) -> list[Output]:
        """No TCP connection."""
        if connection != self._next:
            return []
        return self._lost(connection, Lost(Cause.UNREACHABLE, why), now)

    def open(self, host: str, port: int, now: float) -> tuple[int, list[Output]]:
        """A program has connected; returns the tunnel's number."""
        self._tunnels += 1
        tunnel = Tunnel(self._tunnels, host, port, base64.urlsafe_b64encode(self._random(33)).decode())
        if len(self.tunnels) >= MOST_TUNNELS:
            return tunnel.number, self._break(
                tunnel, Cause.TOO_MANY_TUNNELS, f"there are {MOST_TUNNELS} already", tell=False
            )
        self.tunnels[tunnel.number] = tunnel
        self._until[tunnel.number] = now + WAIT
        return tunnel.number, self._request(tunnel)

    def moved(self, now: float) -> list[Output]:
        """The terminal is in another network: what is under way there need not wait for its end.

        A session that is carried by the access network itself is made anew at once, beside the one that there is; one
        over the home address goes on by itself, and one that is waited for is tried now.
        """
        if self.access.via_home and self._current is not None:
            self.carriers[self._current].ping(now)
            return self._sent(self._current, self.carriers[self._current])
        outputs: list[Output] = []
        if self._next is not None and not self.access.via_home:
            number, self._next = self._next, None
            outputs += self._drop(number, now)
        if self._next is None:
            outputs += self._begin(now)
        return outputs

    def close(self, now: float) -> list[Output]:
        """Ends the session in an orderly way; tunnels break."""
        outputs: list[Output] = []
        for tunnel in list(self.tunnels.values()):
            outputs += self._break(tunnel, Cause.CLOSED, "the terminal is being stopped", tell=True)
        for connection, carrier in list(self.carriers.items()):
            carrier.close(Cause.CLOSED, "the terminal is being stopped")
            outputs += [*self._sent(connection, carrier), *self._drop(connection, now)]
        self._current = self._next = self._retry_at = self._deadline = None
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        """JSON-ready."""
        values: dict[str, object] = {
            "gateway": self.access.name,
            "server": f"{self.access.host} port {self.access.port}",
            "via": str(self.access.via),
            "protocol": "h2",
            "state": str(self.state),
            "tunnels": [tunnel.snapshot() for number, tunnel in self.tunnels.items() if number not in self._silent],
        }
        if self._current is not None:
            carrier = self.carriers[self._current]
            values |= {"tls": carrier.link.version, "resumed": carrier.link.resumed, "for": round(now - self._since, 3)}
            if carrier.round_trip is not None:
                values["round_trip_ms"] = round(carrier.round_trip * 1000, 3)
        elif self._retry_at is not None:
            values["retry_in"] = round(max(0.0, self._retry_at - now), 3)
        if self.last_failure is not None and self._current is None:
            values["because"] = f"{self.last_failure.cause}: {self.last_failure.why}"
        return values

    # ------------------------------------------------------------ the session

    def _begin(self, now: float) -> list[Output]:
        self._connections += 1
        self._next = self._connections
        self._retry_at = None
        self._deadline = now + CONNECT_TIME
        return [Connect(self._next, self.access.host, self.access.port)]

    @property
    def _own_timer(self) -> float | None:
        return min((at for at in (self._retry_at, self._deadline) if at is not None), default=None)

    def _own_wake(self, now: float) -> list[Output]:
        if self._deadline is not None and self._deadline <= now and self._next is not None:
            number = self._next
            return [Close(number), *self.failed(number, f"no answer within {CONNECT_TIME:g} s", now)]
        if self._retry_at is not None and self._retry_at <= now:
            return self._begin(now)
        return []

    def _established(self, connection: int, carrier: Carrier, now: float) -> list[Output]:
        outputs: list[Output] = []
        former, self._current, self._next = self._current, connection, None
        self._since, self.last_failure = now, None
        if former is not None:
            self.carriers[former].close(Cause.REPLACED, "the terminal is elsewhere")
            outputs += [*self._sent(former, self.carriers[former]), *self._drop(former, now)]
        moved = [tunnel for tunnel in self.tunnels.values() if tunnel.accepted and tunnel.number not in self._silent]
        outputs.append(
            SessionOpened(
                self.access.name, f"{self.access.host} port {self.access.port}", carrier.link.version,
                carrier.link.resumed, len(moved),
            )
        )  # fmt: skip
        for tunnel in list(self.tunnels.values()):
            outputs += self._request(tunnel)
        return outputs

    def _lost(self, connection: int, lost: Lost, now: float) -> list[Output]:
        if connection == self._current:
            self._current = None
            if now - self._since > SETTLED:
                self._failures = 0
        elif connection == self._next:
            self._next = self._deadline = None
        else:
            return []
        if self._current is not None or self._next is not None:
            pause = None  # the other one goes on
            if self._current is not None:
                pause = self._pause()
                self._retry_at = now + pause
        else:
            pause = self._pause()
            self._retry_at = now + pause
        self.last_failure = SessionLost(self.access.name, lost.cause, lost.why, pause)
        return [self.last_failure]

    def _pause(self) -> float:
        """Seconds; between half of the limit and the limit, so that many terminals do not come at the same moment."""
        limit = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 16)
        return float(limit * (0.5 + self._random(1)[0] / 512))

    def _drop(self, connection: int, now: float) -> list[Output]:
        carrier = self.carriers.get(connection)
        if carrier is not None and carrier.established:
            self._keep_ticket(carrier)
        return super()._drop(connection, now)

    def _keep_ticket(self, carrier: Carrier) -> None:
        self._ticket = carrier.link.session or self._ticket

    # ------------------------------------------------------------ tunnels

    def _request(self, tunnel: Tunnel) -> list[Output]:
        """Asks the gateway for it, if there is a session."""
        if self._current is None or tunnel.carrier is not None:
            return []
        carrier = self.carriers[self._current]
        fields = {":method": "CONNECT", ":authority": tunnel.destination, TUNNEL: tunnel.token}
        if tunnel.accepted:
            fields[RESUME] = "?1"
        fields[RECEIVED] = str(tunnel.received)
        stream = carrier.request(fields)
        if stream is None:
            return self._break(tunnel, Cause.TOO_MANY_TUNNELS, "the gateway carries no more of them", tell=False)
        self._attach(tunnel, self._current, stream)
        return self._sent(self._current, carrier)

    def _answered(self, tunnel: Tunnel, answer: Answered, now: float) -> list[Output]:
        status = answer.fields.get(":status", "")
        if status != "200":
            cause, why = _refusal(status, answer.fields.get(REFUSED, ""))
            if tunnel.carrier is not None:
                self.carriers[tunnel.carrier].end(tunnel.stream)
            return self._break(tunnel, cause, why, tell=False)
        first, tunnel.accepted = not tunnel.accepted, True
        received = answer.fields.get(RECEIVED, "")
        if not received and first:
            tunnel.token = ""  # a gateway of another kind: good for as long as the session is
        elif not (received.isdecimal() and len(received) < 20 and tunnel.resume(int(received))):
            return self._break(tunnel, Cause.TUNNEL_UNKNOWN, "octets are missing on the way", tell=True)
        opened: list[Output] = [TunnelOpened(self.access.name, tunnel.destination)] if first else []
        return opened + self._opened(tunnel, now)

    def _requested(self, connection: int, carrier: Carrier, request: Requested, now: float) -> list[Output]:
        carrier.abort(request.stream, broken=False)  # a server that asks: not in this protocol
        return []

    def _patience(self, tunnel: Tunnel) -> float:
        if not tunnel.accepted:
            return WAIT
        return self.access.hold if tunnel.token else 0.0

    def _peer(self, tunnel: Tunnel) -> str:
        return self.access.name


def _refusal(status: str, said: str) -> tuple[Cause, str]:
    name, _, why = said.partition(" ")
    if name in {str(cause) for cause in Cause}:
        return Cause(name), why or f"HTTP status {status}"
    return Cause.TUNNEL_REFUSED, f"the gateway answers with HTTP status {status}"
