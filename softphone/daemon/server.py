"""The daemon's socket: who may connect, requests, answers, events. A client can neither stop a call nor the daemon."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from softphone.accounts.accounts import Phones
from softphone.daemon.protocol import (
    LONGEST_ANSWER,
    LONGEST_LINE,
    Arguments,
    DaemonError,
    RequestError,
    decoded,
    encoded,
)
from softphone.daemon.service import PhoneService
from softphone.daemon.topics import DELIVERY, Delivery, Topic, topics
from softphone.errors import SoftphoneError
from softphone.exit_code import ExitCode, code_of_error
from softphone.paths import contacts_file

log = logging.getLogger(__name__)

MOST_CLIENTS = 64
MOST_REQUESTS = 32
"Of one client at a time."
ROOM = 1 << 18
"Bytes that wait for a client beyond which it gets no news that may be left out."
BACKLOG = 1 << 20
"Bytes that may wait for a client that does not read; then it is disconnected."


class Daemon:
    """Serves phones on a Unix socket, mode 0600. One of them for each path: a lock beside it tells others."""

    def __init__(
        self, phones: Phones, path: Path, *, contacts: Path | None = None, exit_idle_time: float | None = None
    ) -> None:
        """``exit_idle_time``: it ends when no client was there for so many seconds and no call; None: never."""
        self.path = path
        self._exit_idle_time = exit_idle_time
        self._alone: asyncio.TimerHandle | None = None
        "Until it has been without clients for that long."
        self.counters: Counter[str] = Counter()
        "Clients and requests that were refused, by reason."
        self.ready = asyncio.Event()
        "Clients can connect."
        self._on_change: Callable[[], None] = lambda: None
        self.service = PhoneService(phones, self, contacts_file() if contacts is None else contacts)
        self._phones = phones
        self._clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._lock = -1

    async def run(self) -> None:
        """Start all accounts and serve until cancelled or `shutdown`; then calls end politely. Raises DaemonError."""
        try:
            self._claim()
            await self.service.start()
            async with self._phones:
                self._server = await asyncio.start_unix_server(self._serve, sock=self._bound(), limit=LONGEST_LINE)
                for name, why in self._phones.failures.items():
                    log.warning("account %s does not run: %s", name, why)
                self.ready.set()
                self._wait_alone()
                try:
                    await self.service.on_shutdown.wait()
                finally:
                    self._exit_idle_time = None
                    self._company()
                    self._server.close()
                    self.path.unlink(missing_ok=True)
        finally:
            self._on_change = lambda: None  # nobody is to begin anything any more
            await self.service.close()
            for client in list(self._clients):
                client.close()
            await asyncio.gather(*(client.task for client in self._clients), return_exceptions=True)
            if self._lock >= 0:
                os.close(self._lock)

    def _claim(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DaemonError(f"the socket {self.path} cannot be made: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise DaemonError(
                f"a daemon (process {owner}) serves {self.path} already: use `softphone ctl`, or give this one "
                "another --socket"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # from the first moment nobody else gets in
        try:
            if self.path.exists() and stat.S_ISSOCK(self.path.stat().st_mode):
                self.path.unlink()  # of a daemon that was killed: we have its lock
            sock.bind(os.fspath(self.path))
        except OSError as exc:
            sock.close()
            raise DaemonError(f"the socket {self.path} cannot be made: {exc.strerror or exc}") from exc
        finally:
            os.umask(before)
        return sock

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(self, reader, writer)
        if len(self._clients) >= MOST_CLIENTS:
            self.counters["clients-too-many"] += 1
            client.answer(None, error=f"there are {MOST_CLIENTS} clients already")
            writer.close()
            return
        self._clients.add(client)
        self._company()
        try:
            await client.run()
        except asyncio.CancelledError:
            if not client.over:
                raise
            # Python 3.11 logs the cancellation of such a task as an error of ours.
        finally:
            self._clients.discard(client)
            self.subscribed()
            self._wait_alone()

    def _company(self) -> None:
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None

    def _wait_alone(self) -> None:
        self._company()
        if self._exit_idle_time is not None and not self.service.stays and not self._clients:
            self._alone = asyncio.get_running_loop().call_later(self._exit_idle_time, self._been_alone)

    def _been_alone(self) -> None:
        self._alone = None
        if any(phone.calls for phone in self._phones.running.values()):
            self._wait_alone()
        else:
            log.info("nobody has been here for %g s, and there is no call: it ends", self._exit_idle_time)
            self.service.on_shutdown.set()

    # -- who listens (`Audience`) -------------------------------------------------------------------------------------

    def tell(self, topic: Topic, event: dict[str, object]) -> None:
        if self.wants(topic):
            line = encoded(event)
            for client in list(self._clients):
                client.tell(topic, line)

    def wants(self, topic: Topic) -> bool:
        return any(topic in client.topics for client in self._clients)

    def on_change(self, tell: Callable[[], None]) -> None:
        self._on_change = tell

    def subscribed(self) -> None:
        """A client wants other news, or has left."""
        self._on_change()


class _Client:
    """One connection. Nothing here waits for it to read."""

    def __init__(self, daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.topics: frozenset[Topic] = frozenset()
        self.over = False
        "The daemon ends."
        self._missed: Counter[Topic] = Counter()
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._daemon = daemon
        self._reader, self._writer = reader, writer
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it leaves. What it has begun goes on."""
        try:
            while line := await self._reader.readline():
                self._take(line)
        except ValueError:
            self._daemon.counters["request-too-long"] += 1
            self.answer(None, error=f"a request has {LONGEST_LINE} bytes at most")
        except OSError:
            pass  # it is gone
        finally:
            self._writer.close()

    def close(self) -> None:
        """The daemon ends."""
        self.over = True
        for request in self._requests:
            request.cancel()
        self.task.cancel()

    def tell(self, topic: Topic, line: bytes) -> None:
        """News of a topic that it may have subscribed to."""
        if topic not in self.topics:
            return
        delivery = DELIVERY[topic]
        if delivery is not Delivery.EVERY:
            if self._writer.transport.get_write_buffer_size() > ROOM:
                self._missed[topic] += 1
                self._daemon.counters[f"{topic}-missed"] += 1
                return
            if delivery is Delivery.COUNTED and (count := self._missed.pop(topic, 0)):
                self.send(encoded({"event": f"{topic}-missed", "count": count}))
        self.send(line)

    def send(self, line: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(line)
        if transport.get_write_buffer_size() > BACKLOG:
            self._daemon.counters["client-does-not-read"] += 1
            log.warning("a client that does not read was disconnected")
            transport.abort()

    def answer(
        self, number: object, *, result: object = None, error: str | None = None, status: object = None,
        code: ExitCode = ExitCode.USAGE,
    ) -> None:  # fmt: skip
        if error is None:
            line = encoded({"id": number, "ok": True, "result": result})
            if len(line) <= LONGEST_ANSWER:
                self.send(line)
                return
            error = f"the answer would have more than {LONGEST_ANSWER} bytes: ask for less (limit)"
        told = {} if status is None else {"status": status}
        self.send(encoded({"id": number, "ok": False, "error": error, "result": code.word, **told}))

    def _take(self, line: bytes) -> None:
        number: object = None
        try:
            request = decoded(line)
            number = request.pop("id", None)
            if not isinstance(number, int | str | None):
                number = None
                raise RequestError("id has to be a number or a text")
            operation = request.pop("op", None)
            if not isinstance(operation, str):
                raise RequestError("op is missing: what is to be done?")
            if len(self._requests) >= MOST_REQUESTS:
                raise RequestError(f"{MOST_REQUESTS} requests of yours are under way: wait for their answers")
        except RequestError as exc:
            self._daemon.counters["request-malformed"] += 1
            self.answer(number, error=str(exc))
            return
        task = asyncio.create_task(self._perform(number, operation, Arguments(request)))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _subscribe(self, number: object, arguments: Arguments) -> None:
        wanted = topics(arguments.texts("topics", [Topic.EVENTS]))
        arguments.end()
        self.topics = wanted
        self.answer(number, result={"topics": sorted(wanted)})
        self._daemon.subscribed()

    async def _perform(self, number: object, operation: str, arguments: Arguments) -> None:
        try:
            if operation == "subscribe":
                self._subscribe(number, arguments)
                return
            result = await self._daemon.service.perform(operation, arguments)
        except (SoftphoneError, ValueError, RuntimeError, OSError) as exc:
            self.answer(number, error=str(exc), status=getattr(exc, "status", None), code=code_of_error(exc))
        except Exception as exc:
            log.exception("the request %s failed", operation)
            self.answer(number, error=f"the daemon failed: {exc}; its log says where", code=ExitCode.FAILURE)
        else:
            self.answer(number, result=result)
