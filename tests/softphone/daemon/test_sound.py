"""The device of the daemon's user: calls and conferences on it, and which one it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.calls.incoming import IncomingCall
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import RequestError
from softphone.daemon.server import Daemon
from softphone.media.files import MemorySink, SamplesSource, WavRecorder, read_sound
from softphone.phone import Softphone
from tests.interop.tones import has_tone
from tests.softphone.daemon.support import CONFIGURATION, next_event, with_bob

RATE = 16_000
AUDIO = CONFIGURATION + '[audio]\ndevice = "file"\ninput = "spoken.wav"\noutput = "heard.wav"\n'


def sine(hertz: int, seconds: float) -> SamplesSource:
    t = np.arange(round(RATE * seconds)) / RATE
    return SamplesSource((8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16), RATE)


async def taken(bob: Softphone, client: DaemonClient) -> tuple[IncomingCall, MemorySink]:
    """A call of the daemon to Bob, and what he hears in it."""
    await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
    call = await anext(bob.incoming())
    await call.answer()
    await call.answered(5)
    heard = MemorySink(RATE)
    call.record(heard)
    return call, heard


def test_calls_and_conferences_are_on_the_device_of_the_configuration(tmp_path: Path) -> None:
    with WavRecorder(tmp_path / "spoken.wav", RATE) as file:
        file.write(sine(500, 30).samples)

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            one, by_one = await taken(bob, client)
            assert (await next_event(client, "device-changed"))["kind"] == "file"
            one.play(sine(900, 3))
            await asyncio.sleep(2)
            assert has_tone(by_one.samples[RATE:], 500, RATE)
            other, by_other = await taken(bob, client)
            status: Any = await client.request("status")
            calls = [call["call"] for call in status["accounts"][0]["calls"]]
            await client.request("conference", calls=calls)
            mark, other_mark = len(by_one.samples), len(by_other.samples)
            await asyncio.sleep(2)
            for heard in (by_one.samples[mark:], by_other.samples[other_mark:]):
                assert has_tone(heard[-RATE:], 500, RATE)
            other.play(sine(1300, 3))
            await asyncio.sleep(1)
            await client.request("device", name="null")
            assert (await next_event(client, "device-changed"))["kind"] == "null"
            await asyncio.sleep(1)
            assert not by_one.samples[-RATE // 4 :].any() or has_tone(by_one.samples[-RATE // 4 :], 1300, RATE)
            devices: Any = await client.request("devices")
            assert [device["name"] for device in devices["devices"] if device["chosen"]] == ["null"]
            with pytest.raises(RequestError, match="no device 'gramophone'"):
                await client.request("device", name="gramophone")

    with_bob(tmp_path, test, AUDIO, real_media=True)
    heard, rate = read_sound(tmp_path / "heard.wav")
    assert has_tone(heard, 900, rate)
    assert has_tone(heard, 1300, rate)


def test_another_configuration_counts_when_it_is_read(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.request("settings-save", name="audio.device", value="null")
            await client.request("reload")
            devices: Any = await client.request("devices")
            assert [device["name"] for device in devices["devices"] if device["chosen"]] == ["null"]

    with_bob(tmp_path, test)
