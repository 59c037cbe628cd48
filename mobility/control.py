"""The server side of ``control.sock``: newline-delimited JSON, served in the loop of the data plane.

Request ``{"id": 1, "op": "status", ...}``, answer ``{"id": 1, "ok": true, "result": ...}`` or ``{"id": 1, "ok": false,
"error": "..."}``; after ``subscribe``, events come as ``{"event": "...", ...}`` in between. docs/configuration.md has
the operations. Nothing here blocks: a client that does not read what it asked for is dropped, or misses it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from mobility.net.loop import READ, WRITE, Loop

log = logging.getLogger(__name__)

Operation = Callable[[Mapping[str, object]], object]
"Takes the request, returns a JSON-ready result; raises `Refused` where the request makes no sense."

LONGEST_REQUEST = 1 << 16
LARGEST_BACKLOG = 1 << 20
LARGEST_OFFER = 1 << 18
"Octets that may wait for a client until it misses what is only offered."
MOST_CLIENTS = 64
EVENTS, PACKETS = "events", "packets"
"Topics of ``subscribe``."
_READ_AT_ONCE = 1 << 16
_ANSWERED_AT_ONCE = 16
"Requests of one client; the packets of the node come in between."


class Refused(Exception):
    """A request cannot be carried out; the text goes to the client."""


class Later:
    """What an operation returns whose answer takes its time; the client's next request waits for it."""

    def __init__(self) -> None:
        self._outcome: tuple[bool, object] | None = None
        self._then: Callable[[bool, object], None] | None = None

    def finish(self, result: object) -> None:
        """It went well."""
        self._end(True, result)

    def refuse(self, why: str) -> None:
        """It did not."""
        self._end(False, why)

    def then(self, answer: Callable[[bool, object], None]) -> None:
        """Calls ``answer`` once, now or later: whether it went well, and the result or the reason."""
        self._then = answer
        if self._outcome is not None:
            answer(*self._outcome)

    def _end(self, well: bool, outcome: object) -> None:
        self._outcome = well, outcome
        if self._then is not None:
            self._then(well, outcome)


class ControlServer:
    """Serves the operations it is given, plus ``subscribe`` and ``unsubscribe``.

    ``packets``: called when the first client listens to packets (true), and when the last one does no more; without it
    nobody can.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        operations: Mapping[str, Operation],
        packets: Callable[[bool], None] | None = None,
    ) -> None:
        self._loop = loop
        self._path = path
        self._operations = dict(operations)
        self._listener: socket.socket | None = None
        self._clients: set[_Client] = set()
        self._packets = packets
        self._topics = (EVENTS,) if packets is None else (EVENTS, PACKETS)
        self._listening = False
        self.dropped_clients = 0
        "Clients that were cut off: they did not read, or sent a request without end."

    def open(self) -> None:
        """Begins to serve; a socket left by a dead process is replaced. Raises OSError."""
        self._listener = listen(self._path, socket.SOCK_STREAM)
        self._loop.watch(self._listener, self._accept)

    def publish(self, event: Mapping[str, object]) -> None:
        """Sends an event to all subscribers."""
        subscribers = [client for client in self._clients if EVENTS in client.topics]
        if subscribers:
            line = _encode(event)
            for client in subscribers:
                client.send(line)

    def offer(self, line: bytes, count: int) -> None:
        """Sends a line with ``count`` packets to those who listen; who does not read is told later what was missed."""
        for client in [client for client in self._clients if PACKETS in client.topics]:
            client.offer(line, count)

    def backlogs(self) -> list[int]:
        """Octets of each client that were read and are not answered yet."""
        return [client.unread for client in self._clients]

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        if self._listener is not None:
            self._loop.unwatch(self._listener)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def answer(self, client: _Client, line: bytes) -> dict[str, object] | None:
        """The answer to one request line, None if it comes later (`_Client.finish`); never raises."""
        identity: object = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise Refused("a request is a JSON object")
            identity = request.get("id")
            result = self._carry_out(client, request)
            if isinstance(result, Later):
                result.then(lambda well, outcome: client.finish(_answer(identity, well, outcome)))
                return None
            return _answer(identity, True, result)
        except Refused as refusal:
            why = str(refusal)
        except (ValueError, RecursionError):
            why = "not a line of JSON"
        except Exception as error:
            self._loop.failed(error)
            why = f"internal error: {error}"
        return _answer(identity, False, why)

    def forget(self, client: _Client, *, dropped: bool) -> None:
        self._clients.discard(client)
        self.dropped_clients += dropped
        self._follow_topics()

    def _carry_out(self, client: _Client, request: Mapping[str, object]) -> object:
        operation = request.get("op")
        if operation in ("subscribe", "unsubscribe"):
            client.topics = self._wanted(request.get("topics")) if operation == "subscribe" else frozenset()
            self._follow_topics()
            return None
        handler = self._operations.get(operation) if isinstance(operation, str) else None
        if handler is None:
            known = ", ".join(sorted([*self._operations, "subscribe", "unsubscribe"]))
            raise Refused(f"unknown operation {operation!r}; there are {known}")
        return handler(request)

    def _wanted(self, topics: object) -> frozenset[str]:
        if topics is None:
            return frozenset((EVENTS,))
        if not isinstance(topics, list) or not all(topic in self._topics for topic in topics):
            raise Refused(f"topics is a list out of {', '.join(self._topics)}")
        return frozenset(topics)

    def _follow_topics(self) -> None:
        listening = any(PACKETS in client.topics for client in self._clients)
        if listening != self._listening and self._packets is not None:
            self._listening = listening
            self._packets(listening)

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        if len(self._clients) >= MOST_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients.add(_Client(self, self._loop, connection))


class _Client:
    def __init__(self, server: ControlServer, loop: Loop, connection: socket.socket) -> None:
        self.topics: frozenset[str] = frozenset()
        self._missed = 0
        "Records of packets since it was told the last time."
        self._server = server
        self._loop = loop
        self._socket = connection
        self._closed = False
        self._waiting = False
        "For an answer that comes later."
        self._unread = bytearray()
        self._unsent = bytearray()
        loop.watch(connection, self._ready)

    @property
    def unread(self) -> int:
        """Octets that were read and are not answered yet."""
        return len(self._unread)

    def send(self, line: bytes) -> None:
        """Sends now or later; a client that lets too much pile up is dropped."""
        if self._closed:
            return
        waiting = bool(self._unsent)
        self._unsent += line
        if not waiting:
            self._flush()
        elif len(self._unsent) > LARGEST_BACKLOG:
            log.warning("a client of the control socket does not read what it asked for: dropped")
            self.close(dropped=True)

    def offer(self, line: bytes, count: int) -> None:
        """Sends what the client can do without: ``count`` records of packets."""
        if len(self._unsent) + len(line) > LARGEST_OFFER:
            self._missed += count
            return
        if self._missed:
            missed, self._missed = self._missed, 0
            self.send(_encode({"event": "packets-missed", "count": missed}))
        self.send(line)

    def close(self, *, dropped: bool = False) -> None:
        if not self._closed:
            self._closed = True
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._server.forget(self, dropped=dropped)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and not self._closed:
            self._read()
        self._answer()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._unread += data
        if len(self._unread) > LONGEST_REQUEST and b"\n" not in self._unread:
            self.close(dropped=True)

    def _answer(self) -> None:
        """Answers as long as the client reads the answers; what it asks beyond that stays in its socket."""
        for _ in range(_ANSWERED_AT_ONCE):
            end = self._unread.find(b"\n")
            if self._closed or self._unsent or self._waiting or end < 0:
                break
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            if line.strip():
                self._waiting = True
                answer = self._server.answer(self, line)
                if answer is not None:
                    self._waiting = False
                    self.send(_encode(answer))
        self._watch()

    def finish(self, answer: Mapping[str, object]) -> None:
        """The answer that was to come later; then the next requests."""
        self._waiting = False
        self.send(_encode(answer))
        self._answer()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        self._watch()

    def _watch(self) -> None:
        """Nothing is read before what was read is answered."""
        if self._closed:
            return
        events = READ
        if self._unsent:
            events = WRITE
        elif self._waiting:
            events = 0  # hears only that the client is gone
        elif b"\n" in self._unread:
            events = WRITE
        self._loop.watch(self._socket, self._ready, events)


QUEUE = 128
"Clients that may wait to be accepted."


def listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A listening Unix socket (non-blocking, mode 0600) in place of what a dead process left there. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen(QUEUE)
    except BaseException:
        listener.close()
        raise
    return listener


def _answer(identity: object, well: bool, outcome: object) -> dict[str, object]:
    return {"id": identity, "ok": well, "result" if well else "error": outcome}


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"
