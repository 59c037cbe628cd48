"""The process that PJSUA2 lives in, seen from here: orders, answers, events, sound, and its end."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import socket
import sys
from typing import Any, Protocol

import numpy as np

from softphone.errors import CallError
from softphone.media.codecs import Samples
from softphone.pjsua.wire import HEADER

log = logging.getLogger(__name__)

PATIENCE = 10.0
"Seconds for an answer: the library answers in milliseconds, or it is stuck."
GOODBYE = 2.0
LONGEST_LINE = 1 << 20
CHILD = "softphone.pjsua.child"


class EngineError(CallError):
    """The engine refused, or has ended; ``status`` is the library's."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Told(Protocol):
    """Who hears of what happens in the process."""

    def event(self, what: str, values: dict[str, Any]) -> None: ...

    def sound(self, number: int, samples: Samples) -> None: ...

    def process_ended(self, why: str) -> None:
        """By itself; not after `EngineProcess.close`."""


class EngineProcess:
    """One run of the engine. ``prefix``: a command that runs it somewhere else, such as ``mobility exec --``."""

    def __init__(self, told: Told, prefix: tuple[str, ...] = ()) -> None:
        self._told = told
        self._prefix = prefix
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._sound: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._closing = False

    async def start(self) -> None:
        """Raises EngineError when it cannot be started."""
        ours, theirs = socket.socketpair()
        our_sound, their_sound = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        descriptors = theirs.fileno(), their_sound.fileno()
        self._sound = our_sound
        our_sound.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix, sys.executable, "-m", CHILD, *map(str, descriptors), pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            ours.close()
            our_sound.close()
            raise EngineError(f"the engine pjsua2 cannot be started: {exc.strerror}") from exc
        finally:
            theirs.close()
            their_sound.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
        asyncio.get_running_loop().add_reader(our_sound, self._hear)
        self._reading = asyncio.create_task(self._read(reader), name="engine pjsua2")

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise EngineError("the engine pjsua2 does not run")
        return self._process.pid

    async def order(self, what: str, **values: object) -> Any:
        """The answer. Raises EngineError."""
        if self._writer is None or self._closing:
            raise EngineError("the engine pjsua2 does not run: it is being started again")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "op": what, **values}).encode() + b"\n")
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            raise EngineError(f"the engine pjsua2 did not answer within {PATIENCE:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def speak(self, number: int, samples: Samples) -> None:
        """20 ms for a call. What finds no room is lost."""
        if self._sound is not None:
            try:
                self._sound.send(HEADER.pack(number) + samples.tobytes())
            except OSError:
                pass

    async def close(self) -> None:
        """End it."""
        self._closing = True
        process, writer = self._process, self._writer
        if writer is not None:
            writer.close()  # it ends with this
        if process is not None:
            try:
                async with asyncio.timeout(GOODBYE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._free()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError) as exc:
            log.warning("the engine pjsua2 speaks no more: %s", exc)
        process = self._process
        assert process is not None
        try:
            async with asyncio.timeout(GOODBYE):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if not self._closing:
            self._closing = True
            self._free()
            self._told.process_ended(_why(code))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            try:
                self._told.event(message.pop("event"), message)
            except Exception:
                log.exception("an event of the engine pjsua2 could not be taken")
            return
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(EngineError(message["error"], message["status"]))
        else:
            answer.set_result(message["result"])

    def _hear(self) -> None:
        while self._sound is not None:
            try:
                data = self._sound.recv(1 << 12)
            except OSError:
                return  # nothing more now
            if len(data) < HEADER.size:
                return
            self._told.sound(HEADER.unpack_from(data)[0], np.frombuffer(data, np.int16, offset=HEADER.size))

    def _free(self) -> None:
        sound, self._sound = self._sound, None
        if sound is not None:
            asyncio.get_running_loop().remove_reader(sound)
            sound.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(EngineError("the engine pjsua2 has ended"))


def _why(code: int) -> str:
    if code >= 0:
        return f"it ended with status {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
