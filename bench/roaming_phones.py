"""The phones of `bench.reinvite`: programs of others, in nodes of the test network."""

from __future__ import annotations

import json
import math
import select
import struct
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any, Protocol, Self

from sip_test_env.network import TestNetwork
from tests.interop.baresip import write_settings

CALLER, CALLEE = "6001", "6002"
WITHIN = 10.0
"Seconds within which a phone does what it is told."


class Caller(Protocol):
    """The one on the laptop."""

    def dial(self, target: str) -> None:
        """Calls a SIP URI."""

    def moved(self) -> None:
        """The laptop has another address: returns when the phone has done what it does then."""


class Pjsua:
    """`bench.roaming_pjsua` in a node of the network, as a context manager. It has registered, unless told not to."""

    def __init__(self, network: TestNetwork, node: str, user: str, *, register: bool = True) -> None:
        account = network.account(user)
        orders = {
            "user": user,
            "password": account.password,
            "domain": account.domain,
            "proxy": f"sip:{network.plan.proxy4};lr",
            "play": str(_tone(network.directory)),
            "register": register,
        }
        command = [sys.executable, "-m", "bench.roaming_pjsua", json.dumps(orders)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._node = node
        self._process = network.popen(node, command, stdin=pipe, stdout=pipe, stderr=nothing, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._said: list[dict[str, Any]] = []

    @classmethod
    def caller(cls, network: TestNetwork) -> Self:
        return cls(network, "laptop", CALLER)

    @classmethod
    def unregistered(cls, network: TestNetwork) -> Self:
        return cls(network, "laptop", CALLER, register=False)

    def __enter__(self) -> Self:
        try:
            self.until("registered")
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)

    def dial(self, target: str) -> None:
        self._tell(f"dial {target}")
        self.until("media")

    def moved(self) -> None:
        self._tell("moved")
        self.until("media")

    def until(self, event: str) -> None:
        """Waits for what it says next of that kind. Raises RuntimeError."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            line = self._out.readline() if ready else b""
            if not line:
                break
            if line.startswith(b"{"):  # the library writes a log of its own
                self._said.append(json.loads(line))
                if self._said[-1]["event"] == event:
                    return
        raise RuntimeError(f"PJSUA2 in {self._node}: no {event} within {WITHIN:g} s; it said {self._said[-3:]}")

    def _tell(self, line: str) -> None:
        self._in.write(f"{line}\n".encode())


class Baresip:
    """Debian's baresip on the laptop, as a context manager. Nobody tells it of addresses."""

    def __init__(self, network: TestNetwork) -> None:
        account = network.account(CALLER)
        proxy = f"sip:{network.plan.proxy4};transport=udp"
        self._network = network
        self._settings = write_settings(
            network.directory,
            ("g711", "ausine", "aufile"),
            "net_af ipv4\n",
            f"<sip:{CALLER}@{account.domain};transport=udp>;auth_user={CALLER};auth_pass={account.password}"
            f';regint=300;audio_codecs=PCMA/8000/1;outbound="{proxy}"',
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)

    def dial(self, target: str) -> None:
        command = ["baresip", "-f", str(self._settings), "-e", f"/dial {target}"]
        nothing = subprocess.DEVNULL
        self._process = self._network.popen("laptop", command, stdin=nothing, stdout=nothing, stderr=nothing)

    def moved(self) -> None:
        """It does nothing."""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _tone(folder: Path) -> Path:
    """A second of it, as a file."""
    path = folder / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = (round(8000 * math.sin(2 * math.pi * 440 * place / 8000)) for place in range(8000))
        file.writeframes(struct.pack("<8000h", *tone))
    return path
