"""What both ends of an outer session have in common: carriers, tunnels in their streams, and the moving of octets."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mobility.gateway.carrier import (
    Aborted,
    Acknowledged,
    Answered,
    Carrier,
    Data,
    Ended,
    Established,
    Happening,
    Lost,
    Requested,
    Writable,
)
from mobility.gateway.causes import Cause
from mobility.gateway.outputs import (
    Break,
    Close,
    Deliver,
    Finish,
    Output,
    Room,
    Transmit,
    TunnelBroken,
    TunnelClosed,
)
from mobility.gateway.tunnel import WINDOW, Tunnel

LINGER = 10.0
"Seconds for which a tunnel that is over stays known: the other end may not have heard of the end yet."
MOST_AT_ONCE = 1 << 16
LOW = WINDOW // 4
"A tunnel asks for more when it has room for so many octets."

TUNNEL, RECEIVED, RESUME, REFUSED = "roam-tunnel", "roam-received", "roam-resume", "roam-refused"
"Header fields of ours beside CONNECT. Who does not know them ignores them; then tunnels cannot be resumed."


class Ends(ABC):
    """An engine. All times are monotonic seconds; every call returns what is to be done."""

    def __init__(self) -> None:
        self.carriers: dict[int, Carrier] = {}
        self.tunnels: dict[int, Tunnel] = {}
        self._streams: dict[tuple[int, int], Tunnel] = {}
        self._until: dict[int, float] = {}
        "When a tunnel that waits, or is over, is given up."
        self._silent: set[int] = set()
        "Tunnels that are over for the program or destination."

    # ------------------------------------------------------------ what the shell tells

    def received(self, connection: int, data: bytes, now: float) -> list[Output]:
        """Octets of an outer connection; empty: it has ended."""
        carrier = self.carriers.get(connection)
        return [] if carrier is None else self._work(connection, carrier, carrier.received(data, now), now)

    def written(self, connection: int, octets: int, now: float) -> list[Output]:
        """The network has taken so many octets of an outer connection."""
        carrier = self.carriers.get(connection)
        return [] if carrier is None else self._work(connection, carrier, carrier.written(octets), now)

    def appetite(self, _connection: int) -> int:
        """How many octets of an outer connection are wanted now; `Listen` tells when it is not 0 any more."""
        return MOST_AT_ONCE  # HTTP/2 does not send more than its windows

    def room(self, number: int) -> int:
        """How many octets the tunnel takes now. When it is less than `LOW`, `Room` tells of more."""
        tunnel = self.tunnels.get(number)
        return 0 if tunnel is None or number in self._silent else tunnel.room

    def put(self, number: int, data: bytes, now: float) -> list[Output]:
        """Octets of the program or destination, at most `room`."""
        tunnel = self.tunnels[number]
        tunnel.put(data)
        return self._pump(tunnel, now)

    def finish(self, number: int, now: float) -> list[Output]:
        """The program or destination sends no more."""
        tunnel = self.tunnels.get(number)
        if tunnel is None or tunnel.ended:
            return []
        tunnel.ended = True
        return self._pump(tunnel, now)

    def broken(self, number: int, now: float) -> list[Output]:
        """The program or destination has reset its connection."""
        tunnel = self.tunnels.get(number)
        if tunnel is None or number in self._silent:
            return []
        return self._break(tunnel, self._breaker, "it has reset the connection", tell=True)

    def passed_on(self, number: int, octets: int, now: float) -> list[Output]:
        """So many octets of `Deliver` have reached the program or destination."""
        tunnel = self.tunnels.get(number)
        if tunnel is None:
            return []
        waited_for = tunnel.pass_on(octets)
        carrier = None if tunnel.carrier is None else self.carriers.get(tunnel.carrier)
        if carrier is None or tunnel.carrier is None:
            return []
        carrier.passed_on(tunnel.stream, waited_for)
        return self._sent(tunnel.carrier, carrier)

    @property
    def timer(self) -> float | None:
        """When `wake` is due."""
        times = [carrier.timer for carrier in self.carriers.values()]
        return min((at for at in (*times, *self._until.values(), self._own_timer) if at is not None), default=None)

    def wake(self, now: float) -> list[Output]:
        """Time has passed."""
        outputs: list[Output] = []
        for connection, carrier in list(self.carriers.items()):
            outputs += self._work(connection, carrier, carrier.wake(now), now)
        for number in [number for number, until in self._until.items() if until <= now]:
            del self._until[number]
            tunnel = self.tunnels[number]
            if number in self._silent:
                self._forget(tunnel)
            else:
                outputs += self._break(tunnel, Cause.GAVE_UP, "the session did not come (back) in time", tell=True)
        return outputs + self._own_wake(now)

    # ------------------------------------------------------------ what ends differ in

    _breaker: Cause
    "What it means that the shell calls `broken`."

    @property
    @abstractmethod
    def _own_timer(self) -> float | None: ...

    @abstractmethod
    def _own_wake(self, now: float) -> list[Output]: ...

    @abstractmethod
    def _established(self, connection: int, carrier: Carrier, now: float) -> list[Output]: ...

    @abstractmethod
    def _requested(self, connection: int, carrier: Carrier, request: Requested, now: float) -> list[Output]: ...

    @abstractmethod
    def _answered(self, tunnel: Tunnel, answer: Answered, now: float) -> list[Output]: ...

    @abstractmethod
    def _lost(self, connection: int, lost: Lost, now: float) -> list[Output]:
        """The carrier is gone already, and its tunnels are suspended."""

    @abstractmethod
    def _patience(self, tunnel: Tunnel) -> float:
        """Seconds for which a suspended tunnel waits; 0: it cannot."""

    @abstractmethod
    def _peer(self, tunnel: Tunnel) -> str:
        """What events call the other end."""

    # ------------------------------------------------------------ inside

    def _work(self, connection: int, carrier: Carrier, happened: list[Happening], now: float) -> list[Output]:
        outputs: list[Output] = []
        lost: Lost | None = None
        for happening in happened:
            match happening:
                case Established():
                    outputs += self._established(connection, carrier, now)
                case Requested():
                    outputs += self._requested(connection, carrier, happening, now)
                case Writable():
                    outputs += self._pump_all(connection, now)
                case Lost():
                    lost = happening
                case Answered():
                    tunnel = self._streams.get((connection, happening.stream))
                    if tunnel is not None:
                        outputs += self._answered(tunnel, happening, now)
                case Data(stream, data):
                    outputs += self._data(connection, carrier, stream, data)
                case Ended(stream):
                    tunnel = self._streams.get((connection, stream))
                    if tunnel is not None and not tunnel.peer_ended:
                        tunnel.peer_ended = True
                        outputs += [Finish(tunnel.number), *self._over(tunnel, now)]
                case Aborted(stream, code):
                    tunnel = self._streams.get((connection, stream))
                    if tunnel is not None:
                        outputs += self._break(
                            tunnel, self._far_breaker, f"the other end has reset it (HTTP/2 error {code})", tell=False
                        )
                case Acknowledged(stream, octets):
                    tunnel = self._streams.get((connection, stream))
                    if tunnel is not None and tunnel.token and tunnel.open:
                        before = tunnel.room
                        tunnel.acknowledged(octets)
                        outputs += self._room(tunnel, before)
        outputs += self._sent(connection, carrier)
        if lost is None and carrier.unread:
            (lost,) = [
                each for each in carrier.close(Cause.NOT_READ, "too much waits to be read") if isinstance(each, Lost)
            ]
        if lost is not None:
            outputs += self._drop(connection, now)
            outputs += self._lost(connection, lost, now)
        return outputs

    _far_breaker: Cause
    "What it means that the other end resets a stream."

    def _data(self, connection: int, carrier: Carrier, stream: int, data: bytes) -> list[Output]:
        tunnel = self._streams.get((connection, stream))
        if tunnel is None:
            carrier.passed_on(stream, len(data))  # of a tunnel that is gone: the others need the connection's window
            return []
        tunnel.take(len(data))
        return [Deliver(tunnel.number, data)]

    def _sent(self, connection: int, carrier: Carrier) -> list[Output]:
        data = carrier.outgoing()
        return [Transmit(connection, data)] if data else []

    def _pump_all(self, connection: int, now: float) -> list[Output]:
        """A chunk of each tunnel in turn, as long as there is something to send and room for it."""
        outputs: list[Output] = []
        waiting = [tunnel for tunnel in self.tunnels.values() if tunnel.carrier == connection]
        while waiting:
            waiting = [tunnel for tunnel in waiting if self._pump_one(tunnel, now, outputs)]
        return outputs

    def _pump(self, tunnel: Tunnel, now: float) -> list[Output]:
        outputs: list[Output] = []
        while self._pump_one(tunnel, now, outputs):
            pass
        return outputs

    def _pump_one(self, tunnel: Tunnel, now: float, outputs: list[Output]) -> bool:
        """Sends a chunk; whether there may be more to send."""
        if tunnel.carrier is None or not tunnel.open or tunnel.end_sent:
            return False
        carrier = self.carriers[tunnel.carrier]
        if tunnel.unsent:
            capacity = carrier.capacity(tunnel.stream)
            if not capacity:
                return False
            before = tunnel.room
            carrier.send(tunnel.stream, tunnel.chunk(capacity))
            outputs += self._room(tunnel, before)
        if tunnel.ended and not tunnel.unsent:
            tunnel.end_sent = True
            carrier.end(tunnel.stream)
            outputs += self._over(tunnel, now)
        outputs += self._sent(tunnel.carrier, carrier) if tunnel.carrier is not None else []
        return bool(tunnel.unsent)

    def _room(self, tunnel: Tunnel, before: int) -> list[Output]:
        return [Room(tunnel.number)] if before < LOW <= tunnel.room and not tunnel.ended else []

    def _attach(self, tunnel: Tunnel, connection: int, stream: int) -> None:
        tunnel.carrier, tunnel.stream = connection, stream
        self._streams[connection, stream] = tunnel

    def _opened(self, tunnel: Tunnel, now: float) -> list[Output]:
        """Octets may be sent in it now: it waits for nothing any more."""
        tunnel.open = True
        if tunnel.number not in self._silent:
            self._until.pop(tunnel.number, None)
        return [*self._pump(tunnel, now), *self._room(tunnel, 0)]

    def _over(self, tunnel: Tunnel, now: float) -> list[Output]:
        """If both directions are at their end."""
        if not tunnel.finished or tunnel.number in self._silent:
            return []
        closed = TunnelClosed(self._peer(tunnel), tunnel.destination, tunnel.taken, tunnel.received)
        if not tunnel.token:
            self._forget(tunnel)
        else:
            self._silent.add(tunnel.number)
            self._until[tunnel.number] = now + LINGER
        return [closed]

    def _break(self, tunnel: Tunnel, cause: Cause, why: str, *, tell: bool) -> list[Output]:
        """``tell``: the other end, by resetting the stream."""
        outputs: list[Output] = []
        carrier = None if tunnel.carrier is None else self.carriers.get(tunnel.carrier)
        if carrier is not None and tunnel.carrier is not None:
            carrier.passed_on(tunnel.stream, tunnel.received - tunnel.passed_on)
            if tell:
                carrier.abort(tunnel.stream)
            outputs += self._sent(tunnel.carrier, carrier)
        if tunnel.number not in self._silent:
            outputs += [Break(tunnel.number), TunnelBroken(self._peer(tunnel), tunnel.destination, cause, why)]
        self._forget(tunnel)
        return outputs

    def _forget(self, tunnel: Tunnel) -> None:
        self.tunnels.pop(tunnel.number, None)
        self._until.pop(tunnel.number, None)
        self._silent.discard(tunnel.number)
        if tunnel.carrier is not None:
            self._streams.pop((tunnel.carrier, tunnel.stream), None)

    def _suspend(self, tunnel: Tunnel, now: float) -> list[Output]:
        if tunnel.carrier is not None:
            self._streams.pop((tunnel.carrier, tunnel.stream), None)
        tunnel.suspend()
        patience = self._patience(tunnel)
        if tunnel.number in self._silent:
            return []
        if not patience:
            return self._break(
                tunnel, Cause.CUT_OFF, "the session was lost, and this one cannot be resumed", tell=False
            )
        self._until[tunnel.number] = now + patience
        return []

    def _drop(self, connection: int, now: float) -> list[Output]:
        """An outer connection is gone, or of no use any more."""
        outputs: list[Output] = [Close(connection)]
        self.carriers.pop(connection, None)
        for tunnel in [tunnel for tunnel in self.tunnels.values() if tunnel.carrier == connection]:
            outputs += self._suspend(tunnel, now)
        return outputs
