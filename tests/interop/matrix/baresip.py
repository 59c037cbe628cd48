"""baresip in the matrix. What it hears its module sndfile writes down, until the first hold of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roamphone_pytest.server import DOMAIN
from softphone.calls.call import Call
from softphone.media.dtmf import DigitMethod
from softphone.phone import Softphone
from tests.interop.baresip import MODULES, Baresip, baresip
from tests.interop.matrix.cells import Cell, Deed, Keys, Setting
from tests.interop.matrix.recordings import comes_into, debian_version

ENCRYPTION = {Keys.OFF: "", Keys.SDES: ";mediaenc=srtp-mand", Keys.DTLS: ";mediaenc=dtls_srtp"}


class BaresipPhone:
    uri = "bob"
    tone = 440
    quiet_on_hold = True
    hears_last = False

    def __init__(self, program: Baresip, folder: Path) -> None:
        self._program, self._folder = program, folder

    async def dial(self, user: str) -> None:
        self._program.do("dial", user)

    async def talks(self) -> None:
        pass

    async def sing(self) -> None:
        pass  # it always does

    async def hears(self, call: Call, tone: int, third: Softphone) -> None:
        await comes_into(self._folder, "*-dec.wav", tone)

    async def takes_digit(self, call: Call) -> None:
        await call.send_dtmf("4")
        await self._program.until("CALL_DTMF_START", "4")
        await call.send_dtmf("#", DigitMethod.INFO)
        await self._program.until("CALL_DTMF_START", "#")

    def send_digit(self) -> None:
        self._program.do("sndcode", "5")
        self._program.do("sndcode", "")

    async def is_held(self) -> None:
        pass

    async def hold(self) -> None:
        self._program.do("hold")

    def resume(self) -> None:
        self._program.do("resume")

    def transfer(self, user: str) -> None:
        self._program.do("transfer", f"sip:{user}@{DOMAIN}")

    def hang_up(self) -> None:
        self._program.do("hangup")

    async def has_ended(self) -> None:
        await self._program.until("CALL_CLOSED")


class BaresipProgram:
    name = "baresip"
    without: Mapping[Deed, str] = {}

    def version(self) -> str:
        return debian_version("baresip-core")

    def limit(self, cell: Cell) -> str | None:
        return None

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        return {}

    @asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[BaresipPhone]:
        cell = setting.cell
        async with baresip(
            setting.server, setting.folder, f"{ENCRYPTION[cell.keys]};answermode=auto",
            host=cell.host, transport=cell.transport,
            modules=(*MODULES, "sndfile"), more=f"snd_path {setting.folder}\n",
        ) as program:  # fmt: skip
            yield BaresipPhone(program, setting.folder)
