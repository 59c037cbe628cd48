"""The page of the browser headset: who gets it, and what nobody can do to it. No browser: see tests/interop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from softphone.daemon.headset import MOST_PAGES, HeadsetPage
from softphone.daemon.protocol import Arguments, RequestError
from softphone.devices.browser import BrowserDevice
from softphone.devices.device import RATE, DeviceError

FRAME = RATE // 50


class Served:
    """A server, what was asked of it, and what it told."""

    def __init__(self) -> None:
        self.device = BrowserDevice()
        self.asked: list[str] = []
        self.connected: list[bool] = []
        self.page = HeadsetPage(self.device, self._perform, lambda: {"calls": []}, self.connected.append)

    async def _perform(self, operation: str, arguments: Arguments) -> object:
        self.asked.append(operation)
        return {"done": operation}

    @property
    def authority(self) -> str:
        return urlsplit(self.page.url).netloc

    def socket(self, **options: Any) -> connect:
        return connect(f"ws://{self.authority}/socket", **{"origin": f"http://{self.authority}", **options})

    async def get(self, path: str, host: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.authority.rpartition(":")[2]))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    async def entered(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"token": self.page.token}))
        assert json.loads(await socket.recv()) == {"event": "calls", "calls": []}


async def answer(socket: ClientConnection, **request: object) -> Any:
    await socket.send(json.dumps(request))
    while True:
        message = await socket.recv()
        if isinstance(message, str) and "ok" in (found := json.loads(message)):
            return found


def served(test: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def work() -> None:
        server = Served()
        await server.page.start(0)
        try:
            async with asyncio.timeout(20):
                await test(server)
        finally:
            await server.page.close()

    asyncio.run(work())


def test_only_names_of_this_machine_get_the_page() -> None:
    async def test(server: Served) -> None:
        for host in (server.authority, "localhost:9999", "[::1]:80", "LOCALHOST"):
            page = await server.get("/", host)
            assert page.startswith(b"HTTP/1.1 200")
            assert b"Content-Security-Policy: default-src 'none'" in page
            assert server.page.token.encode() not in page
        for host in ("evil.example", "127.0.0.1.evil.example:80", "evil.example\r\nHost: localhost", ""):
            assert (await server.get("/", host)).startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))
        assert (await server.get("/../service.py", "localhost")).startswith(b"HTTP/1.1 404")
        assert (await server.get("/headset.js?way=frames", "localhost")).startswith(b"HTTP/1.1 200")

    served(test)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "http://127.0.0.1"])
def test_only_our_own_page_gets_a_socket(origin: str | None) -> None:
    async def test(server: Served) -> None:
        with pytest.raises(InvalidStatus, match="403"):
            await server.socket(origin=origin)
        assert server.page.counters == {"origin-foreign": 1}

    served(test)


def test_the_other_end_of_a_tunnel_has_another_port() -> None:
    async def test(server: Served) -> None:
        def there(name: str) -> connect:
            port = int(server.authority.rpartition(":")[2])
            options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "origin": f"http://{name}"}
            return connect(f"ws://{name}/socket", **options)

        async with there("localhost:8765") as socket:
            await server.entered(socket)
        with pytest.raises(InvalidStatus, match="421"):
            await there("evil.example:8765")

    served(test)


@pytest.mark.parametrize("hello", ['{"token": "guessed"}', "{}", "[]", "\x00", b"token", '{"token": 7}'])
def test_who_does_not_know_the_token_learns_nothing(hello: str | bytes) -> None:
    async def test(server: Served) -> None:
        async with server.socket() as socket:
            await socket.send(hello)
            with pytest.raises(ConnectionClosed, match="1008"):
                await socket.recv()
        assert server.page.counters == {"token-wrong": 1}

    served(test)


def test_a_page_steers_calls_and_nothing_else() -> None:
    async def test(server: Served) -> None:
        async with server.socket() as socket:
            await server.entered(socket)
            assert (await answer(socket, id=1, op="answer"))["result"] == {"done": "answer"}
            for op in ("shutdown", "accounts", "record", "settings-save", "explode"):
                assert "may not" in (await answer(socket, id=2, op=op))["error"]
            for garbage in ("{", "[1]", '{"op": "hold"}', '{"id": 1}', '{"id": "1", "op": "hold"}', "\ud83d"):
                await socket.send(garbage.encode("utf-8", "replace").decode())
                assert json.loads(await socket.recv())["ok"] is False
            await socket.send(b"\0\0")  # sound that nobody announced
            for sdp in ("", "v=0", "v=0\r\nm=audio\r\n", "\0" * 1000):
                assert (await answer(socket, id=3, op="headset-webrtc", sdp=sdp))["ok"] is False
            assert (await answer(socket, id=3, op="headset-frames", rate=1))["ok"] is False
            await socket.send("x" * (1 << 17))
            with pytest.raises(ConnectionClosed, match="1009"):
                await socket.recv()
        assert server.asked == ["answer"]
        assert server.device.way is None

    served(test)


def test_sound_over_the_connection_of_the_page_and_another_page_that_takes_over() -> None:
    async def test(server: Served) -> None:
        with pytest.raises(DeviceError, match="softphone headset"):
            await server.device.open(lambda why: None)
        lost = asyncio.Event()
        async with server.socket() as one, server.socket() as other:
            await server.entered(one)
            await server.entered(other)
            assert (await answer(one, id=1, op="headset-frames", rate=16_000))["ok"]
            await server.device.open(lambda why: lost.set())
            await server.device.listen()
            for _ in range(10):
                await one.send(np.full(320, 500, "<i2").tobytes())
            assert (await answer(one, id=2, op="status"))["ok"] is False  # all before was read
            assert server.device.read(FRAME).any()
            for _ in range(5):
                server.device.write(np.full(FRAME, 700, np.int16))
            heard = np.frombuffer(await binary(one), "<i2")
            assert abs(len(heard) - 320) < 40
            assert abs(int(heard[-1]) - 700) < 5
            await one.send(b"\0\0\0")
            assert (await answer(other, id=1, op="headset-frames", rate=48_000))["ok"]
            while json.loads(await text(one)).get("event") != "taken":
                pass
            server.device.write(np.full(FRAME, 700, np.int16))
            assert len(await binary(other)) == 2 * FRAME
            assert not lost.is_set()
        await lost.wait()
        assert server.connected == [True, True, False]
        assert server.page.counters == {"sound-unexpected": 1}

    served(test)


async def binary(socket: ClientConnection) -> bytes:
    while isinstance(message := await socket.recv(), str):
        pass
    return message


async def text(socket: ClientConnection) -> str:
    while isinstance(message := await socket.recv(), bytes):
        pass
    return message


def test_a_page_that_does_not_read_loses_sound_and_nothing_waits_for_it() -> None:
    async def test(server: Served) -> None:
        async with server.socket(close_timeout=0.1) as socket:  # which cannot read the answer to its goodbye, either
            await server.entered(socket)
            assert (await answer(socket, id=1, op="headset-frames", rate=48_000))["ok"]
            for _ in range(20_000):
                server.device.write(np.ones(FRAME, np.int16))
            assert len(await binary(socket)) == 2 * FRAME

    served(test)


def test_pages_are_few_and_a_port_that_is_taken_is_told() -> None:
    async def test(server: Served) -> None:
        sockets = [await server.socket() for _ in range(MOST_PAGES)]
        for socket in sockets:
            await server.entered(socket)
        with pytest.raises(InvalidStatus, match="503"):
            await server.socket()
        other = Served()
        with pytest.raises(RequestError, match="in use"):
            await other.page.start(int(server.authority.rpartition(":")[2]))
        for socket in sockets:
            await socket.close()

    served(test)
