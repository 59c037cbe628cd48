"""Handovers in the events of a phone, from a real control socket of the mobility layer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from softphone.calls.handovers import watch_handovers
from softphone.errors import ConfigError
from softphone.events import EventHub, Handover
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from tests.softphone.support import account, simulate

FINISHED = {
    "event": "HandoverFinished", "from_link": "wlan0", "from_address": "2001:db8:a::1", "to_link": "usb0",
    "to_address": "2001:db8:b::1", "since_noticed_ms": 61.5, "since_update_ms": 50.25, "sent_again": 2,
    "received_again": 3, "make_before_break": True,
}  # fmt: skip


def test_a_handover_becomes_an_event_also_after_the_mobility_process_was_restarted(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        for answer in ({"id": request["id"], "ok": True}, {"event": "HandoverStarted"}, FINISHED):
            writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def work() -> None:
        hub = EventHub()
        events = hub.listen()
        watching = asyncio.create_task(watch_handovers(path, hub))
        await asyncio.sleep(5)  # nobody is there yet
        async with await asyncio.start_unix_server(serve, path):
            for _ in range(2):
                assert await events.wait_for(Handover, 10) == Handover(
                    "wlan0", "usb0", "2001:db8:a::1", "2001:db8:b::1", 61.5, 50.25, 2, 3, True
                )
            watching.cancel()
            await asyncio.wait([watching])

    simulate(work)


def test_sockets_and_mobility_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        Softphone(account(), DirectSockets(), mobility="/run/roamphone/mn")
