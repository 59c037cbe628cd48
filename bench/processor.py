"""What the processor did for a program."""

from __future__ import annotations

import os
import time
from pathlib import Path


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its children that have not ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(entry.name) == pid or int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def windows(pid: int, seconds: float, count: int) -> list[tuple[float, float, float]]:
    """Blocks for ``seconds``, of which it makes windows: when each began and ended (monotonic), processor seconds."""
    begin, before = time.monotonic(), processor_seconds(pid)
    found: list[tuple[float, float, float]] = []
    for number in range(count):
        time.sleep(max(0.0, begin + seconds * (number + 1) / count - time.monotonic()))
        now, after = time.monotonic(), processor_seconds(pid)
        found.append((found[-1][1] if found else begin, now, after - before))
        before = after
    return found


def percent(of: list[tuple[float, float, float]]) -> list[float]:
    """Of one processor, in each window."""
    return [100 * used / (end - begin) for begin, end, used in of]
