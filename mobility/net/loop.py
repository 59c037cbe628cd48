"""An epoll loop: descriptors with their handlers, and nothing else.

The data plane does not use asyncio: a packet's way through it is one system call to wake up, one to read, one to
write, and the bookkeeping of callbacks and tasks would cost more than all of them.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Protocol

log = logging.getLogger(__name__)

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
LONGEST_WAIT = 60.0


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Loop:
    """Calls handlers of ready descriptors. No exception of a handler ends it: it is logged and counted."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._stopping = False
        self.failures: Counter[str] = Counter()
        "Exceptions that came out of handlers, by class name."

    def watch(self, source: HasDescriptor | int, handler: Callable[[int], None], events: int = READ) -> None:
        """Has ``handler`` called with the ready events (a mask of epoll's) from now on."""
        descriptor = source if isinstance(source, int) else source.fileno()
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def unwatch(self, source: HasDescriptor | int) -> None:
        """To be called before the descriptor is closed. One that is not watched is no error."""
        descriptor = source if isinstance(source, int) else source.fileno()
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def turn(self, timeout: float | None) -> None:
        """Waits up to ``timeout`` seconds (None: a minute) for anything and handles all that is ready."""
        wait = LONGEST_WAIT if timeout is None else min(max(timeout, 0.0), LONGEST_WAIT)
        for descriptor, events in self._epoll.poll(wait):
            handler = self._handlers.get(descriptor)
            if handler is None:  # an earlier handler of this turn closed it
                continue
            try:
                handler(events)
            except Exception as error:
                self.failed(error)

    def failed(self, error: Exception) -> None:
        """Notes an exception: the first hundred of a kind with their traceback, then every thousandth."""
        kind = type(error).__name__
        self.failures[kind] += 1
        if self.failures[kind] <= 100 or self.failures[kind] % 1000 == 0:
            log.error("internal error, the packet or request is lost: %s", error, exc_info=error)

    def stop(self) -> None:
        """`stopping` is true from now on; whoever turns the loop ends."""
        self._stopping = True

    def fileno(self) -> int:
        """Readable when `turn` has something to do, so that one loop can run inside of another."""
        return self._epoll.fileno()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def close(self) -> None:
        self._handlers.clear()
        self._epoll.close()


class StopSignals:
    """SIGTERM and SIGINT stop the loop, and so does the end of a lifeline: a pipe whose other end a parent holds."""

    def __init__(self, loop: Loop, lifeline: int | None = None) -> None:
        self._loop = loop
        self._lifeline = lifeline
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._before = {sig: signal.signal(sig, self._arrived) for sig in (signal.SIGTERM, signal.SIGINT)}
        # Without this a signal that comes while epoll waits is only noticed when something else happens.
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        loop.watch(self._ours, self._woken)
        if lifeline is not None:
            loop.watch(lifeline, self._lifeline_ready)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for sig, handler in self._before.items():
            signal.signal(sig, handler)
        self._loop.unwatch(self._ours)
        if self._lifeline is not None:
            self._loop.unwatch(self._lifeline)
        self._ours.close()
        self._theirs.close()

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        self._loop.stop()

    def _woken(self, _events: int) -> None:
        self._ours.recv(64)

    def _lifeline_ready(self, _events: int) -> None:
        if self._lifeline is not None and not os.read(self._lifeline, 64):
            self._loop.unwatch(self._lifeline)
            self._loop.stop()


def prefer_this_process() -> str:
    """Has the kernel schedule this process before others, as far as permitted; returns what it got.

    Round-robin real-time scheduling keeps the 99th percentile of added latency below a millisecond under load.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10))
        return "SCHED_RR"
    except OSError:
        pass
    try:
        return f"nice {os.nice(-10)}"
    except OSError:
        return "ordinary"


def settle_memory() -> None:
    """What exists now stays: the garbage collector need not look at it again, and looks at the rest rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
