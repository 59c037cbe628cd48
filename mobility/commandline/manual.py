"""A manual page (man(7)) of a command, out of its parser.

``python -m mobility.commandline.manual MODULE:FUNCTION FILE`` writes one: the function makes the parser.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from mobility.commandline.description import Command, Option, Value, describe

PROJECT = "roamphone"


def page(command: Command) -> str:
    """Roff, section 1."""
    name = command.path[0]
    lines = [
        f'.TH {name.upper()} 1 "" "{PROJECT}" "User Commands"', ".nh", ".ad l", ".SH NAME",
        f"{_text(name)} \\- {_text(command.description.rstrip('.'))}", ".SH SYNOPSIS", *_synopsis(command),
    ]  # fmt: skip
    if command.description:
        lines += [".SH DESCRIPTION", _text(command.description)]
    if own := [option for option in command.options if option.names[0] != "-h"]:
        lines += [".SH OPTIONS", *_options(own)]
    lines.append(".SH COMMANDS")
    for one in list(command.everything())[1:]:
        lines += [f".SS {_text(' '.join(one.path[1:]))}", *_command(one)]
    if command.epilog:
        head, _, rest = command.epilog.partition(": ")
        lines += [f".SH {_text(head.upper() if rest else 'NOTES')}", _text(rest or head)]
    return "\n".join([*lines, ""])


def _command(command: Command) -> Iterator[str]:
    if words := command.description or command.help:
        yield _text(f"{words[0].upper()}{words[1:]}".rstrip(".") + ".")
    yield ".PP"
    yield from _synopsis(command)
    told = [option for option in (*command.places, *command.options) if option.help and option.names[:1] != ("-h",)]
    yield from _options(told)


def _synopsis(command: Command) -> Iterator[str]:
    yield f".B {_text(command.name)}"
    parts = [_usage(option) for option in command.options if option.names[0] != "-h"]
    parts += [_usage(place) for place in command.places]
    if command.commands:
        parts.append("\\fICOMMAND\\fR ...")
    yield from parts


def _usage(option: Option) -> str:
    value = "" if option.value is Value.NONE else f"\\fI{_shown(option)}\\fR"
    shown = " ".join(filter(None, (f"\\fB{_text(option.names[-1])}\\fR" if option.names else "", value)))
    return shown if option.required else f"[{shown}]"


def _options(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        value = "" if option.value is Value.NONE else f" \\fI{_shown(option)}\\fR"
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
        yield ".TP"
        yield f"{names}{value}".strip()
        yield _text(option.help) or "\\&"


def _shown(option: Option) -> str:
    """What follows it; long lists of words may be broken."""
    return _text(option.metavar).replace("|", "|\\:")


def _text(text: str) -> str:
    escaped = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: Sequence[str]) -> int:
    place, file = arguments
    module, _, function = place.partition(":")
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(describe(getattr(import_module(module), function)())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
