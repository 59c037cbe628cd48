"""A browser is the headset: Chromium with a fake microphone, over WebRTC and over the page's own connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.calls.call import Call
from softphone.daemon.client import DaemonClient
from softphone.media.files import SamplesSource, WavRecorder
from softphone.phone import Softphone
from tests.interop.chromium import Page, chromium
from tests.softphone.daemon.support import CONFIGURATION, running
from tests.softphone.media.support import words
from tests.softphone.support import account

pytestmark = pytest.mark.interop

RATE = 48_000
PEAK = """(async () => {
  const context = new AudioContext(), analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  context.createMediaStreamSource(document.querySelector("audio").srcObject).connect(analyser);
  const bins = new Float32Array(analyser.frequencyBinCount);
  await new Promise((resolve) => setTimeout(resolve, 400));
  analyser.getFloatFrequencyData(bins);
  const most = bins.indexOf(Math.max(...bins));
  const found = { hertz: most * context.sampleRate / analyser.fftSize, decibels: bins[most] };
  await context.close();
  return found;
})()"""
"The loudest frequency of what the page plays."


def sine(hertz: int) -> SamplesSource:
    return SamplesSource((8000 * np.sin(2 * np.pi * hertz * np.arange(RATE * 60) / RATE)).astype(np.int16), RATE)


async def sound_goes_both_ways(page: Page, call: Call, hertz: int) -> None:
    call.play(sine(hertz))
    ear, heard = call.listen(RATE), np.zeros(0, np.int16)
    async with asyncio.timeout(30):
        while len(heard) < RATE or float(np.abs(heard[-RATE:].astype(float)).mean()) < 300:
            heard = np.concatenate([heard, np.frombuffer(await ear.read(), np.int16)])
        found: dict[str, float] = {"hertz": 0.0, "decibels": -100.0}
        while abs(found["hertz"] - hertz) > 10 or found["decibels"] < -55:
            found = await page.evaluate(PEAK)


def test_a_page_rings_answers_dials_and_talks(tmp_path: Path) -> None:
    voice = tmp_path / "voice.wav"
    with WavRecorder(voice, RATE) as file:
        file.write(words(RATE, 20))

    async def work() -> None:
        async with (
            running(tmp_path, CONFIGURATION, real_media=True) as daemon,
            DaemonClient(daemon.path) as client,
            Softphone(account("bob", display_name="Bob")) as bob,
            chromium(tmp_path / "profile", f"--use-file-for-fake-audio-capture={voice}") as page,
        ):
            headset: Any = await client.request("headset")
            status: Any = await client.request("status")
            await client.subscribe()
            here, there = status["accounts"][0]["port"], f"sip:bob@[::1]:{bob.port}"
            await page.command("Page.navigate", url=headset["url"])
            await page.until("document.querySelector('#status')?.textContent === 'ready'")

            # Without a permission the page says so, in words.
            await page.command("Browser.setPermission", permission={"name": "microphone"}, setting="denied")
            await page.click("#connect")
            await page.until("document.querySelector('#trouble').innerText.includes('does not let this page')")
            await page.command("Browser.setPermission", permission={"name": "microphone"}, setting="granted")

            # Somebody calls; answered there, over WebRTC.
            call = await bob.dial(f"sip:alice@[::1]:{here}")
            await call.ringing(5)
            await page.until("document.querySelector('.call .who')?.textContent.includes('Bob')")
            await page.click(".call .answer")
            await call.answered(15)
            await page.until("document.querySelector('#way').textContent.includes('WebRTC.')")
            await sound_goes_both_ways(page, call, 700)
            await page.click(".call .hangup")
            await call.ended(5)
            await page.until("!document.querySelector('.call')")

            # We call, and sound goes over the page's connection: as through an SSH tunnel.
            url = headset["url"].replace("/#", "/?way=frames#")
            await page.command("Page.navigate", url=url)
            await page.until("document.querySelector('#status')?.textContent === 'ready'")
            await page.evaluate(f"document.querySelector('#target').value = '{there}'")
            await page.click("#dial button")
            incoming = await anext(bob.incoming())
            await incoming.answer()
            await incoming.answered(5)
            await page.until("document.querySelector('#way').textContent.includes('connection of this page')")
            await sound_goes_both_ways(page, incoming, 900)

            # The page is closed in mid call: the call goes on, in silence.
            await page.command("Page.navigate", url="about:blank")
            async with asyncio.timeout(5):
                async for event in client.events():
                    if event["event"] == "device-lost":
                        break
            assert incoming.media is not None
            await incoming.hangup()

    asyncio.run(work())
