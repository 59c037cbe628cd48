"""A connection to the daemon that comes back: for programs that outlive it, such as the user interface.

It attaches to the daemon, starts one if none runs (and can end that one), and attaches again when the daemon was
restarted.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import DaemonError
from softphone.errors import SoftphoneError
from softphone.paths import default_socket

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"Seconds between attempts to attach: they double."
IDLE = 60.0
"Seconds after which a daemon of ours ends if we have gone without a word, no other program is there, and no call."
PATIENCE = 10.0
"Seconds that a daemon of ours may take to end: it says BYE and takes registrations back."

Event = dict[str, object]


class LinkState(StrEnum):
    """How it stands with the daemon."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    "It was there and has gone; we try again."
    FAILED = "failed"
    "None runs, and none can be started: `DaemonLink.why` says why. We still try."


class DaemonProcess:
    """A daemon that we start, because none runs. What it writes goes to a log that only the user can read."""

    def __init__(
        self, socket: Path, *, configuration: Path | None = None, log: Path | None = None, stays: bool = False
    ) -> None:
        """``stays``: it goes on without us; otherwise only as long as there is a call (`IDLE`)."""
        self.log = log if log is not None else socket.with_suffix(".log")
        self._arguments = ["-m", "softphone.cli", "daemon", "--socket", os.fspath(socket)]
        if configuration is not None:
            self._arguments += ["--config", os.fspath(configuration)]
        if not stays:
            self._arguments += ["--exit-idle-time", f"{IDLE:g}"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """It was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    async def start(self) -> None:
        """Raises OSError when the log cannot be written."""
        self._process = await asyncio.to_thread(self._start)

    def _start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            none = subprocess.DEVNULL
            command = [
                sys.executable,
                *self._arguments,
            ]  # in a session of its own: Ctrl-C in our terminal is not for it
            return subprocess.Popen(command, stdin=none, stdout=none, stderr=log, start_new_session=True)
        finally:
            os.close(log)

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].removeprefix("softphone: ") if lines else ""

    async def end(self) -> None:
        """Politely: calls end by BYE."""
        if (process := self._process) is None or process.poll() is not None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


class DaemonLink:
    """``run`` it as a task. ``tell`` gets every event, ``changed`` is called when ``state`` is another."""

    def __init__(
        self, path: Path | None = None, *, tell: Callable[[Event], None] = lambda event: None,
        changed: Callable[[LinkState], None] = lambda state: None, daemon: DaemonProcess | None = None,
    ) -> None:  # fmt: skip
        self.path = default_socket() if path is None else path
        self.state = LinkState.CONNECTING
        self.why = ""
        "What is in the way."
        self.daemon = daemon
        "The one that is started when none runs."
        self.tell, self.changed = tell, changed
        self._client: DaemonClient | None = None
        self._topics: tuple[str, ...] = ("events",)

    @property
    def connected(self) -> bool:
        return self._client is not None

    async def run(self) -> None:
        """Until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with DaemonClient(self.path) as client:
                    pause = FIRST_PAUSE
                    await self._attached(client)
            except SoftphoneError as exc:
                await self._not_attached(exc)
            finally:
                self._client = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _attached(self, client: DaemonClient) -> None:
        await client.request("subscribe", topics=list(self._topics))
        self._client = client
        self._become(LinkState.CONNECTED)
        async for event in client.events():
            self.tell(event)
        raise DaemonError("the daemon has ended")

    async def _not_attached(self, why: SoftphoneError) -> None:
        self._client = None
        self.why = str(why)
        if self.state is LinkState.CONNECTED:
            self._become(LinkState.LOST)
        daemon = self.daemon
        if daemon is None or daemon.running:
            if daemon is None and self.state is LinkState.CONNECTING:
                self._become(LinkState.FAILED)
        elif daemon.failed:
            self.why = daemon.last_words() or self.why
            self._become(LinkState.FAILED)
        elif self.state is LinkState.CONNECTING:
            await self.start_daemon()

    async def start_daemon(self) -> None:
        """Once more, for example after the configuration was mended."""
        if self.daemon is None or self.daemon.running:
            return
        self._become(LinkState.CONNECTING)
        try:
            await self.daemon.start()
        except OSError as exc:
            self.why = f"the daemon cannot be started: {exc}"
            self._become(LinkState.FAILED)

    def _become(self, state: LinkState) -> None:
        if state is not self.state:
            self.state = state
            self.changed(state)

    async def request(self, operation: str, **arguments: object) -> object:
        """The result. Raises RequestError with the daemon's words, DaemonError when none is there."""
        if self._client is None:
            raise DaemonError(self.why or "there is no connection to the daemon yet")
        return await self._client.request(operation, **arguments)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """What ``tell`` gets from now on, and after every time that we attach."""
        wanted = tuple(sorted({"events", *topics}))
        if wanted == self._topics:
            return
        self._topics = wanted
        if self._client is not None:
            await self._client.request("subscribe", topics=list(wanted))
