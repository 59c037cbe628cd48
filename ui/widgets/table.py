"""A table whose rows are objects with a name; it fits into its width, and keeps its cursor when its rows are others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.content import Content
from textual.widgets import DataTable

from ui.keys import key

Cells = Sequence[Content | str]
PADDING = 2
"Cells beside the text of a column."


@dataclass(frozen=True, slots=True)
class Column:
    """``width`` 0: what the others leave, in equal shares. Left out where the table is narrower than ``from_width``."""

    title: str
    width: int = 0
    from_width: int = 0


class Rows(DataTable[Content | str]):
    """The daemon's answers, one line each."""

    BINDINGS: ClassVar = [
        key("table.top", "g", "scroll_top", "First row", show=False),
        key("table.bottom", "G", "scroll_bottom", "Last row", show=False),
    ]

    def __init__(self, *columns: Column, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._all_columns = columns
        self._rows: list[tuple[str, Cells]] = []
        self._width = 0

    @property
    def chosen(self) -> str | None:
        """The name of the row under the cursor."""
        return self._rows[self.cursor_row][0] if 0 <= self.cursor_row < len(self._rows) else None

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._width:
            self._width = event.size.width
            self._fill(self.chosen, self.cursor_row)

    def set_rows(self, rows: Iterable[tuple[str, Cells]]) -> None:
        """All of them anew."""
        chosen, at = self.chosen, self.cursor_row
        self._rows = list(rows)
        self._fill(chosen, at)

    def _fill(self, chosen: str | None, at: int) -> None:
        self.clear(columns=True)
        there = [column for column in self._all_columns if self._width >= column.from_width]
        left = self._width - 1 - sum(column.width + PADDING for column in there)
        shares = sum(column.width == 0 for column in there)
        for column in there:
            self.add_column(column.title, width=column.width or max(8, left // max(1, shares)), key=column.title)
        places = [place for place, column in enumerate(self._all_columns) if column in there]
        for name, cells in self._rows:
            self.add_row(*(cells[place] for place in places), key=name)
        names = [name for name, _ in self._rows]
        if names:
            row = names.index(chosen) if chosen in names else min(at, len(names) - 1)
            self.move_cursor(row=max(0, row), animate=False)
