"""What goes over the daemon's socket: one JSON object per line, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping

from softphone.errors import SoftphoneError
from softphone.exit_code import ExitCode

LONGEST_LINE = 1 << 16
"Bytes of a request."
LONGEST_ANSWER = 1 << 22
LARGEST = 1 << 53
"Number: what JSON can be relied on to carry."


class RequestError(SoftphoneError):
    """A request that cannot be carried out, and why."""

    def __init__(self, why: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(why)
        self.code = code
        "What a command that wanted it exits with."


class DaemonError(SoftphoneError):
    """No daemon answers, or one is there already."""


def encoded(message: Mapping[str, object]) -> bytes:
    """One line. Halves of surrogate pairs, which file names and clients may contain, stay as they are."""
    try:
        return json.dumps(message, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(message).encode() + b"\n"


def decoded(line: bytes) -> dict[str, object]:
    """Raises RequestError for what is no JSON object."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("a line has to be one JSON object") from None
    if not isinstance(message, dict):
        raise RequestError("a line has to be one JSON object")
    return message


class Arguments:
    """Those of a request. Every method raises RequestError for a wrong one."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)

    def text(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            raise RequestError(f"{name} is missing")
        return value

    def any_text(self, name: str, default: str | None = None) -> str:
        """It may be empty."""
        value = self._values.pop(name, default)
        if not isinstance(value, str) or "\0" in value:
            raise RequestError(f"{name} has to be a text")
        return value

    def texts(self, name: str, default: list[str] | None = None) -> list[str]:
        """A list."""
        values = self._values.pop(name, default)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise RequestError(f"{name} has to be a list of texts")
        return values

    def tables(self, name: str) -> list[Arguments]:
        """A list of objects; none, where there is no such argument."""
        values = self._values.pop(name, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise RequestError(f"{name} has to be a list of objects")
        return [Arguments(value) for value in values]

    def table(self, name: str, default: dict[str, object] | None = None) -> dict[str, object]:
        """An object, whose values the caller checks."""
        value = self._values.pop(name, default)
        if not isinstance(value, dict):
            raise RequestError(f"{name} has to be an object")
        return value

    def value(self, name: str) -> object:
        """Whatever it is, which the caller checks."""
        if name not in self._values:
            raise RequestError(f"{name} is missing")
        return self._values.pop(name)

    def optional(self, name: str) -> str | None:
        value = self._values.pop(name, None)
        if value is not None and (not isinstance(value, str) or not value or "\0" in value):
            raise RequestError(f"{name} has to be a text")
        return value

    def flag(self, name: str) -> bool:
        value = self._values.pop(name, False)
        if not isinstance(value, bool):
            raise RequestError(f"{name} has to be true or false")
        return value

    def number(self, name: str, default: int) -> int:
        value = self._values.pop(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
            raise RequestError(f"{name} has to be a whole number of no unreasonable size")
        return value

    def end(self) -> None:
        """There are no others."""
        if self._values:
            raise RequestError(f"unknown: {', '.join(sorted(map(str, self._values)))}")
