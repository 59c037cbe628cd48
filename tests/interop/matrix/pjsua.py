"""PJSUA2 in the matrix: the wheel, steered line by line (`tests.interop.pjsua_phone`)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roamphone_pytest.ports import free_port
from roamphone_pytest.server import DOMAIN
from roamphone_pytest.stage import IN_TIME
from softphone.calls.call import Call
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.interop.matrix.cells import SONG, Cell, Deed, Keys, Setting
from tests.interop.matrix.recordings import comes_into

HEARD = "heard.wav"
PROGRAM = Path(__file__).parents[1] / "pjsua_phone.py"


class PjsuaPhone:
    uri = "bob"
    tone = SONG
    quiet_on_hold = True
    hears_last = False

    def __init__(self, program: asyncio.subprocess.Process, folder: Path) -> None:
        self._program, self._folder = program, folder

    def _do(self, *command: str) -> None:
        assert self._program.stdin
        self._program.stdin.write(f"{' '.join(command)}\n".encode())

    async def until(self, event: str, **values: object) -> None:
        """The next event of this kind with these values. Raises TimeoutError, EOFError."""
        assert self._program.stdout
        async with asyncio.timeout(IN_TIME):
            async for line in self._program.stdout:
                if line.startswith(b"{"):  # the library has something to say, too
                    told: dict[str, Any] = json.loads(line)
                    if told["event"] == event and values.items() <= told.items():
                        return
        raise EOFError("pjsua has ended")

    async def dial(self, user: str) -> None:
        self._do("dial", f"sip:{user}@{DOMAIN}")

    async def talks(self) -> None:
        await self.until("media")

    async def sing(self) -> None:
        pass  # it does when it talks

    async def hears(self, call: Call, tone: int, third: Softphone) -> None:
        await comes_into(self._folder, HEARD, tone)

    async def takes_digit(self, call: Call) -> None:
        await call.send_dtmf("4")
        await self.until("digit", digit="4")

    def send_digit(self) -> None:
        self._do("digit", "5")

    async def is_held(self) -> None:
        pass

    async def hold(self) -> None:
        self._do("hold")

    def resume(self) -> None:
        self._do("resume")

    def transfer(self, user: str) -> None:
        self._do("transfer", f"sip:{user}@{DOMAIN}")

    def hang_up(self) -> None:
        self._do("hangup")

    async def has_ended(self) -> None:
        await self.until("call", state="DISCONNECTED")


class PjsuaProgram:
    name = "pjsua2"
    without: Mapping[Deed, str] = {}

    def version(self) -> str:
        return importlib.metadata.version("pjsua2-python")

    def limit(self, cell: Cell) -> str | None:
        if cell.version == 6:
            return "the wheel was compiled without IPv6"
        return "the wheel was compiled without DTLS-SRTP" if cell.keys is Keys.DTLS else None

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        return {}

    @asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[PjsuaPhone]:
        cell, server = setting.cell, setting.server
        orders = {
            "steered": True, "user": "bob", "password": server.password("bob"), "domain": DOMAIN,
            "play": str(setting.song), "record": str(setting.folder / HEARD), "local": cell.host, "port": free_port(),
            "proxy": f"{setting.server_uri};lr;transport={cell.transport}", "transport": cell.transport,
            "srtp": cell.keys is Keys.SDES, "log": str(setting.folder / "pjsua.log"),
            **({"ca": str(server.ca_file)} if cell.transport is Transport.TLS else {}),
        }  # fmt: skip
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), json.dumps(orders), stdin=pipe, stdout=pipe
        )
        try:
            made = PjsuaPhone(program, setting.folder)
            await made.until("registration", status=200)
            yield made
            assert program.stdin
            program.stdin.close()
            await asyncio.wait_for(program.wait(), IN_TIME)
            assert program.returncode == 0, "pjsua has failed"
        finally:
            if program.returncode is None:
                program.kill()
                await program.communicate()
