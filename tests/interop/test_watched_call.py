"""Somebody watches the packets of a call: both layers of IPsec are open to the watcher, and nobody hears it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from mobility.client import ControlClient, MobilityError
from mobility.dissection import Stage, unfolded

pytestmark = [pytest.mark.root, pytest.mark.interop]

INSTANCE = "test-watched"
CONTROL = Path("/run/roamphone/env") / INSTANCE / "mobility/mn/control.sock"


async def _watch(stages: dict[int, list[Stage]]) -> None:
    """Reads all packets until the call is over."""
    while True:
        try:
            async with ControlClient(CONTROL) as client:
                await client.subscribe(packets=True)
                async for event in client.events():
                    told = event.get("packets")
                    for one in told if isinstance(told, list) else ():
                        stage = Stage.of(one)
                        stages.setdefault(stage.number, []).append(stage)
                return
        except MobilityError:
            await asyncio.sleep(0.2)  # not there yet


async def _call(stages: dict[int, list[Stage]]) -> tuple[int, dict[str, object], str]:
    watching = asyncio.create_task(_watch(stages))
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "softphone.cli", "demo", "--json", "--instance", INSTANCE,
        "--seconds", "6", "--handovers", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await asyncio.wait_for(demo.communicate(), 120)
    watching.cancel()
    lines = out.splitlines()
    return demo.returncode or 0, json.loads(lines[-1]) if lines else {}, said.decode()


def test_both_layers_are_open_to_a_watcher_and_no_sound_is_lost_or_late() -> None:
    stages: dict[int, list[Stage]] = {}
    status, report, said = asyncio.run(_call(stages))
    assert (status, report["ok"]) == (0, True), said
    audio = report["audio"]
    assert isinstance(audio, dict)
    seen = Counter(
        (packet[0].outbound, *(layer.kind for layer in unfolded(packet)))
        for packet in stages.values()
        if {"host", "application", "tunnel", "wire"} <= {stage.stage for stage in packet}
    )
    opened = ("ipv6", "esp", "ipv6", "esp", "udp", "rtp")
    for outbound, direction in ((True, "to_cn"), (False, "to_mn")):
        heard = audio[direction]
        assert (heard["lost"], heard["late"]) == (0, 0), f"{direction}: {heard}"
        assert seen[outbound, *opened] >= 0.95 * heard["received"], f"{direction}: {seen}"
