"""One sipp on loopback that plays one scenario; it fails when a message is not as the scenario says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from roamphone_pytest.ports import free_port
from softphone.sip.transport import Transport
from tests.interop.loopback import at_host

SECONDS = 12
"For one scenario; the longest takes 6."


class Sipp:
    """One sipp that plays one scenario."""

    def __init__(self, folder: Path, scenario: Path, host: str, transport: Transport) -> None:
        self.port = free_port()
        self.host = host
        self.log = folder / f"{scenario.stem}-{self.port}"
        self._transport = transport
        self._scenario = scenario
        self._process: asyncio.subprocess.Process

    @property
    def uri(self) -> str:
        return f"sip:sipp@{at_host(self.host)}:{self.port};transport={self._transport}"

    async def start(self, to: str | None, *more: str) -> None:
        command = [
            "sipp", "-sf", str(self._scenario), "-i", self.host, "-mi", self.host,
            "-p", str(self.port), "-t", "t1" if self._transport is Transport.TCP else "u1", "-nostdin",
            "-timeout", f"{SECONDS}s", "-timeout_error", "-trace_err", "-error_file", f"{self.log}.errors",
            "-trace_msg", "-message_file", f"{self.log}.messages", *more, *([] if to is None else [to]),
        ]  # fmt: skip
        if "-m" not in more:
            command += ["-m", "1"]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, cwd=self.log.parent,
        )  # fmt: skip
        if to is None:
            await self._listening()

    async def _listening(self) -> None:
        async with asyncio.timeout(5):
            while True:
                if self._bound():
                    return
                await asyncio.sleep(0.01)

    def _bound(self) -> bool:
        table = Path(f"/proc/net/{self._transport}{'6' if ':' in self.host else ''}")
        return f":{self.port:04X} " in table.read_text()

    async def succeeded(self) -> None:
        """Until the scenario is over. Asserts that all was as it says."""
        status = await self._process.wait()
        if status:
            parts = [Path(f"{self.log}.{kind}") for kind in ("errors", "messages")]
            said = "\n".join(part.read_text(errors="replace")[-8000:] for part in parts if part.exists())
            raise AssertionError(f"sipp says {status} about {self._scenario.stem}:\n{said}")

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
