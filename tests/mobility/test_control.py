"""The control socket: server and client face each other, and the server faces garbage."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mobility.client import CommandRefused, ControlClient, HostClient, MobilityError, NotRunning, ProtocolError
from mobility.control import LARGEST_BACKLOG, LARGEST_OFFER, LONGEST_REQUEST, ControlServer, Later, Refused, listen
from mobility.net.loop import Loop


class Server:
    """A control server turned by a thread of its own, as a data plane would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.asked: list[Mapping[str, object]] = []
        self.later = Later()
        self.finish: Callable[[], None] | None = None
        "What the thread of the server is to do when it is woken."
        operations = {
            "status": self.status,
            "command": self.command,
            "broken": self.broken,
            "large": self.large,
            "slow": lambda _request: self.later,
        }
        self.watched: list[bool] = []
        "Whether anybody listens to packets, at each change."
        self.server = ControlServer(self.loop, path, operations, self.watched.append)
        self.server.open()
        self.wake, waker = socket.socketpair()
        self.waker = waker
        self.loop.watch(waker, self.woken)
        self.events: list[Mapping[str, object]] = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def woken(self, _events: int) -> None:
        self.waker.recv(100)

    def run(self) -> None:
        while not self.loop.stopping:
            self.loop.turn(1.0)
            if self.finish is not None:
                finish, self.finish = self.finish, None
                finish()
            while self.events:
                event = self.events.pop(0)
                packets = event.get("packets")
                if isinstance(packets, list):
                    self.server.offer(json.dumps(event).encode() + b"\n", len(packets))
                else:
                    self.server.publish(event)

    def publish(self, event: Mapping[str, object]) -> None:
        self.events.append(event)
        self.wake.send(b"!")

    def close(self) -> None:
        self.loop.stop()
        self.wake.send(b"!")
        self.thread.join(5)
        self.server.close()
        self.loop.unwatch(self.waker)
        self.loop.close()
        self.wake.close()
        self.waker.close()

    def status(self, request: Mapping[str, object]) -> object:
        self.asked.append(request)
        return {"up": True}

    def command(self, request: Mapping[str, object]) -> object:
        if request.get("name") != "reregister":
            raise Refused("no such command")
        return request.get("arguments")

    def broken(self, _request: Mapping[str, object]) -> object:
        raise ZeroDivisionError("on purpose")

    def large(self, _request: Mapping[str, object]) -> object:
        return "x" * 300_000

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(str(self.path))
            yield client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "control.sock")
    yield made
    made.close()


def ask(client: socket.socket, line: bytes) -> dict[str, object]:
    client.sendall(line + b"\n")
    return read(client)


def read(client: socket.socket) -> dict[str, object]:
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1)
    answer = json.loads(data)
    assert isinstance(answer, dict)
    return answer


def test_requests_and_answers(server: Server) -> None:
    async def talk() -> None:
        async with ControlClient(server.path) as control:
            assert await control.status() == {"up": True}
            assert await control.command("reregister", link="eth0") == {"link": "eth0"}
            with pytest.raises(CommandRefused, match="no such command"):
                await control.command("explode")
            with pytest.raises(CommandRefused, match="unknown operation 'nothing'; there are broken, command"):
                await control.request("nothing")
            answers = await asyncio.gather(*(control.request("large") for _ in range(20)))
            assert {len(str(answer)) for answer in answers} == {300_000}

    asyncio.run(talk())


@pytest.mark.parametrize("well", [True, False])
def test_an_answer_that_comes_later(server: Server, well: bool) -> None:
    """The others are served meanwhile; what the client asks after it is answered after it."""
    with server.connection() as slow, server.connection() as other:
        slow.sendall(b'{"id":1,"op":"slow"}\n{"id":2,"op":"status"}\n')
        assert ask(other, b'{"id":3,"op":"status"}')["id"] == 3
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.recv(1)
        slow.settimeout(5)
        server.finish = lambda: server.later.finish("done") if well else server.later.refuse("not today")
        server.wake.send(b"!")
        expected = {"id": 1, "ok": True, "result": "done"} if well else {"id": 1, "ok": False, "error": "not today"}
        assert read(slow) == expected
        assert read(slow)["id"] == 2


def test_a_client_that_does_not_wait_for_its_answer(server: Server) -> None:
    with server.connection() as slow:
        slow.sendall(b'{"id":1,"op":"slow"}\n')
    with server.connection() as other:
        assert ask(other, b'{"id":3,"op":"status"}')["ok"]
        server.finish = lambda: server.later.finish("done")
        server.wake.send(b"!")
        assert ask(other, b'{"id":4,"op":"status"}')["ok"]
    assert not server.loop.failures


def test_events_reach_subscribers_only(server: Server) -> None:
    async def talk() -> list[object]:
        seen: list[object] = []
        async with ControlClient(server.path) as idle, ControlClient(server.path) as control:
            stream = control.events()
            first = asyncio.ensure_future(anext(stream))
            while not any(client.topics for client in server.server._clients):
                await idle.status()
            for number in range(3):
                server.publish({"event": "Tick", "number": number})
            seen.append((await first)["number"])
            seen.append((await anext(stream))["number"])
            await control.status()  # requests go on beside the stream
            seen.append((await anext(stream))["number"])
            assert idle._connection._events.empty()
            server.loop.stop()
            server.wake.send(b"!")
            server.thread.join()
            server.server.close()
            seen.extend([event async for event in stream])
            with pytest.raises(NotRunning):
                await control.status()
        return seen

    assert asyncio.run(talk()) == [0, 1, 2]


def test_garbage_is_answered_and_changes_nothing(server: Server) -> None:
    rng = random.Random(1)
    with server.connection() as client:
        for line in (
            b"{",
            b"\xff\xfe\x00",
            b"[]",
            b"7",
            b'"status"',
            b"null",
            b"[" * 50_000,
            b"{}",
            b'{"op": 7}',
            b'{"op": ["status"]}',
            b'{"op": {"status": 1}}',
            b'{"id": [1, {}], "op": "nothing"}',
            b"9" * 10_000,
        ):
            assert ask(client, line)["ok"] is False
        for _ in range(200):
            junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 80))).replace(b"\n", b"").strip()
            if junk:
                assert ask(client, junk)["ok"] is False
        assert server.asked == []
        assert ask(client, b'{"id": 9, "op": "status"}') == {"id": 9, "ok": True, "result": {"up": True}}


def test_every_truncation_of_a_request(server: Server) -> None:
    request = b'{"id": 1, "op": "status"}'
    with server.connection() as client:
        for length in range(1, len(request)):
            assert ask(client, request[:length])["ok"] is False
    with server.connection() as client:
        for byte in request + b"\n":
            client.sendall(bytes([byte]))
        assert read(client)["ok"] is True


def test_an_internal_error_is_told_and_survived(server: Server) -> None:
    with server.connection() as client:
        answer = ask(client, b'{"id": 1, "op": "broken"}')
        assert (answer["ok"], answer["error"]) == (False, "internal error: on purpose")
        assert ask(client, b'{"op": "status"}')["ok"] is True
    assert server.loop.failures == {"ZeroDivisionError": 1}


def test_a_request_without_end_is_cut_off(server: Server) -> None:
    with server.connection() as client:
        with pytest.raises(ConnectionError):  # noqa: PT012 - the moment at which the server closes is its own
            for _ in range(100):
                client.sendall(bytes([32]) * LONGEST_REQUEST)
            client.recv(1)
            raise ConnectionResetError
    with server.connection() as client:
        assert ask(client, b'{"op": "status"}')["ok"] is True
    assert server.server.dropped_clients == 1


def test_a_subscriber_that_does_not_read_is_dropped_and_blocks_nobody(server: Server) -> None:
    with server.connection() as lazy, server.connection() as client:
        ask(lazy, b'{"op": "subscribe"}')
        while not server.server.dropped_clients:
            server.publish({"event": "Tick", "text": "x" * (LARGEST_BACKLOG // 8)})
            assert ask(client, b'{"op": "status"}')["ok"] is True


def test_packets_reach_those_who_listen_to_them(server: Server) -> None:
    async def talk() -> list[object]:
        async with ControlClient(server.path) as both, ControlClient(server.path) as events:
            await events.subscribe()
            await both.subscribe(packets=True)
            server.publish({"event": "packets", "packets": [1]})
            server.publish({"event": "Tick"})
            seen = [(await anext(both.events()))["event"] for _ in range(2)]
            seen.append((await anext(events.events()))["event"])
            await both.subscribe()
            return seen

    assert asyncio.run(talk()) == ["packets", "Tick", "Tick"]
    assert server.watched == [True, False]


@pytest.mark.parametrize("leave", [b'{"op": "unsubscribe"}', None])
def test_nobody_listens_any_more(server: Server, leave: bytes | None) -> None:
    with server.connection() as client, server.connection() as other:
        ask(client, b'{"op": "subscribe", "topics": ["packets"]}')
        if leave is None:
            client.close()
            ask(other, b'{"op": "status"}')
        else:
            ask(client, leave)
        ask(other, b'{"op": "status"}')
    assert server.watched == [True, False]


def test_packets_are_missed_by_who_does_not_read_and_nobody_is_dropped(server: Server) -> None:
    with server.connection() as lazy, server.connection() as client:
        ask(lazy, b'{"op": "subscribe", "topics": ["packets"]}')
        offered = 40
        for number in range(offered):
            server.publish({"event": "packets", "packets": ["x" * (LARGEST_OFFER // 8), number]})
            assert ask(client, b'{"op": "status"}')["ok"] is True
        got = missed = 0
        with lazy.makefile("rb") as lines:
            while not missed:
                server.publish({"event": "packets", "packets": []})  # is there room again?
                event = json.loads(lines.readline())
                got += len(event.get("packets", ()))
                missed = event.get("count", 0)
    assert got + missed == 2 * offered
    assert missed > offered
    assert not server.server.dropped_clients


@pytest.mark.parametrize("topics", ["packets", ["packets", "what"], [["packets"]], {"packets": 1}, 7])
def test_topics_that_there_are_not(server: Server, topics: object) -> None:
    with server.connection() as client:
        answer = ask(client, json.dumps({"op": "subscribe", "topics": topics}).encode())
    assert answer["ok"] is False
    assert "events, packets" in str(answer["error"])


def test_answers_wait_for_a_client_that_reads_late(server: Server) -> None:
    with server.connection() as late, server.connection() as client:
        late.sendall(b'{"op": "large"}\n' * 50)
        assert ask(client, b'{"op": "status"}')["ok"] is True
        with late.makefile("rb") as lines:
            assert {len(lines.readline()) for _ in range(50)} == {300_000 + len('{"id":null,"ok":true,"result":""}\n')}
    assert not server.server.dropped_clients


def test_the_socket_is_private_and_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    first = listen(path, socket.SOCK_STREAM)
    assert path.stat().st_mode & 0o777 == 0o600
    second = listen(path, socket.SOCK_STREAM)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        second.accept()[0].close()
    first.close()
    second.close()


@pytest.mark.parametrize("prepare", [lambda _path: None, lambda path: path.touch()])
def test_nobody_there(tmp_path: Path, prepare: object) -> None:
    path = tmp_path / "sock"
    assert callable(prepare)
    prepare(path)

    async def connect() -> None:
        async with ControlClient(path):
            raise AssertionError("connected to nobody")

    with pytest.raises(NotRunning, match="mobility mn --config FILE"):
        asyncio.run(connect())
    with pytest.raises(NotRunning, match="mobility mn --config FILE"):
        HostClient(path).address()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", NotRunning),
        (b"\xff", ProtocolError),
        (b"[]", ProtocolError),
        (b'{"ok": false, "error": "no"}', CommandRefused),
        (b'{"ok": false, "errno": 98, "error": "in use"}', OSError),
        (b'{"ok": true}', ProtocolError),
    ],
)
def test_host_client_with_a_strange_holder(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    path = tmp_path / "host.sock"
    listener = listen(path, socket.SOCK_SEQPACKET)
    listener.setblocking(True)

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            if answer:
                client.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(error) as caught:
        HostClient(path).socket()
    assert isinstance(caught.value, MobilityError)
    thread.join()
    listener.close()


def test_host_client_does_not_wait_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    listener = listen(path, socket.SOCK_SEQPACKET)
    with pytest.raises(MobilityError, match="does not answer"):
        HostClient(path, timeout=0.01).address()
    listener.close()
