"""Helpers for tests of the user interface: the program, driven by a pilot, on a real daemon that is called for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from textual import events
from textual.pilot import Pilot

from softphone.daemon.link import DaemonLink
from softphone.daemon.server import Daemon
from softphone.phone import Softphone
from tests.softphone.daemon.support import CONFIGURATION, running
from tests.softphone.support import FakeMedia, account
from ui.app import RoamphoneApp
from ui.page import Page

P = TypeVar("P", bound=Page)
SIZES = [(80, 24), (120, 36), (200, 60)]
"Terminals in which everything has to be usable."
PATIENCE = 10.0
"Real seconds until a test gives up waiting for what the daemon or a peer does."


class Screen:
    """The program at one size, with what a test asks and does."""

    def __init__(self, app: RoamphoneApp, pilot: Pilot[None], daemon: Daemon, bob: Softphone | None) -> None:
        self.app, self.pilot, self.daemon, self._bob = app, pilot, daemon, bob

    @property
    def bob(self) -> Softphone:
        """Whom Alice calls."""
        assert self._bob is not None
        return self._bob

    @property
    def bob_uri(self) -> str:
        return f"sip:bob@[::1]:{self.bob.port}"

    @property
    def alice_uri(self) -> str:
        return f"sip:alice@[::1]:{next(iter(self.daemon.service.phones.running.values())).port}"

    @property
    def text(self) -> str:
        """What is on the screen."""
        return shown(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def types(self, text: str) -> None:
        await self.pilot.press(*("space" if char == " " else char for char in text))

    async def paste(self, text: str) -> None:
        """As terminals do it (bracketed paste): quicker than key by key."""
        focused = self.app.focused
        assert focused is not None
        focused.post_message(events.Paste(text))
        await self.pilot.pause()

    def page(self, kind: type[P]) -> P:
        """The screen that is shown."""
        found = self.app.current_page
        assert isinstance(found, kind)
        return found

    def sent_digits(self) -> str:
        """What Alice's phone has sent as digits."""
        calls = self.daemon.service.phones.running["work"].calls
        logs = [call.media.log for call in calls if isinstance(call.media, FakeMedia)]
        return "".join(line.removeprefix("dtmf ") for log in logs for line in log if line.startswith("dtmf "))

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until it is true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.pilot.pause(0.01)

    async def sees(self, *texts: str) -> None:
        """Wait until all of them are on the screen."""
        try:
            await self.until(lambda: all(text in self.text for text in texts))
        except TimeoutError:
            missing = [text for text in texts if text not in self.text]
            raise AssertionError(f"not on the screen: {missing}\n{self.text}") from None

    async def is_told(self, text: str) -> None:
        """Wait until a notification says so."""
        await self.until(lambda: any(text in one.message for one in self.app._notifications))

    async def sees_no(self, text: str) -> None:
        """Wait until it is gone."""
        try:
            await self.until(lambda: text not in self.text)
        except TimeoutError:
            raise AssertionError(f"still on the screen: {text}\n{self.text}") from None


def shown(app: RoamphoneApp) -> str:
    """The screen as lines of text."""
    width, _height = app.size
    return "\n".join(
        "".join(segment.text for segment in strip).ljust(width).rstrip()
        for strip in app.screen._compositor.render_strips()
    )


@asynccontextmanager
async def opened(
    directory: Path, size: tuple[int, int] = (80, 24), *, configuration: str = CONFIGURATION,
    real_media: bool = False,
) -> AsyncIterator[Screen]:  # fmt: skip
    """The program on a daemon; Bob has a phone of his own."""
    async with (
        Softphone(account("bob"), media=None if real_media else FakeMedia.factory([])) as bob,
        running(directory, configuration, real_media=real_media) as daemon,
    ):
        app = RoamphoneApp(DaemonLink(daemon.path), directory / "softphone.toml")
        async with app.run_test(size=size) as pilot:
            screen = Screen(app, pilot, daemon, bob)
            await screen.until(lambda: app.connected and app.model.accounts)
            yield screen


def drive(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in real time: Textual's timers know no other."""
    asyncio.run(work())
