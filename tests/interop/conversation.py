"""A call of an ordinary user's laptop through Kamailio, to do things to: shared by the tests of this folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mobility.client import ControlClient
from mobility.links import interface_of
from sip_test_env.agents import PhoneProcess
from sip_test_env.demo import VOICES, stream
from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.movements import BINDING_TIMEOUT, Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered, terminals_phone
from sip_test_env.report import Stream
from sip_test_env.speech import speak
from sip_test_env.users import OrdinaryUser

USUAL_INTERVAL = 0.02
"Seconds between two packets of speech."


@dataclass(slots=True)
class Conversation:
    """Both phones talk."""

    network: TestNetwork
    nodes: MobilityNodes
    movements: Movements
    "Of the terminal."
    agent: Movements
    "What the home agent says."
    phones: Mapping[str, PhoneProcess]
    sdp_connection: str
    began: float
    spans: list[tuple[float, float]] = field(default_factory=list)
    "When all was well again: of what was sent then, nothing may be missing."

    async def moved_to(self, interface: str, moment: float) -> dict[str, Any]:
        """The end of the handover to this interface that came after ``moment``. Raises TimeoutError."""
        async with asyncio.timeout(BINDING_TIMEOUT):
            while True:
                found_at, event = await self.movements.after(moment, "HandoverFinished")
                if interface_of(event["to_link"]) == interface:
                    return event
                moment = found_at + 1e-6

    async def calm(self, seconds: float) -> None:
        """Lets them talk; nothing of it may be lost."""
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        self.spans.append((begin, time.monotonic()))

    async def status(self, role: str) -> dict[str, Any]:
        async with ControlClient(self.nodes.runtime(role) / "control.sock") as client:
            status: dict[str, Any] = await client.status()
        return status

    async def hang_up(self) -> dict[str, Stream]:
        """Both still think that they are in the call; ends it. Asserts that the quiet spans were complete and that no
        packet came twice; returns what was sent and received by direction.
        """
        end = time.monotonic()
        await asyncio.sleep(0.5)  # what is under way arrives
        logs = {role: await phone.do("statistics") for role, phone in self.phones.items()}
        assert {(await phone.do("state"))["call"] for phone in self.phones.values()} == {"confirmed"}
        await self.phones["cn"].do("hangup")
        assert (await self.phones["mn"].do("ended"))["by"] == "remote"
        streams = {"to_mn": stream(logs["cn"], logs["mn"], end), "to_cn": stream(logs["mn"], logs["cn"], end)}
        for direction, packets in streams.items():
            for begin, until in self.spans:
                sent = sum(begin <= at < until for at, _ in packets.sent)
                # One less than the interval says: a span of 37 ms may fall so that it holds one packet. A busy machine
                # sends late.
                assert sent > 0.5 * (until - begin) / USUAL_INTERVAL - 1, f"{direction}: the phone fell silent"
                since = begin - self.began
                assert packets.lost(begin, until) == 0, (
                    f"{direction}: not all is well {since:.1f} s after the beginning"
                )
            assert packets.duplicates() == 0, f"{direction}: packets came twice"
        return streams


@asynccontextmanager
async def conversation(
    instance: str, plugged: Mapping[str, str], *, seconds: float, keepalive: float = 20.0
) -> AsyncIterator[Conversation]:
    """The laptop with these interfaces plugged into these links, in a call that the correspondent began."""
    async with AsyncExitStack() as stack:
        network = stack.enter_context(TestNetwork(instance))
        user = stack.enter_context(OrdinaryUser())
        for interface, link in plugged.items():
            network.move(link, interface)
        nodes = MobilityNodes(network, "esp", terminal=Terminal.laptop(user, keepalive=keepalive))
        stack.callback(nodes.stop)
        nodes.start()
        control = nodes.runtime("mn") / "control.sock"
        await bound(control)
        movements = await stack.enter_async_context(Movements.follow(control))
        agent = await stack.enter_async_context(Movements.follow(nodes.runtime("ha") / "control.sock"))
        phones = {
            "mn": await stack.enter_async_context(terminals_phone(nodes)),
            "cn": await stack.enter_async_context(PhoneProcess("correspondent", network.directory / "cn.log")),
        }
        await registered(phones["mn"], TERMINAL, nodes, "mn")
        await registered(phones["cn"], CORRESPONDENT, nodes, "cn")
        answering = asyncio.create_task(phones["mn"].do("answer"))
        dialled = await phones["cn"].do("dial", target=f"sip:{TERMINAL}@{network.plan.sip_domain}")
        await answering
        sound = user.folder("sound")
        for role, direction in (("mn", "to_cn"), ("cn", "to_mn")):
            speech = speak(VOICES[direction], seconds, sound / f"{direction}.wav")
            await phones[role].do("talk", play=str(speech), record=str(sound / f"heard-{role}.wav"))
        call = Conversation(network, nodes, movements, agent, phones, dialled["sdp_connection"], time.monotonic())
        await call.calm(0.5)
        yield call
