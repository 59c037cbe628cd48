"""Records, and a real server of Redis, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from ipaddress import IPv6Address
from pathlib import Path

import hiredis

from mobility.mipv6.binding_cache import Binding
from mobility.mipv6.binding_records import BindingRecord


def record(
    number: int = 1, *, expires: float = 1000.0, sequence: int = 7, care_of: str = "2001:db8:2::9"
) -> BindingRecord:
    """The terminal with this number, at one place."""
    home = IPv6Address(f"2001:db8:1::{number:x}")
    return BindingRecord(home, (Binding(home, IPv6Address(care_of), 420, expires, sequence),))


class RedisServer:
    """A real server for the test, on a Unix socket in its directory; keeps nothing on disk."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = directory / "redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program is not None, "install redis-server or valkey (scripts/setup does)"
        command = [program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", "/tmp"]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends at once; all data are gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, *request: str | bytes | int) -> object:
        """One request over a connection of its own, as an operator with redis-cli does."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(hiredis.pack_command(request))  # type: ignore[arg-type]
            reader = hiredis.Reader()
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(1 << 16))
            if isinstance(reply, Exception):
                raise reply
            return reply
