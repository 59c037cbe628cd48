"""What goes over the daemon's socket: one JSON object per line, both ways."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from softphone.accounts.accounts import data_directory
from softphone.errors import SoftphoneError

LONGEST_LINE = 1 << 16
"Bytes of a request."
LONGEST_ANSWER = 1 << 22


class RequestError(SoftphoneError):
    """A request that cannot be carried out, and why."""


class DaemonError(SoftphoneError):
    """No daemon answers, or one is there already."""


def default_socket() -> Path:
    """``$XDG_RUNTIME_DIR/roamphone/softphone.sock``; without a runtime directory beside the history."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return (runtime / "roamphone" if runtime.is_absolute() else data_directory()) / "softphone.sock"


def encoded(message: Mapping[str, object]) -> bytes:
    """One line."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


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
        if not isinstance(value, int) or isinstance(value, bool):
            raise RequestError(f"{name} has to be a whole number")
        return value

    def end(self) -> None:
        """There are no others."""
        if self._values:
            raise RequestError(f"unknown: {', '.join(sorted(map(str, self._values)))}")
