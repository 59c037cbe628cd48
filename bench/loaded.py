"""What `bench.loaded_phone` and `bench.loaded_pjsua` share."""

from __future__ import annotations

import contextlib
import os

HOST = "127.0.0.1"
"The wheel of pjsua2 knows no IPv6; both get the same."


def undisturbed(processor: int) -> None:
    """This process alone on that processor, as far as root can have it: what else runs there is to matter less."""
    os.sched_setaffinity(0, {processor})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
