"""A note about a call: kept in the history."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Label

from ui.page import Dialog


class NoteDialog(Dialog[None]):
    """One line of text."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self._call = call

    def body(self) -> ComposeResult:
        call = self.model.calls.get(self._call)
        yield Label(f"Note about the call with {call.who if call is not None else self._call}", classes="title")
        yield Input(value="" if call is None else call.note, placeholder="what is to be remembered", id="note")
        yield Label("Enter keeps it in the history    Esc leaves it as it was", classes="hint")

    @on(Input.Submitted)
    def _submitted(self, submitted: Input.Submitted) -> None:
        text = submitted.value.strip()
        if (call := self.model.calls.get(self._call)) is not None:
            call.note = text
        self.phone.perform("note", call=self._call, text=text)
        self.dismiss(None)
