"""Small files in which a node keeps what outlives it: one user's, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def keep(path: Path, content: bytes) -> None:
    """Mode 0600; nothing waits for the disk, so a power failure may leave an empty file. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def set_aside(path: Path) -> Path:
    """A file that cannot be used makes room, for people to look at; returns its new name. Raises OSError."""
    return path.replace(path.with_name(f"{path.name}.broken"))
