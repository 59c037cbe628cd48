"""``[ui]`` of softphone.toml: theme, keys, layout, how calls are announced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ui.themes import DARK


@dataclass(frozen=True, slots=True)
class UiSettings:
    """What the user prefers."""

    theme: str = DARK.name
    keys: Mapping[str, str] = field(default_factory=dict)
    "Name of a key (``call.hold``) -> keys, with commas between them."
    bell: bool = True
    "The terminal's bell, while a call rings."
    notifications: str = "auto"
    "``auto``, ``desktop`` (notify-send), ``terminal`` (OSC 777 and OSC 9), ``off``."
    icons: str = "unicode"
    "``unicode`` or ``ascii``."
    layout: str = "auto"
    "``auto``: by the size of the terminal; ``compact``, ``wide``."
