"""Processes by identity (pid and start time), so that a recycled pid is never mistaken for ours."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


def _started(pid: int) -> int | None:
    """Start time in clock ticks since boot (field 22 of proc(5) stat); None: no such process, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for as long as it lives."""

    name: str
    pid: int
    started: int

    @classmethod
    def find(cls, pid: int, name: str = "") -> Process | None:
        """The process that has this pid now; None: there is none."""
        started = _started(pid)
        return None if started is None else cls(name, pid, started)

    @property
    def alive(self) -> bool:
        """Whether it runs (a zombie does not)."""
        return _started(self.pid) == self.started


def end(processes: Iterable[Process], grace: float = 2.0) -> None:
    """Ends the processes: SIGTERM, and SIGKILL for those that still run after ``grace`` seconds. Returns when all
    are gone.
    """
    handles: dict[int, Process] = {}
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                if process.alive:  # checked after the handle is there: from now on it means this very process
                    handles[handle] = process
                else:
                    os.close(handle)
        _signal(handles, signal.SIGTERM)
        remaining = _wait(handles, grace)
        _signal(remaining, signal.SIGKILL)
        _wait(remaining, grace)
    finally:
        for handle in handles:
            os.close(handle)


def _signal(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: Iterable[int], seconds: float) -> set[int]:
    """Waits until all have ended, ``seconds`` at most; returns those that have not."""
    remaining = set(handles)
    poll = select.poll()
    for handle in remaining:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + seconds
    while remaining and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            remaining.discard(handle)
    return remaining
