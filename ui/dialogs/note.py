"""A note about a call: kept in the history."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Label

from ui.page import Dialog


class NoteDialog(Dialog[None]):
    """One line of text. Of a call that is over, ``account``, ``who`` and ``note`` tell what the model does not know."""

    def __init__(self, call: str, account: str | None = None, who: str = "", note: str = "") -> None:
        super().__init__()
        self._call, self._account, self._who, self._note = call, account, who, note

    def body(self) -> ComposeResult:
        call = self.model.calls.get(self._call)
        yield Label(f"Note about the call with {self._who or (call.who if call else self._call)}", classes="title")
        yield Input(value=self._note or (call.note if call else ""), placeholder="what is to be remembered", id="note")
        yield Label("Enter keeps it in the history    Esc leaves it as it was", classes="hint")

    @on(Input.Submitted)
    def _submitted(self, submitted: Input.Submitted) -> None:
        text = submitted.value.strip()
        if (call := self.model.calls.get(self._call)) is not None:
            call.note = text
        self.phone.perform("note", call=self._call, account=self._account, text=text)
        self.dismiss(None)
