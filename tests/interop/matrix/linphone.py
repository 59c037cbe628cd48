"""linphone-daemon in the matrix. It writes down nothing: what it hears, it lets a third phone hear in a conference."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from roamphone_pytest.server import DOMAIN
from roamphone_pytest.stage import IN_TIME
from softphone.calls.call import Call
from softphone.phone import Softphone
from tests.interop.linphone import Linphone, linphone
from tests.interop.matrix.cells import SONG, Cell, Deed, Keys, Setting
from tests.interop.matrix.recordings import debian_version
from tests.interop.tones import tone_comes

ENCRYPTION = {Keys.OFF: "none", Keys.SDES: "srtp", Keys.DTLS: "dtls"}


class LinphonePhone:
    uri = "bob"
    tone = SONG
    quiet_on_hold = False
    hears_last = True

    def __init__(self, program: Linphone, setting: Setting) -> None:
        self._program, self._setting = program, setting

    async def dial(self, user: str) -> None:
        self._program.do("call", f"sip:{user}@{DOMAIN}")

    async def talks(self) -> None:
        await self._program.until("Event", "LinphoneCallStreamsRunning")

    async def sing(self) -> None:
        self._program.do("incall-player-start", str(self._setting.song))

    async def hears(self, call: Call, tone: int, third: Softphone) -> None:
        self._program.do("conference", "add", "1")
        listening = await third.dial("bob")
        await listening.answered(IN_TIME)
        await self.talks()
        self._program.do("conference", "add", "2")
        await tone_comes(listening, tone)
        await listening.hangup()

    async def takes_digit(self, call: Call) -> None:
        await call.send_dtmf("4")
        await self._program.until("Tone", "4")

    def send_digit(self) -> None:
        self._program.do("dtmf", "5")

    async def is_held(self) -> None:
        await self._program.until("Event", "LinphoneCallPausedByRemote")

    async def hold(self) -> None:
        self._program.do("call-pause")
        await self._program.until("Event", "LinphoneCallPaused")

    def resume(self) -> None:
        self._program.do("call-resume", "1")

    def transfer(self, user: str) -> None:
        self._program.do("call-transfer", "3", f"sip:{user}@{DOMAIN}")

    def hang_up(self) -> None:
        self._program.do("terminate", "1")

    async def has_ended(self) -> None:
        for _ in range(2):  # this one, and that of the third phone
            await self._program.until("Event", "LinphoneCallReleased")


class LinphoneProgram:
    name = "linphone"
    without: Mapping[Deed, str] = {}

    def version(self) -> str:
        return debian_version("linphone-cli")

    def limit(self, cell: Cell) -> str | None:
        return None

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        return {}

    @asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[LinphonePhone]:
        cell = setting.cell
        async with linphone(
            setting.server, setting.folder, encryption=ENCRYPTION[cell.keys], host=cell.host, transport=cell.transport
        ) as program:
            yield LinphonePhone(program, setting)
