"""A connection to Redis or Valkey in the loop of the data plane.

Not a thread: the kernel schedules a data plane before others (SCHED_RR) and not the thread beside it, so that a thread
could keep the interpreter's lock while it waits for a processor. Bytes are made and read by hiredis, the parser of
Redis itself; what is here moves them without ever waiting.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mobility.net.loop import READ, WRITE, Loop
from mobility.values import ConfigurationError

if TYPE_CHECKING:
    import hiredis

log = logging.getLogger(__name__)

PORT = 6379
PATIENCE = 1.0
"Seconds for a connection or an answer; then the connection is given up."
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"Seconds before a connection is tried again."
LARGEST_BACKLOG = 1 << 24
_READ_AT_ONCE = 1 << 18

Reply = object
"What hiredis makes of an answer: bytes, int, None, or a list of these."
Argument = str | bytes | int


class RedisError(Exception):
    """The server answered with an error, or there is no answer; the text holds no password."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where a server is and how to get in."""

    host: str
    "Name or address; a path for a Unix socket."
    port: int
    "0: a Unix socket."
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """``redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]``, ``rediss://`` (TLS), ``unix://[...@]/PATH``.

        Raises ConfigurationError, whose text does not hold the URL: there may be a password in it.
        """
        try:
            parts = urlsplit(url)
            unix = parts.scheme == "unix"
            if parts.scheme not in ("redis", "rediss", "unix") or parts.query or parts.fragment:
                raise ValueError
            host = parts.path if unix else parts.hostname
            if not host:
                raise ValueError
            database = "" if unix else parts.path.strip("/")
            return cls(
                unquote(host),
                0 if unix else (PORT if parts.port is None else parts.port),
                int(database) if database else 0,
                unquote(parts.username) if parts.username else None,
                None if parts.password is None else unquote(parts.password),
                parts.scheme == "rediss",
            )
        except ValueError:
            raise ConfigurationError(
                "store.url has to look like redis://:PASSWORD@10.0.0.5:6379/0, rediss://... or unix:///PATH"
            ) from None

    def __str__(self) -> str:
        return self.host if not self.port else f"{self.host}:{self.port}"

    def handshake(self) -> list[tuple[Argument, ...]]:
        """What to say first."""
        commands: list[tuple[Argument, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *([] if self.user is None else [self.user]), self.password))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


class Redis:
    """One connection, made again when it breaks. Answers come in the order of the requests.

    ``up`` is called when requests may be sent, ``down`` with a reason when no longer. A request of which no answer
    came before the connection broke is gone: `call` has its ``failed`` called.
    """

    def __init__(
        self,
        loop: Loop,
        url: RedisUrl,
        clock: Callable[[], float],
        up: Callable[[], None],
        down: Callable[[str], None],
    ) -> None:
        """Raises ConfigurationError: the package hiredis is missing."""
        try:
            import hiredis as library
        except ImportError:
            raise ConfigurationError(
                'store.kind: "redis" needs the package hiredis: pip install "roamphone[redis]"'
            ) from None
        self.url = url
        self.connected = False
        "Whether requests may be sent."
        self.failure = "not connected yet"
        self._library = library
        self._loop = loop
        self._clock = clock
        self._up = up
        self._down = down
        self._addresses: list[tuple[int, object]] = []
        self._turn = 0
        self._pause = FIRST_PAUSE
        self._socket: socket.socket | None = None
        self._connecting = False
        self._reader: hiredis.Reader = library.Reader()
        self._unsent = bytearray()
        self._waiting: deque[tuple[Callable[[Reply], None], Callable[[RedisError], None], float]] = deque()
        self.timer: float | None = None
        "When `handle_timer` wants to be called next."

    def start(self, now: float) -> None:
        """Looks the server's name up (which may take its time: only here) and begins to connect."""
        self._connect(now)

    def call(
        self, *request: Argument, answered: Callable[[Reply], None], failed: Callable[[RedisError], None], now: float
    ) -> None:
        """Sends a request. One of the two functions is called later, never from here."""
        self._waiting.append((answered, failed, now + PATIENCE))
        self._unsent += self._library.pack_command(request)  # type: ignore[arg-type] # its stub knows tuples of one
        if self.timer is None:
            self.timer = now + PATIENCE
        self._flush(now)

    def handle_timer(self, now: float) -> None:
        """The time in `timer` has come."""
        self.timer = None
        if self._socket is None:
            self._connect(now)
        elif self._connecting:
            self._broken(now, "does not answer")
        elif self._waiting:
            if self._waiting[0][2] <= now:
                self._broken(now, f"did not answer for {PATIENCE} seconds")
            else:
                self.timer = self._waiting[0][2]

    def close(self) -> None:
        """Ends the connection. What was sent is still carried out by the server."""
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._socket = None
        self.connected = False

    # ------------------------------------------------------------ the connection

    def _connect(self, now: float) -> None:
        try:
            if not self._addresses:
                self._addresses = self._resolve()
            family, address = self._addresses[self._turn % len(self._addresses)]
            self._turn += 1
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._broken(now, error.strerror or str(error))
            return
        self._socket, self._connecting = made, True
        self.timer = now + PATIENCE
        try:
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.connect(address)  # type: ignore[arg-type]
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(now, error.strerror or str(error))
            return
        self._loop.watch(made, self._ready, WRITE)

    def _resolve(self) -> list[tuple[int, object]]:
        if not self.url.port:
            return [(socket.AF_UNIX, self.url.host)]
        found = socket.getaddrinfo(self.url.host, self.url.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    def _ready(self, events: int) -> None:
        now = self._clock()
        try:
            if self._connecting:
                self._established(now)
                return
            if events & ~WRITE:
                self._read(now)
            if self._socket is not None and events & WRITE:
                self._flush(now)
        except OSError as error:  # of TLS as well
            self._broken(now, error.strerror or str(error))

    def _established(self, now: float) -> None:
        """The connection stands (or TLS may go on with its handshake). Raises OSError."""
        if self._socket is None:
            return
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if self.url.tls and not self._shake_hands():
            return
        self._connecting = False
        self._reader = self._library.Reader()
        self._unsent.clear()
        self._waiting.clear()
        self.timer = None
        self._loop.watch(self._socket, self._ready, READ)
        handshake = self.url.handshake()
        # PING tells as well that a server without password wants one.
        for number, request in enumerate((*handshake, ("PING",))):
            last = number == len(handshake)
            self.call(*request, answered=self._welcomed if last else _nothing, failed=self._not_welcome, now=now)

    def _shake_hands(self) -> bool:
        """One step of TLS; whether it was the last. Raises OSError (ssl.SSLError is one)."""
        if not isinstance(self._socket, ssl.SSLSocket):
            if self._socket is None:
                return False
            self._loop.unwatch(self._socket)
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(
                self._socket, server_hostname=self.url.host, do_handshake_on_connect=False
            )
        wanted = READ
        try:
            self._socket.do_handshake()
            return True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            wanted = WRITE
        self._loop.watch(self._socket, self._ready, wanted)
        return False

    def _welcomed(self, _reply: Reply) -> None:
        self.connected = True
        self._pause = FIRST_PAUSE
        if self.failure:
            log.info("store %s: connected", self.url)
        self.failure = ""
        self._up()

    def _not_welcome(self, error: RedisError) -> None:
        if self._socket is not None:
            self._broken(self._clock(), str(error))

    def _read(self, now: float) -> None:
        """Takes all answers that are there. Raises OSError."""
        open_socket = self._socket
        while open_socket is not None and open_socket is self._socket:
            try:
                data = open_socket.recv(_READ_AT_ONCE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not data:
                self._broken(now, "closed the connection")
                return
            try:
                self._reader.feed(data)
                while open_socket is self._socket:
                    reply = self._reader.gets()
                    if reply is False:
                        break
                    self._answered(reply, now)
            except self._library.ProtocolError:
                self._broken(now, "does not speak the protocol of Redis")
            if not isinstance(open_socket, ssl.SSLSocket) and len(data) < _READ_AT_ONCE:
                return

    def _answered(self, reply: Reply, now: float) -> None:
        if not self._waiting:
            self._broken(now, "answered what was not asked")
            return
        answered, failed, _ = self._waiting.popleft()
        self.timer = self._waiting[0][2] if self._waiting else None
        if isinstance(reply, self._library.ReplyError):
            failed(RedisError(str(reply)))
        else:
            answered(reply)

    def _flush(self, now: float) -> None:
        if self._socket is None or self._connecting:
            return
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError as error:
            self._broken(now, error.strerror or str(error))
            return
        del self._unsent[:sent]
        if len(self._unsent) > LARGEST_BACKLOG:
            self._broken(now, "does not take what is sent")
            return
        self._loop.watch(self._socket, self._ready, READ | WRITE if self._unsent else READ)

    def _broken(self, now: float, why: str) -> None:
        was = self.connected
        self.close()
        self._connecting = False
        self.timer = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if why != self.failure:
            log.warning("store %s: %s; trying again", self.url, why)
        self.failure = why
        waiting, self._waiting = self._waiting, deque()
        for _, failed, _ in waiting:
            failed(RedisError(why))
        if was:
            self._down(why)


def _nothing(_reply: Reply) -> None:
    """The answer to a part of the handshake; what matters is the last."""
