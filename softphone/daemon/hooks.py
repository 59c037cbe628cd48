"""Commands of the user that run when something happens: ``[hooks]`` of the configuration.

They never hold up a call: at most `AT_ONCE` run at a time, each for so many seconds, and only so many wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path

from softphone.accounts.preferences import HookCommand
from softphone.daemon.occasions import Occasion, Occasions
from softphone.daemon.operations import Ground
from softphone.daemon.people import People
from softphone.events import Event

log = logging.getLogger(__name__)

AT_ONCE = 4
WAITING = 32
"Commands that may wait for others to end; more are left out."
SECONDS = 30.0
"How long one may take where the configuration says nothing else."
END_SECONDS = 2.0
"How long those that run when the daemon ends may go on."
LONGEST = 4096
"Characters of a variable."
PREFIX = "ROAMPHONE_"


class Hooks:
    """What the configuration says at the moment of an event counts."""

    def __init__(self, ground: Ground, people: People) -> None:
        self.counters: Counter[str] = Counter()
        "``started``, ``failed`` (also those that could not be started), ``too-long``, ``left-out``."
        self._ground = ground
        self._people = people
        self._occasions = Occasions()
        self._waiting: deque[tuple[HookCommand, dict[str, object]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> dict[str, object]:
        return {
            "configured": [str(one) for one in Occasion if self._command(one) is not None],
            "running": len(self._running), "waiting": len(self._waiting), "counters": dict(self.counters),
        }  # fmt: skip

    def happened(self, account: str, event: Event) -> None:
        """Run what is configured for this."""
        for occasion, values in self._occasions.of(account, event):
            if (command := self._command(occasion)) is None:
                continue
            if len(self._waiting) >= WAITING:
                self.counters["left-out"] += 1
                log.warning("hooks.%s was left out: %d others wait", occasion, WAITING)
                continue
            remote = values.get("remote")
            name = self._people.name_of(remote) if isinstance(remote, str) else ""
            self._waiting.append((command, {"hook": str(occasion), **values, "remote_name": name}))
        self._start()

    async def close(self) -> None:
        """Those that run may end, for a moment."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=END_SECONDS)
        self._waiting.clear()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _command(self, occasion: Occasion) -> HookCommand | None:
        found = self._ground.phones.configuration.preferences.get(f"hooks.{occasion}")
        return found if isinstance(found, HookCommand) else None

    def _start(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            command, values = self._waiting.popleft()
            task = asyncio.create_task(self._run(command, values), name=f"hook {values['hook']}")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._start()

    async def _run(self, command: HookCommand, values: dict[str, object]) -> None:
        preferences = self._ground.phones.configuration.preferences
        name = f"hooks.{values['hook']}"
        seconds = float(preferences.get("hooks.timeout", SECONDS))
        try:
            process = await asyncio.create_subprocess_exec(
                *command.program(shell=bool(preferences.get("hooks.shell", False))), cwd=Path.home(),
                env=os.environ | variables(values), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            self.counters["failed"] += 1
            log.warning("%s: %s cannot be run: %s", name, command.program(shell=False)[0], exc.strerror)
            return
        self.counters["started"] += 1
        try:
            async with asyncio.timeout(seconds):
                await process.communicate(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        except TimeoutError:
            self.counters["too-long"] += 1
            log.warning("%s took more than %g s and was ended", name, seconds)
        else:
            if process.returncode:
                self.counters["failed"] += 1
                log.warning("%s failed with status %s", name, process.returncode)
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With what it has started."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await process.wait()


def variables(values: Mapping[str, object]) -> dict[str, str]:
    """Texts, numbers and truths of an event as variables: ``ROAMPHONE_REMOTE`` for ``remote``."""
    found: dict[str, str] = {}
    for name, value in values.items():
        match value:
            case bool():
                text = "true" if value else "false"
            case str() | int() | float():
                text = str(value)
            case _:
                continue
        clean = text.replace("\0", "")[:LONGEST].encode("utf-8", "replace").decode()
        found[PREFIX + name.upper().replace("-", "_")] = clean
    return found
