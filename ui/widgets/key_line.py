"""The keys that do something now, at the bottom. One widget: Textual's Footer mounts one for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from ui.widgets.text import clickable

if TYPE_CHECKING:
    from ui.app import RoamphoneApp

LAST = ("app.help", "app.palette")
"Always there, on the right."


class KeyLine(Widget):
    """What fits; the rest is in the help and in the palette."""

    auto_links = False
    can_focus = False

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.refresh()

    def render(self) -> Content:
        app = cast("RoamphoneApp", self.app)
        first: list[tuple[int, Content]] = []
        last: dict[str, Content] = {}
        order = app.key_order
        for shown, (_node, binding, enabled, _tooltip) in self.screen.active_bindings.items():
            if not binding.show or not enabled:
                continue
            key = Content.styled(app.get_key_display(binding.with_key(shown)), "bold $accent")
            words = clickable(f" {binding.description} ", f"app.press({shown!r})", "$foreground 80%")
            text = Content(" ") + key + words
            if binding.id in LAST:
                last[binding.id] = text
            else:
                first.append((order.get(binding.id or "", len(order)), text))
        right = Content("").join([last[name] for name in LAST if name in last])
        room = self.size.width - right.cell_length
        left = Content("")
        for _, text in sorted(first, key=lambda entry: entry[0]):
            if left.cell_length + text.cell_length > room:
                break
            left += text
        return left + Content(" " * (room - left.cell_length)) + right
