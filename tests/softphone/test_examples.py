"""The examples, between two phones on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from softphone.config import Consent
from softphone.media.files import MemorySink
from softphone.phone import Softphone
from tests.softphone.support import account, simulate
from tests.softphone.test_automation import seconds_of_sound, tone, wav

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def a_phone(user: str) -> Softphone:
    return Softphone(account(user, codecs=("PCMU",), transfers=Consent.ACCEPT))


@pytest.mark.parametrize(("key", "taken"), [("1", True), ("2", False), ("", False)])
def test_alarm_call(tmp_path: Path, key: str, taken: bool) -> None:
    sound = wav(tmp_path / "alarm.wav", tone(0.4, 8000), 8000)

    async def work() -> None:
        async with a_phone("server") as server, a_phone("guard") as guard:
            calling = asyncio.create_task(
                example("alarm_call").alarm(server, f"sip:guard@[::1]:{guard.port}", str(sound), times=1)
            )
            call = await anext(guard.incoming())
            sink = MemorySink(8000)
            call.record(sink)
            await call.answer()
            await asyncio.sleep(1)
            if key:
                await call.send_dtmf(key)
            assert await calling is taken
            await call.ended(5)
            assert seconds_of_sound(sink.samples, 8000) == pytest.approx(0.4, abs=0.05)

    simulate(work)


def test_alarm_call_that_is_refused() -> None:
    async def work() -> None:
        async with a_phone("server") as server, a_phone("guard") as guard:
            guard.do_not_disturb = True
            assert not await example("alarm_call").alarm(server, f"sip:guard@[::1]:{guard.port}", "never.wav")

    simulate(work)


def test_ivr(tmp_path: Path) -> None:
    for name, seconds in (("menu", 5.0), ("news", 0.5), ("goodbye", 0.2)):
        wav(tmp_path / f"{name}.wav", tone(seconds, 8000), 8000)

    async def work() -> None:
        async with a_phone("ivr") as ivr, a_phone("caller") as caller, a_phone("office") as office:
            module = example("ivr")
            serving = asyncio.create_task(module.serve(ivr, tmp_path, f"sip:office@[::1]:{office.port}"))
            call = await caller.dial(f"sip:ivr@[::1]:{ivr.port}")
            sink = MemorySink(8000)
            await call.answered(5)
            call.record(sink)
            await call.send_dtmf("1")
            await asyncio.sleep(0.3)
            await call.send_dtmf("#")
            ended = await call.ended(20)
            assert ended.status == 200
            assert 0.6 < seconds_of_sound(sink.samples, 8000) < 2.5  # the menu was cut short

            call = await caller.dial(f"sip:ivr@[::1]:{ivr.port}")
            await call.answered(5)
            await call.send_dtmf("2")
            at_office = await asyncio.wait_for(anext(office.incoming()), 20)
            await at_office.answer()
            await at_office.answered(5)
            await call.ended(20)
            await at_office.hangup()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    simulate(work)
