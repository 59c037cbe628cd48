"""Carries out what an engine answers: sockets, one alarm, connections to be made. Decides nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from mobility.gateway.ends import LOW, MOST_AT_ONCE
from mobility.gateway.outputs import Break, Close, Connect, Deliver, Finish, Listen, Output, Room, Transmit
from mobility.gateway.pump import Pump
from mobility.outputs import Event

log = logging.getLogger(__name__)


class Engine(Protocol):
    """What `Ends` and `RawSession` offer; see there."""

    def received(self, connection: int, data: bytes, now: float) -> list[Output]: ...
    def written(self, connection: int, octets: int, now: float) -> list[Output]: ...
    def appetite(self, connection: int, /) -> int: ...
    def room(self, number: int) -> int: ...
    def put(self, number: int, data: bytes, now: float) -> list[Output]: ...
    def finish(self, number: int, now: float) -> list[Output]: ...
    def broken(self, number: int, now: float) -> list[Output]: ...
    def passed_on(self, number: int, octets: int, now: float) -> list[Output]: ...
    def connected(self, number: int, now: float) -> list[Output]: ...
    def failed(self, number: int, why: str, now: float) -> list[Output]: ...
    def wake(self, now: float) -> list[Output]: ...
    def close(self, now: float) -> list[Output]: ...
    @property
    def timer(self) -> float | None: ...


class _Outer:
    """Reporter of an outer connection."""

    def __init__(self, runner: Runner, number: int) -> None:
        self._runner, self._number = runner, number

    def wanted(self) -> int:
        return self._runner.engine.appetite(self._number)

    def came(self, data: bytes) -> None:
        self._runner.do(self._runner.engine.received(self._number, data, self._runner.now()))

    def went(self, octets: int) -> None:
        self._runner.do(self._runner.engine.written(self._number, octets, self._runner.now()))

    def broke(self, _why: str) -> None:
        self._runner.outer.pop(self._number, None)
        self.came(b"")

    def ended(self) -> None:
        self._runner.outer.pop(self._number, None)


class _Inner:
    """Reporter of the connection of a program or destination."""

    def __init__(self, runner: Runner, number: int) -> None:
        self._runner, self._number = runner, number

    def wanted(self) -> int:
        room = self._runner.engine.room(self._number)
        return min(room, MOST_AT_ONCE) if room >= LOW else 0

    def came(self, data: bytes) -> None:
        engine, now = self._runner.engine, self._runner.now()
        self._runner.do(engine.put(self._number, data, now) if data else engine.finish(self._number, now))

    def went(self, octets: int) -> None:
        self._runner.do(self._runner.engine.passed_on(self._number, octets, self._runner.now()))

    def broke(self, _why: str) -> None:
        self._runner.inner.pop(self._number, None)
        self._runner.do(self._runner.engine.broken(self._number, self._runner.now()))

    def ended(self) -> None:
        self._runner.inner.pop(self._number, None)


class Runner:
    """One engine in the running asyncio loop. ``connect`` makes the connections that the engine asks for."""

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[Event], None],
        connect: Callable[[str, int], Awaitable[socket.socket]],
        *,
        outer_is_ours: bool,
    ) -> None:
        """``outer_is_ours``: outer connections are made here (terminal); else those to destinations are (gateway)."""
        self.engine = engine
        self.outer: dict[int, Pump] = {}
        self.inner: dict[int, Pump] = {}
        self._tell = tell
        self._connect = connect
        self._outer_is_ours = outer_is_ours
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._queue: list[Output] = []
        self._busy = False

    def now(self) -> float:
        return self._loop.time()

    def do(self, outputs: list[Output]) -> None:
        """In the order in which they were answered, also where carrying one out brings further ones."""
        self._queue += outputs
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                queue, self._queue = self._queue, []
                for output in queue:
                    self._one(output)
        finally:
            self._busy = False
        self._arm()

    def add_outer(self, number: int, sock: socket.socket) -> None:
        """An outer connection stands."""
        pump = self.outer[number] = Pump(sock, _Outer(self, number))
        pump.listen()

    def add_inner(self, number: int, sock: socket.socket) -> None:
        """The connection of a program or destination stands."""
        pump = self.inner[number] = Pump(sock, _Inner(self, number))
        pump.listen()

    async def end(self) -> None:
        """Ends everything in an orderly way; what the network does not take at once is not waited for."""
        self.do(self.engine.close(self.now()))
        if self._alarm is not None:
            self._alarm.cancel()
        attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
        for pump in (*self.outer.values(), *self.inner.values()):
            pump.reset()

    def _one(self, output: Output) -> None:
        match output:
            case Transmit(number, data):
                if number in self.outer:
                    self.outer[number].send(data)
            case Deliver(number, data):
                if number in self.inner:
                    self.inner[number].send(data)
                else:
                    self.do(self.engine.passed_on(number, len(data), self.now()))
            case Finish(number):
                if number in self.inner:
                    self.inner[number].finish()
            case Break(number):
                pump = self.inner.pop(number, None)
                if pump is not None:
                    pump.reset()
                if not self._outer_is_ours:
                    self._give_up(number)
            case Close(number):
                pump = self.outer.pop(number, None)
                if pump is not None:
                    pump.close()
                if self._outer_is_ours:
                    self._give_up(number)
            case Room(number):
                if number in self.inner:
                    self.inner[number].listen()
            case Listen(number):
                if number in self.outer:
                    self.outer[number].listen()
            case Connect(number, host, port):
                self._attempts[number] = asyncio.create_task(self._attempt(number, host, port))
            case Event():
                self._tell(output)

    def _give_up(self, number: int) -> None:
        attempt = self._attempts.pop(number, None)
        if attempt is not None:
            attempt.cancel()

    async def _attempt(self, number: int, host: str, port: int) -> None:
        try:
            sock = await self._connect(host, port)
        except OSError as error:
            self._attempts.pop(number, None)
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            self.do(self.engine.failed(number, why, self.now()))
            return
        self._attempts.pop(number, None)
        if self._outer_is_ours:
            self.add_outer(number, sock)
        else:
            self.add_inner(number, sock)
        self.do(self.engine.connected(number, self.now()))

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self.engine.timer
        if due is not None:
            self._alarm = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        # The loop's clock may be a hair before the time that it was told.
        self.do(self.engine.wake(max(self.now(), self.engine.timer or 0.0)))


async def connect_any(
    addresses: list[tuple[socket.AddressFamily, str]],
    port: int,
    make: Callable[[socket.AddressFamily], Awaitable[socket.socket]],
    seconds: float,
) -> socket.socket:
    """A connection to the first address that answers, each in its share of the time. Raises OSError."""
    failure: OSError = OSError(0, "the name has no address")
    for family, address in addresses:
        sock = await make(family)
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            return sock
        except TimeoutError:
            failure = OSError(0, f"{address} does not answer within {seconds / len(addresses):g} s")
            sock.close()
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


async def addresses_of(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Numeric addresses of a host, as this machine finds them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [(family, str(where[0])) for family, _, _, _, where in found]
