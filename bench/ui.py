"""The user interface: from starting it to a screen that can be used, and the processor time that it takes.

The real program in a pseudo-terminal of 120 x 36, on a real daemon, and a call with sound to a phone of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.statistics import measured
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import DaemonError

STARTS = 7
SECONDS = 5.0
"For which processor time is counted, each time."
WINDOWS = 3
COLUMNS, LINES = 120, 36
TICKS = os.sysconf("SC_CLK_TCK")
PORT = 35_061
"Of the phone that is called."
CONFIGURATION = """\
[account.work]
address = "alice@example.org"
register = false
local_host = "::1"
[audio]
device = "file"
input = "sound.wav"
output = "heard.wav"
"""
SCREEN, USABLE = b"No calls", b"alice@example.org"
"The first is drawn at once, the second when the daemon has told its accounts."


class Terminal:
    """The program in a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._seen = b""

    def until(self, text: bytes, timeout: float = 30.0) -> float:
        """Seconds from the start until it is drawn."""
        end = time.perf_counter() + timeout
        while text not in self._seen:
            self._read(max(0.0, end - time.perf_counter()))
            if time.perf_counter() > end:
                raise RuntimeError(f"{text!r} is not on the screen")
        return time.perf_counter() - self.began

    def watch(self, seconds: float) -> float:
        """Processor time of the program meanwhile, of one processor."""
        before, begin = self.processor_time(), time.perf_counter()
        while (left := begin + seconds - time.perf_counter()) > 0:
            self._read(left)
            self._seen = b""
        return (self.processor_time() - before) / (time.perf_counter() - begin)

    def press(self, keys: bytes) -> None:
        self._seen = b""
        os.write(self._master, keys)

    def close(self) -> None:
        self.press(b"\x11")  # Ctrl-Q
        with contextlib.suppress(RuntimeError, OSError):
            self.until(b"nothing that is ever drawn", 5.0)  # what it still writes has to go somewhere
        self.process.wait(10)
        os.close(self._master)

    def _read(self, timeout: float) -> None:
        if select.select([self._master], [], [], timeout)[0]:
            self._seen += os.read(self._master, 1 << 16)

    def processor_time(self) -> float:
        """Seconds, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def running(*command: str, environment: dict[str, str]) -> Iterator[None]:
    """Another command of the phone."""
    none = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-m", "softphone.cli", *command], env=environment, stdin=none, stdout=none, stderr=none
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def write_sound(path: Path) -> None:
    """A minute of a tone that swells like speech, so that the level meters move."""
    rate = 16_000
    at = np.arange(60 * rate) / rate
    loudness = np.abs(np.sin(2 * np.pi * 1.7 * at)) * np.abs(np.sin(2 * np.pi * 0.31 * at))
    samples = (8_000 * loudness * np.sin(2 * np.pi * 300 * at)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


async def _ask(socket: Path, operation: str, **arguments: Any) -> object:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(DaemonError):
                async with DaemonClient(socket) as daemon:
                    return await daemon.request(operation, **arguments)
            await asyncio.sleep(0.1)


def measure() -> dict[str, object]:
    """Seconds, and shares of one processor."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        environment = {
            **os.environ, "XDG_CONFIG_HOME": name, "XDG_DATA_HOME": name, "XDG_RUNTIME_DIR": name,
            "TERM": "xterm-256color", "COLORTERM": "truecolor",
        }  # fmt: skip
        for variable in ("COLUMNS", "LINES"):
            environment.pop(variable, None)
        configuration, socket = directory / "softphone.toml", directory / "softphone.sock"
        configuration.write_text(CONFIGURATION)
        write_sound(directory / "sound.wav")
        own = ("--config", str(configuration), "--socket", str(socket))
        stack.enter_context(running("daemon", *own, environment=environment))
        peer = ("answer", "--count", "0", "--id", "bob@[::1]", "--local-host", "::1", "--local-port", str(PORT),
                "--play-file", str(directory / "sound.wav"))  # fmt: skip
        stack.enter_context(running(*peer, environment=environment))
        asyncio.run(_ask(socket, "status"))
        command = [sys.executable, "-m", "softphone.cli", "tui", "--attach", *own]
        drawn, usable, taken = [], [], []
        for _ in range(STARTS):
            terminal = Terminal(command, environment)
            drawn.append(terminal.until(SCREEN))
            usable.append(terminal.until(USABLE))
            taken.append(terminal.processor_time())
            terminal.close()
        terminal = Terminal(command, environment)
        stack.callback(terminal.close)
        terminal.until(USABLE)
        terminal.watch(2.0)
        idle = [terminal.watch(SECONDS) for _ in range(WINDOWS)]
        asyncio.run(_ask(socket, "dial", target=f"sip:bob@[::1]:{PORT}"))
        terminal.until(b"in call")
        terminal.watch(2.0)
        in_call = [terminal.watch(SECONDS) for _ in range(WINDOWS)]
        asyncio.run(_ask(socket, "hangup"))
    return {
        "terminal": [COLUMNS, LINES],
        **measured("start_to_drawn_s", drawn, 3),
        **measured("start_to_usable_s", usable, 3),
        **measured("start_processor_s", taken, 2),
        **measured("idle_of_one_processor", idle, 4),
        **measured("one_call_of_one_processor", in_call, 4),
    }
