"""A client of the daemon for asyncio programs.

``async with DaemonClient() as daemon: call = await daemon.request("dial", target="bob@example.org")``
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from softphone.daemon.protocol import LONGEST_ANSWER, DaemonError, RequestError, decoded, encoded
from softphone.exit_code import code_named
from softphone.paths import default_socket


class DaemonClient:
    """One connection; any number of requests side by side, and the events after `subscribe`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = default_socket() if path is None else path
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._events: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
        self._number = 0

    async def __aenter__(self) -> Self:
        try:
            reader, self._writer = await asyncio.open_unix_connection(self.path, limit=LONGEST_ANSWER)
        except OSError as exc:
            why = "none runs" if isinstance(exc, FileNotFoundError | ConnectionError) else exc.strerror or str(exc)
            raise DaemonError(f"no daemon at {self.path} ({why}): start one with `softphone daemon`") from exc
        self._reading = asyncio.create_task(self._read(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def request(self, operation: str, **arguments: object) -> object:
        """The result. Raises RequestError with the daemon's words, DaemonError when it is gone."""
        if self._writer is None or self._reading is None or self._reading.done():
            raise DaemonError(f"the daemon at {self.path} has gone")
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(encoded({**arguments, "id": number, "op": operation}))
            return await answer
        finally:
            del self._waiting[number]

    async def subscribe(self, *topics: str) -> None:
        """From now on `events` has these topics and no others; without any: ``events``, of which it misses nothing."""
        await self.request("subscribe", **({"topics": list(topics)} if topics else {}))

    async def events(self) -> AsyncIterator[dict[str, object]]:
        """Everything since `subscribe`, until the daemon ends. For one reader."""
        while (event := await self._events.get()) is not None:
            yield event

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(decoded(line))
        except (OSError, ValueError, RequestError):
            pass  # broken, or speaks nonsense: as no connection
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(DaemonError(f"the daemon at {self.path} has gone"))
            self._events.put_nowait(None)

    def _take(self, message: dict[str, object]) -> None:
        if "event" in message:
            self._events.put_nowait(message)
            return
        number = message.get("id")
        answer = self._waiting.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if message.get("ok") is True:
            answer.set_result(message.get("result"))
        else:
            answer.set_exception(RequestError(str(message.get("error")), code_named(message.get("result"))))
