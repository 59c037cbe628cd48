"""A client's end of a Unix socket that speaks lines of JSON: requests side by side, and events in between.

So speak the data plane (docs/configuration.md) and the daemon of the phone.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping


class Connection:
    """One connection. Whose errors they are is the caller's."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        longest: int,
        gone: Callable[[], Exception],
        refused: Callable[[Mapping[str, object]], Exception],
    ) -> None:
        """``longest``: octets of a line; ``gone``: makes the error where nobody serves the socket (any more),
        ``refused``: the error of an answer that is a refusal.
        """
        self._path = path
        self._longest = longest
        self._gone = gone
        self._refused = refused
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._events: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
        self._number = 0

    async def open(self) -> None:
        """Raises OSError."""
        reader, self._writer = await asyncio.open_unix_connection(self._path, limit=self._longest)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """Ends it; `events` ends too. A second call does nothing."""
        reading, self._reading = self._reading, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()  # before anything is awaited: whoever closes may be cancelled
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if writer is not None:
            try:
                await writer.wait_closed()
            except OSError:
                pass  # the other side was faster

    async def request(self, operation: str, arguments: Mapping[str, object], timeout: float | None = None) -> object:
        """The result. Raises what ``gone`` and ``refused`` make, TimeoutError after ``timeout`` seconds."""
        if self._writer is None or self._reading is None or self._reading.done():
            raise self._gone()
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(json.dumps({**arguments, "id": number, "op": operation}).encode() + b"\n")
            await self._writer.drain()
            return await asyncio.wait_for(answer, timeout)
        except ConnectionError as error:
            raise self._gone() from error
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # known, also where writing has failed before

    async def events(self) -> AsyncIterator[dict[str, object]]:
        """All that come, and have come, until the connection ends. For one reader at a time."""
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)  # for the next caller

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    break
                self._take(message)
        except (OSError, ValueError, RecursionError):
            pass  # a broken connection and one that speaks nonsense end the same way: as no connection
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._gone())
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
            answer.set_exception(self._refused(message))
