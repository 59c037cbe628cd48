"""Tones that foreign phones play and hear."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np

from softphone.calls.call import Call
from softphone.media.codecs import Samples

RATE = 8000
WINDOW = RATE // 4


def write_tone(file: Path, hertz: int, seconds: float) -> Path:
    times = np.arange(round(RATE * seconds)) / RATE
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((8000 * np.sin(2 * np.pi * hertz * times)).astype("<i2").tobytes())
    return file


def is_tone(samples: Samples, hertz: int, rate: int = RATE) -> bool:
    """Whether sound is loud, and mostly this tone."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    place = round(hertz * len(samples) / rate)
    loud = float(np.abs(samples.astype(float)).mean()) > 1000
    return loud and bool(power[place - 2 : place + 3].sum() > 0.9 * power.sum())


def has_tone(samples: Samples, hertz: int, rate: int) -> bool:
    """Whether a quarter of a second of it is the tone."""
    window = rate // 4
    return any(
        is_tone(samples[start : start + window], hertz, rate)
        for start in range(0, len(samples) - window + 1, window // 4)
    )


async def tone_comes(call: Call, hertz: int) -> None:
    """Until this tone has come for a quarter of a second. Raises TimeoutError."""
    ear, heard = call.listen(RATE), np.zeros(0, np.int16)
    async with asyncio.timeout(5):
        while len(heard) < WINDOW or not is_tone(heard, hertz):
            heard = np.concatenate([heard, np.frombuffer(await ear.read(), np.int16)])[-WINDOW:]
    call.record(None)
