"""The file in which sequence numbers of security associations outlive a process.

Each direction of each association has a slot, found by a digest of its keys: new keys begin anew, the same keys never
do. A process holds a lock on the file as long as it lives, so that two never send with one association.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from pathlib import Path

from mobility.config import Association
from mobility.ipsec.sa import SequenceState

SLOTS = 1 << 16
"Four for each terminal of a home agent, and those of keys that are out of use."
SLOT = 16 + SequenceState.SIZE
"Octets: a digest, and the state."
_DIGEST = SLOT - SequenceState.SIZE
_SIZE = SLOTS * SLOT


class SequenceFileError(Exception):
    """The file cannot be used; the text says what to do."""


class SequenceFile:
    """Hands out the states; keeps the file mapped and locked until `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._map: mmap.mmap | None = None
        self._slots: dict[bytes, int] = {}

    @property
    def directory(self) -> Path:
        """Where the node keeps what outlives it."""
        return self._path.parent

    def open(self) -> None:
        """Raises SequenceFileError: cannot be written, or another process uses it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # All blocks now: a full disk has to show here and not as a signal when a number is written.
            os.posix_fallocate(self._descriptor, 0, _SIZE)
            self._map = mmap.mmap(self._descriptor, _SIZE)
            self._find_slots(self._map)
        except BlockingIOError as error:
            self.close()
            raise SequenceFileError(
                f"{self._path}: another process sends with these associations; end it, or give this node another"
                " `state` directory in its [node] table"
            ) from error
        except OSError as error:
            self.close()
            raise SequenceFileError(f"{self._path}: cannot be written: {error.strerror}") from error

    def state(self, association: Association, direction: str) -> SequenceState:
        """The state of one direction (``outbound``, ``inbound``) of an association. Raises SequenceFileError: full."""
        return SequenceState(self.memory(digest(association, direction)))

    def content(self) -> bytes:
        """All slots in use, one after the other in the order in which they were asked for first."""
        return b"" if self._map is None else self._map[: len(self._slots) * SLOT]

    def slot(self, name: bytes) -> int:
        """Which one the state with this digest has, from 0."""
        return self._slots[name] // SLOT

    def memory(self, name: bytes) -> memoryview:
        """The memory of the state with this digest, a new one if there is none. Raises SequenceFileError: full."""
        if self._map is None:
            raise SequenceFileError(f"{self._path}: is not open")
        at = self._slots.get(name)
        if at is None:
            at = len(self._slots) * SLOT
            if at == _SIZE:
                raise SequenceFileError(
                    f"{self._path}: has no room left: remove it if none of its keys is in use any more"
                )
            self._map[at : at + _DIGEST] = name
            self._slots[name] = at
        return memoryview(self._map)[at + _DIGEST : at + SLOT]

    def _find_slots(self, content: mmap.mmap) -> None:
        self._slots.clear()
        for at in range(0, _SIZE, SLOT):
            found = content[at : at + _DIGEST]
            if not any(found):
                return
            self._slots.setdefault(found, at)

    def close(self) -> None:
        """States that were handed out stay valid; the lock goes."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # the mapping has a copy of the descriptor
            os.close(self._descriptor)
            self._descriptor = -1
        self._map = None


def digest(association: Association, direction: str) -> bytes:
    """Names one direction of an association; tells nothing of its keys."""
    keys = association.keys
    text = f"{direction} {association.spi} {association.algorithm.value} "
    material = len(keys.encryption).to_bytes(2, "big") + keys.encryption + keys.authentication
    return hashlib.sha256(b"roamphone sequence state " + text.encode() + material).digest()[:_DIGEST]
