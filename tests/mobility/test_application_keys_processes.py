"""Keys between two programs that nobody typed: terminal and correspondent as users start them, on the test network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mobility.client import CommandRefused, ControlClient
from sip_test_env.capture import Capture
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork
from sip_test_env.plan import INTERFACE
from tests.mobility.running import Nodes, mobility
from tests.mobility.test_trace import tshark

pytestmark = [pytest.mark.root, pytest.mark.interop]


def test_nothing_between_two_ends_is_ever_in_clear(tmp_path: Path) -> None:
    with TestNetwork(f"appkeys-{os.getpid()}") as network:
        network.move("visited-a")
        ends = (str(network.plan.home_address), str(network.plan.cn))
        with _running(network, "token") as nodes, _home_link(network, tmp_path / "token.pcapng", ends):
            _on_demand(nodes, tmp_path)
        with _running(network, "calls") as nodes, _home_link(network, tmp_path / "calls.pcapng", ends):
            asyncio.run(_call(nodes, *ends))


@contextlib.contextmanager
def _running(network: TestNetwork, application: str):  # type: ignore[no-untyped-def]
    processes = MobilityNodes(network, "esp", application=application)
    try:
        processes.start()
        nodes = Nodes(processes)
        began = time.monotonic()
        while not nodes.registered():
            assert time.monotonic() - began < 15
            time.sleep(0.02)
        yield nodes
        nodes.close()
    finally:
        processes.stop()


@contextlib.contextmanager
def _home_link(network: TestNetwork, path: Path, ends: tuple[str, str]):  # type: ignore[no-untyped-def]
    """What goes over it between the two ends is ESP or IKE."""
    with Capture(network.plan.namespace("ha"), INTERFACE, path):
        yield
    fields = [word for name in ("ipv6.src", "ipv6.dst", "ipv6.nxt", "udp.dstport") for word in ("-e", name)]
    between = set()
    for source, destination, following, port in tshark(path, *fields, home=path.parent):
        # The outermost header: within the tunnel nobody else reads anything.
        if {source.split(",")[0], destination.split(",")[0]} == set(ends):
            between.add((following.split(",")[0], port))
    assert between == {("50", ""), ("17", "500")}


def _on_demand(nodes: Nodes, directory: Path) -> None:
    # The first packet ever waits for keys, and arrives; so does the first one back.
    nodes.mn.sendto(b"first", nodes.cn.getsockname()[:2])
    assert select.select([nodes.cn], [], [], 5)[0]
    assert nodes.cn.recv(100) == b"first"
    nodes.round_trip(5)
    at = {role: ("--runtime", str(nodes.nodes.runtime(role))) for role in ("mn", "cn")}
    for role, other in (("mn", nodes.nodes.network.plan.cn), ("cn", nodes.nodes.network.plan.home_address)):
        shown = _said("ike", "status", *at[role])
        assert f"IKE with {other}" in shown
        assert f"application with {other}: protected" in shown
        assert "wanted by the configuration" in shown
        assert mobility("ike", "keys", str(directory / role), *at[role]).returncode == 0
    spis = [set(re.findall(r"0x[0-9a-f]{8}", (directory / f"{role}.esp_sa").read_text())) for role in at]
    assert spis[0] & spis[1]
    for role in at:
        assert mobility("ike", "rekey", *at[role]).returncode == 0
        nodes.round_trip(5)

    # Whichever end loses its keys, they go on with others.
    for role in ("mn", "cn"):
        pid = nodes.pid(role)
        os.kill(pid, signal.SIGKILL)
        nodes.round_trip(10)
        assert nodes.pid(role) != pid
    text = "".join(nodes.nodes.configurations[role].read_text() for role in at)
    token = re.findall(r'use = "application"\npeer = "[^"]+"\ntoken = "([0-9a-f]+)"', text)[0]
    for role in at:
        assert token not in str(nodes.status(role)) + nodes.nodes.log(role).read_text()


def _said(*words: str) -> str:
    """What a command says, without the ends of its lines."""
    return " ".join(mobility(*words).stdout.split())


async def _call(nodes: Nodes, home: str, there: str) -> None:
    def control(role: str) -> ControlClient:
        return ControlClient(nodes.nodes.runtime(role) / "control.sock")

    async with control("mn") as mn, control("cn") as cn, control("ha") as ha:
        with pytest.raises(CommandRefused, match="no keys for calls"):
            await ha.application_keys()
        own, other = await mn.application_keys(), await cn.application_keys()
        assert (own["address"], other["address"]) == (home, there)
        await cn.subscribe()
        await mn.offer_call("call")  # its INVITE has our fingerprint
        answer = await cn.secure_call("call", home, [own["fingerprint"]], active=True)  # while it rings
        assert answer["state"] == "negotiating"
        event = await _event(cn, "ApplicationProtected")
        assert (event["peer"], event["calls"]) == (home, "call")
        await _until(lambda: mn.secure_call("call", there, [other["fingerprint"]], active=False))  # the 200
        await asyncio.to_thread(nodes.round_trip, 5)
        shown = await asyncio.to_thread(_said, "status", "--runtime", str(nodes.nodes.runtime("cn")))
        assert f"application with {home}: protected" in shown
        assert "wanted by call call" in shown

    # A data plane that dies in mid call: the next one knows of the call before its phone has said so.
    for role in ("mn", "cn"):
        os.kill(await asyncio.to_thread(nodes.pid, role), signal.SIGKILL)
        await asyncio.to_thread(nodes.round_trip, 10)
    async with control("mn") as mn, control("cn") as cn:
        await mn.release_call("call")
        await cn.release_call("call")


async def _event(control: ControlClient, name: str) -> dict[str, object]:
    async with asyncio.timeout(5):
        async for event in control.events():
            if event["event"] == name:
                return event
    raise AssertionError(f"no {name}")


async def _until(ask: Callable[[], Awaitable[dict[str, str]]]) -> None:
    """It is protected: at the latest a round trip after the other end said so."""
    for _ in range(100):
        answer = await ask()
        if answer["state"] == "protected":
            break
        await asyncio.sleep(0.02)
    assert answer["state"] == "protected"
    assert answer["algorithm"] == "aes-gcm-16"
