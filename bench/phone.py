"""Section ``phone``: processor time of one call (Opus, SRTP) at the phone and at the mobility process, and set-up time.

``phone_percent``, ``mobility_percent``: of one processor, over the middle of a call; ``set_up_ms``: INVITE to 200 OK,
the callee answers at once; ``packet_us``: `bench.codecs`; the rest, many calls: `bench.calls`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench.calls import side_by_side
from bench.codecs import by_codec
from bench.laboratory import Laboratory, laboratory
from sip_test_env.agents import PhoneProcess
from sip_test_env.demo import VOICES
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered
from sip_test_env.speech import speak

SECONDS = 20.0


def measure() -> dict[str, object]:
    figures = asyncio.run(_measure())
    with tempfile.TemporaryDirectory() as folder:  # the laboratory is gone: it would take processor time
        speech = speak(VOICES["to_cn"], SECONDS, Path(folder) / "speech.wav")
        return {**figures, "packet_us": by_codec(speech), **side_by_side(speech, Path(folder))}


async def _measure() -> dict[str, object]:
    async with laboratory("bench-phone") as lab:
        return await _call(lab)


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its children that have not ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(entry.name) == pid or int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


async def _call(lab: Laboratory) -> dict[str, object]:
    network = lab.network
    folder = network.directory
    files = {name: speak(voice, SECONDS, folder / f"{name}.wav") for name, voice in VOICES.items()}
    async with AsyncExitStack() as stack:
        terminal, correspondent = [
            await stack.enter_async_context(PhoneProcess(name, folder / f"{name}.log")) for name in ("mn", "cn")
        ]
        await registered(terminal, TERMINAL, lab.nodes, "mn")
        await registered(correspondent, CORRESPONDENT, lab.nodes, "cn")
        answering = asyncio.create_task(terminal.do("answer"))
        begin = time.monotonic()
        await correspondent.do("dial", target=f"sip:{TERMINAL}@{network.plan.sip_domain}")
        set_up = time.monotonic() - begin
        await answering
        await terminal.do("talk", play=str(files["to_cn"]), record=str(folder / "heard-mn.wav"))
        await correspondent.do("talk", play=str(files["to_mn"]), record=str(folder / "heard-cn.wav"))
        await asyncio.sleep(2)
        processes = {"phone_percent": terminal.pid, "mobility_percent": lab.nodes.processes["mn"].pid}
        before = {name: processor_seconds(pid) for name, pid in processes.items()}
        began = time.monotonic()
        await asyncio.sleep(SECONDS - 5)
        lasted = time.monotonic() - began
        used = {name: processor_seconds(pid) - before[name] for name, pid in processes.items()}
        await correspondent.do("hangup")
    return {"set_up_ms": round(set_up * 1000, 1), **{name: round(100 * u / lasted, 2) for name, u in used.items()}}
