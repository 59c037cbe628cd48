"""A connection to the daemon that comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softphone.daemon.link import DaemonLink, DaemonProcess, LinkState
from softphone.daemon.protocol import DaemonError
from tests.softphone.daemon.support import running

PATIENCE = 30.0
"Real seconds: a daemon of its own needs two of them to start on a machine that does nothing else."


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def test_it_attaches_again_when_the_daemon_was_restarted_and_wants_the_same_topics(tmp_path: Path) -> None:
    async def work() -> None:
        events: list[dict[str, Any]] = []
        states: list[LinkState] = []
        link = DaemonLink(tmp_path / "run" / "softphone.sock", tell=events.append, changed=states.append)
        task = asyncio.create_task(link.run())
        try:
            async with running(tmp_path):
                await until(lambda: link.connected)
                await link.subscribe({"quality"})
            await until(lambda: link.state is LinkState.LOST)
            with pytest.raises(DaemonError, match="daemon"):
                await link.request("status")
            async with running(tmp_path):
                await until(lambda: link.connected)
                await link.request("dnd", on=True)
                await until(lambda: [event for event in events if event["event"] == "do-not-disturb"])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert states == [LinkState.FAILED, LinkState.CONNECTED, LinkState.LOST, LinkState.CONNECTED]

    asyncio.run(work())


def test_it_starts_a_daemon_where_none_runs_and_ends_it_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))

    async def work() -> None:
        socket = tmp_path / "softphone.sock"
        daemon = DaemonProcess(socket)
        link = DaemonLink(socket, daemon=daemon)
        task = asyncio.create_task(link.run())
        try:
            await until(lambda: link.connected)
            assert await link.request("status")
            await until(lambda: daemon.running)
            assert daemon.log.stat().st_mode & 0o777 == 0o600
            await daemon.end()
            await until(lambda: not daemon.running)
            assert not socket.exists()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await daemon.end()

    asyncio.run(work())


def test_a_daemon_that_cannot_start_says_why_and_starts_when_that_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    configuration = tmp_path / "softphone.toml"
    configuration.write_text("[account.work]\naddress = 5\n")

    async def work() -> None:
        socket = tmp_path / "softphone.sock"
        daemon = DaemonProcess(socket, configuration=configuration)
        link = DaemonLink(socket, daemon=daemon)
        task = asyncio.create_task(link.run())
        try:
            await until(lambda: link.state is LinkState.FAILED)
            assert "softphone.toml:2: account.work.address" in link.why
            configuration.write_text("")
            await link.start_daemon()
            await until(lambda: link.connected)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await daemon.end()

    asyncio.run(work())


def test_what_is_no_daemon_is_not_attached_to(tmp_path: Path) -> None:
    async def work() -> None:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = json.loads(await reader.readline())
            writer.write(
                json.dumps({"id": request["id"], "ok": False, "error": "I am something else"}).encode() + b"\n"
            )
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(nonsense, tmp_path / "socket")
        link = DaemonLink(tmp_path / "socket")
        task = asyncio.create_task(link.run())
        try:
            await until(lambda: link.why)
            assert link.why == "I am something else"
            assert not link.connected
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            server.close()
            await server.wait_closed()

    asyncio.run(work())
