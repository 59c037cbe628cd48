"""Watches over an owner and takes its instance down when the owner has gone, however it went.

    python -m sip_test_env.guardian INSTANCE OWNER_PID

Started by `TestNetwork`, with a pipe of the owner's as standard input.

An orderly owner takes the instance down itself and closes the pipe; then there is nothing left to do here.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from sip_test_env.state import Store


def watch(instance: str, owner: int) -> None:
    """Returns when the instance is down."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the owner: we go when it has gone
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        handle = -1
    if handle >= 0:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        # The pipe alone would not do: a child that the owner forked may hold its other end open.
        poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
        poll.poll()
    Store(instance).remove()


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]))
