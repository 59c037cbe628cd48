"""The exit status of the command ``softphone``, the same for every subcommand."""

from __future__ import annotations

from enum import IntEnum

from softphone.errors import ConfigError


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    "Wrong options, or a configuration that cannot be used."
    REJECTED = 3
    UNAUTHORISED = 4
    TIMEOUT = 5
    BUSY = 6

    @property
    def word(self) -> str:
        """As JSON says it."""
        return self.name.lower()


def code_of(status: int) -> ExitCode:
    """What the final status of a call means."""
    match status:
        case 401 | 407:
            return ExitCode.UNAUTHORISED
        case 486 | 600:
            return ExitCode.BUSY
        case 408:
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.FAILURE if 500 <= status < 600 else ExitCode.REJECTED


def code_of_error(error: Exception) -> ExitCode:
    """What an error means for whoever wanted something."""
    match error:
        case TimeoutError():
            return ExitCode.TIMEOUT
        case ConfigError() | ValueError():
            return ExitCode.USAGE
        case _:
            status = getattr(error, "status", 0)
            return code_of(status) if isinstance(status, int) and status >= 300 else ExitCode.FAILURE


def code_named(word: object) -> ExitCode:
    """As JSON says it; FAILURE for what is none."""
    return next((code for code in ExitCode if code.word == word), ExitCode.FAILURE)
