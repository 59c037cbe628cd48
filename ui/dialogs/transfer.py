"""Hand a call on: to an address (blind), or to the other side of another call of ours (attended, RFC 3891)."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from ui.page import Dialog
from ui.widgets.target import TargetInput


class TransferDialog(Dialog[None]):
    """Where to?"""

    def __init__(self, call: str) -> None:
        super().__init__()
        self._call = call

    def body(self) -> ComposeResult:
        call = self.model.calls.get(self._call)
        yield Label(f"Transfer {call.who if call is not None else self._call} to", classes="title")
        yield TargetInput(placeholder="number, name or address", id="target")
        others = [other for other in self.model.live_calls if other.id != self._call and other.established]
        if others:
            yield Label("or connect with the call to", classes="hint")
            yield OptionList(*(Option(other.who, id=other.id) for other in others), id="others", compact=True)
        yield Label("Enter transfers    Esc keeps the call", classes="hint")

    @on(TargetInput.Dialled)
    def _dialled(self, dialled: TargetInput.Dialled) -> None:
        dialled.stop()
        self.phone.perform("transfer", call=self._call, target=dialled.target)
        self.dismiss(None)

    @on(OptionList.OptionSelected, "#others")
    def _chosen(self, chosen: OptionList.OptionSelected) -> None:
        chosen.stop()
        self.phone.perform("transfer", call=self._call, to_call=chosen.option_id)
        self.dismiss(None)
