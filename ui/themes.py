"""The colours of roamphone: one dark, one light theme; Textual's own can be chosen, too."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="roamphone-dark", primary="#5fb3b3", secondary="#6699cc", accent="#f9ae58", warning="#fac863",
    error="#ec5f67", success="#99c794", foreground="#d8dee9", background="#11171c", surface="#182027", panel="#202b33",
    dark=True, variables={"border": "#4f6570"},
)  # fmt: skip
LIGHT = Theme(
    name="roamphone-light", primary="#12707a", secondary="#2b5fa0", accent="#b35900", warning="#8a6100",
    error="#b3262e", success="#2f7a32", foreground="#1f2a30", background="#f6f7f5", surface="#ffffff", panel="#e7ebe8",
    dark=False, variables={"border": "#9fb0b5"},
)  # fmt: skip
THEMES = (DARK, LIGHT)
