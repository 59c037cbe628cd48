"""Pieces of text that several widgets draw."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style


def clickable(text: str, action: str, style: str) -> Content:
    """A click on it runs the action."""
    return Content.styled(text, style).stylize(Style.from_meta({"@click": action}))
