"""What this process may do: the capabilities of the kernel (capabilities(7)) that matter here."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class Capability(IntEnum):
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    SYS_NICE = 23


def has(*wanted: Capability, status: Path = Path("/proc/thread-self/status")) -> bool:
    """Whether all of these are effective in the calling thread. Raises OSError where there is no /proc."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return all(effective >> capability & 1 for capability in wanted)
    return False


def may_make_namespaces() -> bool:
    """Whether network namespaces and TUN devices can be made as root does, without a user namespace."""
    return has(Capability.SYS_ADMIN, Capability.NET_ADMIN)
