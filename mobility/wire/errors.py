"""The one error of this room."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes are not what they claim to be: ``what`` was being read, ``at`` which offset it failed, and ``why``."""

    def __init__(self, what: str, *, at: int, why: str) -> None:
        super().__init__(f"{what}: {why} (at octet {at})")
        self.what = what
        self.at = at
        self.why = why
