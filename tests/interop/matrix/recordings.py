"""What foreign phones have written down, while they go on writing."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np

from tests.interop.tones import has_tone

HEADER = 44
"Octets of a WAV file; its lengths are not filled in before its end."
RATE_AT = slice(24, 28)
"Where it says how many samples a second has."
EAR_WITHIN = 8.0
"Seconds."


async def comes_into(folder: Path, pattern: str, tone: int) -> None:
    """Until the latest second of one of these WAV files (mono, 16 bits) has the tone. Raises TimeoutError."""
    async with asyncio.timeout(EAR_WITHIN):
        while not _any_has(folder, pattern, tone):  # noqa: ASYNC110  the files are another program's
            await asyncio.sleep(0.1)


def _any_has(folder: Path, pattern: str, tone: int) -> bool:
    return any(_has(file.read_bytes(), tone) for file in folder.glob(pattern))


def _has(sound: bytes, tone: int) -> bool:
    if len(sound) <= HEADER:
        return False
    rate = int.from_bytes(sound[RATE_AT], "little")
    samples = np.frombuffer(sound[HEADER : len(sound) - len(sound) % 2], "<i2")
    return has_tone(samples[-rate:], tone, rate)


def debian_version(package: str) -> str:
    """Of an installed package."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout
