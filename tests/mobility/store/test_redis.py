"""The connection to Redis, with a real server and with strangers in its place."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mobility.net.loop import Loop
from mobility.store.redis import PATIENCE, Redis, RedisError, RedisUrl, Reply
from mobility.values import ConfigurationError
from roamphone_pytest.ports import free_port
from tests.softphone.certificates import make_certificate

from .support import RedisServer


class Client:
    """A connection in a loop that the test turns."""

    def __init__(self, url: str) -> None:
        self.loop = Loop()
        self.ups = 0
        self.downs: list[str] = []
        self.redis = Redis(self.loop, RedisUrl.parse(url), time.monotonic, self._up, self.downs.append)
        self.redis.start(time.monotonic())

    def _up(self) -> None:
        self.ups += 1

    def until(self, what: Callable[[], bool], seconds: float = 5.0) -> float:
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < seconds, self.redis.failure
            self.loop.turn(0.01)
            if self.redis.timer is not None and self.redis.timer <= time.monotonic():
                self.redis.handle_timer(time.monotonic())
        assert not self.loop.failures
        return time.monotonic() - began

    def ask(self, *request: str | bytes | int) -> object:
        answers: list[object] = []
        self.redis.call(*request, answered=answers.append, failed=answers.append, now=time.monotonic())
        assert not answers
        self.until(lambda: bool(answers))
        return answers[0]

    def close(self) -> None:
        self.redis.close()
        self.loop.close()


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    clients: list[Client] = []

    def make(url: str) -> Client:
        clients.append(Client(url))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


Connect = Callable[[str], Client]


class Stranger:
    """Listens where a server should be and says what the test wants."""

    def __init__(self, directory: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "stranger"))
        self.listener.listen()
        self.url = f"unix://{directory / 'stranger'}"

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


@pytest.mark.interop
class TestServer:
    def test_answers_come_in_order(self, tmp_path: Path, connect: Connect) -> None:
        server = RedisServer(tmp_path)
        try:
            client = connect(server.url)
            client.until(lambda: client.redis.connected)
            assert client.ask("SET", "a", b"\0\xff") == b"OK"
            replies: list[Reply] = []
            for number in range(1000):
                client.redis.call("ECHO", number, answered=replies.append, failed=replies.append, now=time.monotonic())
            client.until(lambda: len(replies) == 1000)
            assert replies == [b"%d" % number for number in range(1000)]
            assert client.ask("GET", "a") == b"\0\xff"
            error = client.ask("HGET", "a", "b")
            assert isinstance(error, RedisError)
            assert "WRONGTYPE" in str(error)
            large = b"x" * (1 << 22)
            assert client.ask("ECHO", large) == large
        finally:
            server.stop()

    def test_a_password_and_a_database(
        self, tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = RedisServer(tmp_path, "--requirepass", "s3cret/word")
        try:
            right = connect(f"unix://:s3cret%2Fword@{server.socket}")
            right.until(lambda: right.redis.connected)
            for url in (server.url, f"unix://:wrong-word@{server.socket}"):
                with caplog.at_level(logging.WARNING):
                    wrong = connect(url)
                    wrong.until(lambda wrong=wrong: "not connected" not in wrong.redis.failure)  # type: ignore[misc]
                assert not wrong.redis.connected
                assert not wrong.ups
            assert "NOAUTH" in caplog.text
            assert "WRONGPASS" in caplog.text
            assert "word@" not in caplog.text
            assert "wrong-word" not in caplog.text
        finally:
            server.stop()

    def test_tls(self, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        made = make_certificate(tmp_path / "certificates", ["127.0.0.1"])
        port = free_port()
        options = ("--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no")
        files = ("--tls-cert-file", made.certificate, "--tls-key-file", made.key, "--tls-ca-cert-file", made.ca)
        server = RedisServer(tmp_path, *options, *map(str, files))
        try:
            stranger = connect(f"rediss://127.0.0.1:{port}")  # nobody vouches for this server
            stranger.until(lambda: "certificate" in stranger.redis.failure.lower())
            assert not stranger.redis.connected
            monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
            client = connect(f"rediss://127.0.0.1:{port}")
            client.until(lambda: client.redis.connected)
            large = b"x" * (1 << 20)
            assert client.ask("ECHO", large) == large
            assert client.ask("PING") == b"PONG"
            server.stop()
            client.until(lambda: not client.redis.connected)
        finally:
            server.stop()

    def test_gone_and_back(self, tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
        server = RedisServer(tmp_path)
        client = connect(server.url)
        client.until(lambda: client.redis.connected)
        server.stop()
        client.until(lambda: not client.redis.connected)
        assert len(client.downs) == 1
        with caplog.at_level(logging.WARNING):
            client.until(lambda: "No such file" in client.redis.failure)
            with pytest.raises(AssertionError):
                client.until(lambda: client.redis.connected, 1.0)
        assert len(caplog.records) <= 2  # not one for each attempt
        server.start()
        try:
            client.until(lambda: client.redis.connected)
            assert client.ups == 2
            assert client.ask("PING") == b"PONG"
        finally:
            server.stop()

    def test_a_server_that_hangs_is_given_up(self, tmp_path: Path, connect: Connect) -> None:
        server = RedisServer(tmp_path)
        try:
            client = connect(server.url)
            client.until(lambda: client.redis.connected)
            server.pause()
            began = time.monotonic()
            error = client.ask("PING")
            assert isinstance(error, RedisError)
            assert "did not answer" in str(error)
            assert PATIENCE * 0.9 < time.monotonic() - began < PATIENCE * 2
            assert not client.redis.connected
            server.go_on()
            client.until(lambda: client.redis.connected)
        finally:
            server.stop()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol"),
        (b"", "closed the connection"),
        (b"+PONG\r\n+PONG\r\n", "what was not asked"),
        (b"-LOADING not yet\r\n", "LOADING"),
    ],
)
def test_what_is_no_server_of_ours_is_given_up(said: bytes, why: str, tmp_path: Path, connect: Connect) -> None:
    with Stranger(tmp_path) as stranger:
        client = connect(stranger.url)
        connection, _ = stranger.listener.accept()
        with connection:
            connection.sendall(said)
            if not said:
                connection.shutdown(socket.SHUT_WR)
            client.until(lambda: why in client.redis.failure)
            assert not client.redis.connected
            assert client.redis.timer is not None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://10.0.0.5", RedisUrl("10.0.0.5", 6379)),
        ("redis://[2001:db8::5]:7000/3", RedisUrl("2001:db8::5", 7000, 3)),
        ("redis://me:a%40b@store.example/", RedisUrl("store.example", 6379, 0, "me", "a@b")),
        ("rediss://:x@store.example", RedisUrl("store.example", 6379, 0, None, "x", True)),
        ("unix:///run/redis.sock", RedisUrl("/run/redis.sock", 0)),
    ],
)
def test_urls(url: str, expected: RedisUrl) -> None:
    assert RedisUrl.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://",
        "http://x",
        "redis://:hidden@x:port",
        "redis://:hidden@x/zero",
        "unix://",
        "redis://:hidden@x?a=1",
    ],
)
def test_wrong_urls(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisUrl.parse(url)
    assert "hidden" not in str(caught.value)


def test_a_url_hides_its_password() -> None:
    assert "hidden" not in repr(RedisUrl.parse("redis://me:hidden@x")) + str(RedisUrl.parse("redis://me:hidden@x"))
