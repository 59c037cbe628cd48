"""Configuration in TOML, read so that every complaint names the line, the key and what is expected there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from softphone.errors import ConfigError

T = TypeVar("T")
LARGEST = 256 * 1024
"Bytes of a file."
PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


class TomlFile:
    """One file. Raises ConfigError when it cannot be read or is no TOML."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
        if len(data) > LARGEST:
            raise ConfigError(f"{path}: has more than {LARGEST} bytes: this is no configuration of the phone")
        try:
            self.text = data.decode()
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            raise ConfigError(f"{path}:{line}: is not UTF-8: save the file in this encoding") from None
        try:
            self.values: dict[str, object] = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as exc:
            place = PLACE.search(str(exc))
            where = f"{place[1]}:{place[2]}" if place and place[1] else str(len(self.text.splitlines()))
            raise ConfigError(f"{path}:{where}: {PLACE.sub('', str(exc))}") from None
        except RecursionError:
            raise ConfigError(f"{path}: is nested too deeply") from None

    @property
    def root(self) -> Table:
        return Table(self, (), self.values)

    def line(self, keys: tuple[str, ...]) -> int | None:
        """The number of the line where a key or table begins, from 1.

        tomllib does not tell it, but what ends before that line is TOML without the key, and what ends with it, or a
        few lines later, is TOML with it.
        """
        lines = self.text.splitlines(keepends=True)
        for begin, line in enumerate(lines):
            if not keys or keys[-1] not in line or (before := _parsed(lines[:begin])) is None or _has(before, keys):
                continue
            with_it = (_parsed(lines[:end]) for end in range(begin + 1, len(lines) + 1))
            after = next((values for values in with_it if values is not None), None)
            if after is not None and _has(after, keys):
                return begin + 1
        return None

    def error(self, keys: tuple[str, ...], why: str) -> ConfigError:
        """A complaint about a key, or the table that should have it."""
        line = next((found for end in range(len(keys), 0, -1) if (found := self.line(keys[:end])) is not None), None)
        return ConfigError(f"{self.path}:{'' if line is None else f'{line}:'} {'.'.join(keys)}: {why}")


class Table:
    """A table of the file: hands out its keys, each checked, and at the end complains about those nobody wanted."""

    def __init__(self, file: TomlFile, keys: tuple[str, ...], values: Mapping[str, object]) -> None:
        self._file = file
        self._keys = keys
        self._left = dict(values)
        self._known: list[str] = []

    def required(self, key: str, check: Callable[[object], T]) -> T:
        if key not in self._left:
            raise self.error(key, f"is missing; expected is {expectation(check)}")
        found = self.optional(key, check)
        assert found is not None
        return found

    def optional(self, key: str, check: Callable[[object], T]) -> T | None:
        """None: it is not there. What ``check`` refuses is shown, unless the key holds a secret."""
        self._known.append(key)
        if key not in self._left:
            return None
        value = self._left.pop(key)
        try:
            return check(value)
        except ValueError as exc:
            shown = "this" if key.endswith("password") else repr(value)
            hint = f" ({exc})" if str(exc) else ""
            raise self.error(key, f"{shown} is not {expectation(check)}{hint}") from None

    def table(self, key: str) -> Table | None:
        self._known.append(key)
        value = self._left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, f"has to be a table: [{'.'.join((*self._keys, key))}]")
        return Table(self._file, (*self._keys, key), value)

    def tables(self) -> dict[str, Table]:
        """Everything in here, which has to be tables."""
        names = list(self._left)
        return {name: table for name in names if (table := self.table(name)) is not None}

    def end(self) -> None:
        """Raises ConfigError about the first key that nobody asked for."""
        for key in self._left:
            near = get_close_matches(key, self._known, 1, 0.6)
            known = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self._known))}"
            raise self.error(key, f"is not known here; {known}")

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def error(self, key: str | None, why: str) -> ConfigError:
        """A complaint about a key of the table; None: about the table itself."""
        return self._file.error(self._keys if key is None else (*self._keys, key), why)


def expectation(check: Callable[..., object]) -> str:
    """What a check expects, in words: its docstring."""
    return " ".join((check.__doc__ or "something else").split())


def _parsed(lines: list[str]) -> dict[str, object] | None:
    try:
        return tomllib.loads("".join(lines))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _has(values: object, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
