"""Metrics in the text format of Prometheus (0.0.4), and the little of HTTP with which they are fetched.

Written by hand, in the loop of the data plane: the format is a line for each value, and the library for it
(prometheus_client) serves from threads, which would fight for the interpreter with packets, and has a licence
(Apache-2.0) that does not go with all parts of this program (GPL-2.0). Values are put together when somebody asks; a
packet pays for nothing. Tests read the text with the library's parser.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from mobility.net.loop import WRITE, Loop
from mobility.settings import MetricsSettings

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LONGEST_REQUEST = 8192
MOST_CLIENTS = 16
PATIENCE = 5.0
"Seconds that a client may take from its connection to the end of the answer."
_HINT = b"metrics are at /metrics\n"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: one value, or one for each combination of labels."""

    name: str
    kind: Kind
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)


def counter(name: str, text: str, *samples: tuple[Mapping[str, str], float]) -> Family:
    """Only grows while the process lives."""
    return Family(name, Kind.COUNTER, text, list(samples))


def gauge(name: str, text: str, *samples: tuple[Mapping[str, str], float]) -> Family:
    """Goes up and down."""
    return Family(name, Kind.GAUGE, text, list(samples))


def exposition(families: Iterable[Family]) -> str:
    """The text that is fetched."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help, quotes=False)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            named = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            lines.append(f"{family.name}{{{named}}} {_number(value)}" if named else f"{family.name} {_number(value)}")
    return "".join(line + "\n" for line in lines)


def _number(value: float) -> str:
    return {inf: "+Inf", -inf: "-Inf"}.get(value) or repr(value + 0)  # a truth value is a number


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


class MetricsServer:
    """Answers ``GET /metrics``. Never raises: a port that cannot be had is told in the log."""

    def __init__(
        self, loop: Loop, settings: MetricsSettings, text: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._text = text
        self._clock = clock
        self._listener: socket.socket | None = None
        self._clients: set[_Client] = set()

    def open(self) -> None:
        address, port = self._settings.address, self._settings.port
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(address), port))
            listener.listen(MOST_CLIENTS)
        except OSError as error:
            listener.close()
            log.warning(
                "metrics are not served: %s port %d: %s; see listen in [metrics]", address, port, error.strerror
            )
            return
        self._listener = listener
        self._loop.watch(listener, self._accept)

    @property
    def port(self) -> int | None:
        """Where it listens; None: it does not."""
        return None if self._listener is None else int(self._listener.getsockname()[1])

    def tidy(self) -> None:
        """Drops clients that are too slow; to be called now and then."""
        now = self._clock()
        for client in [client for client in self._clients if client.until < now]:
            client.close()

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        if self._listener is not None:
            self._loop.unwatch(self._listener)
            self._listener.close()
            self._listener = None

    def answer(self, request: bytes) -> bytes:
        """The answer to the head of a request."""
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", _HINT)
        method, path, _ = words
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", _HINT, "Allow: GET, HEAD\r\n")
        if path.partition(b"?")[0] != b"/metrics":
            return _response("404 Not Found", _HINT)
        try:
            body = self._text().encode()
        except Exception as error:
            self._loop.failed(error)
            return _response("500 Internal Server Error", b"the log has the reason\n")
        return _response("200 OK", body, kind=CONTENT_TYPE, head=method == b"HEAD")

    def forget(self, client: _Client) -> None:
        self._clients.discard(client)

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients.add(_Client(self, self._loop, connection, self._clock() + PATIENCE))


class _Client:
    """One connection: a request, an answer, the end."""

    def __init__(self, server: MetricsServer, loop: Loop, connection: socket.socket, until: float) -> None:
        self.until = until
        self._server = server
        self._loop = loop
        self._socket = connection
        self._request = bytearray()
        self._unsent = b""
        loop.watch(connection, self._ready)

    def close(self) -> None:
        self._loop.unwatch(self._socket)
        self._socket.close()
        self._server.forget(self)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._send()
            elif not self._read():
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _read(self) -> bool:
        """Whether the client may go on."""
        data = self._socket.recv(LONGEST_REQUEST)
        self._request += data
        if b"\r\n\r\n" in self._request:
            self._unsent = self._server.answer(bytes(self._request))
            self._loop.watch(self._socket, self._ready, WRITE)
            return True
        return bool(data) and len(self._request) <= LONGEST_REQUEST

    def _send(self) -> None:
        self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if not self._unsent:
            self.close()


def _response(
    status: str, body: bytes, extra: str = "", *, kind: str = "text/plain; charset=utf-8", head: bool = False
) -> bytes:
    lines = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n"
    )
    return lines.encode() if head else lines.encode() + body
