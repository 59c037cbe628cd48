"""A running daemon with Alice's accounts, and Bob whom she calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from softphone.accounts.accounts import AccountEntry, Phones, load
from softphone.config import Account
from softphone.daemon.client import DaemonClient
from softphone.daemon.server import Daemon
from softphone.people.call_log import CallLog
from softphone.people.history import History
from softphone.phone import Softphone
from tests.softphone.support import FakeMedia, account, simulate

CONFIGURATION = """
[account.work]
address = "alice@example.org"
register = false
local_host = "::1"
[account.broken]
address = "alice@example.net"
password_env = "NOT_THERE_AT_ALL"
"""
TWO_ACCOUNTS = (
    CONFIGURATION
    + """
[account.home]
address = "carol@example.com"
register = false
local_host = "::1"
"""
)

SILENT = '[audio]\ndevice = "null"\n'
"Nobody's telephone rings, and no microphone is opened, because tests run."


@asynccontextmanager
async def running(
    directory: Path,
    configuration: str = CONFIGURATION,
    *,
    real_media: bool = False,
    exit_idle_time: float | None = None,
) -> AsyncIterator[Daemon]:
    """A daemon with Alice's accounts, one of which cannot start."""
    (directory / "softphone.toml").write_text(configuration if "[audio]" in configuration else configuration + SILENT)

    with History(directory / "history.db") as history:

        def make(entry: AccountEntry, account: Account) -> Softphone:
            log = CallLog(history, entry.name)
            media = None if real_media else FakeMedia.factory([])
            return Softphone(account, entry.sockets(), media=media, log=log)

        phones = Phones(load(directory / "softphone.toml"), make, history=history)
        daemon = Daemon(
            phones,
            directory / "run" / "softphone.sock",
            contacts=directory / "contacts.vcf",
            exit_idle_time=exit_idle_time,
        )
        task = asyncio.create_task(daemon.run())
        ready = asyncio.create_task(daemon.ready.wait())  # without a limit: threads take no simulated time
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        try:
            yield daemon
        finally:
            if not daemon.service.on_shutdown.is_set():  # then it ends by itself
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert not daemon.path.exists()


Test = Callable[[Daemon, Softphone], Coroutine[Any, Any, None]]


def with_bob(tmp_path: Path, test: Test, configuration: str = CONFIGURATION, *, real_media: bool = False) -> None:
    """Run this; ``real_media``: sessions that send and receive sound."""

    async def work() -> None:
        media = None if real_media else FakeMedia.factory([])
        async with (
            Softphone(account("bob"), media=media) as bob,
            running(tmp_path, configuration, real_media=real_media) as daemon,
        ):
            await test(daemon, bob)

    simulate(work)


async def next_event(client: DaemonClient, name: str, limit: float | None = 10) -> dict[str, object]:
    """The next one of this name. Without a limit where the daemon needs a thread: threads take no simulated time."""
    async with asyncio.timeout(limit):
        async for event in client.events():
            if event["event"] == name:
                return event
    raise AssertionError("the daemon has gone")


async def answered(client: DaemonClient, bob: Softphone) -> str:
    """The Call-ID of a call to Bob that he has taken."""
    made: Any = await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
    incoming = await anext(bob.incoming())
    await incoming.answer()
    await incoming.answered(5)
    return str(made["call"])
