"""The daemon and the mobility processes of its accounts: state, packets, requests, a process that goes and comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mobility.dissection import Stage, unfolded
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import RequestError
from softphone.daemon.server import Daemon
from tests.mobility.live import LiveTerminal
from tests.softphone.daemon.support import running


def configuration(directory: Path) -> str:
    return f"""
[account.mobile]
address = "alice@example.org"
register = false
local_host = "::1"
network = "home"
home_socket = "{directory / "mn" / "host.sock"}"
[account.direct]
address = "alice@example.net"
register = false
local_host = "::1"
"""


def drive(tmp_path: Path, test: Callable[[Daemon, DaemonClient], Coroutine[Any, Any, None]]) -> None:
    """In real time: the terminal lives in a thread."""

    async def work() -> None:
        async with (
            asyncio.timeout(20),
            running(tmp_path, configuration(tmp_path)) as daemon,
            DaemonClient(daemon.path) as client,
        ):
            await test(daemon, client)

    asyncio.run(work())


async def event_of(client: DaemonClient, name: str, *, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> Any:
    async for event in client.events():
        if event["event"] == name and where(event):
            return event
    raise AssertionError("the daemon has gone")


def test_state_commands_and_what_happens(tmp_path: Path) -> None:
    with LiveTerminal(tmp_path / "mn") as live:

        async def test(_daemon: Daemon, client: DaemonClient) -> None:
            await client.request("subscribe", topics=["mobility"])
            assert (await event_of(client, "mobility-found"))["account"] == "mobile"
            told = await event_of(client, "mobility")
            assert (told["tunnel"], told["application_ipsec"]) == ("esp", True)
            assert told["status"]["node"]["mobile_node"]["home_address"] == "2001:db8:1::100"
            live.plug_second()
            command = {"op": "command", "name": "move wlan1"}
            await event_of(client, "mobility-event", where=lambda e: e["happened"]["event"] == "AddressReady")
            assert await client.request("mobility", request=command) is None
            moved = await event_of(
                client, "mobility-event", where=lambda e: e["happened"]["event"] == "HandoverFinished"
            )
            assert moved["happened"]["to_link"] == "wlan1"
            after = await event_of(client, "mobility")
            assert after["status"]["node"]["mobile_node"]["movement"]["present"]["link"] == "wlan1"
            with pytest.raises(RequestError, match="no link 'ppp0'"):
                await client.request("mobility", request={"op": "command", "name": "move ppp0"}, account="mobile")

        drive(tmp_path, test)


def test_packets_come_while_somebody_wants_them_and_are_captured(tmp_path: Path) -> None:
    with LiveTerminal(tmp_path / "mn") as live:

        async def test(_daemon: Daemon, client: DaemonClient) -> None:
            live.talk()
            await client.request("subscribe", topics=["packets"])
            stages: dict[int, list[Stage]] = {}
            complete: list[list[Stage]] = []
            while len(complete) < 20:
                for told in (await event_of(client, "packets"))["packets"]:
                    stage = Stage.of(told)
                    stages.setdefault(stage.number, []).append(stage)
                complete = [packet for packet in stages.values() if {"host", "wire"} <= {each.stage for each in packet}]
            layers = [[layer.kind for layer in unfolded(packet)] for packet in complete]
            assert layers == [["ipv6", "esp", "ipv6", "esp", "udp", "rtp"]] * len(complete)
            file = tmp_path / "call.pcapng"
            assert (await client.request("capture", file=str(file)))["capture"] is True  # type: ignore[index]
            await asyncio.sleep(0.2)
            assert (await client.request("capture"))["capture"] is False  # type: ignore[index]
            assert file.stat().st_size > 2000
            await client.request("subscribe", topics=["mobility"])
            await event_of(client, "mobility")
            while live.trace.wants_packets:  # noqa: ASYNC110  # of another thread
                await asyncio.sleep(0.01)
            with pytest.raises(RequestError, match="absolute path"):
                await client.request("capture", file="call.pcapng")

        drive(tmp_path, test)


def test_a_process_that_goes_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softphone.daemon.mobility.AGAIN", 0.05)

    async def test(daemon: Daemon, client: DaemonClient) -> None:
        await client.request("subscribe", topics=["mobility", "packets"])
        assert "mobility mn" in (await event_of(client, "mobility-lost"))["why"]
        for _ in range(2):
            with LiveTerminal(tmp_path / "mn") as live:
                await event_of(client, "mobility-found")
                await event_of(client, "mobility")
                await asyncio.to_thread(live.talk)
                await event_of(client, "packets")
            await event_of(client, "mobility-lost")
        with pytest.raises(RequestError, match="mobility mn"):
            await client.request("mobility")
        await client.request("subscribe")
        assert not daemon.service._mobility._tasks

    drive(tmp_path, test)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"account": "direct"}, 'network = "home"'),
        ({"account": "nobody"}, "nobody"),
        ({"request": "status"}, "object"),
        ({"request": {"name": "reregister"}}, "request is an object"),
        ({"request": {"op": "subscribe"}}, "request is an object"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, arguments: dict[str, object], why: str) -> None:
    async def test(_daemon: Daemon, client: DaemonClient) -> None:
        with pytest.raises(RequestError, match=why):
            await client.request("mobility", **arguments)

    drive(tmp_path, test)
