"""PJSUA2 and our phone call each other through Kamailio over IPv4, which is all that its wheel speaks: sound, SRTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roamphone_pytest.server import DOMAIN, SipProxy
from softphone.events import EndedBy
from softphone.media.offer_answer import SrtpMode
from tests.interop.loopback import answered, free_port, statistics
from tests.interop.tones import has_tone, tone_comes, write_tone

pytestmark = pytest.mark.interop

HERE = "127.0.0.1"
WAV_HEADER = 44
"Octets."
RECORDED = 16_000
"Samples a second."


class Pjsua:
    """A running `pjsua_phone`. It answers by itself, and hangs up after two seconds of sound."""

    def __init__(self, program: asyncio.subprocess.Process) -> None:
        self.program = program

    async def until(self, event: str) -> dict[str, Any]:
        """The next event of this kind. Raises TimeoutError, EOFError."""
        assert self.program.stdout
        async with asyncio.timeout(20):
            async for line in self.program.stdout:
                if line.startswith(b"{"):  # the library has something to say, too
                    told: dict[str, Any] = json.loads(line)
                    if told["event"] == event:
                        return told
        raise EOFError("pjsua has ended")


@asynccontextmanager
async def pjsua(**orders: object) -> AsyncIterator[Pjsua]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("pjsua_phone.py")), json.dumps(orders),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Pjsua(program)
        assert await asyncio.wait_for(program.wait(), 10) == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.communicate()


@pytest.mark.parametrize("by_bob", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_sound(sip_proxy: SipProxy, tmp_path: Path, by_bob: bool, secure: bool) -> None:
    song, voice = write_tone(tmp_path / "song.wav", 700, 4), write_tone(tmp_path / "voice.wav", 1100, 4)
    orders = {
        "user": "bob",
        "password": "secret-bob",
        "domain": DOMAIN,
        "play": str(song),
        "record": str(tmp_path / "heard.wav"),
        "seconds": 2,
        "local": HERE,
        "port": free_port(),
        "proxy": f"sip:{HERE}:{sip_proxy.server.sip_port};lr",
        "transport": "udp",
        "srtp": secure,
        "log": str(tmp_path / "pjsua.log"),
        **({"target": f"sip:alice@{DOMAIN}"} if by_bob else {}),
    }

    async def work() -> None:
        srtp = SrtpMode.MANDATORY if secure else SrtpMode.OFF
        async with sip_proxy.phone("alice", host=HERE, srtp=srtp) as alice:
            await alice.registered(5)
            async with pjsua(**orders) as bob:
                assert (await bob.until("registration"))["status"] == 200
                call = await answered(alice) if by_bob else await alice.dial("bob")
                await call.answered(5)
                call.play(str(voice))
                await tone_comes(call, 700)
                assert (statistics(call).srtp_suite != "") is secure
                counted = await bob.until("statistics")
                assert counted["sent"] > 25
                assert counted["received"] > 25
                assert (await call.ended(5)).by is EndedBy.REMOTE
                await bob.until("done")
        # It has not filled in its lengths: the program ends before the library closes the file.
        heard = np.fromfile(tmp_path / "heard.wav", "<i2", offset=WAV_HEADER)
        assert has_tone(heard, 1100, RECORDED)

    asyncio.run(work())
