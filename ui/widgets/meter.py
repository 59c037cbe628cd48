"""Bars for levels and lines of figures, as text."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from ui.model import FLOOR_DBOV

EIGHTHS = " ▏▎▍▌▋▊▉█"
STEPS = "▁▂▃▄▅▆▇█"


def level_bar(dbov: float, width: int) -> Content:
    """A level meter of ``width`` cells, from -60 to 0 dBov; loud ends are marked."""
    share = min(1.0, max(0.0, 1 - dbov / FLOOR_DBOV))
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    bar = ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)
    calm, loud = bar[: width * 3 // 4], bar[width * 3 // 4 : width * 9 // 10]
    return Content.assemble(
        (calm, "$success on $panel"), (loud, "$warning on $panel"), (bar[width * 9 // 10 :], "$error on $panel")
    )


def sparkline(values: Sequence[float | None], low: float, high: float, width: int) -> str:
    """The latest ``width`` values, one cell each; None leaves a gap."""
    latest = list(values)[-width:]
    line = "".join(
        " " if value is None else STEPS[min(7, max(0, int((value - low) / (high - low) * 8)))] for value in latest
    )
    return line.rjust(width)


def clock(seconds: float) -> str:
    """``04:05``, ``1:04:05``."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
