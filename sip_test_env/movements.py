"""What a terminal's mobility process says of its bindings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from mobility.client import ControlClient
from sip_test_env.errors import EnvironmentFailure

BINDING_TIMEOUT = 10.0
"Seconds within which a binding, first or new, has to be there."


class Movements:
    """Its events, with the time at which it told them."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self._news = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def follow(cls, *controls: Path) -> AsyncIterator[Movements]:
        """Listens while the block runs; a mobility process that is restarted is found again."""
        movements = cls()
        tasks = [asyncio.create_task(movements._listen(control)) for control in controls]
        try:
            yield movements
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, control: Path) -> None:
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                async with ControlClient(control) as client:
                    async for event in client.events():
                        self.seen.append((time.monotonic(), event))
                        self._news.set()
            await asyncio.sleep(0.05)

    async def bound_after(self, moment: float) -> float:
        """When the home agent first acknowledged a binding after ``moment``. Raises TimeoutError."""
        return (await self.after(moment, "Bound"))[0]

    async def after(self, moment: float, kind: str, **wanted: object) -> tuple[float, dict[str, Any]]:
        """The first event of a kind, with these values, that came after ``moment``. Raises TimeoutError."""
        wanted["event"] = kind
        async with asyncio.timeout(BINDING_TIMEOUT):
            while True:
                for at, event in self.seen[bisect_left(self.seen, moment, key=itemgetter(0)) :]:
                    if all(event.get(name) == value for name, value in wanted.items()):
                        return at, event
                self._news.clear()
                await self._news.wait()


async def bound(control: Path) -> None:
    """Waits for the first binding. Raises `EnvironmentFailure` when it does not come."""
    deadline = time.monotonic() + BINDING_TIMEOUT
    async with ControlClient(control) as client:
        while time.monotonic() < deadline:
            status: dict[str, Any] = await client.status()
            registration = status["node"]["mobile_node"]["registration"]
            if registration["state"] == "bound":
                return
            await asyncio.sleep(0.02)
    raise EnvironmentFailure(f"no binding with the home agent within {BINDING_TIMEOUT:g} s: {registration}")
