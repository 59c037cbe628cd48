"""Files with keys: written whole or not at all, for one user alone."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, text: str, *, owner: os.stat_result | None = None, replace: bool = False) -> None:
    """Mode 0600; ``owner``: it belongs to the same user as that file does.

    Raises FileExistsError unless ``replace``, OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _give(descriptor, owner)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, fails if somebody was faster
            temporary.unlink()
        _keep_names(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_directory(path: Path, *, owner: os.stat_result | None = None) -> None:
    """Mode 0700, unless it exists; with those above it. Raises OSError."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _give(descriptor, owner)
        finally:
            os.close(descriptor)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """One process at a time. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: os.stat_result | None) -> None:
    if owner is not None and owner.st_uid != os.geteuid():
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _keep_names(directory: Path) -> None:
    """The new name survives a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
