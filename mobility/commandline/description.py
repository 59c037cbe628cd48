"""The commands and options of an argparse parser, as values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Value(Enum):
    """What follows an option, or stands in a place of the command line."""

    NONE = "nothing"
    FILE = "a file or directory"
    CHOICE = "one of several words"
    OTHER = "something that only the user knows"


@dataclass(frozen=True, slots=True)
class Option:
    """With its names; without any: a place of the command line."""

    names: tuple[str, ...]
    value: Value
    choices: tuple[str, ...]
    metavar: str
    help: str
    required: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One command, with those inside it."""

    path: tuple[str, ...]
    "Its words, from the program's name on."
    help: str
    "One line, as the command above it says it."
    description: str
    epilog: str
    options: tuple[Option, ...]
    places: tuple[Option, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        return " ".join(self.path)

    def everything(self) -> Iterator[Command]:
        """It, and all inside."""
        yield self
        for command in self.commands:
            yield from command.everything()


def describe(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), words: str = "") -> Command:
    """``path`` and ``words`` are for commands inside others."""
    path = path or (parser.prog,)
    options: list[Option] = []
    places: list[Option] = []
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [describe(inner, (*path, name), told.get(name, "")) for name, inner in action.choices.items()]
        elif action.help != argparse.SUPPRESS:
            (options if action.option_strings else places).append(_option(action))
    return Command(
        path, words, parser.description or "", parser.epilog or "", tuple(options), tuple(places), tuple(commands)
    )


def _option(action: argparse.Action) -> Option:
    takes = action.nargs != 0
    shown = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    choices = tuple(map(str, action.choices or ()))
    if not takes:
        value, shown = Value.NONE, ""
    elif choices:
        value, shown = Value.CHOICE, "|".join(choices)
    elif action.type is Path or shown in ("FILE", "DIRECTORY"):
        value = Value.FILE
    else:
        value = Value.OTHER
    help_text = (action.help or "") % {**vars(action), "prog": ""} if action.help else ""
    required = action.required if action.option_strings else action.nargs not in ("?", "*")
    return Option(tuple(action.option_strings), value, choices, shown, help_text, required)
