"""The gateway's end: outer sessions of terminals (709 in Fig. 39), and connections to the allowed destinations."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address

from mobility.gateway.carrier import Answered, Carrier, Lost, Requested
from mobility.gateway.causes import Cause
from mobility.gateway.ends import RECEIVED, REFUSED, RESUME, TUNNEL, Ends
from mobility.gateway.outputs import (
    Break,
    Close,
    Connect,
    Output,
    SessionLost,
    SessionOpened,
    TunnelBroken,
    TunnelOpened,
)
from mobility.gateway.secure import SecureLink
from mobility.gateway.settings import Allowed, GatewaySettings
from mobility.gateway.tunnel import Tunnel

MOST_HANDSHAKES = 64
"Outer connections whose handshake is not finished; of those beyond, the oldest goes."
MOST_TUNNELS = 4096
"Of all sessions together, those that wait included."
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")
_STATUS = {
    Cause.DESTINATION_REFUSED: "403",
    Cause.TUNNEL_UNKNOWN: "410",
    Cause.REQUEST_MALFORMED: "400",
    Cause.METHOD_REFUSED: "405",
    Cause.TOO_MANY_TUNNELS: "503",
}
"What HTTP calls it (RFC 9110 section 15); all else is 502."


@dataclass(frozen=True, slots=True)
class _Client:
    """Who is at the other end of an outer connection."""

    address: str
    fingerprint: str = ""
    "Of its certificate; empty: it has shown none."
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.names[0] if self.names else self.address


class GatewayServer(Ends):
    """See the module; also `mobility.gateway.ends.Ends`. The shell numbers outer connections."""

    _breaker = Cause.DESTINATION_BROKEN
    _far_breaker = Cause.PROGRAM_BROKEN

    def __init__(self, settings: GatewaySettings, context: ssl.SSLContext) -> None:
        super().__init__()
        self.settings = settings
        self.context = context
        self._clients: dict[int, _Client] = {}
        self._owners: dict[int, _Client] = {}
        "By tunnel."
        self._tokens: dict[str, Tunnel] = {}
        self._tunnels = 0
        self.counters: Counter[str] = Counter()

    # ------------------------------------------------------------ what the shell tells

    def accepted(self, connection: int, address: str, now: float) -> list[Output]:
        """A TCP connection of somebody. `Close` among the answers: it is not wanted."""
        outputs: list[Output] = []
        self.counters["connections"] += 1
        hesitant = [number for number, carrier in self.carriers.items() if not carrier.established]
        if len(hesitant) >= MOST_HANDSHAKES:
            outputs += self._end(hesitant[0], Lost(Cause.HANDSHAKE_TIMEOUT, "others wait, who may be quicker"), now)
        elif len(self.carriers) >= self.settings.sessions:
            self.counters[f"lost-{Cause.TOO_MANY_SESSIONS}"] += 1
            why = f"there are {self.settings.sessions} already"
            return [Close(connection), SessionLost(address, Cause.TOO_MANY_SESSIONS, why)]
        self._clients[connection] = _Client(address)
        self.carriers[connection] = Carrier(
            SecureLink(self.context), client=False, now=now, keepalive=self.settings.keepalive,
            streams=self.settings.tunnels,
        )  # fmt: skip
        return outputs

    def connected(self, number: int, now: float) -> list[Output]:
        """The destination of a tunnel is reached."""
        tunnel = self.tunnels.get(number)
        if tunnel is None:
            return [Break(number)]
        tunnel.accepted = True
        self.counters["tunnels"] += 1
        return [TunnelOpened(self._peer(tunnel), tunnel.destination), *self._grant(tunnel, now)]

    def failed(self, number: int, why: str, now: float) -> list[Output]:
        """It is not."""
        tunnel = self.tunnels.get(number)
        if tunnel is None:
            return []
        outputs: list[Output] = []
        if tunnel.carrier is not None:
            outputs += self._refuse(tunnel.carrier, tunnel.stream, Cause.DESTINATION_UNREACHABLE, why)
        return outputs + self._break(tunnel, Cause.DESTINATION_UNREACHABLE, why, tell=False)

    def close(self, now: float) -> list[Output]:
        """Ends all sessions in an orderly way."""
        outputs: list[Output] = []
        for tunnel in list(self.tunnels.values()):
            outputs += self._break(tunnel, Cause.CLOSED, "the gateway is being stopped", tell=True)
        for connection, carrier in list(self.carriers.items()):
            carrier.close(Cause.CLOSED, "the gateway is being stopped")
            outputs += [*self._sent(connection, carrier), *self._drop(connection, now)]
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        """JSON-ready."""
        sessions = []
        for connection, carrier in self.carriers.items():
            client = self._clients[connection]
            tunnels = [tunnel for tunnel in self.tunnels.values() if tunnel.carrier == connection]
            sessions.append(
                {
                    "client": str(client),
                    "address": client.address,
                    "state": "open" if carrier.established else "handshake",
                    "tls": carrier.link.version,
                    "resumed": carrier.established and carrier.link.resumed,
                    "tunnels": [tunnel.snapshot() for tunnel in tunnels if tunnel.number not in self._silent],
                }
            )
        waiting = [tunnel.snapshot() for tunnel in self.tunnels.values() if tunnel.carrier is None]
        return {"sessions": sessions, "waiting": waiting, "counters": dict(self.counters)}

    # ------------------------------------------------------------ sessions

    @property
    def _own_timer(self) -> float | None:
        return None

    def _own_wake(self, now: float) -> list[Output]:
        return []

    def _established(self, connection: int, carrier: Carrier, now: float) -> list[Output]:
        certificate = carrier.link.peer_certificate()
        address = self._clients[connection].address
        if certificate is not None:
            names = tuple(carrier.link.peer_names())
            self._clients[connection] = _Client(address, hashlib.sha256(certificate).hexdigest(), names)
        self.counters["sessions"] += 1
        self.counters["sessions-resumed"] += carrier.link.resumed
        client = str(self._clients[connection])
        return [SessionOpened(client, address, carrier.link.version, carrier.link.resumed, 0)]

    def _end(self, connection: int, lost: Lost, now: float) -> list[Output]:
        return [*self._drop(connection, now), *self._lost(connection, lost, now)]

    def _lost(self, connection: int, lost: Lost, now: float) -> list[Output]:
        self.counters[f"lost-{lost.cause}"] += 1
        return [SessionLost(str(self._clients.pop(connection)), lost.cause, lost.why)]

    # ------------------------------------------------------------ tunnels

    def _requested(self, connection: int, carrier: Carrier, request: Requested, now: float) -> list[Output]:
        fields, stream = request.fields, request.stream
        client = self._clients[connection]
        if fields.get(":method") != "CONNECT":
            return self._refused(connection, stream, "", Cause.METHOD_REFUSED, "this gateway only knows CONNECT")
        authority, token = fields.get(":authority", ""), fields.get(TUNNEL, "")
        received = fields.get(RECEIVED, "0")
        found = _destination(authority)
        if (
            found is None
            or (token and not _TOKEN.fullmatch(token))
            or not (received.isdecimal() and len(received) < 20)
        ):
            return self._refused(connection, stream, authority, Cause.REQUEST_MALFORMED, "not a host with a port")
        known = self._tokens.get(token) if token else None
        if known is not None:
            if (known.host, known.port) != found or self._owners[known.number].fingerprint != client.fingerprint:
                return self._refused(connection, stream, authority, Cause.TUNNEL_UNKNOWN, "it is somebody else's")
            return self._resume(known, connection, stream, int(received), now)
        if fields.get(RESUME) == "?1":
            return self._refused(connection, stream, authority, Cause.TUNNEL_UNKNOWN, "it is not known here (any more)")
        row = self._row(client, *found)
        if row is None:
            return self._refused(
                connection, stream, authority, Cause.DESTINATION_REFUSED, "it is not in the list of this gateway"
            )
        outputs = self._make_room()
        if outputs is None:
            return self._refused(connection, stream, authority, Cause.TOO_MANY_TUNNELS, f"{MOST_TUNNELS} are open")
        self._tunnels += 1
        tunnel = Tunnel(self._tunnels, *found, token)
        self.tunnels[tunnel.number] = tunnel
        self._owners[tunnel.number] = client
        if token:
            self._tokens[token] = tunnel
        self._attach(tunnel, connection, stream)
        host, port = found
        return [*outputs, Connect(tunnel.number, host if row.address is None else str(row.address), port)]

    def _make_room(self) -> list[Output] | None:
        """The tunnel that waits longest for its session makes room for a new one; None: none waits."""
        if len(self.tunnels) < MOST_TUNNELS:
            return []
        oldest = min(self._until, key=self._until.__getitem__, default=None)
        if oldest is None:
            return None
        return self._break(
            self.tunnels[oldest], Cause.TOO_MANY_TUNNELS, "it waited longest for its session", tell=False
        )

    def _row(self, client: _Client, host: str, port: int) -> Allowed | None:
        """Of the list of what may be reached."""
        for row in self.settings.allowed:
            if row.host == host and port in row.ports and (row.clients is None or set(row.clients) & set(client.names)):
                return row
        return None

    def _resume(self, tunnel: Tunnel, connection: int, stream: int, received: int, now: float) -> list[Output]:
        outputs: list[Output] = []
        if tunnel.carrier is not None:
            self.carriers[tunnel.carrier].abort(tunnel.stream, broken=False)
            outputs += self._sent(tunnel.carrier, self.carriers[tunnel.carrier])
            outputs += self._suspend(tunnel, now)
        self._attach(tunnel, connection, stream)
        if not tunnel.accepted:
            return outputs  # the destination is being connected to
        if not tunnel.resume(received):
            outputs += self._refuse(connection, stream, Cause.TUNNEL_UNKNOWN, "octets are missing")
            return outputs + self._break(tunnel, Cause.TUNNEL_UNKNOWN, "octets are missing on the way", tell=False)
        self.counters["tunnels-resumed"] += 1
        return outputs + self._grant(tunnel, now)

    def _grant(self, tunnel: Tunnel, now: float) -> list[Output]:
        if tunnel.carrier is None:
            return []
        carrier = self.carriers[tunnel.carrier]
        fields = {":status": "200"}
        if tunnel.token:
            fields[RECEIVED] = str(tunnel.received)
        carrier.answer(tunnel.stream, fields)
        return [*self._sent(tunnel.carrier, carrier), *self._opened(tunnel, now)]

    def _answered(self, tunnel: Tunnel, answer: Answered, now: float) -> list[Output]:
        return []  # nothing is asked from here

    def _refused(self, connection: int, stream: int, authority: str, cause: Cause, why: str) -> list[Output]:
        self.counters[f"refused-{cause}"] += 1
        told = TunnelBroken(str(self._clients[connection]), authority[:300], cause, why)
        return [*self._refuse(connection, stream, cause, why), told]

    def _refuse(self, connection: int, stream: int, cause: Cause, why: str) -> list[Output]:
        carrier = self.carriers[connection]
        said = f"{cause} {why}".encode("ascii", "replace").decode()
        carrier.answer(stream, {":status": _STATUS.get(cause, "502"), REFUSED: said}, end=True)
        return self._sent(connection, carrier)

    def _patience(self, tunnel: Tunnel) -> float:
        return self.settings.hold if tunnel.token else 0.0

    def _peer(self, tunnel: Tunnel) -> str:
        return str(self._owners.get(tunnel.number, ""))

    def _break(self, tunnel: Tunnel, cause: Cause, why: str, *, tell: bool) -> list[Output]:
        self.counters[f"broken-{cause}"] += tunnel.number not in self._silent
        return super()._break(tunnel, cause, why, tell=tell)

    def _forget(self, tunnel: Tunnel) -> None:
        super()._forget(tunnel)
        self._tokens.pop(tunnel.token, None)
        self._owners.pop(tunnel.number, None)


def _destination(authority: str) -> tuple[str, int] | None:
    """Host (a name in lower case, or an address as `ipaddress` writes it) and port; None: that is none."""
    host, _, digits = authority.rpartition(":")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 0 < int(digits) < 65536):
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            return None
    elif ":" in host:
        return None
    if not host or len(host) > 253 or not host.isascii() or any(letter.isspace() for letter in host):
        return None
    try:
        return str(ip_address(host)), int(digits)
    except ValueError:
        return (host.lower(), int(digits)) if ":" not in host else None
