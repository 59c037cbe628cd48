"""One key of the configuration: its name, its meaning, and an editor for its kind."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label, Select, Static

LISTS = frozenset(("choices", "list"))
DEFAULT = "(default)"


class Field(Vertical):
    """``values`` are those of `softphone.accounts.keys.AccountKey`, or of an entry of the daemon's ``settings``."""

    def __init__(self, values: Mapping[str, Any], current: object, choices: Sequence[str] = ()) -> None:
        super().__init__()
        self.key = str(values["name"])
        self.kind = str(values["kind"])
        self._meaning = str(values["meaning"])
        self._default = values.get("default")
        self._choices = [str(choice) for choice in choices or values.get("choices") or ()]
        self._current = current

    def compose(self) -> ComposeResult:
        with Horizontal(classes="field"):
            yield Label(self.key, classes="key", markup=False)
            yield self._editor()
        yield Static(self._meaning, classes="meaning", markup=False)

    def _editor(self) -> Input | Select[str]:
        if self.kind == "truth" or (self._choices and self.kind not in LISTS):
            choices = ["yes", "no"] if self.kind == "truth" else self._choices
            default = shown(self._default, self.kind)
            options = [(f"{default or 'none'} {DEFAULT}", DEFAULT), *((one, one) for one in choices)]
            chosen = DEFAULT if self._current is None else shown(self._current, self.kind)
            if all(value != chosen for _, value in options):
                options.append((chosen, chosen))
            return Select(options, value=chosen, allow_blank=False, compact=True)
        return Input(
            value="" if self._current is None else shown(self._current, self.kind), compact=True,
            placeholder=shown(self._default, self.kind), password=self.kind == "secret",
        )  # fmt: skip

    @property
    def text(self) -> str:
        """What the editor says; empty: the default."""
        if self.query(Select):
            value = str(self.query_one(Select).value)
            return "" if value == DEFAULT else value
        return self.query_one(Input).value.strip()

    @property
    def changed(self) -> bool:
        return self.text != ("" if self._current is None else shown(self._current, self.kind))

    @property
    def value(self) -> object:
        """As it is sent to the daemon; None takes the key out. Raises ValueError in words."""
        return parsed(self.text, self.kind)


def shown(value: object, kind: str) -> str:
    """A value of the file as the text of its editor."""
    match value:
        case None:
            return ""
        case bool() if kind == "truth":
            return "yes" if value else "no"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return (shlex.join if kind == "command" else ", ".join)([str(part) for part in value])
        case Mapping():
            return ", ".join(f"{_quoted(str(key))} = {_quoted(str(part))}" for key, part in value.items())
        case _:
            return str(value)


def parsed(text: str, kind: str) -> object:
    """The other way round. Raises ValueError."""
    if not text:
        return None
    if kind == "truth":
        return text == "yes"
    if kind == "number":
        if text in ("true", "false"):
            return text == "true"
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no whole number") from None
    if kind in LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind == "table":
        try:
            return tomllib.loads(f"value = {{ {text} }}")["value"]
        except tomllib.TOMLDecodeError:
            raise ValueError('expected is: key = "text", another = "text"') from None
    return text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
