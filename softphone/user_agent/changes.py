"""Waiting for what something in the event loop becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Of one object: whoever changes it tells, and whoever waits looks again."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Until the condition holds, which may be at once; ``timeout`` in seconds.

        Raises TimeoutError, and whatever the condition raises.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)

    def tell(self) -> None:
        """Something has changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
