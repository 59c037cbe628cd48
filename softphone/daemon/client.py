"""A client of the daemon for asyncio programs.

``async with DaemonClient() as daemon: call = await daemon.request("dial", target="bob@example.org")``
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

from mobility.connection import Connection
from softphone.daemon.protocol import LONGEST_ANSWER, DaemonError, RequestError
from softphone.exit_code import code_named
from softphone.paths import default_socket


class DaemonClient:
    """One connection; any number of requests side by side, and the events after `subscribe`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = default_socket() if path is None else path
        self._connection = Connection(self.path, longest=LONGEST_ANSWER, gone=self._gone, refused=_refused)

    async def __aenter__(self) -> Self:
        try:
            await self._connection.open()
        except OSError as exc:
            why = "none runs" if isinstance(exc, FileNotFoundError | ConnectionError) else exc.strerror or str(exc)
            raise DaemonError(f"no daemon at {self.path} ({why}): start one with `softphone daemon`") from exc
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def request(self, operation: str, **arguments: object) -> object:
        """The result. Raises RequestError with the daemon's words, DaemonError when it is gone."""
        return await self._connection.request(operation, arguments)

    async def subscribe(self, *topics: str) -> None:
        """From now on `events` has these topics and no others; without any: ``events``, of which it misses nothing."""
        await self.request("subscribe", **({"topics": list(topics)} if topics else {}))

    def events(self) -> AsyncIterator[dict[str, object]]:
        """Everything since `subscribe`, until the daemon ends. For one reader."""
        return self._connection.events()

    def _gone(self) -> DaemonError:
        return DaemonError(f"the daemon at {self.path} has gone")


def _refused(answer: Mapping[str, object]) -> RequestError:
    return RequestError(str(answer.get("error")), code_named(answer.get("result")))
