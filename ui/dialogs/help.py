"""Every key, out of the bindings themselves: what the configuration changed is shown as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from ui.commands import named_bindings, page_bindings
from ui.page import Dialog
from ui.widgets.table import Rows
from ui.widgets.target import TargetInput

GROUPS = {"call": "Calls, from everywhere", "page": "Screens", "app": "The program"}


class HelpDialog(Dialog[None]):
    """Grouped by where they work."""

    BINDINGS: ClassVar = [Binding("f1,enter,q", "leave", "Close")]

    def body(self) -> ComposeResult:
        yield Label("Keys", classes="title")
        with VerticalScroll(can_focus=True, id="keys"):
            yield Static(self._keys())
        yield Label("[ui.keys] of softphone.toml changes them    Esc closes", classes="hint", markup=False)

    def _keys(self) -> Content:
        parts: list[Content] = []
        for title, bindings in self._groups():
            parts.append(Content.styled(title, "bold $primary"))
            parts += [self._line(binding) for binding in bindings]
            parts.append(Content(""))
        return Content("\n").join(parts)

    def _line(self, binding: Binding) -> Content:
        keys = self.roamphone.settings.keys.get(binding.id or "", binding.key).split(",")
        shown = " ".join(self.app.get_key_display(binding.with_key(one)) for one in keys)
        words = binding.tooltip or binding.description
        return Content.assemble((f"  {shown:<12}", "bold $accent"), words, (f"  {binding.id or ''}", "$foreground 40%"))

    def _groups(self) -> Iterator[tuple[str, list[Binding]]]:
        own = [binding for binding in self.app.BINDINGS if isinstance(binding, Binding)]
        for prefix, title in GROUPS.items():
            yield title, [one for one in own if (one.id or "").startswith(f"{prefix}.")]
        yield "Choosing whom to call", named_bindings(TargetInput)
        yield "Tables", named_bindings(Rows)
        yield from ((title, bindings) for title, bindings in page_bindings() if bindings)
