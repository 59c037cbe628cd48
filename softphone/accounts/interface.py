"""``[ui]`` of the configuration: what the user interface reads itself, before the phone's modules are there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

NOTIFICATIONS = ("auto", "desktop", "terminal", "off")
LAYOUTS = ("auto", "columns", "stacked")
KEY = re.compile(r"[a-z0-9_+]+(,[a-z0-9_+]+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InterfaceSettings:
    """What the user prefers; the defaults are those of the file."""

    theme: str = "roamphone-dark"
    bell: bool = True
    notifications: str = "auto"
    layout: str = "auto"
    keys: Mapping[str, str] = field(default_factory=dict)
    "Name of a key (``call.hold``) -> keys, with commas between them."


def theme(value: object) -> str:
    """the name of a theme: "roamphone-dark", "roamphone-light", or one of Textual's"""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]+", value):
        raise ValueError
    return value


def truth(value: object) -> bool:
    """true or false"""
    if not isinstance(value, bool):
        raise ValueError
    return value


def notifications(value: object) -> str:
    """one of "auto", "desktop", "terminal", "off\""""
    return _one_of(value, NOTIFICATIONS)


def layout(value: object) -> str:
    """one of "auto", "columns", "stacked\""""
    return _one_of(value, LAYOUTS)


def keys(value: object) -> dict[str, str]:
    """a table of names and keys such as { "call.hold" = "ctrl+o,f7" }"""
    if not isinstance(value, dict):
        raise ValueError
    for name, keys in value.items():
        if not isinstance(keys, str) or not KEY.fullmatch(keys):
            raise ValueError(f"{name}: {keys!r} names no key")
    return dict(value)


CHECKS: dict[str, Callable[[object], object]] = {
    "theme": theme, "bell": truth, "notifications": notifications, "layout": layout, "keys": keys,
}  # fmt: skip


def read_interface(path: Path) -> tuple[InterfaceSettings, list[str]]:
    """``[ui]``, and what is wrong with it: the rest counts all the same, and the daemon tells the line."""
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("ui", {})
    except (OSError, ValueError):
        return InterfaceSettings(), []  # whoever needs the file says what is the matter with it
    found: dict[str, object] = {}
    wrong: list[str] = []
    for name, value in table.items() if isinstance(table, dict) else ():
        check = CHECKS.get(name)
        try:
            if check is None:
                raise ValueError
            found[name] = check(value)
        except ValueError:
            expected = f"there are {', '.join(CHECKS)}" if check is None else f"expected is {check.__doc__}"
            wrong.append(f"{path}: ui.{name}: {expected}")
    return replace(InterfaceSettings(), **found), wrong  # type: ignore[arg-type]


def _one_of(value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError
    return value
