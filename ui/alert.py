"""Tells the user of a call although the terminal is not looked at: its bell, and a notification of the desktop."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from ui.model import CallView, shortened

if TYPE_CHECKING:
    from textual.timer import Timer

    from ui.app import RoamphoneApp

BELL_PERIOD = 2.5
"Seconds between two rings of the bell."


class Alert:
    """Rings while there is a call that rings."""

    def __init__(self, app: RoamphoneApp, write: Callable[[str], None] | None = None) -> None:
        self._app = app
        self._write = self._to_terminal if write is None else write
        self._timer: Timer | None = None
        self._told: str | None = None

    def ring(self, call: CallView | None) -> None:
        """The call that rings now; None: none does any more."""
        if call is None:
            if self._timer is not None:
                self._timer.stop()
                self._timer = None
            self._told = None
            return
        if self._timer is None and self._app.settings.bell:
            self._app.bell()
            self._timer = self._app.set_interval(BELL_PERIOD, self._app.bell)
        if self._told != call.id:
            self._told = call.id
            self._notify("Call", f"{call.who} ({shortened(call.remote)})")

    def _notify(self, title: str, text: str) -> None:
        how = self._app.settings.notifications
        desktop = shutil.which("notify-send") if how in ("auto", "desktop") else None
        session = any(os.environ.get(name) for name in ("WAYLAND_DISPLAY", "DISPLAY"))
        if desktop is not None and (session or how == "desktop"):
            self._app.run_worker(_run(desktop, "--app-name=roamphone", "--", f"{title}: {text}"), exit_on_error=False)
        elif how in ("auto", "terminal"):
            self._write(terminal_notification(title, text))

    def _to_terminal(self, text: str) -> None:
        driver = self._app._driver
        if driver is not None and not self._app.is_headless:
            driver.write(text)


def terminal_notification(title: str, text: str) -> str:
    """OSC 777 (urxvt, foot, WezTerm, Ghostty, VTE) and OSC 9 (iTerm2, kitty, Windows Terminal); others ignore both.

    tmux passes them on when they are wrapped (and ``allow-passthrough`` is on).
    """
    clean = ["".join(char for char in part if char.isprintable()).replace(";", ",") for part in (title, text)]
    if os.environ.get("TERM_PROGRAM") in ("iTerm.app", "kitty") or os.environ.get("TERM", "").startswith("xterm-kitty"):
        sequence = f"\x1b]9;{clean[0]}: {clean[1]}\x1b\\"
    else:
        sequence = f"\x1b]777;notify;{clean[0]};{clean[1]}\x1b\\"
    if os.environ.get("TMUX"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return sequence


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    await process.wait()
