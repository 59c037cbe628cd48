"""What may stand in the configuration beyond accounts: each key with its meaning and what is expected there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softphone.accounts import interface
from softphone.accounts.interface import truth
from softphone.accounts.settings import Check, command, number, text
from softphone.accounts.toml_file import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One key."""

    name: str
    "With its table: ``hooks.missed``."
    check: Check
    "Makes the value of what stands in the file; its docstring says what is expected."
    default: object
    "As it would stand in the file; None: nothing."
    meaning: str
    kind: str = "text"
    "How it is edited: ``text``, ``number``, ``truth``, ``choice``, ``file``, ``list``, ``command``, ``account``."
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HookCommand:
    """What a hook runs."""

    arguments: tuple[str, ...]
    line: str
    "As it stands in the file; of a list empty: no shell is to read it."

    def program(self, *, shell: bool) -> tuple[str, ...]:
        """With its arguments."""
        return ("/bin/sh", "-c", self.line) if shell and self.line else self.arguments


def hook(value: object) -> HookCommand:
    """a command with its arguments, as a text or a list: "notify-send 'missed a call'\""""
    line = "" if isinstance(value, list) else text(value)
    first, *rest = command(value).arguments
    return HookCommand((str(Path(first).expanduser()) if first.startswith("~") else first, *rest), line)


def _hook(name: str, occasion: str) -> Preference:
    return Preference(
        name=f"hooks.{name}", check=hook, default=None, kind="command", meaning=f"the command that runs when {occasion}"
    )


UI = interface.InterfaceSettings()
PREFERENCES: tuple[Preference, ...] = (
    Preference(
        name="default", check=text, default=None, kind="account",
        meaning="the account that calls where none is named; without it the first",
    ),
    Preference(
        name="ui.theme", check=interface.theme, default=UI.theme,
        meaning="colours of the user interface: roamphone-dark, roamphone-light, or a theme of Textual",
    ),
    Preference(
        name="ui.bell", check=truth, default=UI.bell, kind="truth",
        meaning="the terminal's bell rings while a call comes in",
    ),
    Preference(
        name="ui.notifications", check=interface.notifications, default=UI.notifications, kind="choice",
        meaning="of calls: desktop (notify-send), terminal (OSC 9 and 777), or what there is",
        choices=interface.NOTIFICATIONS,
    ),
    Preference(
        name="ui.layout", check=interface.layout, default=UI.layout, kind="choice",
        meaning="columns beside each other, stacked, or by the width of the terminal", choices=interface.LAYOUTS,
    ),
    Preference(
        name="ui.keys", check=interface.keys, default={}, kind="table",
        meaning='other keys: "call.hold" = "ctrl+o,f7"; F1 tells the names',
    ),
    Preference(
        name="audio.device", check=text, default="auto",
        meaning="auto, sounddevice, browser, file, null, or the name of a sound card as `softphone devices` tells it",
    ),
    Preference(
        name="audio.input", check=text, default=None, meaning="name of the microphone; with file what is to be spoken"
    ),
    Preference(
        name="audio.output", check=text, default=None,
        meaning="name of the loudspeaker; with file what is heard goes there",
    ),
    Preference(
        name="audio.echo_cancellation", check=truth, default=True, kind="truth",
        meaning="of sound cards; needs libspeexdsp, as the next two",
    ),
    Preference(name="audio.noise_suppression", check=truth, default=True, kind="truth", meaning="of the microphone"),
    Preference(name="audio.gain_control", check=truth, default=True, kind="truth", meaning="of the microphone"),
    Preference(
        name="audio.headset_port", check=number(0, 65535), default=0, kind="number",
        meaning="where the page of the browser headset is served, on this machine only; 0: any port that is free",
    ),
    _hook("incoming", "a call comes in"),
    _hook("answered", "a call is answered"),
    _hook("ended", "a call has ended"),
    _hook("missed", "nobody took a call that came in"),
    _hook("message", "a text comes in"),
    _hook("registration_failed", "an account cannot be registered (once, until it is again)"),
    Preference(
        name="hooks.shell", check=truth, default=False, kind="truth",
        meaning="hooks that are texts are read by /bin/sh; what happened is in variables, never in the text",
    ),
    Preference(
        name="hooks.timeout", check=number(1, 3600), default=30, kind="number",
        meaning="seconds after which a hook is ended",
    ),
)  # fmt: skip
"All of them: whoever reads one adds it here."


def read_preferences(root: Table, beside: Path) -> Mapping[str, Any]:
    """Those that are in the file, by their names; relative paths begin at ``beside``. Raises ConfigError."""
    found: dict[str, Any] = {}
    tables: dict[str, Table | None] = {}
    for preference in PREFERENCES:
        section, _, key = preference.name.rpartition(".")
        if section and section not in tables:
            tables[section] = root.table(section)
        table = tables[section] if section else root
        if table is not None and (value := table.optional(key, preference.check)) is not None:
            found[preference.name] = beside / value if isinstance(value, Path) else value
    for table in tables.values():
        if table is not None:
            table.end()
    return found
