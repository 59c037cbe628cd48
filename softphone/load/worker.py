"""A process that carries out a share.

    python -m softphone.load.worker

Input: the length of a pickled `Share` (8 octets) and the share; then lines: ``go``, ``stop`` to end
early, ``finish`` when the calls of all processes are over; the end of the input is both. Output: lines of JSON:
``{"ready": true}`` or ``{"failed": TEXT}``, then ``{"record": {...}}`` for each end of a call, ``{"progress": {...}}``
from time to time, and ``{"done": true}``.

Both ends are the same user's: the parent starts its own child.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from softphone.errors import SoftphoneError
from softphone.load.records import CallRecord, Progress
from softphone.load.share import Share, running

LENGTH = 8
LONGEST_LINE = 1 << 20
LEAVES_WITHIN = 15.0
"Seconds that a process has for its goodbyes."


class LoadError(SoftphoneError):
    """A process, or a machine, could not do its share."""


class Worker:
    """The parent's end, as an asynchronous context manager: a child that is gone when the block is left."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # A session of its own: Ctrl-C is for the parent, which passes it on in words.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "softphone.load.worker", start_new_session=True, limit=LONGEST_LINE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        data = pickle.dumps(self._share)
        await self._write(len(data).to_bytes(LENGTH) + data)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.communicate(), LEAVES_WITHIN)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ready(self) -> None:
        """Until its phones are registered. Raises LoadError."""
        answer = await self._read()
        if answer is None or "failed" in answer:
            raise LoadError("a process has died: see above" if answer is None else str(answer["failed"]))

    async def go(self) -> None:
        await self._write(b"go\n")

    async def stop(self) -> None:
        """End politely."""
        await self._write(b"stop\n")

    async def finish(self) -> None:
        """The calls of all processes are over."""
        await self._write(b"finish\n")

    async def told(self) -> AsyncIterator[CallRecord | Progress]:
        """Until it has done its share. Raises LoadError when it dies before."""
        while (line := await self._read()) is not None:
            if "done" in line:
                return
            if (told := of_line(line)) is not None:
                yield told
        raise LoadError("a process has died in the middle of its share: see above")

    async def _read(self) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            return None
        values: dict[str, Any] = json.loads(line)
        return values

    async def _write(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # that it is gone is told by the end of its output
            self._process.stdin.write(data)
            await self._process.stdin.drain()


def as_line(told: CallRecord | Progress) -> dict[str, object]:
    return {"record": told.as_json()} if isinstance(told, CallRecord) else {"progress": asdict(told)}


def of_line(line: Mapping[str, Any]) -> CallRecord | Progress | None:
    """None: it tells something else."""
    if "record" in line:
        return CallRecord.of_json(line["record"])
    return Progress(**line["progress"]) if "progress" in line else None


def _tell(values: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def main() -> int:
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    size = int.from_bytes(await reader.readexactly(LENGTH))
    share: Share = pickle.loads(await reader.readexactly(size))
    try:
        async with running(share, lambda told: _tell(as_line(told))) as run:
            _tell({"ready": True})
            if await reader.readline() != b"go\n":
                return 0

            async def listen() -> None:
                while (order := await reader.readline()) == b"stop\n":
                    run.stop()
                if not order:
                    run.stop()
                run.finish()

            listening = asyncio.create_task(listen())
            await run.run()
            listening.cancel()
    except (SoftphoneError, TimeoutError) as exc:
        _tell({"failed": str(exc) or "a registrar did not answer in time"})
        return 1
    _tell({"done": True})
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(asyncio.run(main()))
