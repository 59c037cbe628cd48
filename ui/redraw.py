"""When widgets draw again: when what they show has changed and their screen is visible, 20 times a second at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual.widget import Widget

from ui.model import Part

if TYPE_CHECKING:
    from textual.app import App
    from textual.timer import Timer

PERIOD = 0.05
"Seconds between two redraws."


class Watching(Widget):
    """A widget that shows parts of the model."""

    PARTS: ClassVar[frozenset[Part]] = frozenset()
    auto_links = False  # their texts say what is to be clicked

    def on_mount(self) -> None:
        self.show_model()

    def show_model(self) -> None:
        """Draw what the model says now."""
        self.refresh()

    def show_parts(self, parts: frozenset[Part]) -> None:
        """Only these changed, some of which it shows. For widgets that can do with less than all."""
        self.show_model()


class Redraw:
    """Collects what changed and draws it together. Costs nothing while nothing changes."""

    def __init__(self, app: App[None], show_stream: Callable[[], None], clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._show_stream = show_stream
        self._clock = clock
        self._changed: set[Part] = set()
        self._stream = False
        self._timer: Timer | None = None
        self._last = -PERIOD

    def changed(self, part: Part) -> None:
        self._changed.add(part)
        self._soon()

    def stream_changed(self) -> None:
        """The visible page has events to draw."""
        self._stream = True
        self._soon()

    def _soon(self) -> None:
        if self._timer is None and self._app.is_running:
            self._timer = self._app.set_timer(max(0.001, self._last + PERIOD - self._clock()), self.flush)

    def flush(self) -> None:
        """Draw what changed since the last time."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        changed, self._changed = self._changed, set()
        self._last = self._clock()
        if changed:
            self.draw(changed)
        if self._stream:
            self._stream = False
            self._show_stream()

    def draw(self, parts: Iterable[Part]) -> None:
        wanted = frozenset(parts)
        if not self._app.screen_stack:
            return
        for widget in self._app.screen.walk_children(Watching):
            if widget.PARTS & wanted and widget.is_mounted:
                widget.show_parts(wanted)
