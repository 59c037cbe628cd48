"""Terminal and gateway face each other in simulated time, over connections that can be slow, stop, or break."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from mobility.gateway.contexts import client_context, server_context
from mobility.gateway.ends import LOW, Ends
from mobility.gateway.outputs import Break, Close, Connect, Deliver, Finish, Output, Room, Transmit
from mobility.gateway.server import GatewayServer
from mobility.gateway.session import GatewaySession
from mobility.gateway.settings import Allowed, Destination, GatewayAccess, GatewaySettings, Via
from mobility.outputs import Event
from sip_test_env.certificates import Authority

NAME = "gateway.example"
SERVER = "sip.inner.example"
LATENCY = 0.01
"Seconds on the way between terminal and gateway."


@dataclass(frozen=True)
class Files:
    """Certificates of one test session."""

    ca: Path
    other_ca: Path
    pairs: dict[str, tuple[Path, Path]]
    "Certificate and key."


@cache
def _authorities() -> tuple[Authority, Authority]:
    return Authority("inside"), Authority("somebody else")


def make_files(directory: Path) -> Files:
    good, other = _authorities()
    made = {
        "good": good.server([NAME], []),
        "expired": good.server([NAME], [], begin=-timedelta(days=40)),
        "early": good.server([NAME], [], begin=timedelta(days=2)),
        "elsewhere": good.server(["another.example"], []),
        "untrusted": other.server([NAME], []),
        "client": good.server(["laptop.example"], [], client=True),
        "client-untrusted": other.server(["laptop.example"], [], client=True),
    }
    pairs = {}
    for name, (key, certificate) in made.items():
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, content in zip(paths, (certificate, key), strict=True):
            path.write_bytes(content)
        pairs[name] = paths
    (directory / "ca.pem").write_bytes(good.pem)
    (directory / "other.pem").write_bytes(other.pem)
    return Files(directory / "ca.pem", directory / "other.pem", pairs)


def write_server(directory: Path, authority: Authority, name: str) -> tuple[Path, Path]:
    """Certificate and key of a server."""
    key, certificate = authority.server([name], [])
    paths = directory / "server.pem", directory / "server.key"
    for path, content in zip(paths, (certificate, key), strict=True):
        path.write_bytes(content)
    return paths


def access(files: Files, **changes: Any) -> GatewayAccess:
    destination = Destination(SERVER, (5061,), IPv6Address("100:0:0:1::1"))
    usual = GatewayAccess("office", "2001:db8::443", 443, NAME, (destination,), ca_file=files.ca, via=Via.NETWORK)
    return replace(usual, **changes)


def configuration(files: Files, *, certificate: str = "good", **changes: Any) -> GatewaySettings:
    chain, key = files.pairs[certificate]
    usual = GatewaySettings(((IPv6Address("::"), 443),), chain, key, (Allowed(SERVER, (5061,)),))
    return replace(usual, **changes)


@dataclass
class Stream:
    """What a program or destination has of its connection."""

    received: bytearray = field(default_factory=bytearray)
    finished: bool = False
    broken: bool = False
    unsent: bytearray = field(default_factory=bytearray)
    ending: bool = False
    reads: bool = True
    unread: int = 0
    "Octets that wait until it reads."


class World:
    """``terminal`` and ``gateway`` with their connections; destinations echo unless ``echo`` is off."""

    def __init__(
        self, files: Files, *, access_: GatewayAccess | None = None, configuration_: GatewaySettings | None = None
    ) -> None:
        self.files = files
        self.configuration = configuration(files) if configuration_ is None else configuration_
        settings = access(files) if access_ is None else access_
        dice = random.Random(1)
        self.terminal = GatewaySession(settings, client_context(settings), dice.randbytes)
        self.gateway: GatewayServer | None = None
        self.now = 1000.0
        self.events: dict[str, list[Event]] = {"terminal": [], "gateway": []}
        self.programs: dict[int, Stream] = {}
        self.destinations: dict[int, Stream] = {}
        self.echo = True
        self.refuses: str | None = None
        "What the destination's TCP says instead of a connection; None: it is there."
        self.reachable = True
        "TCP reaches the gateway."
        self.carries = True
        "Octets arrive."
        self.transmitted = {"terminal": 0, "gateway": 0}
        self.connects = 0
        self._lives = 0
        self._pairs: dict[int, int] = {}
        "Connection of the terminal -> that of the gateway."
        self._accepted = 0
        self._wire: deque[tuple[float, str, int, bytes | None]] = deque()
        self._rooms: dict[tuple[str, int], bool] = {}
        self.start_gateway()

    # ------------------------------------------------------------ what tests do

    def start_gateway(self) -> None:
        self._lives += 1
        self.gateway = GatewayServer(self.configuration, server_context(self.configuration))

    def kill_gateway(self) -> None:
        """Without a word of its own; the kernel closes its connections."""
        self.gateway = None
        self.destinations.clear()
        for connection in list(self._pairs):
            self._send("terminal", connection, None)
        self._pairs.clear()

    def start(self) -> None:
        self._do("terminal", self.terminal.start(self.now))
        self.run(1.0)

    def open(self, host: str = SERVER, port: int = 5061) -> int:
        number, outputs = self.terminal.open(host, port, self.now)
        self.programs.setdefault(number, Stream())
        self._do("terminal", outputs)
        return number

    def say(self, number: int, data: bytes) -> None:
        """The program sends."""
        self.programs[number].unsent += data
        self._feed("terminal", number)

    def end(self, number: int) -> None:
        """The program sends no more."""
        self.programs[number].ending = True
        self._feed("terminal", number)

    def answer(self, number: int, data: bytes, *, end: bool = False) -> None:
        """The destination of the gateway's tunnel sends."""
        self.destinations[number].unsent += data
        self.destinations[number].ending = end
        self._feed("gateway", number)

    def read(self, end: str, number: int) -> None:
        """A program or destination that had stopped reads again."""
        stream = self._of(end)[number]
        stream.reads, octets = True, stream.unread
        stream.unread = 0
        engine = self._engine(end)
        if engine is not None:
            self._do(end, engine.passed_on(number, octets, self.now))

    def cut(self) -> None:
        """Everything under way is lost, and nobody is told."""
        self._wire.clear()
        self._pairs.clear()

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(200_000):
            times = [self._wire[0][0]] if self._wire else []
            for engine in (self.terminal, self.gateway):
                if engine is not None and engine.timer is not None:
                    times.append(engine.timer)
            at = min(times, default=float("inf"))
            if at > until:
                break
            self.now = max(self.now, at)
            self._step()
        else:
            raise AssertionError("the world does not come to rest")
        self.now = until

    def seen(self, end: str, kind: type[Event]) -> list[Any]:
        return [event for event in self.events[end] if isinstance(event, kind)]

    # ------------------------------------------------------------ inside

    def _engine(self, end: str) -> Ends | None:
        return self.terminal if end == "terminal" else self.gateway

    def _of(self, end: str) -> dict[int, Stream]:
        return self.programs if end == "terminal" else self.destinations

    def _step(self) -> None:
        if self._wire and self._wire[0][0] <= self.now:
            _, end, connection, data = self._wire.popleft()
            engine = self._engine(end)
            if engine is not None:
                self._do(end, engine.received(connection, data or b"", self.now))
            return
        for end in ("terminal", "gateway"):
            engine = self._engine(end)
            if engine is not None and engine.timer is not None and engine.timer <= self.now:
                self._do(end, engine.wake(self.now))

    def _send(self, to: str, connection: int, data: bytes | None) -> None:
        if self.carries:
            self._wire.append((self.now + LATENCY, to, connection, data))

    def _do(self, end: str, outputs: list[Output]) -> None:
        engine = self._engine(end)
        for output in outputs:
            match output:
                case Event():
                    self.events[end].append(output)
                case Connect() if end == "terminal":
                    self._connect(output.number)
                case Connect():
                    assert self.gateway is not None
                    if self.refuses is not None:
                        self._do("gateway", self.gateway.failed(output.number, self.refuses, self.now))
                    else:
                        self.destinations[output.number] = Stream()
                        self._do("gateway", self.gateway.connected(output.number, self.now))
                case Transmit(connection, data):
                    self.transmitted[end] += len(data)
                    to = self._other(end, connection)
                    if to is not None:
                        self._send("gateway" if end == "terminal" else "terminal", to, data)
                    assert engine is not None
                    self._do(end, engine.written(connection, len(data), self.now))
                case Close(connection):
                    to = self._other(end, connection)
                    if to is not None:
                        self._send("gateway" if end == "terminal" else "terminal", to, None)
                    self._pairs = {
                        ours: theirs
                        for ours, theirs in self._pairs.items()
                        if connection != (ours if end == "terminal" else theirs)
                    }
                case Deliver(number, data):
                    self._deliver(end, number, data)
                case Finish(number):
                    stream = self._of(end).get(number)
                    if stream is not None:
                        stream.finished = True
                        if end == "gateway" and self.echo:
                            stream.ending = True
                            self._feed(end, number)
                case Break(number):
                    self._of(end).setdefault(number, Stream()).broken = True
                case Room(number):
                    self._feed(end, number)

    def _connect(self, number: int) -> None:
        self.connects += 1
        if not self.reachable or self.gateway is None:
            self._do("terminal", self.terminal.failed(number, "Connection refused", self.now))
            return
        self._accepted += 1
        theirs = self._accepted
        self._pairs[number] = theirs
        self._do("gateway", self.gateway.accepted(theirs, "2001:db8::100", self.now))
        self._do("terminal", self.terminal.connected(number, self.now))

    def _other(self, end: str, connection: int) -> int | None:
        if end == "terminal":
            return self._pairs.get(connection)
        return next((ours for ours, theirs in self._pairs.items() if theirs == connection), None)

    def _deliver(self, end: str, number: int, data: bytes) -> None:
        engine, stream = self._engine(end), self._of(end).get(number)
        assert engine is not None
        if stream is None:
            self._do(end, engine.passed_on(number, len(data), self.now))
            return
        stream.received += data
        if not stream.reads:
            stream.unread += len(data)
            return
        self._do(end, engine.passed_on(number, len(data), self.now))
        if end == "gateway" and self.echo:
            stream.unsent += data
            self._feed(end, number)

    def _feed(self, end: str, number: int) -> None:
        engine, stream = self._engine(end), self._of(end).get(number)
        if engine is None or stream is None or stream.broken:
            return
        while stream.unsent and (room := engine.room(number)) >= min(LOW, len(stream.unsent)):
            data = bytes(stream.unsent[:room])
            del stream.unsent[:room]
            self._do(end, engine.put(number, data, self.now))
        if stream.ending and not stream.unsent:
            stream.ending = False
            self._do(end, engine.finish(number, self.now))
