"""What the user wants, as requests to the daemon; what it answers and tells goes into the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from softphone.errors import SoftphoneError
from softphone.paths import data_directory
from ui.model import CallView, Model, Part, shortened

Event = dict[str, object]


class Connection(Protocol):
    """What brings us to the daemon: `softphone.daemon.link.DaemonLink`."""

    @property
    def connected(self) -> bool: ...

    async def request(self, operation: str, **arguments: object) -> object: ...

    async def subscribe(self, topics: Iterable[str]) -> None: ...


class Phone:
    """``complain`` gets what went wrong, in words for the user. Tasks that it begins end with `close`."""

    def __init__(
        self, connection: Connection, model: Model, complain: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.connection, self.model, self.clock = connection, model, clock
        self._complain = complain
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = False
        self._ask_again = False

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def request(self, operation: str, **arguments: object) -> object:
        """The answer. Arguments that are None are left out. Raises SoftphoneError."""
        given = {name: value for name, value in arguments.items() if value is not None}
        return await self.connection.request(operation, **given)

    async def request_exactly(self, operation: str, **arguments: object) -> object:
        """As `request`, for arguments of which None means something."""
        return await self.connection.request(operation, **arguments)

    async def asked(self, operation: str, **arguments: object) -> Mapping[str, Any]:
        """The answer as an object; an error is told, and the answer is empty."""
        try:
            answer = await self.request(operation, **arguments)
        except SoftphoneError as exc:
            self._complain(str(exc))
            return {}
        return answer if isinstance(answer, Mapping) else {}

    def perform(self, operation: str, **arguments: object) -> None:
        """Have it done. An error becomes a notification; afterwards the calls are looked at again."""
        self.begin(lambda: self._perform(operation, arguments))

    async def _perform(self, operation: str, arguments: Mapping[str, object]) -> None:
        answer = await self.request(operation, **arguments)
        if isinstance(answer, Mapping) and "call" in answer and "state" in answer:
            self.model.take_call(answer)
        self.look()

    def begin(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run it as a task of ours; its SoftphoneError is told to the user."""

        async def whole() -> None:
            try:
                await work()
            except SoftphoneError as exc:
                self._complain(str(exc))

        task = asyncio.create_task(whole())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what the daemon says -----------------------------------------------------------------------------------------

    def take_event(self, event: Event) -> None:
        if self.model.apply(event, self.clock()):
            self.look()

    def look(self) -> None:
        """Ask for the status; while an answer is on its way, once more after it."""
        if self._asking:
            self._ask_again = True
            return
        self._asking = True
        self.begin(self._look)

    async def _look(self) -> None:
        try:
            while True:
                self._ask_again = False
                status = await self.request("status")
                if isinstance(status, Mapping):
                    self.model.take_status(status)
                if not self._ask_again:
                    return
        finally:
            self._asking = False

    # -- intents ------------------------------------------------------------------------------------------------------

    def dial(self, target: str, account: str | None = None) -> None:
        self.perform("dial", target=target, account=account)

    def hold_or_resume(self, call: CallView) -> None:
        self.perform("resume" if call.on_hold else "hold", call=call.id)

    def hang_up(self, call: CallView) -> None:
        self.perform("reject" if call.rings_here else "hangup", call=call.id)

    def decide_transfer(self, call: CallView, *, accept: bool) -> None:
        """The other side wants us to talk to somebody else."""
        call.transfer_to = None
        self.model.changed(Part.CALLS)
        self.perform("transfer-accept" if accept else "transfer-refuse", call=call.id)

    def record_or_stop(self, call: CallView) -> None:
        """Into a file of its own in the recordings' directory."""
        if call.recording is not None:
            self.perform("record", call=call.id)
            return
        self.begin(lambda: self._record(call))

    async def _record(self, call: CallView) -> None:
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(self.clock()))
        peer = "".join(char if char.isalnum() or char in "-_.@" else "_" for char in shortened(call.remote))
        directory = data_directory() / "recordings"
        await asyncio.to_thread(directory.mkdir, 0o700, True, True)
        file = str(directory / f"{stamp}-{peer}.opus")
        await self.request("record", call=call.id, file=file)
        call.recording, call.words = file, ""
        self.model.changed(Part.CALLS)
        self.look()
