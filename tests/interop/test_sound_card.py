"""A sound card: PortAudio over ALSA, and behind it a sound server whose loudspeaker and microphone are the test's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.calls.call import Call
from softphone.media.files import SamplesSource
from softphone.phone import Softphone
from tests.interop.tones import has_tone
from tests.softphone.media.support import words
from tests.softphone.support import account
from tests.softphone.test_call_commands import Command

pytestmark = pytest.mark.interop

RATE = 48_000
SINKS = "speaker", "room"
PULSEAUDIO = (
    "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
    "--load=module-native-protocol-unix auth-anonymous=1",
)  # fmt: skip
PIPEWIRE = ("pipewire",), ("dbus-run-session", "--", "wireplumber"), ("pipewire-pulse",)


class SoundServer:
    """PulseAudio, or PipeWire where that is what the machine has: on desktops their packages exclude each other.

    What is played to ``speaker`` can be recorded; what is played to ``room`` the microphone hears.
    """

    def __init__(self, directory: Path) -> None:
        place = f"unix:{directory}/pulse/native"
        self.environment = {
            **os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory), "PULSE_SERVER": place,
            "XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory),
        }  # fmt: skip
        plugin = f'type pulse server "{place}" hint {{ show on description'
        (directory / ".asoundrc").write_text(
            f'pcm.speaker {{ {plugin} "speaker" }} device "speaker" }}\n'
            f'pcm.microphone {{ {plugin} "microphone" }} device "room.monitor" }}\n'
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for command in (PULSEAUDIO,) if shutil.which("pulseaudio") else PIPEWIRE:
            self._processes.append(
                subprocess.Popen(
                    command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )  # fmt: skip
        for _ in range(200):
            if self.run("pactl", "info").returncode == 0:
                break
        for sink in SINKS:
            self.run("pactl", "load-module", "module-null-sink", f"sink_name={sink}", f"rate={RATE}", "channels=1")

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=self.environment, capture_output=True, check=False)

    def kill(self) -> None:
        """May be called twice."""
        while self._processes:
            process = self._processes.pop()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def runs(self, program: str, device: str, **streams: Any) -> Iterator[None]:
        """``pacat`` or ``parec``."""
        options = "--raw", f"--device={device}", f"--rate={RATE}", "--channels=1", "--latency-msec=20"
        process = subprocess.Popen([program, *options], env=self.environment, **streams)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoundServer]:
    made = SoundServer(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_a_call_by_a_sound_card_that_is_unplugged(server: SoundServer, tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "softphone.cli", "devices"], env=server.environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert {"speaker", "microphone", "browser", "file", "null"} <= {
        line.split()[0] for line in listed.stdout.splitlines()
    }
    assert not listed.stderr

    spoken, heard = tmp_path / "spoken.raw", tmp_path / "heard.raw"
    spoken.write_bytes(words(RATE, 20).tobytes())

    async def work() -> None:
        async with Softphone(account("bob")) as bob:
            command = await Command.run(
                "dial", f"sip:bob@[::1]:{bob.port}", "--device", "sounddevice", "--input", "microphone",
                "--output", "speaker", environment=server.environment,
            )  # fmt: skip
            call = await anext(bob.incoming())
            await call.answer()
            tone = 8000 * np.sin(2 * np.pi * 700 * np.arange(RATE * 20) / RATE)
            call.play(SamplesSource(tone.astype(np.int16), RATE))
            assert (await command.until("device-changed"))["kind"] == "sounddevice"
            async with asyncio.timeout(30):
                await speech_comes(call)
                while not has_tone(np.fromfile(heard, np.int16)[-RATE:], 700, RATE):  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.1)
            server.kill()
            assert "unplugged" in str((await command.until("device-lost"))["why"])
            assert (await command.until("device-changed"))["kind"] == "null"
            assert call.media is not None  # the call goes on
            await call.hangup()
            assert (await command.end())[1]["result"] == "ok"

    with spoken.open("rb") as source, heard.open("wb") as sink, server.runs("pacat", "room", stdin=source):
        with server.runs("parec", "speaker.monitor", stdout=sink):
            asyncio.run(work())


async def speech_comes(call: Call) -> None:
    """Two seconds of it, as loud as the microphone's gain control makes it."""
    ear, heard = call.listen(RATE), np.zeros(0, np.int16)
    while len(heard) < 2 * RATE or float(np.abs(heard[-2 * RATE :].astype(float)).mean()) < 300:
        heard = np.concatenate([heard, np.frombuffer(await ear.read(), np.int16)])
    call.record(None)
