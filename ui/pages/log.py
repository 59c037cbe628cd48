"""What happens: events in words, and the log of the daemon."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from ui.keys import key
from ui.model import LogLine, Part
from ui.page import Page
from ui.redraw import Watching

LEVELS = ("all", "events", "warnings")
STYLES = {
    "EVENT": "$primary", "DEBUG": "$foreground 50%", "INFO": "$foreground 80%", "WARNING": "$warning",
    "ERROR": "bold $error", "CRITICAL": "bold $error",
}  # fmt: skip


class LogView(Watching):
    """The latest lines that fit; scrolled back by as many as ``back`` says."""

    PARTS: ClassVar = frozenset({Part.LOG})
    can_focus = True
    level = "all"
    search = ""
    back = 0

    def render(self) -> Content:
        page = self.screen
        assert isinstance(page, LogPage)
        lines = [line for line in page.model.log if self._wanted(line)]
        self.back = max(0, min(self.back, len(lines) - self.size.height))
        shown = lines[: len(lines) - self.back][-max(1, self.size.height) :]
        if not shown:
            return Content.styled("Nothing yet.", "$foreground 60%")
        return Content("\n").join(_line(line).truncate(self.size.width, ellipsis=True) for line in shown)

    def _wanted(self, line: LogLine) -> bool:
        if self.level == "events" and line.level != "EVENT":
            return False
        if self.level == "warnings" and line.level in ("EVENT", "DEBUG", "INFO"):
            return False
        return self.search in f"{line.source} {line.text}".casefold()


class LogPage(Page):
    """Kept since the program was started: 2,000 lines."""

    BINDINGS: ClassVar = [
        key("log.search", "slash", "search", "Search"),
        key("log.level", "f", "level", "All/events/warnings", tooltip="Show all, events only, or warnings only"),
        key("log.up", "up,k", "back(1)", "Older", show=False),
        key("log.down", "down,j", "back(-1)", "Newer", show=False),
        key("log.page_up", "pageup", "back(20)", "Older lines", show=False),
        key("log.page_down", "pagedown", "back(-20)", "Newer lines", show=False),
        key("log.end", "end", "back(-100000)", "Latest", show=False),
    ]

    def body(self) -> ComposeResult:
        with Horizontal(classes="tools"):
            yield Input(placeholder="show lines with...", id="search", compact=True)
            yield Static(id="filter")
        yield LogView(id="log")

    def on_mount(self) -> None:
        self.query_one(LogView).focus()
        self._show_level()

    def on_input_changed(self, changed: Input.Changed) -> None:
        view = self.query_one(LogView)
        view.search = changed.value.strip().casefold()
        view.refresh()

    def on_input_submitted(self) -> None:
        self.query_one(LogView).focus()

    def _show_level(self) -> None:
        view = self.query_one(LogView)
        parts = [
            Content.styled(f" {level} ", "bold $background on $primary" if level == view.level else "$foreground 60%")
            for level in LEVELS
        ]
        self.query_one("#filter", Static).update(Content("").join(parts))

    def action_search(self) -> None:
        self.query_one("#search").focus()

    def action_level(self) -> None:
        view = self.query_one(LogView)
        view.level = LEVELS[(LEVELS.index(view.level) + 1) % len(LEVELS)]
        view.refresh()
        self._show_level()

    def action_back(self, lines: int) -> None:
        view = self.query_one(LogView)
        view.back = max(0, view.back + lines)
        view.refresh()


def _line(line: LogLine) -> Content:
    moment = time.strftime("%H:%M:%S", time.localtime(line.time))
    return Content.assemble(
        (f"{moment} ", "$foreground 50%"), (f"{line.level:<8}", STYLES.get(line.level, "")),
        (f"{line.source}  ", "$secondary"), line.text.replace("\n", " "),
    )  # fmt: skip
