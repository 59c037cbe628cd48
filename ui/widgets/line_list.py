"""A list of any length of which one line has the cursor; only what is visible is drawn, and drawn once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from textual import events
from textual.cache import LRUCache
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from ui.keys import key


class LineList(Widget, can_focus=True):
    """Subclasses say what a line is. A cursor on the last line stays on the last line when others come.

    It scrolls by itself: Textual's own way lays out the whole screen whenever the number of lines changes.
    """

    DEFAULT_CSS = """
    LineList { height: 1fr; border: round $border; border-title-color: $accent; border-subtitle-color: $foreground 60%;
        background: transparent; }
    LineList:focus { border: round $primary; }
    """
    BINDINGS: ClassVar = [
        key("list.up", "up,k", "step(-1)", "Up", show=False),
        key("list.down", "down,j", "step(1)", "Down", show=False),
        key("list.page_up", "pageup", "step_page(-1)", "Page up", show=False),
        key("list.page_down", "pagedown", "step_page(1)", "Page down", show=False),
        key("list.first", "home,g", "go(0)", "First", show=False),
        key("list.last", "end,G", "go(-1)", "Last", show=False),
    ]
    nothing = "nothing yet"
    "Is shown in place of lines."

    class Moved(Message):
        """The cursor is on another line."""

        def __init__(self, lines: LineList) -> None:
            super().__init__()
            self.lines = lines

        @property
        def control(self) -> LineList:
            return self.lines

    class Chosen(Moved):
        """A line was clicked twice, or Enter pressed."""

    def __init__(self, *, id: str | None = None, classes: str | None = None, title: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.border_title = title
        self.cursor = 0
        self.count = 0
        self.top = 0
        "The first line that is visible."
        self._drawn: LRUCache[Hashable, Strip] = LRUCache(400)

    def line(self, index: int, width: int) -> Content:
        """What is in a line."""
        raise NotImplementedError

    def name_of(self, index: int) -> Hashable | None:
        """What is drawn there, if the same name always looks the same; None: draw it each time."""
        return None

    @property
    def follows(self) -> bool:
        """The cursor is at the end, and will be."""
        return self.cursor >= self.count - 1

    def set_count(self, count: int, gone: int = 0) -> None:
        """There are so many lines now; ``gone``: at the beginning, since the last time."""
        follows = self.follows
        before = self.cursor
        self.count = count
        self.cursor = max(0, count - 1 if follows else min(before - gone, count - 1))
        self.top = max(0, self.top - gone)
        self._show_cursor()
        self.refresh()
        if self.cursor != before - gone:
            self.post_message(self.Moved(self))

    def move(self, index: int) -> None:
        """The cursor goes there."""
        index = max(0, min(index, self.count - 1))
        if index != self.cursor:
            self.cursor = index
            self._show_cursor()
            self.refresh()
            self.post_message(self.Moved(self))

    def forget_drawn(self) -> None:
        """Lines look different now."""
        self._drawn.clear()

    def render_line(self, y: int) -> Strip:
        width = self.content_region.width
        index = self.top + y
        if index >= self.count:
            text = Content.styled(f" {self.nothing}", "$foreground 50%") if index == 0 else Content("")
            return self._strip(text, width)
        here = index == self.cursor
        name = self.name_of(index)
        kept = (name, width, here, self.has_focus) if name is not None else None
        if kept is not None and (strip := self._drawn.get(kept)) is not None:
            return strip
        content = self.line(index, width)
        if here:
            content = content.pad_right(max(0, width - content.cell_length))
            content = content.stylize_before("on $primary 45%" if self.has_focus else "on $primary 20%")
        strip = self._strip(content, width)
        if kept is not None:
            self._drawn[kept] = strip
        return strip

    def _strip(self, content: Content, width: int) -> Strip:
        strips = Visual.to_strips(self, content.truncate(width, ellipsis=True), width, 1, self.visual_style, pad=True)
        return strips[0] if strips else Strip.blank(width)

    def _show_cursor(self) -> None:
        height = max(1, self.content_region.height)
        last = max(0, self.count - height)
        self.top = min(max(self.top, self.cursor - height + 1), self.cursor, last)
        self.border_subtitle = self.place

    @property
    def place(self) -> str:
        """Where the cursor is, where not everything is visible."""
        return f"{self.cursor + 1:,}/{self.count:,}" if self.count > self.content_region.height else ""

    def on_resize(self) -> None:
        self.forget_drawn()
        self._show_cursor()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(self.cursor - 3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(self.cursor + 3)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.forget_drawn()

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is None:
            return
        index = self.top + place.y
        if 0 <= index < self.count:
            self.move(index)
            if event.chain == 2:
                self.post_message(self.Chosen(self))

    def action_step(self, lines: int) -> None:
        self.move(self.cursor + lines)

    def action_step_page(self, pages: int) -> None:
        self.move(self.cursor + pages * max(1, self.content_region.height - 1))

    def action_go(self, index: int) -> None:
        self.move(self.count - 1 if index < 0 else index)


class TextLines(LineList):
    """Lines that are given as they are, each with a name by which the cursor finds it again."""

    def __init__(self, *, id: str | None = None, classes: str | None = None, title: str = "") -> None:
        super().__init__(id=id, classes=classes, title=title)
        self._lines: list[tuple[str, Content]] = []

    def set_lines(self, lines: list[tuple[str, Content]]) -> None:
        """All of them anew; the cursor stays on the line that it is on."""
        chosen = self.chosen
        self._lines = lines
        names = [name for name, _ in lines]
        self.count = len(lines)
        self.cursor = names.index(chosen) if chosen in names else max(0, min(self.cursor, self.count - 1))
        self._show_cursor()
        self.refresh()

    @property
    def chosen(self) -> str | None:
        """The name of the line under the cursor."""
        return self._lines[self.cursor][0] if self.cursor < len(self._lines) else None

    def line(self, index: int, width: int) -> Content:
        return Content(" ") + self._lines[index][1]
