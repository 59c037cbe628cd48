"""What must not end a call, and what has to heal by itself: real processes, killed and missing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mobility.client import ControlClient, MobilityError
from sip_test_env.agents import PhoneProcess
from sip_test_env.demo import VOICES
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered
from sip_test_env.speech import speak

pytestmark = [pytest.mark.root, pytest.mark.interop]


async def status_of(nodes: MobilityNodes, role: str) -> dict[str, Any]:
    async with ControlClient(nodes.runtime(role) / "control.sock") as client:
        return await client.status()


async def eventually(nodes: MobilityNodes, seconds: float) -> float:
    """Seconds until a data plane of the terminal is bound (again)."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        try:
            await bound(nodes.runtime("mn") / "control.sock")
        except MobilityError:
            await asyncio.sleep(0.01)
        else:
            return time.monotonic() - begin
    raise AssertionError(f"not bound within {seconds} s")


def test_a_killed_data_plane_does_not_end_the_call() -> None:
    asyncio.run(_killed_in_mid_call())


async def _killed_in_mid_call() -> None:
    with TestNetwork("test-fault-kill") as network:
        nodes = MobilityNodes(network, "esp")
        nodes.start()
        await bound(nodes.runtime("mn") / "control.sock")
        files = {name: speak(voice, 9, network.directory / f"{name}.wav") for name, voice in VOICES.items()}
        async with AsyncExitStack() as stack:
            phones = {
                role: await stack.enter_async_context(PhoneProcess(role, network.directory / f"{role}.log"))
                for role in ("mn", "cn")
            }
            await registered(phones["mn"], TERMINAL, nodes, "mn")
            await registered(phones["cn"], CORRESPONDENT, nodes, "cn")
            answering = asyncio.create_task(phones["mn"].do("answer"))
            await phones["cn"].do("dial", target=f"sip:{TERMINAL}@{network.plan.sip_domain}")
            await answering
            for role, direction in (("mn", "to_cn"), ("cn", "to_mn")):
                await phones[role].do(
                    "talk", play=str(files[direction]), record=str(network.directory / f"heard-{role}.wav")
                )
            await asyncio.sleep(1)
            before = (await status_of(nodes, "mn"))["process"]["pid"]
            killed = time.monotonic()
            os.kill(before, signal.SIGKILL)
            assert await eventually(nodes, 2.0) < 2.0
            assert (await status_of(nodes, "mn"))["process"]["pid"] != before
            await asyncio.sleep(killed + 4 - time.monotonic())
            end = time.monotonic()
            await asyncio.sleep(0.3)
            logs = {role: await phone.do("statistics") for role, phone in phones.items()}
            assert {(await phone.do("state"))["call"] for phone in phones.values()} == {"confirmed"}
            for role, peer in (("mn", "cn"), ("cn", "mn")):
                arrived = {number for _, number in logs[role]["arrivals"]}
                late = [number for at, number in logs[peer]["departures"] if killed + 2 <= at <= end]
                assert len(late) > 20
                assert not set(late) - arrived, "after two seconds not a packet is missing"
            await phones["cn"].do("hangup")
            assert (await phones["mn"].do("ended"))["by"] == "remote"


def test_a_home_agent_that_comes_late_is_waited_for() -> None:
    asyncio.run(_agent_comes_late())


async def _agent_comes_late() -> None:
    with TestNetwork("test-fault-agent") as network:
        nodes = MobilityNodes(network, "esp")
        nodes.start("cn", "mn")
        control = nodes.runtime("mn") / "control.sock"
        async with Movements.follow(control) as movements:
            deadline = time.monotonic() + 15
            while not any(event["event"] == "HomeAgentUnreachable" for _, event in movements.seen):
                assert time.monotonic() < deadline, "the terminal does not say that nobody answers"
                await asyncio.sleep(0.05)
            assert (await status_of(nodes, "mn"))["node"]["mobile_node"]["registration"]["state"] != "bound"
            started = time.monotonic()
            nodes.start("ha")
            await movements.bound_after(started)


def test_a_proxy_that_comes_late_is_waited_for() -> None:
    asyncio.run(_proxy_comes_late())


async def _proxy_comes_late() -> None:
    with TestNetwork("test-fault-proxy") as network:
        nodes = MobilityNodes(network, "esp")
        nodes.start()
        await bound(nodes.runtime("mn") / "control.sock")
        network.stop_proxy()
        async with PhoneProcess("phone", Path(network.directory / "phone.log")) as phone:
            registering = asyncio.create_task(registered(phone, TERMINAL, nodes, "mn", transport="tcp"))
            await asyncio.sleep(1.5)
            assert not registering.done(), "there is nobody to register with yet"
            network.start_proxy("MD5")
            await registering
