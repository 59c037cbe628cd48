"""How a supervisor sees that its child does not hang: a number in shared memory, which the child counts up.

Memory and not a pipe: a beat costs the data plane no system call, so it beats in every turn of its loop.
"""

from __future__ import annotations

import mmap

BEAT = 1.0
"Seconds between two beats of a data plane that has nothing to do, and between two looks of the supervisor."
MISSED = 5
"Looks in a row that see no beat: the child hangs. Looks, not seconds: a machine that was suspended is no fault."
MISSED_AT_START = 30
"The same for a child that is not ready yet."


class Heartbeat:
    """Made before the fork, used by both sides. Each child gets a new one."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)  # shared by parent and child
        self._cells = memoryview(self._memory).cast("Q")
        self._seen = 0
        self._missed = 0

    def beat(self) -> None:
        """The child's loop has turned."""
        self._cells[0] += 1

    def look(self) -> int:
        """The supervisor looks; returns how many looks in a row, with this one, saw no beat."""
        beats = self._cells[0]
        self._missed = 0 if beats != self._seen else self._missed + 1
        self._seen = beats
        return self._missed

    def close(self) -> None:
        self._cells.release()
        self._memory.close()
