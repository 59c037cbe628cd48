"""The user interface in a real terminal (tmux): a real daemon, Kamailio, and a terminal that moves."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sip_test_env.agents import PhoneProcess
from sip_test_env.on_screen import TerminalsFiles
from sip_test_env.phones import CORRESPONDENT, registered
from sip_test_env.scenes import Scene, Settings
from sip_test_env.speech import speak

pytestmark = [pytest.mark.root, pytest.mark.interop]

THIRD = "6003"
PATIENCE = 20.0
"Seconds until something that is expected has to be on the screen."


class Terminal:
    """A program in a tmux of its own."""

    def __init__(self, directory: Path) -> None:
        self._tmux = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]

    def open(self, command: list[str], environment: dict[str, str]) -> None:
        assignments = [f"{name}={value}" for name, value in environment.items()]
        line = shlex.join(["env", "-u", "COLUMNS", "-u", "LINES", "TERM=tmux-256color", *assignments, *command])
        self._run("new-session", "-d", "-x", "120", "-y", "36", f"{line}; echo left with status $?; sleep 60")

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def press(self, *keys: str) -> None:
        """In tmux's names: ``C-o``, ``F10``, ``Enter``, or text."""
        self._run("send-keys", *keys)

    @property
    def text(self) -> str:
        return self._run("capture-pane", "-p")

    async def shows(self, *texts: str) -> None:
        """Waits until all of them are on the screen."""
        end = time.monotonic() + PATIENCE
        while missing := [text for text in texts if text not in self.text]:
            assert time.monotonic() < end, f"not on the screen: {missing}\n{self.text}"
            await asyncio.sleep(0.1)

    def _run(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True).stdout


@contextlib.asynccontextmanager
async def standing() -> AsyncIterator[tuple[Scene, TerminalsFiles, dict[str, PhoneProcess]]]:
    """The network, the files of the terminal's phone, and two other phones, registered."""
    place = Scene(Settings(instance="test-screen", negotiate=False))
    async with contextlib.AsyncExitStack() as stack:
        processes = stack.enter_context(contextlib.ExitStack())
        place.build(processes)
        place.configure()
        speech = speak("en-gb", 20.0, place.network.directory / "speech.wav")
        place.start(processes)
        await place.ready()
        phones = {}
        for user in (CORRESPONDENT, THIRD):
            log = place.network.directory / f"phone-{user}.log"
            phones[user] = await stack.enter_async_context(PhoneProcess(f"phone of {user}", log))
        await asyncio.gather(*(registered(phone, user, place.nodes, "cn") for user, phone in phones.items()))
        yield place, TerminalsFiles(place, speech), phones


def test_register_dial_hold_move_transfer_and_hang_up_in_a_terminal(tmp_path: Path) -> None:
    asyncio.run(_whole_day(Terminal(tmp_path)))


async def _whole_day(terminal: Terminal) -> None:
    async with standing() as (place, files, phones):
        domain = place.plan.sip_domain
        try:
            terminal.open(files.command, dict(files.environment))
            await terminal.shows("demo", f"6001@{domain}", "mobile", "1/1 registered")
            answering = asyncio.create_task(phones[CORRESPONDENT].do("answer"))
            terminal.press(f"{CORRESPONDENT}@{domain}", "Enter")
            await answering
            await terminal.shows("in call", "■ SRTP", "■ application IPsec", "■ mobile tunnel esp", "opus")
            await terminal.shows("MOS", "round trip")
            terminal.press("C-o")
            await terminal.shows("on hold")
            terminal.press("C-o")
            await terminal.shows("in call")
            terminal.press("F10")
            await place.move(0)
            await terminal.shows("handover", "to_link=")
            terminal.press("F2")
            await terminal.shows("in call", "■ mobile tunnel esp")
            answering = asyncio.create_task(phones[THIRD].do("answer"))
            terminal.press("C-t")
            await terminal.shows("Transfer", "Esc keeps the call")
            terminal.press(f"{THIRD}@{domain}", "Enter")
            await answering
            await terminal.shows("transferred")
            answering = asyncio.create_task(phones[CORRESPONDENT].do("answer"))
            terminal.press(f"{CORRESPONDENT}@{domain}", "Enter")
            await answering
            await terminal.shows("in call", "1 call")
            terminal.press("C-b")
            await terminal.shows("you hung up")
            terminal.press("C-q")
            await terminal.shows("left with status 0")
        finally:
            terminal.close()
