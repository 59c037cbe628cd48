"""Event packages: what NOTIFYs and PUBLISHes contain, as values. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State")


class PackageError(ValueError):
    """A document that is not what its package says."""


@dataclass(frozen=True, slots=True)
class Package(Generic[State]):
    """An event package (RFC 6665 section 5)."""

    name: str
    "For Event."
    content_type: str
    parse: Callable[[bytes, State | None], State]
    "A document, and the state before it where documents tell differences only. Raises PackageError."
    expires: int = 3600
    "Seconds to ask for."
