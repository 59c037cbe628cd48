"""The text format, read by the parser of Prometheus's own library, and the HTTP around it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mobility.metrics import CONTENT_TYPE, LONGEST_REQUEST, MOST_CLIENTS, MetricsServer, counter, exposition, gauge
from mobility.net.loop import Loop
from mobility.settings import MetricsSettings


class Served:
    """A server in a loop that a thread turns."""

    def __init__(self, address: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")) -> None:
        self.loop = Loop()
        self.now = 0.0
        self.body = exposition([gauge("up", "It is.", ({}, 1))])
        self.server = MetricsServer(self.loop, MetricsSettings(address, 0), self._text, lambda: self.now)
        self.server.open()
        assert self.server.port is not None
        self.port = self.server.port
        self.thread = threading.Thread(target=self._turn)
        self.thread.start()

    def _text(self) -> str:
        if not self.body:
            raise RuntimeError("no metrics today")
        return self.body

    def _turn(self) -> None:
        while not self.loop.stopping:
            self.loop.turn(0.01)
            self.server.tidy()

    def ask(self, method: str, path: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read()
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(4096):
                answer += data
            return answer

    def close(self) -> None:
        self.loop.stop()
        self.thread.join()
        self.server.close()
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_metrics_are_fetched(served: Served) -> None:
    assert served.ask("GET", "/metrics") == (200, CONTENT_TYPE, served.body.encode())
    assert served.ask("GET", "/metrics?name[]=up")[0] == 200
    assert served.ask("HEAD", "/metrics") == (200, CONTENT_TYPE, b"")
    served.body = exposition([gauge("many", "Large.", *(({"n": str(n)}, n) for n in range(50_000)))])
    assert served.ask("GET", "/metrics")[2] == served.body.encode()


def test_other_requests(served: Served) -> None:
    assert served.ask("GET", "/")[0] == 404
    assert served.ask("POST", "/metrics")[0] == 405
    for request in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\xff\xfe /metrics HTTP/9\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
    ):
        assert b" 400 " in served.raw(request)
    assert served.ask("GET", "/metrics")[0] == 200


def test_a_request_without_end_is_cut_off(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012 - which of the sends notices is not known
            for _ in range(1000):
                connection.sendall(b"x" * LONGEST_REQUEST)
    assert served.ask("GET", "/metrics")[0] == 200


def test_those_who_say_nothing_go(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port), timeout=5) for _ in range(MOST_CLIENTS + 4)]
    for connection in silent:
        with connection:
            assert _is_closed(connection, served)
    assert _within_reach(served)


def _is_closed(connection: socket.socket, served: Served) -> bool:
    """By the server, once its clock has gone on: whenever it accepted the connection."""
    connection.settimeout(0.05)
    for _ in range(100):
        served.now += 100.0
        try:
            return connection.recv(10) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            continue
    return False


def _within_reach(served: Served) -> bool:
    """Whether it answers as soon as it has let go of the others."""
    for _ in range(100):
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            return served.ask("GET", "/metrics")[0] == 200
        served.now += 100.0
    return False


def test_a_fault_is_told_and_noted(served: Served) -> None:
    served.body = ""
    assert served.ask("GET", "/metrics")[0] == 500
    assert served.loop.failures["RuntimeError"] == 1


def test_a_port_that_is_taken_stops_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop()
    second = MetricsServer(loop, MetricsSettings(IPv4Address("127.0.0.1"), served.port), str, lambda: 0.0)
    second.open()
    assert second.port is None
    assert "see listen in [metrics]" in caplog.text
    second.close()
    loop.close()


def test_ipv6() -> None:
    made = Served(IPv6Address("::1"))
    try:
        with socket.create_connection(("::1", made.port), timeout=5) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        made.close()


@given(st.text(), st.text(), st.floats(allow_nan=False) | st.integers(-(2**53), 2**53))
def test_the_parser_reads_what_was_written(text: str, label: str, value: float) -> None:
    families = [counter("a_total", text, ({"label": label}, value)), gauge("b", text, ({}, value))]
    read = list(text_string_to_metric_families(exposition(families)))
    assert [family.type for family in read] == ["counter", "gauge"]
    assert read[0].samples[0].labels == {"label": label}
    assert [family.samples[0].value for family in read] == [value, value]
