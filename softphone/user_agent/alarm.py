"""The event loop's side of an engine's timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls ``due`` at one moment of the loop's clock; setting it anew replaces the moment."""

    def __init__(self, due: Callable[[], None]) -> None:
        self._due = due
        self._handle: asyncio.TimerHandle | None = None

    def set(self, moment: float | None) -> None:
        """None: never."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if moment is not None:
            self._handle = asyncio.get_running_loop().call_at(moment, self._ring)

    def cancel(self) -> None:
        self.set(None)

    def _ring(self) -> None:
        self._handle = None
        self._due()


def reached(moment: float | None) -> float:
    """Now, and not before ``moment``: a loop's timer may fire a clock tick early, and engines compare exactly."""
    now = asyncio.get_running_loop().time()
    return now if moment is None else max(now, moment)
