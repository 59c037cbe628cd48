"""Programs that only speak IPv4 and that nobody here wrote, through Mobile IPv6 (embodiments 1 and 3, scenario 10010).

PJSUA2 (a wheel compiled without IPv6) and Debian's baresip register with Kamailio, call an IPv6 correspondent and are
called, while the terminal moves. Nothing of the speech may be lost outside of a handover.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mobility.client import ControlClient
from sip_test_env.agents import PhoneProcess
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import registered
from sip_test_env.speech import speak
from softphone.config import Account
from softphone.media.keying import SrtpMode
from softphone.pjsua.phone import PjsuaPhone
from tests.interop.baresip import write_baresip
from tests.interop.names import name_server

pytestmark = [pytest.mark.root, pytest.mark.interop]

PROGRAM, CORRESPONDENT = "6001", "6002"
HERE = "198.18.0.1"
TALK = 5.0
"Seconds."


@dataclass(slots=True)
class Scene:
    """A terminal with translation, away from home, and a correspondent that speaks IPv6."""

    network: TestNetwork
    nodes: MobilityNodes
    movements: Movements
    correspondent: PhoneProcess
    folder: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    "What a program wrote, as far as it was JSON."

    @property
    def domain(self) -> str:
        return self.network.plan.sip_domain

    async def run(self, *command: str) -> asyncio.subprocess.Process:
        """Starts a program on the terminal, with nothing but its virtual address."""
        log = (self.folder / "program.log").open("wb")
        with log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mobility", "exec", "--runtime", str(self.nodes.runtime("mn")), "--", *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        return process

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Collects what the program writes, to its end."""
        assert process.stdout is not None
        async for line in process.stdout:
            with (self.folder / "program.out").open("ab") as out:
                out.write(line)
            if line.startswith(b"{"):
                self.events.append(json.loads(line))

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]

    async def talk_and_move(self) -> dict[str, Any]:
        """The call is up: speech, two handovers in the middle. Returns the correspondent's statistics."""
        speech = speak("en-us+f3", TALK + 3, self.folder / "correspondent.wav")
        await self.correspondent.do("talk", play=str(speech), record=str(self.folder / "heard.wav"))
        begin = time.monotonic()
        for number, place in enumerate(("visited-b", "visited-a")):
            await asyncio.sleep(begin + TALK * (number + 1) / 3 - time.monotonic())
            moved = self.network.move(place)
            await self.movements.after(moved.cut, "HandoverFinished")
        await asyncio.sleep(begin + TALK - time.monotonic())
        return await self.correspondent.do("statistics")

    async def translation(self) -> dict[str, Any]:
        async with ControlClient(self.nodes.runtime("mn") / "control.sock") as client:
            node = (await client.status())["node"]
        assert isinstance(node, dict)
        assert [row["number"] for row in node["scenarios"] if row["in_use"]] == [10010]
        shown: dict[str, Any] = node["translation"]
        return shown


@asynccontextmanager
async def scene(instance: str, folder: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        network = stack.enter_context(TestNetwork(instance))
        plan = network.plan
        stack.enter_context(name_server(plan, {f"{plan.sip_domain}.": {"AAAA": str(plan.proxy)}}))
        network.move("visited-a")
        nodes = MobilityNodes(network, "esp")
        configuration = nodes.configurations["mn"]
        text = configuration.read_text()
        configuration.write_text(text.replace("[host_os]\n", f'[translation]\n\n[host_os]\ndns = ["{plan.proxy}"]\n'))
        stack.callback(nodes.stop)
        nodes.start()
        await bound(nodes.runtime("mn") / "control.sock")
        movements = await stack.enter_async_context(Movements.follow(nodes.runtime("mn") / "control.sock"))
        phone = await stack.enter_async_context(PhoneProcess("correspondent", network.directory / "cn.log"))
        await registered(phone, CORRESPONDENT, nodes, "cn", codec="PCMU")
        yield Scene(network, nodes, movements, phone, folder)


def all_well(heard: dict[str, Any]) -> None:
    """What the correspondent sent and heard: one packet every 20 ms, but for some of each handover."""
    numbers = {number for _, number in heard["arrivals"]}
    assert len(numbers) == len(heard["arrivals"]), "packets came twice"
    assert len(numbers) > 0.95 * TALK / 0.02
    missing = max(numbers) - min(numbers) + 1 - len(numbers)
    assert missing <= 4, f"{missing} packets are missing"
    assert heard["srtp"] == "AES_CM_128_HMAC_SHA1_80"


def pjsua(scene: Scene, transport: str) -> tuple[str, ...]:
    password = scene.network.account(PROGRAM).password
    orders = {
        "user": PROGRAM,
        "password": password,
        "domain": scene.domain,
        "play": str(speak("en-gb", TALK + 3, scene.folder / "program.wav")),
        "record": str(scene.folder / "program-heard.wav"),
        "seconds": 60,
        "local": HERE,
        "transport": transport,
        "target": f"sip:{CORRESPONDENT}@{scene.domain}",
        "log": str(scene.folder / "pjsua.log"),
    }
    return sys.executable, str(Path(__file__).with_name("pjsua_phone.py")), json.dumps(orders)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_pjsua_calls(tmp_path: Path, transport: str) -> None:
    async def test() -> None:
        async with scene(f"test-pjsua-{transport}", tmp_path) as made:
            answering = asyncio.create_task(made.correspondent.do("answer"))
            program = await made.run(*pjsua(made, transport))
            reading = asyncio.create_task(made.read(program))
            answered = await answering
            assert answered["sdp_connection"] == str(made.network.plan.home_address)
            all_well(await made.talk_and_move())
            translation = await made.translation()
            await made.correspondent.do("hangup")
            await asyncio.wait_for(reading, 20)
            assert await program.wait() == 0
            assert made.said("registration")[0]["status"] == 200
            # The program talked to an IPv4 address all the time.
            assert made.said("media")[0]["remote"].startswith("198.18.0.")
            assert translation["sip"]["inbound"] >= 4
            rows = {row["ipv6"]: row["origin"] for row in translation["table"]["rows"]}
            assert rows[str(made.network.plan.cn)] == "asked"

    asyncio.run(test())


def test_pjsua_as_the_engine_of_our_phone_is_called(tmp_path: Path) -> None:
    """The phone is an ordinary process of this machine; the engine lives in the host OS."""

    async def test() -> None:
        async with scene("test-pjsua-in", tmp_path) as made:
            account = Account(
                user=PROGRAM, domain=made.domain, password=made.network.account(PROGRAM).password, local_host=HERE,
                codecs=("PCMU",), srtp=SrtpMode.MANDATORY,
            )  # fmt: skip
            async with PjsuaPhone(account, mobility=made.nodes.runtime("mn")) as phone:
                await phone.registered(20)
                dialling = asyncio.create_task(made.correspondent.do("dial", target=f"sip:{PROGRAM}@{made.domain}"))
                call = await anext(phone.incoming())
                await call.answer()
                call.play(speak("en-gb", TALK + 3, tmp_path / "program.wav"))
                assert (await dialling)["sdp_connection"] == str(made.network.plan.home_address)
                all_well(await made.talk_and_move())
                await made.correspondent.do("hangup")
                await call.ended(10)
            # glibc asks the same name over TCP.
            asking = await made.run("env", "RES_OPTIONS=use-vc", "getent", "ahostsv4", made.domain)
            told, _ = await asyncio.wait_for(asking.communicate(), 20)
            assert told.startswith(b"198.18.0.")
            assert (await made.translation())["dns"]["tcp"]["synthesised"] == 1

    asyncio.run(test())


def test_baresip_calls(tmp_path: Path) -> None:
    async def test() -> None:
        async with scene("test-baresip", tmp_path) as made:
            answering = asyncio.create_task(made.correspondent.do("answer"))
            program = await made.run(
                "baresip", "-4", "-f", str(write_baresip(tmp_path, made.network.account(PROGRAM))), "-t", "30",
                "-e", f"/dial sip:{CORRESPONDENT}@{made.domain}",
            )  # fmt: skip
            reading = asyncio.create_task(made.read(program))
            answered = await answering
            assert answered["sdp_connection"] == str(made.network.plan.home_address)
            all_well(await made.talk_and_move())
            assert (await made.translation())["sip"]["inbound"] >= 4
            await made.correspondent.do("hangup")
            program.terminate()
            await asyncio.wait_for(reading, 20)
            await program.wait()

    asyncio.run(test())
