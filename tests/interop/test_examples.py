"""The examples that need other programs: Kamailio, aiortc's peers, processes of their own. Others:
tests/softphone/test_examples.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roamphone_pytest.ports import free_port
from roamphone_pytest.server import SipProxy
from tests.interop.tones import tone_comes, write_tone
from tests.softphone.test_examples import EXAMPLES, example

pytestmark = pytest.mark.interop


async def everything_over() -> None:
    """Until what the example has begun has ended by itself. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  the example has nothing to wait for
            await asyncio.sleep(0.05)


async def test_a_voice_agent_hears_the_caller_and_answers(sip_proxy: SipProxy, tmp_path: Path) -> None:
    song = write_tone(tmp_path / "song.wav", 700, 8)
    module, port = example("voice_agent"), free_port()
    async with await module.agent(port), sip_proxy.registered("alice", "bob") as (alice, bob):
        serving = asyncio.create_task(module.serve(bob, "localhost", port))
        call = await alice.dial("bob")
        await call.answered(5)
        call.play(str(song))
        await tone_comes(call, 700)
        await call.hangup()
    await serving
    await everything_over()


async def test_a_caller_is_not_left_without_an_agent(sip_proxy: SipProxy) -> None:
    module = example("voice_agent")
    async with sip_proxy.registered("alice", "bob") as (alice, bob):
        serving = asyncio.create_task(module.serve(bob, "localhost", free_port()))
        call = await alice.dial("bob")
        await call.answered(5)
        await call.ended(5)
    await serving
    await everything_over()


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, check=False, cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_nightly_test(tmp_path: Path) -> None:
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "nightly_pbx"), folder=tmp_path)
    assert "6 passed" in told


def test_the_load_test(tmp_path: Path) -> None:
    folder = EXAMPLES / "load_test"
    told = run(
        str(folder / "load_test.py"), str(folder / "office.toml"), "--rates", "3", "--seconds", "1", folder=tmp_path
    )
    assert "it takes 3 calls a second" in told
    assert "<svg" in (tmp_path / "3.html").read_text()
