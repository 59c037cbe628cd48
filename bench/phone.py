"""Section ``phone``: processor time of one call (Opus, SRTP) at the phone and at the mobility process, and set-up time.

``phone_percent``, ``mobility_percent``: of one processor, over the middle of a call; ``set_up_ms``: INVITE to 200 OK,
the callee answers at once, and ``first_set_up_ms`` that of the first call of both phones; ``packet_us``:
`bench.codecs`; the rest, many calls: `bench.calls`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench.calls import side_by_side
from bench.codecs import by_codec
from bench.laboratory import Laboratory, laboratory
from bench.processor import percent, windows
from bench.statistics import measured
from sip_test_env.agents import PhoneProcess
from sip_test_env.demo import VOICES
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered
from sip_test_env.speech import speak

PROGRAMS = ("pjsua2-python", "sip-tester", "kamailio")
SECONDS = 20.0
WINDOWS = 3
CALLS = 10
"Whose set-up is measured, after the first."


def measure() -> dict[str, object]:
    figures = asyncio.run(_measure())
    with tempfile.TemporaryDirectory() as folder:  # the laboratory is gone: it would take processor time
        speech = speak(VOICES["to_cn"], SECONDS, Path(folder) / "speech.wav")
        return {**figures, "packet_us": by_codec(speech), **side_by_side(speech, Path(folder))}


async def _measure() -> dict[str, object]:
    async with laboratory("bench-phone") as lab:
        return await _call(lab)


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
        set_up: list[float] = []
        for _ in range(CALLS + 1):
            if set_up:
                await correspondent.do("hangup")
            answering = asyncio.create_task(terminal.do("answer"))
            begin = time.monotonic()
            await correspondent.do("dial", target=f"sip:{TERMINAL}@{network.plan.sip_domain}")
            set_up.append((time.monotonic() - begin) * 1000)
            await answering
        await terminal.do("talk", play=str(files["to_cn"]), record=str(folder / "heard-mn.wav"))
        await correspondent.do("talk", play=str(files["to_mn"]), record=str(folder / "heard-cn.wav"))
        await asyncio.sleep(2)
        processes = {"phone_percent": terminal.pid, "mobility_percent": lab.nodes.processes["mn"].pid}
        spent = await asyncio.gather(
            *(asyncio.to_thread(windows, pid, SECONDS - 5, WINDOWS) for pid in processes.values())
        )
        await correspondent.do("hangup")
    figures = {"first_set_up_ms": round(set_up[0], 1), **measured("set_up_ms", set_up[1:], 1)}
    for name, of in zip(processes, spent, strict=True):
        figures |= measured(name, percent(of), 2)
    return figures
