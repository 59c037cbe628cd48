"""A headless Chromium, steered by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
)  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; events are not looked at."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found

    async def evaluate(self, script: str) -> Any:
        """The value of an expression; promises are awaited."""
        result = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str, seconds: float = 15.0) -> Any:
        """The value, once it is true."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.evaluate(script)):  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.1)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never came true: {script}; the page says: {text}") from None
        return value

    async def click(self, selector: str) -> None:
        """As a user does."""
        await self.until(f"document.querySelector({selector!r})?.checkVisibility()")
        await self.evaluate(f"document.querySelector({selector!r}).click()")

    async def screenshot(self, file: Path) -> None:
        result = await self.command("Page.captureScreenshot", format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(result["data"]))


@asynccontextmanager
async def chromium(directory: Path, *flags: str) -> AsyncIterator[Page]:
    """With a profile of its own in the directory."""
    process = await asyncio.create_subprocess_exec(
        "chromium", *FLAGS, *flags, f"--user-data-dir={directory}", "about:blank",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = directory / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not (port_file.exists() and port_file.read_text().count("\n")):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        targets = await asyncio.to_thread(_read, f"http://127.0.0.1:{port}/json")
        url = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        async with connect(url, max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _read(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)
