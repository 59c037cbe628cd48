"""Debian's baresip: a way found by ICE, and keys by DTLS-SRTP (RFC 5763, RFC 8445)."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobility.net import namespace
from softphone.config import Account
from softphone.media.ice_description import IceSettings
from softphone.media.keying import Keying
from softphone.media.offer_answer import SrtpMode
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from tests.interop.baresip import MODULES, says, write_settings
from tests.interop.loopback import heard

pytestmark = pytest.mark.interop

DTLS: dict[str, Any] = {
    "srtp": SrtpMode.MANDATORY,
    "srtp_keying": (Keying.DTLS,),
    "srtp_offer": (Keying.DTLS,),
}


# baresip has no candidates on a loopback device, so this is a network of two addresses

PLACE, OURS, ITS = "media-baresip", "192.0.2.2", "192.0.2.1"


class Inside(DirectSockets):
    """Sockets in the namespace of that network."""

    async def udp(self, host: str, port: int) -> socket.socket:
        with namespace.inside(PLACE):
            return await super().udp(host, port)

    async def listen(self, host: str, port: int) -> socket.socket:
        with namespace.inside(PLACE):
            return await super().listen(host, port)


@pytest.fixture
def place() -> Iterator[None]:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", "-n", PLACE, *arguments], check=True, timeout=10)

    subprocess.run(["ip", "netns", "add", PLACE], check=True, timeout=10)
    try:
        ip("link", "add", "net0", "type", "veth", "peer", "name", "net1")
        for address in (ITS, OURS):
            ip("address", "add", f"{address}/24", "dev", "net0")
        for link in ("lo", "net0", "net1"):
            ip("link", "set", link, "up")
        ip("route", "add", "default", "dev", "net0")
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", PLACE], check=True, timeout=10)


@pytest.mark.root
def test_a_way_found_by_ice(place: None, tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path,
        MODULES,
        f"sip_listen {ITS}:5060\nnet_interface net0\nrtcp_mux yes\n",
        f"<sip:bob@{ITS}>;regint=0;answermode=auto;mediaenc=dtls_srtp;medianat=ice",
    )

    async def work() -> None:
        log = tmp_path / "log"
        with log.open("wb") as output:
            program = await asyncio.create_subprocess_exec(
                "ip", "netns", "exec", PLACE, "baresip", "-f", str(settings), "-v",
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            await says(log, "baresip is ready")
            account = Account(
                user="alice", domain=OURS, register=False, local_host=OURS, codecs=("PCMU",), ice=IceSettings(), **DTLS
            )
            async with Softphone(account, Inside(OURS)) as alice:
                call = await alice.dial(f"sip:bob@{ITS}:5060")
                await call.answered(10)
                statistics = await heard(call)
                assert statistics.path.startswith(f"{OURS}:")
                assert f"-> {ITS}:" in statistics.path
                assert statistics.srtp_suite.startswith("AE")
                await call.send_dtmf("7")
                await says(log, "received event: '7' (end=1)")
                await call.hangup()
        finally:
            program.terminate()
            await asyncio.wait_for(program.wait(), 10)

    asyncio.run(work())
