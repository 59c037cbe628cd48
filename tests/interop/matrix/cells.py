"""What the matrix is made of: a cell is one kind of call with one foreign program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from roamphone_pytest.server import SipServer
from softphone.calls.call import Call
from softphone.media.keying import Keying, SrtpMode
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.interop.loopback import at_host

HOSTS = {6: "::1", 4: "127.0.0.1"}
"Version of IP -> where everybody is."

SONG, VOICE = 700, 1100
"Hertz: of the file that they play, and of ours."


class Keys(StrEnum):
    """How the sound is protected."""

    OFF = "no SRTP"
    SDES = "SDES"
    DTLS = "DTLS"

    @property
    def settings(self) -> dict[str, Any]:
        """Of our phone, which then accepts nothing else."""
        if self is Keys.OFF:
            return {"srtp": SrtpMode.OFF}
        keying = (Keying.SDES if self is Keys.SDES else Keying.DTLS,)
        return {"srtp": SrtpMode.MANDATORY, "srtp_keying": keying, "srtp_offer": keying}


class Deed(StrEnum):
    """What is tried in every cell, in this order; digits and hold each way."""

    REGISTRATION = "registration"
    CALL = "call"
    SOUND = "sound from it"
    DIGITS = "digits"
    HOLD = "hold"
    EAR = "sound to it"
    END = "end"
    TRANSFER = "transfer"
    "Whom we call is transferred by us; who calls us transfers us."


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of call with one program."""

    program: str
    transport: Transport
    keys: Keys
    version: int
    "Of IP: 4 or 6."
    calls_us: bool
    "The program is the caller."

    @property
    def host(self) -> str:
        return HOSTS[self.version]

    def __str__(self) -> str:
        who = "calls us" if self.calls_us else "is called"
        return f"{self.program} {who}, {self.transport.upper()}, {self.keys}, IPv{self.version}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a foreign phone is started: its cell, the server, a folder of its own, and the sound that it plays."""

    cell: Cell
    server: SipServer
    folder: Path
    song: Path

    @property
    def server_port(self) -> int:
        return self.server.sips_port if self.cell.transport is Transport.TLS else self.server.sip_port

    @property
    def server_uri(self) -> str:
        """Without parameters."""
        return f"sip:{at_host(self.cell.host)}:{self.server_port}"


class Foreign(Protocol):
    """A running foreign phone of the user bob. What takes longer than it may raises TimeoutError."""

    uri: str
    "What we dial to reach it; it answers by itself."
    tone: int
    "Hertz that it sends: `SONG`, or `VOICE` where it sends back what it hears."
    quiet_on_hold: bool
    "It sends nothing while we hold it."

    hears_last: bool
    "Nothing but the end can come after `hears`."

    async def dial(self, user: str) -> None: ...

    async def talks(self) -> None:
        """Until a call is answered and has its sound."""

    async def sing(self) -> None:
        """Begin to send the tone."""

    async def hears(self, call: Call, tone: int, third: Softphone) -> None:
        """Until it has heard this tone, which we send in the call. ``third``: somebody whom it may connect us with."""

    async def takes_digit(self, call: Call) -> None:
        """We send a digit; until it has told which."""

    def send_digit(self) -> None:
        """5."""

    async def is_held(self) -> None:
        """Until it knows that we hold it."""

    async def hold(self) -> None: ...

    def resume(self) -> None: ...

    def transfer(self, user: str) -> None: ...

    def hang_up(self) -> None: ...

    async def has_ended(self) -> None:
        """Until it knows that the calls are over."""


class Program(Protocol):
    """A foreign program."""

    name: str
    without: Mapping[Deed, str]
    "What is not tried with it, and why."

    def version(self) -> str: ...

    def limit(self, cell: Cell) -> str | None:
        """Why it cannot make this call; None: it can."""

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        """Of our phones, beside what the cell says."""

    def running(self, setting: Setting) -> AbstractAsyncContextManager[Foreign]:
        """It has registered."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell."""

    cell: Cell
    impossible: str | None = None
    "Why it was not tried."
    failed: str | None = None
    "At what, and how."
    before: str | None = None
    "How it failed before that; None: this was the first attempt."

    @property
    def passed(self) -> bool:
        return self.impossible is None and self.failed is None

    def __str__(self) -> str:
        if self.failed is not None:
            return f"{self.cell}: failed: {self.failed}"
        return f"{self.cell}: {'passed' if self.impossible is None else f'not possible: {self.impossible}'}"


def all_cells(program: str) -> Iterator[Cell]:
    transports = (Transport.UDP, Transport.TCP, Transport.TLS)
    for transport, keys, version, calls_us in product(transports, Keys, (6, 4), (False, True)):
        yield Cell(program, transport, keys, version, calls_us)
