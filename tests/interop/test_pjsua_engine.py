"""PJSUA2 as the engine of an account of ours: the same API, and what happens when its process is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.accounts.accounts import Phones, load
from softphone.calls.call import Call, CallState
from softphone.calls.dialog_call import DialogCall
from softphone.config import Account
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import RequestError
from softphone.daemon.server import Daemon
from softphone.errors import CallError, CallRejected, Unsupported
from softphone.events import CallHold, EndedBy, EngineLost, MessageReceived
from softphone.media.files import SamplesSource, WavRecorder, read_sound
from softphone.media.keying import SrtpMode
from softphone.media.recorder import CallRecorder
from softphone.media.settings import MediaStatistics
from softphone.phone import Softphone
from softphone.pjsua.phone import PjsuaPhone
from tests.interop.tones import has_tone, tone_comes
from tests.softphone.support import Registrar

pytestmark = pytest.mark.interop

HERE = "127.0.0.1"
RATE = 16_000


def account(user: str, **settings: Any) -> Account:
    return Account(**{"user": user, "domain": HERE, "local_host": HERE, "register": False, **settings})


def sine(hertz: int) -> SamplesSource:
    return SamplesSource((8000 * np.sin(2 * np.pi * hertz * np.arange(RATE * 30) / RATE)).astype(np.int16), RATE)


async def talks(one: Call, other: Call) -> None:
    """Sound goes both ways."""
    one.play(sine(700))
    other.play(sine(900))
    await tone_comes(other, 700)
    await tone_comes(one, 900)


async def peak(call: Call) -> int:
    """Of half a second of what is heard."""
    ear, heard = call.listen(RATE), np.zeros(0, np.int16)
    while len(heard) < RATE // 2:
        heard = np.concatenate([heard, np.frombuffer(await ear.read(), np.int16)])
    call.record(None)
    return int(np.abs(heard[RATE // 4 :]).max())


def test_calls_both_ways_and_the_end_of_the_process_in_mid_call(tmp_path: Path) -> None:
    async def work() -> None:
        registrar = await Registrar("secret", algorithm="MD5").start(HERE)
        mine = account("alice", register=True, registrar=registrar.uri, password="secret", auto_answer="never")
        async with (
            Softphone(account("bob", srtp=SrtpMode.MANDATORY)) as bob,
            PjsuaPhone(mine) as alice,
        ):
            await alice.registered(10)
            events = alice.events()

            # We call; hold, digits, recording, statistics.
            call = await alice.dial(f"sip:bob@{HERE}:{bob.port}")
            there: DialogCall = await anext(bob.incoming())
            await there.ring()
            await call.ringing(5)
            await there.answer()
            await call.answered(5)
            assert call.id == there.id
            call.record_call(CallRecorder(tmp_path / "both.wav"))
            await talks(call, there)
            assert [6500 < loudness < 9500 for loudness in (await peak(call), await peak(there))] == [True, True]
            await call.send_dtmf("42")
            assert await there.gather(2, timeout=5) == "42"
            await there.send_dtmf("7")
            assert await call.gather(1, timeout=5) == "7"
            await call.hold()
            assert (call.on_hold, there.held) == (True, True)
            await call.resume()
            await there.hold()
            await events.wait_for(CallHold, 5)
            await there.resume()
            await talks(call, there)
            await asyncio.sleep(1)
            counted = call.statistics()
            assert isinstance(counted, MediaStatistics)
            assert (counted.codec, counted.srtp_suite) == ("G722", "AES_CM_128_HMAC_SHA1_80")
            assert counted.received > 25
            with pytest.raises(Unsupported, match="engine roamphone"):
                await call.info("text/plain", b"?")
            await call.hangup()
            assert (await there.ended(5)).by is EndedBy.REMOTE
            await call.ended(5)
            assert has_tone(np.fromfile(tmp_path / "both.wav", "<i2", offset=44)[0::2], 700, RATE)

            # Refused, cancelled, and called.
            call = await alice.dial(f"sip:bob@{HERE}:{bob.port}")
            await (await anext(bob.incoming())).reject(486)
            with pytest.raises(CallRejected, match="486"):
                await call.answered(5)
            there = await bob.dial(f"sip:alice@{HERE}:{alice.port}")
            incoming = await anext(alice.incoming())
            await incoming.ring()
            await there.ringing(5)
            await there.hangup()
            assert (await incoming.ended(5)).status == 487
            there = await bob.dial(f"sip:alice@{HERE}:{alice.port}")
            incoming = await anext(alice.incoming())
            await incoming.answer()
            await there.answered(5)
            await talks(incoming, there)
            await bob.message(f"sip:alice@{HERE}:{alice.port}", "hello")
            assert (await events.wait_for(MessageReceived, 5)).body == b"hello"

            # Its process is killed: the call ends with the reason, another process takes its place.
            assert alice.pid is not None
            os.kill(alice.pid, signal.SIGKILL)
            assert "SIGKILL" in (await incoming.ended(5)).reason
            assert "SIGKILL" in (await events.wait_for(EngineLost, 5)).why
            with pytest.raises(CallError, match="started again"):
                await alice.dial("sip:bob@127.0.0.1")
            there.abandon()  # nobody would answer its BYE
            await alice.registered(10)
            call = await alice.dial(f"sip:bob@{HERE}:{bob.port}")
            there = await anext(bob.incoming())
            await there.answer()
            await call.answered(5)
            await talks(call, there)

            # What it cannot.
            for target in ("sip:bob@[::1]", "sips:bob@127.0.0.1"):
                with pytest.raises(Unsupported):
                    await alice.dial(target)
            with pytest.raises(Unsupported, match="presence"):
                alice.watch_presence("bob")
            last = call, there
        assert [one.state for one in last] == [CallState.ENDED, CallState.ENDED]
        assert [event.by for one in last if (event := one.ended_event)] == [EndedBy.LOCAL, EndedBy.REMOTE]
        assert not registrar.contacts
        await registrar.endpoint.close()

    asyncio.run(work())


def test_an_account_of_the_daemon(tmp_path: Path) -> None:
    configuration = f'''
[account.work]
address = "alice@{HERE}"
engine = "pjsua2"
register = false
local_host = "{HERE}"
[audio]
device = "file"
input = "spoken.wav"
output = "heard.wav"
'''
    with WavRecorder(tmp_path / "spoken.wav", RATE) as file:
        file.write(sine(500).samples)

    async def work() -> None:
        (tmp_path / "softphone.toml").write_text(configuration)
        daemon = Daemon(
            Phones(load(tmp_path / "softphone.toml")), tmp_path / "sock", contacts=tmp_path / "contacts.vcf"
        )
        running = asyncio.create_task(daemon.run())
        await daemon.ready.wait()
        try:
            async with DaemonClient(daemon.path) as client, Softphone(account("bob")) as bob:
                made: Any = await client.request("dial", target=f"sip:bob@{HERE}:{bob.port}")
                there = await anext(bob.incoming())
                await there.answer()
                await tone_comes(there, 500)
                await there.play(SamplesSource(sine(900).samples[:RATE], RATE))
                status: Any = await client.request("status")
                assert [call["call"] for call in status["accounts"][0]["calls"]] == [made["call"]]
                with pytest.raises(RequestError, match="engine roamphone"):
                    await client.request("presence", status="open")
                await client.request("hangup")
                await there.ended(5)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        heard, rate = read_sound(tmp_path / "heard.wav")
        assert has_tone(heard, 900, rate)

    asyncio.run(work())
