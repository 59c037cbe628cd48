"""What the command ``softphone`` tells whoever called it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    "Wrong options or configuration."
    REJECTED = 3
    UNAUTHORISED = 4
    TIMEOUT = 5
    BUSY = 6
