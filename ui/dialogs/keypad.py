"""Digits into a call (DTMF): typed, or clicked."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.widgets import Label

from ui.page import Dialog
from ui.widgets.keypad import KEYS, Keypad


class KeypadDialog(Dialog[None]):
    """Every key goes out at once."""

    BINDINGS: ClassVar = [("enter", "leave", "Close")]

    def __init__(self, call: str) -> None:
        super().__init__()
        self._call = call
        self._sent = ""

    def body(self) -> ComposeResult:
        call = self.model.calls.get(self._call)
        yield Label(f"Digits for {call.who if call is not None else 'the call'}", classes="title")
        yield Label(" ", id="sent")
        yield Keypad()
        yield Label("type 0-9 * # A-D    Esc closes", classes="hint")

    @on(Keypad.Pressed)
    def _pressed(self, pressed: Keypad.Pressed) -> None:
        pressed.stop()
        self.send(pressed.digit)

    def on_key(self, event: events.Key) -> None:
        digit = (event.character or "").upper()
        if digit and digit in KEYS + "ABCD":
            event.stop()
            self.send(digit)

    def send(self, digit: str) -> None:
        """One digit."""
        self.phone.perform("dtmf", call=self._call, digits=digit)
        self._sent = (self._sent + digit)[-24:]
        self.query_one("#sent", Label).update(self._sent)
