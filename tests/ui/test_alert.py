"""What tells of a call although nobody looks at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.support import drive, opened
from ui.alert import Alert, terminal_notification
from ui.model import CallView


@pytest.mark.parametrize(
    ("environment", "sequence"),
    [
        ({}, "\x1b]777;notify;Call;Bob, Builder\x1b\\"),
        ({"TERM": "xterm-kitty"}, "\x1b]9;Call: Bob, Builder\x1b\\"),
        ({"TMUX": "/tmp/tmux"}, "\x1bPtmux;\x1b\x1b]777;notify;Call;Bob, Builder\x1b\x1b\\\x1b\\"),
    ],
)
def test_terminals_are_told_in_their_language_and_names_cannot_end_it(
    environment: dict[str, str], sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "TERM_PROGRAM", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal_notification("Call", "Bob; \x1b\x07Builder\n") == sequence


def test_the_bell_rings_until_the_call_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no notify-send

    async def work() -> None:
        async with opened(tmp_path) as screen:
            rung: list[str] = []
            written: list[str] = []
            screen.app.bell = lambda: rung.append("bell")  # type: ignore[method-assign]
            alert = Alert(screen.app, written.append)
            call = CallView("1", "work", "sip:bob@example.org", "Bob", incoming=True, state="ringing")
            alert.ring(call)
            alert.ring(call)
            assert (rung, len(written)) == (["bell"], 1)
            assert "Bob (bob@example.org)" in written[0]
            timer: Any = alert._timer
            assert timer is not None
            alert.ring(None)
            assert alert._timer is None

    drive(work)


def test_what_the_user_does_not_want_is_not_done(tmp_path: Path) -> None:
    async def work() -> None:
        quiet = '[ui]\nbell = false\nnotifications = "off"\n[account.work]\naddress = "alice@example.org"\n'
        async with opened(tmp_path, configuration=f'{quiet}register = false\nlocal_host = "::1"\n') as screen:
            written: list[str] = []
            alert = Alert(screen.app, written.append)
            alert.ring(CallView("1", "work", "sip:bob@example.org", incoming=True, state="ringing"))
            assert (alert._timer, written) == (None, [])

    drive(work)
