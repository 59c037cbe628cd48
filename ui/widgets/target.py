"""Whom to call: a text field that knows contacts and former calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from softphone.errors import SoftphoneError
from ui.keys import key

if TYPE_CHECKING:
    from ui.app import RoamphoneApp

PAUSE = 0.08
"Seconds without a key after which candidates are asked for."


class TargetInput(Vertical):
    """An input with candidates below it: down and up choose, Enter takes what is typed or chosen."""

    BINDINGS: ClassVar = [
        key("target.down", "down", "choose(1)", "Next candidate", show=False, priority=True),
        key("target.up", "up", "choose(-1)", "Previous candidate", show=False, priority=True),
        key("target.close", "escape", "close", "Close candidates", show=False, priority=True),
    ]

    class Dialled(Message):
        """The user has decided."""

        def __init__(self, target: str) -> None:
            super().__init__()
            self.target = target

    def __init__(self, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._placeholder = placeholder
        self._targets: list[str] = []
        self._timer: Timer | None = None
        self._quiet = False

    def compose(self) -> ComposeResult:
        yield Input(placeholder=self._placeholder, id="number")
        candidates = OptionList(id="candidates", compact=True)
        candidates.can_focus = False
        candidates.display = False
        yield candidates

    @property
    def input(self) -> Input:
        return self.query_one("#number", Input)

    @property
    def candidates(self) -> OptionList:
        return self.query_one("#candidates", OptionList)

    @property
    def text(self) -> str:
        return self.input.value.strip()

    def set_text(self, text: str) -> None:
        """Without candidates for it."""
        self._quiet = text != self.input.value
        self.input.value = text
        self.input.cursor_position = len(text)
        self._hide()

    def insert(self, text: str) -> None:
        """As if it had been typed."""
        self.input.insert_text_at_cursor(text)

    @on(Input.Changed, "#number")
    def _typed(self, changed: Input.Changed) -> None:
        changed.stop()
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._quiet:
            self._quiet = False
        elif changed.value.strip():
            self._timer = self.set_timer(PAUSE, self._ask)
        else:
            self._hide()

    def _ask(self) -> None:
        self.run_worker(self._complete(self.text), group="complete", exclusive=True, exit_on_error=False)

    async def _complete(self, text: str) -> None:
        phone = cast("RoamphoneApp", self.app).phone
        try:
            answer = cast("Mapping[str, Any]", await phone.request("complete", text=text))
        except SoftphoneError:
            return  # what is typed can be dialled all the same
        found = [entry for entry in answer.get("candidates", ()) if entry["target"] != text][:6]
        if text != self.text or not found:
            self._hide()
            return
        self._targets = [str(entry["target"]) for entry in found]
        self.candidates.clear_options()
        self.candidates.add_options([Option(_candidate(entry)) for entry in found])
        self.candidates.highlighted = None
        self.candidates.display = True

    def _hide(self) -> None:
        self._targets = []
        self.candidates.display = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("choose", "close"):
            return bool(self._targets)
        return True

    def action_choose(self, step: int) -> None:
        options = self.candidates
        at = options.highlighted
        options.highlighted = (
            (0 if step > 0 else -1) % len(self._targets) if at is None else (at + step) % len(self._targets)
        )

    def action_close(self) -> None:
        self._hide()

    @on(Input.Submitted, "#number")
    def _submitted(self, submitted: Input.Submitted) -> None:
        submitted.stop()
        at = self.candidates.highlighted
        target = self._targets[at] if self._targets and at is not None else self.text
        if target:
            self._dial(target)

    @on(OptionList.OptionSelected, "#candidates")
    def _clicked(self, chosen: OptionList.OptionSelected) -> None:
        chosen.stop()
        self._dial(self._targets[chosen.option_index])

    def _dial(self, target: str) -> None:
        self.set_text("")
        self.post_message(self.Dialled(target))


def _candidate(entry: Mapping[str, Any]) -> Content:
    label, target = str(entry.get("label") or ""), str(entry["target"])
    source = "☆" if entry.get("source") == "contact" else "↺"
    name = label if label and label != target else ""
    return Content.assemble(
        (f"{source} ", "$accent"), (name, "bold"), "  " if name else "", (target, "$foreground 70%")
    )
