"""A conference with real media sessions on loopback in simulated time: who hears whom."""

from __future__ import annotations

import asyncio

import numpy as np

from softphone.calls.call import Call
from softphone.media.codecs import Samples
from softphone.phone import Softphone
from tests.softphone.calls.test_transfer import at
from tests.softphone.support import account, simulate

RATE = 8000


class Sine:
    """A tone that never ends."""

    rate = RATE

    def __init__(self, frequency: float) -> None:
        self.frequency = frequency
        self._position = 0

    def read(self, count: int) -> Samples:
        times = np.arange(self._position, self._position + count) / RATE
        self._position += count
        return (6000 * np.sin(2 * np.pi * self.frequency * times)).astype(np.int16)


class Ear:
    """Keeps what it hears."""

    rate = RATE

    def __init__(self) -> None:
        self.parts: list[Samples] = []

    def write(self, samples: Samples) -> None:
        self.parts.append(samples)

    def hears(self, tones: dict[str, float]) -> set[str]:
        """Whose tones are in the latest half second."""
        heard = np.concatenate(self.parts)[-RATE // 2 :]
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) / len(heard)
        return {name for name, tone in tones.items() if spectrum[round(tone * len(heard) / RATE)] > 300}


def test_three_phones_and_the_one_that_mixes_hear_each_other_and_not_themselves() -> None:
    tones = {"alice": 440.0, "carol": 740.0, "dave": 1100.0, "bob": 1500.0}

    async def work() -> None:
        ears = {name: Ear() for name in tones}
        async with Softphone(account("bob")) as bob:
            codecs = {"alice": "opus", "carol": "G722", "dave": "PCMA"}
            others = [Softphone(account(name, codecs=(codec,))) for name, codec in codecs.items()]
            calls: list[Call] = []
            for other in others:
                await other.start()
                call = await bob.dial(at(other))
                incoming = await anext(other.incoming())
                await incoming.answer()
                await call.answered(5)
                incoming.play(Sine(tones[other.account.user]))
                incoming.record(ears[other.account.user])
                calls.append(call)
            conference = await bob.conference(*calls)
            mouth = Sine(tones["bob"])

            async def speak_and_hear(seconds: float) -> None:
                """Bob's own microphone and loudspeaker."""
                for _ in range(round(seconds / 0.02)):
                    await asyncio.sleep(0.02)
                    conference.local.write(np.repeat(mouth.read(160), 6))
                    ears["bob"].write(conference.local.read(960)[::6])

            await speak_and_hear(1.5)
            everybody = set(tones)
            assert {name: ear.hears(tones) for name, ear in ears.items()} == {
                name: everybody - {name} for name in tones
            }
            await calls[2].hangup()
            await speak_and_hear(1.0)
            assert ears["alice"].hears(tones) == {"carol", "bob"}
            assert ears["bob"].hears(tones) == {"alice", "carol"}
            conference.close()
            for other in others:
                await other.close()

    simulate(work)
