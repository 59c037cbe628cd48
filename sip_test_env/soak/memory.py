"""What processes hold: resident memory and open files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_GROWTH = {"phone": 48, "mobility": 12}
"MiB between the first look and the last: a phone's log of packets belongs to the call; the rest is the allocator's."
_FILES = 6


@dataclass(slots=True)
class Holdings:
    """Looks at processes now and then; one that was restarted is another process."""

    looks: dict[tuple[str, int], list[tuple[float, int]]] = field(default_factory=dict)
    "Name and pid to MiB and number of open files."

    def look(self, name: str, pid: int) -> None:
        """``name`` begins with ``phone`` or ``mobility``."""
        with suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/status").read_text()
            kilobytes = int(text.split("VmRSS:")[1].split()[0])
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self.looks.setdefault((name, pid), []).append((kilobytes / 1024, files))

    def complaints(self) -> list[str]:
        """What grew; the first look at a process is after its first call."""
        found = []
        for (name, pid), looks in self.looks.items():
            (memory, files), (memory_now, files_now) = looks[0], looks[-1]
            if memory_now > memory + _GROWTH[name.split("-")[0]]:
                found.append(f"{name} ({pid}) grew from {memory:.0f} to {memory_now:.0f} MiB in {len(looks)} calls")
            if files_now > files + _FILES:
                found.append(f"{name} ({pid}) had {files} files open and has {files_now}")
        return found
