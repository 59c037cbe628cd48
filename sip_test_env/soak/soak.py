"""The soak test: one network, one call after the other; each is disturbed, left in peace for a moment, and judged.

What holds: no call is dropped; in peace no packet is lost; none is accepted twice; nobody without keys causes a
binding; memory and open files stay what they were; no process writes a traceback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from ipaddress import IPv6Address
from typing import Any

from mobility.client import ControlClient
from sip_test_env.agents import PhoneProcess
from sip_test_env.demo import VOICES, stream
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.impairment import Impairment
from sip_test_env.mobility_nodes import ROLES, MobilityNodes
from sip_test_env.movements import bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered
from sip_test_env.soak import strangers
from sip_test_env.soak.faults import WIRES, BadWire, Fault, Flap, Kill, Move, Strangers, faults
from sip_test_env.soak.memory import Holdings
from sip_test_env.speech import speak
from softphone.media.drops import Drop

DISTURBED = 9.0
"Seconds of a call in which faults come."
SETTLING = 4.0
"Seconds without any, after which all has to be well."
PEACE = 1.5
"Seconds in which nothing may be lost."
_TWICE = (Drop.DUPLICATE, Drop.SRTP_REPLAYED)
"What the phone drops because it has come before; the mobility layer should not have let it through."
_SPEECH = DISTURBED + SETTLING + PEACE + 20.0


@dataclass(slots=True)
class SoakReport:
    """What was done, and what did not hold."""

    seed: int
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lost: int = 0
    strange_packets: int = 0
    discarded_by_agent: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.complaints and self.calls > 0

    def as_json(self) -> dict[str, object]:
        return {"ok": self.ok, **asdict(self), "faults": dict(self.faults)}


class Soak:
    """One run; `report` is there from the beginning."""

    def __init__(
        self, instance: str, seed: int, seconds: float, progress: Callable[[str], None], tunnel: str = "esp"
    ) -> None:
        """``tunnel``: one of `TUNNELS`."""
        self.report = SoakReport(seed)
        self._seed = seed
        self._seconds = seconds
        self._tunnel = tunnel
        self._progress = progress
        self._network = TestNetwork(instance)
        self._nodes: MobilityNodes
        self._phones: dict[str, PhoneProcess] = {}
        self._holdings = Holdings()

    async def run(self) -> None:
        """Raises `EnvironmentFailure`: the network cannot be built, or a call not be made."""
        async with AsyncExitStack() as stack:
            network = stack.enter_context(self._network)
            self._nodes = nodes = MobilityNodes(network, self._tunnel)
            stack.callback(nodes.stop)
            nodes.start()
            for wire in WIRES:
                network.impair(wire, Impairment(), seed=self._seed)
            await bound(nodes.runtime("mn") / "control.sock")
            for direction, voice in VOICES.items():
                speak(voice, _SPEECH, network.directory / f"{direction}.wav")
            for role, user in (("mn", TERMINAL), ("cn", CORRESPONDENT)):
                phone = PhoneProcess(f"phone-{role}", network.directory / f"phone-{role}.log")
                self._phones[role] = await stack.enter_async_context(phone)
                await registered(phone, user, nodes, role)
            until = time.monotonic() + self._seconds
            while time.monotonic() < until and not self.report.complaints:
                await self._call()
            self.report.complaints += self._holdings.complaints()
            for role in ROLES:
                if "Traceback" in nodes.log(role).read_text(errors="replace"):
                    self.report.complaints.append(f"a traceback in the log of mobility {role}")

    async def _call(self) -> None:
        report, number = self.report, self.report.calls
        answering = asyncio.create_task(self._phones["mn"].do("answer"))
        await self._phones["cn"].do("dial", target=f"sip:{TERMINAL}@{self._network.plan.sip_domain}")
        await answering
        for role, direction in (("mn", "to_cn"), ("cn", "to_mn")):
            folder = self._network.directory
            await self._phones[role].do(
                "talk", play=str(folder / f"{direction}.wav"), record=str(folder / f"heard-{role}.wav")
            )
        begin = time.monotonic()
        planned = faults(self._seed, number, DISTURBED, self._network.location or "")
        self._progress(f"call {number + 1}: {len(planned)} faults")
        for at, fault in planned:
            await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
            self._progress(f"  {at:4.1f} s {fault}")
            report.faults[type(fault).__name__.lower()] += 1
            await self._do(fault)
        for wire in WIRES:
            self._network.impair(wire, Impairment())
        await asyncio.sleep(SETTLING)
        peace = time.monotonic()
        await asyncio.sleep(PEACE)
        end = time.monotonic()
        await asyncio.sleep(0.5)  # what is under way arrives
        await self._judge(peace, end)
        report.calls += 1

    async def _do(self, fault: Fault) -> None:
        network = self._network
        match fault:
            case Move(link):
                network.move(link)
            case Flap(times):
                await asyncio.to_thread(network.flap, times=times)
            case BadWire(where, forth, back):
                network.impair(where, forth, back)
            case Kill(role):
                with suppress(EnvironmentFailure):
                    os.kill((await self._status(role))["process"]["pid"], signal.SIGKILL)
            case Strangers(seed):
                self.report.strange_packets += strangers.send(network.plan, await self._care_of(), seed)

    async def _judge(self, peace: float, end: float) -> None:
        report, complaints = self.report, self.report.complaints
        number = report.calls + 1
        logs = {role: await phone.do("statistics") for role, phone in self._phones.items()}
        states = {role: (await phone.do("state"))["call"] for role, phone in self._phones.items()}
        if set(states.values()) != {"confirmed"}:
            complaints.append(f"call {number} was dropped: {states}")
            return
        for direction, sender, receiver in (("to_mn", "cn", "mn"), ("to_cn", "mn", "cn")):
            packets = stream(logs[sender], logs[receiver], end)
            report.sent += len(packets.sent)
            report.lost += packets.lost()
            twice = packets.duplicates() + sum(logs[receiver]["drops"].get(drop, 0) for drop in _TWICE)
            if twice:
                complaints.append(f"call {number}, {direction}: {twice} packets were accepted twice by IPsec")
            if lost := packets.lost(peace, end):
                complaints.append(f"call {number}, {direction}: {lost} packets lost in peace")
            if sum(peace <= at < end for at, _ in packets.sent) < 0.5 * (end - peace) / 0.02:
                complaints.append(f"call {number}, {direction}: the phone fell silent")
        await self._phones["cn"].do("hangup")
        ended = await self._phones["mn"].do("ended")
        if ended["by"] != "remote":
            complaints.append(f"call {number} ended by {ended}")
        await self._judge_bindings(number)
        for role in ROLES:
            self._holdings.look(f"mobility-{role}", (await self._status(role))["process"]["pid"])
            self._holdings.look(f"mobility-supervisor-{role}", self._nodes.processes[role].pid)
        for role, phone in self._phones.items():
            self._holdings.look(f"phone-{role}", phone.pid)

    async def _judge_bindings(self, number: int) -> None:
        """The home agent knows of the terminal and of nobody else; the correspondent of no direct way."""
        plan, care_of = self._network.plan, await self._care_of()
        agent = (await self._status("ha"))["node"]
        found = {(row["home_address"], row["care_of_address"]) for row in agent["binding_cache"]}
        if found != {(str(plan.home_address), str(care_of))}:
            self.report.complaints.append(f"after call {number} the home agent has the bindings {found}")
        correspondent = (await self._status("cn"))["node"]
        if correspondent["direct_bindings"]:
            self.report.complaints.append(f"after call {number} the correspondent has direct bindings")
        self.report.discarded_by_agent = sum(
            count for name, count in agent["counters"].items() if name.startswith("discarded-")
        )

    async def _care_of(self) -> IPv6Address:
        """Where the terminal is, or wants to be; while it is nowhere, somebody else's address."""
        registration = (await self._status("mn"))["node"]["mobile_node"]["registration"]
        return IPv6Address(registration["care_of_address"] or self._network.plan.cn)

    async def _status(self, role: str) -> dict[str, Any]:
        """Of a node, which may be starting again at the moment."""
        deadline = time.monotonic() + 5
        while True:
            try:
                async with ControlClient(self._nodes.runtime(role) / "control.sock") as client:
                    status: dict[str, Any] = await client.status()
                    return status
            except (OSError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise EnvironmentFailure(f"mobility {role} does not answer: {error}") from error
            await asyncio.sleep(0.02)
