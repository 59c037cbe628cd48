"""What a service manager is told (sd_notify(3)): ready, reloading, alive, stopping. Without one nothing happens."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """The socket of systemd that is named in the environment."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._path = environment.get("NOTIFY_SOCKET", "")
        self.watchdog: float | None = None
        "Seconds between two `alive`; None: nobody waits for them."
        interval = environment.get("WATCHDOG_USEC", "")
        if (
            self._path
            and interval.isdecimal()
            and environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        ):
            self.watchdog = int(interval) / 2e6  # twice as often as demanded

    def ready(self, status: str) -> None:
        """The node serves, for the first time or after a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read anew; `ready` ends that."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        if not self._path:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path  # @: an abstract name
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto("\n".join(lines).encode(), path)
        except OSError as error:
            log.warning("the service manager cannot be told %s: %s", lines[0], error.strerror)
