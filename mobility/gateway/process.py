"""The two processes: a gateway, and the one of a terminal that keeps its gateways up.

The terminal's runs beside the holder of the host OS and the data plane, and delays no packet of it. Its listening
sockets are in the host OS, whose holder makes them; sessions leave from there (``via = "home"``) or from the network
of this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

from mobility.client import HostClient, MobilityError
from mobility.config import Configuration
from mobility.control import ControlServer
from mobility.gateway.contexts import client_context, server_context
from mobility.gateway.metrics import families
from mobility.gateway.raw import RawSession
from mobility.gateway.runner import Runner, addresses_of, connect_any
from mobility.gateway.server import GatewayServer
from mobility.gateway.session import CONNECT_TIME, GatewaySession
from mobility.gateway.settings import SOCKET as SOCKET
from mobility.gateway.settings import Destination, GatewayAccess, Protocol
from mobility.heartbeat import BEAT
from mobility.logs import EventLog
from mobility.metrics import MetricsServer, exposition
from mobility.net.loop import Loop
from mobility.net.monitor import LinkMonitor
from mobility.net.namespace import die_with_parent
from mobility.outputs import Event
from mobility.service import READY, Life

log = logging.getLogger(__name__)

BACKLOG = 64
RECENT = 200
"Events that are kept."
DIAL_TIME = 10.0
"Seconds for a connection to a destination."
PAUSE = 0.5
"Seconds without accepting when the process has no descriptors left."


def run_terminal(configuration: Configuration, life: Life) -> int:
    """From here to the end of the process; returns its exit status.

    Raises OSError, MobilityError, ConfigurationError at the start.
    """
    return asyncio.run(_terminal(configuration, life))


def run_gateway(configuration: Configuration, life: Life) -> int:
    """As `run_terminal`."""
    return asyncio.run(_gateway(configuration, life))


class Surroundings:
    """What both have beside their engines: the control socket, events, signs of life, and the end."""

    def __init__(self, configuration: Configuration, life: Life, path: Path) -> None:
        parent = os.getppid()
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._recent: deque[dict[str, object]] = deque(maxlen=RECENT)
        self._log = EventLog(time.monotonic)
        self.process: dict[str, object] = {"pid": os.getpid(), "start": life.start, "role": str(configuration.role)}
        for sig in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(sig, self._stopping.set)
        if life.lifeline is not None:
            die_with_parent(signal.SIGTERM, parent)
            self._loop.add_reader(life.lifeline, self._stopping.set)
        # The sockets for requests are made for the loop of the data plane: such a one runs inside of asyncio's.
        self.inner = Loop()
        self._control: ControlServer | None = None
        self._path = path

    def tell(self, event: Event) -> None:
        """To the log, to those who listen, and to those who ask later."""
        fields = event.describe()
        self._log.tell(logging.INFO, dict(fields))
        fields["time"] = time.time()
        self._recent.append(fields)
        if self._control is not None:
            self._control.publish(fields)

    def serve(self, status: Callable[[], object]) -> None:
        """Begins to answer requests. Raises OSError."""
        operations = {"status": lambda _request: status(), "recent": lambda _request: list(self._recent)}
        self._control = ControlServer(self.inner, self._path, operations)
        self._control.open()
        self._loop.add_reader(self.inner.fileno(), lambda: self.inner.turn(0))

    async def until_stopped(self, now_and_then: Callable[[], None] = lambda: None) -> None:
        """Says that all is ready, and then that it lives, until somebody wants the end."""
        self._life.report(READY)
        while not self._stopping.is_set():
            self._life.beat()
            now_and_then()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), BEAT)

    def close(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self.inner.fileno())
            self._control.close()
        if self._life.lifeline is not None:
            self._loop.remove_reader(self._life.lifeline)
        self.inner.close()


class Listener:
    """Hands accepted connections to ``take``, as long as the process has descriptors."""

    def __init__(self, sock: socket.socket, take: Callable[[socket.socket, str], None]) -> None:
        self._socket = sock
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, where = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            log.error("cannot accept connections: %s", error.strerror)
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(PAUSE, self._resume)
            return
        connection.setblocking(False)
        self._take(connection, f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}")


# ---------------------------------------------------------------- terminal


class TerminalGateway:
    """One gateway of a terminal."""

    def __init__(self, access: GatewayAccess, host: HostClient, tell: Callable[[Event], None]) -> None:
        """Raises ConfigurationError."""
        context = client_context(access)
        self.access = access
        self._host = host
        self.engine: GatewaySession | RawSession = (
            RawSession(access, context)
            if access.protocol is Protocol.RAW
            else GatewaySession(access, context, os.urandom)
        )
        self._runner = Runner(self.engine, tell, self._connect, outer_is_ours=True)
        self._listeners: list[Listener] = []
        self._reached: tuple[socket.AddressFamily, str] | None = None
        "Where the gateway was found last."
        self._source: str | None = None
        "The address that the kernel would take towards it."

    async def start(self) -> None:
        """Listens in the host OS and begins with the session. Raises MobilityError."""
        for destination in self.access.destinations:
            for port in destination.ports:
                self._listeners.append(self._listen(destination, port))
        self._runner.do(self.engine.start(self._runner.now()))

    def network_changed(self) -> None:
        """The kernel's addresses or routes are not what they were."""
        if self.access.via_home or self._reached is None:
            return
        former, self._source = self._source, _source_towards(*self._reached)
        if self._source is not None and self._source != former:
            self._runner.do(self.engine.moved(self._runner.now()))

    async def end(self) -> None:
        for listener in self._listeners:
            listener.close()
        await self._runner.end()

    def snapshot(self) -> dict[str, object]:
        return self.engine.snapshot(self._runner.now())

    def _listen(self, destination: Destination, port: int) -> Listener:
        family = socket.AF_INET6 if destination.address.version == 6 else socket.AF_INET
        where = (str(destination.address), port)
        sock = self._host.socket("stream", family=family, bind=where, listen=BACKLOG, reuse_address=True)

        def take(connection: socket.socket, _who: str) -> None:
            number, outputs = self.engine.open(destination.host, port, self._runner.now())
            self._runner.add_inner(number, connection)
            self._runner.do(outputs)

        return Listener(sock, take)

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = await addresses_of(host)
        made = await connect_any(addresses, port, self._make, CONNECT_TIME)
        self._reached = made.family, made.getpeername()[0]
        self._source = made.getsockname()[0]
        return made

    async def _make(self, family: socket.AddressFamily) -> socket.socket:
        if not self.access.via_home:
            return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            return await asyncio.to_thread(self._host.socket, "stream", family=family)
        except MobilityError as error:
            raise OSError(0, str(error)) from error


def _source_towards(family: socket.AddressFamily, address: str) -> str | None:
    """The address that the kernel would send from; None: there is no way."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return None


async def _terminal(configuration: Configuration, life: Life) -> int:
    runtime = configuration.runtime
    async with AsyncExitStack() as stack:
        surroundings = Surroundings(configuration, life, runtime / SOCKET)
        stack.callback(surroundings.close)
        host = HostClient(runtime / "host.sock")
        gateways = [TerminalGateway(access, host, surroundings.tell) for access in configuration.gateways]

        def status() -> object:
            return {"process": surroundings.process, "gateways": [gateway.snapshot() for gateway in gateways]}

        for gateway in gateways:
            stack.push_async_callback(gateway.end)
            await gateway.start()
        stack.enter_context(_watched_network(gateways))
        surroundings.serve(status)
        await surroundings.until_stopped()
    return 0


def _watched_network(gateways: Sequence[TerminalGateway]) -> ExitStack:
    """Tells gateways when addresses or routes change, until it is closed."""
    stack = ExitStack()
    loop = asyncio.get_running_loop()
    monitor = LinkMonitor()
    monitor.open()
    stack.callback(monitor.close)

    def changed() -> None:
        if monitor.read():
            for gateway in gateways:
                gateway.network_changed()

    loop.add_reader(monitor.fileno(), changed)
    stack.callback(loop.remove_reader, monitor.fileno())
    return stack


# ---------------------------------------------------------------- gateway


async def _gateway(configuration: Configuration, life: Life) -> int:
    settings = configuration.gateway
    if settings is None:
        raise ValueError("not the configuration of a gateway")
    numbers = 0
    async with AsyncExitStack() as stack:
        surroundings = Surroundings(configuration, life, configuration.runtime / "control.sock")
        stack.callback(surroundings.close)
        engine = GatewayServer(settings, server_context(settings))
        runner = Runner(engine, surroundings.tell, _to_destination, outer_is_ours=False)
        stack.push_async_callback(runner.end)

        def take(connection: socket.socket, who: str) -> None:
            nonlocal numbers
            numbers += 1
            runner.add_outer(numbers, connection)
            runner.do(engine.accepted(numbers, who, runner.now()))

        for address, port in settings.listen:
            stack.callback(Listener(_listening(str(address), port), take).close)

        def status() -> object:
            node = {
                "gateway": [f"{address} port {port}" for address, port in settings.listen],
                "allowed": [f"{row.host} port {port}" for row in settings.allowed for port in row.ports],
                **engine.snapshot(runner.now()),
            }
            return {"process": surroundings.process, "node": node}

        surroundings.serve(status)
        metrics = None
        if configuration.metrics is not None:
            metrics = MetricsServer(
                surroundings.inner, configuration.metrics, lambda: exposition(families(engine)), time.monotonic
            )
            metrics.open()
            stack.callback(metrics.close)
        await surroundings.until_stopped(lambda: None if metrics is None else metrics.tidy())
    return 0


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen at {address} port {port}: {error.strerror}") from error
    return sock


async def _to_destination(host: str, port: int) -> socket.socket:
    async def make(family: socket.AddressFamily) -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    return await connect_any(await addresses_of(host), port, make, DIAL_TIME)
