"""The twelve keys of a telephone."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Grid
from textual.message import Message
from textual.widgets import Button

KEYS = "123456789*0#"
_NAMES = {"*": "star", "#": "hash"}


class Keypad(Grid):
    """Tells which key was pressed."""

    class Pressed(Message):
        """A key, as its character."""

        def __init__(self, digit: str) -> None:
            super().__init__()
            self.digit = digit

    def compose(self) -> ComposeResult:
        for digit in KEYS:
            button = Button(digit, id=f"key-{_NAMES.get(digit, digit)}", name=digit, compact=True)
            button.can_focus = False  # the mouse presses it; whoever types has the keys
            yield button

    @on(Button.Pressed)
    def _pressed(self, pressed: Button.Pressed) -> None:
        pressed.stop()
        self.post_message(self.Pressed(str(pressed.button.name)))
