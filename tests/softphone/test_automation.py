"""Scripts: play, gather, raw sound, tracks; between two real phones in simulated time, with real sessions."""

from __future__ import annotations

import asyncio
import socket
import wave
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack

from softphone.calls.dialog_call import DialogCall
from softphone.calls.incoming import IncomingCall
from softphone.errors import CallError, TransportError
from softphone.events import CallEnded, CallMedia
from softphone.media.codecs import Samples
from softphone.media.dtmf import DigitMethod
from softphone.media.events import AudioFailed
from softphone.media.files import FileError, MemorySink, SamplesSource
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from tests.softphone.support import FakeMedia, account, simulate

Script = Callable[[DialogCall, IncomingCall], Coroutine[Any, Any, None]]


def talking(script: Script, **settings: Any) -> None:
    """Run this in an answered call from Alice to Bob."""

    async def work() -> None:
        settings.setdefault("codecs", ("PCMU",))
        async with Softphone(account("alice", **settings)) as alice, Softphone(account("bob", **settings)) as bob:
            call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
            incoming = await anext(bob.incoming())
            await incoming.answer()
            await call.answered(5)
            await script(call, incoming)

    simulate(work)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Samples:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def wav(path: Path, samples: Samples, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def seconds_of_sound(samples: Samples, rate: int) -> float:
    return float(np.count_nonzero(np.abs(samples) > 500) / (0.96 * rate))


def test_play_ends_when_the_file_was_played(tmp_path: Path) -> None:
    path = wav(tmp_path / "hello.wav", tone(0.5, 22_050), 22_050)

    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        sink = MemorySink(8000)
        incoming.record(sink)
        loop = asyncio.get_running_loop()
        began = loop.time()
        playback = call.play(path)
        await playback
        assert playback.complete
        assert 0.48 <= loop.time() - began < 2.0  # a thread reads the file while simulated time jumps
        await asyncio.sleep(0.3)
        assert seconds_of_sound(sink.samples, 8000) == pytest.approx(0.5, abs=0.05)

    talking(script)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("nothing.wav", None, "No such file"),
        ("text.wav", b"this is no sound at all\n" * 40, "cannot be read as a sound file"),
        ("empty.mp3", b"", "cannot be read as a sound file"),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "cannot be read|contains no sound"),
    ],
)
def test_a_file_that_is_no_sound_is_told_and_the_call_goes_on(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        with pytest.raises(FileError, match=why):
            await call.play(tmp_path / name)
        call.play(tmp_path / name)  # nobody awaits this one: it is told by an event
        events = call._agent.hub.listen()
        told = await events.wait_for(CallMedia, 5)
        assert isinstance(told.event, AudioFailed)
        await call.play(SamplesSource(tone(0.1, 8000), 8000))
        events.close()

    talking(script)


def test_a_playback_that_is_replaced_or_stopped_is_over_but_not_complete() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        first = call.play(SamplesSource(tone(60, 8000), 8000))
        second = call.play(SamplesSource(tone(60, 8000), 8000))
        await first
        assert not first.complete
        second.stop()
        await second
        assert not second.complete
        await call.play(None)

    talking(script)


def test_a_cancelled_play_stops_to_send() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        sink = MemorySink(8000)
        incoming.record(sink)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await call.play(SamplesSource(tone(60, 8000), 8000))
        await asyncio.sleep(1)
        assert seconds_of_sound(sink.samples, 8000) == pytest.approx(0.4, abs=0.1)

    talking(script)


def test_a_call_that_ends_ends_what_waits_for_it() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        source = incoming.speak(8000)
        waiting = [
            asyncio.ensure_future(call.play(SamplesSource(tone(60, 8000), 8000))),
            asyncio.ensure_future(call.gather(4)),
            asyncio.ensure_future(source.write(bytes(80_000))),
        ]
        heard = call.listen()
        await asyncio.sleep(0.2)
        await incoming.hangup()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [CallError] * 3
        assert len(b"".join([part async for part in heard])) > 2 * 0.1 * 16_000
        with pytest.raises(CallError):
            call.play("never-looked-at.wav")

    talking(script)


def test_gather() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        await call.send_dtmf("12345#6")
        assert await incoming.gather(4, timeout=5) == "1234"
        assert await incoming.gather(4, timeout=5, terminators="#*") == "5"
        assert await incoming.gather(4, timeout=5) == "6"  # the time is over
        await call.send_dtmf("78")
        waiting = asyncio.ensure_future(incoming.gather(3))
        await asyncio.sleep(2)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert await incoming.gather(2, timeout=1) == "78"  # whoever was cancelled took nothing
        with pytest.raises(ValueError, match="needs a count"):
            await incoming.gather()

    talking(script)


def test_raw_sound_both_ways_in_the_pace_of_the_call() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        heard, source = incoming.listen(8000), call.speak(8000)
        parts: list[bytes] = []

        async def read() -> None:
            async for part in heard:
                parts.append(part)

        reading = asyncio.create_task(read())
        loop = asyncio.get_running_loop()
        began = loop.time()
        sound = tone(2.0, 8000).tobytes()
        for at in range(0, len(sound), 1000):
            await source.write(sound[at : at + 1000])
        # All but the 0.2 s that may wait was taken at the pace of speech.
        assert loop.time() - began == pytest.approx(1.8, abs=0.05)
        with pytest.raises(ValueError, match="16 bits"):
            await source.write(b"odd")
        await asyncio.sleep(0.5)
        await call.hangup()
        await reading
        assert heard.lost == 0
        samples = np.frombuffer(b"".join(parts), np.int16)
        assert seconds_of_sound(samples, 8000) == pytest.approx(2.0, abs=0.1)

    talking(script)


class Tone(AudioStreamTrack):
    """A tone of 20 ms frames at 16 kHz, stereo, as fast as it is asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.left = round(seconds / 0.02)

    async def recv(self) -> av.AudioFrame:
        if not self.left:
            raise MediaStreamError
        self.left -= 1
        samples = np.repeat(tone(0.02, 16_000, 500.0), 2)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="stereo")
        frame.sample_rate = 16_000
        return frame


def test_tracks_of_aiortc_both_ways() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        relay = MediaRelay()
        track = relay.subscribe(incoming.track())
        playback = call.play(Tone(1.0))
        loop = asyncio.get_running_loop()
        began, ends = loop.time(), list[int]()
        parts: list[Samples] = []

        async def read() -> None:
            with suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, av.AudioFrame)
                    assert (frame.sample_rate, frame.layout.name, frame.format.name) == (48_000, "mono", "s16")
                    assert frame.pts is not None
                    ends.append(frame.pts + frame.samples)
                    parts.append(frame.to_ndarray().reshape(-1).astype(np.int16))

        reading = asyncio.create_task(read())
        await playback
        assert playback.complete
        assert loop.time() - began == pytest.approx(1.0, abs=0.1)  # however fast the track is
        await asyncio.sleep(0.3)
        await call.hangup()
        await reading
        samples = np.concatenate(parts)
        assert seconds_of_sound(samples, 48_000) == pytest.approx(1.0, abs=0.1)
        assert ends == list(np.cumsum([len(part) for part in parts]))

    talking(script)


def test_a_track_that_nobody_takes_loses_its_oldest_sound_and_ends_with_the_call() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        track = Tone(3600)
        call.play(track)
        await call.hold()
        before = track.left
        await asyncio.sleep(4)
        assert before - track.left == pytest.approx(200, abs=20)  # it goes on at its pace
        with pytest.raises(FileError, match="not of video"):
            call.play(VideoStreamTrack())
        await call.hangup()

    talking(script)


def test_a_track_that_fails_is_told() -> None:
    class Broken(AudioStreamTrack):
        async def recv(self) -> av.AudioFrame:
            raise RuntimeError("the microphone was unplugged")

    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        with pytest.raises(CallError, match="unplugged"):
            await call.play(Broken())

    talking(script)


class CountedSockets(DirectSockets):
    """Knows all sockets that were made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[socket.socket] = []

    async def udp(self, host: str, port: int) -> socket.socket:
        self.made.append(await super().udp(host, port))
        return self.made[-1]

    async def tcp(self, host: str) -> socket.socket:
        self.made.append(await super().tcp(host))
        return self.made[-1]

    async def listen(self, host: str, port: int) -> socket.socket:
        self.made.append(await super().listen(host, port))
        return self.made[-1]


class CancelledAt:
    """Cancels a task when the loop has run so many of its steps."""

    def __init__(self, task: asyncio.Task[None], steps: int) -> None:
        self.task, self.steps = task, steps
        self._step()

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            self.task.cancel()
        elif not self.task.done():
            asyncio.get_running_loop().call_soon(self._step)


def test_a_script_that_is_cancelled_anywhere_leaves_no_call_no_socket_and_no_task() -> None:
    """At every single step of a script that calls, plays, gathers and hangs up."""

    async def once(steps: int) -> bool:
        sockets, media = CountedSockets(), list[FakeMedia]()
        async with Softphone(account("bob"), media=FakeMedia.factory([])) as bob:
            events = bob.events()

            async def callee() -> None:
                async for incoming in bob.incoming():
                    with suppress(CallError, TransportError):
                        await incoming.ring()
                        await incoming.answer()
                        await incoming.send_dtmf("1", DigitMethod.INFO)

            async def script() -> None:
                async with Softphone(account("alice"), sockets, media=FakeMedia.factory(media)) as alice:
                    call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
                    await call.answered(5)
                    call.play(SamplesSource(tone(1, 8000), 8000))
                    assert await call.gather(1) == "1"
                    await call.hangup()

            answering = asyncio.create_task(callee())
            task = asyncio.create_task(script())
            CancelledAt(task, steps)
            with suppress(asyncio.CancelledError):
                await task
            assert all(sock.fileno() < 0 for sock in sockets.made), f"sockets left after {steps} steps"
            assert all(each.closed for each in media), f"media left after {steps} steps"
            for call in bob.calls:  # whoever was called learns that it is over
                await call.ended(5)
            answering.cancel()
            events.close()
            return task.cancelled()

    async def work() -> None:
        steps = 0
        while await once(steps):
            steps += 1
        assert steps > 20  # the last one came to the end

    simulate(work)


def test_events_are_conditions_with_timeouts() -> None:
    async def script(call: DialogCall, incoming: IncomingCall) -> None:
        events = call._agent.hub.listen()
        with pytest.raises(TimeoutError):
            await events.wait_for(CallEnded, 1.0)
        await incoming.hangup()
        assert (await events.wait_for(CallEnded, 5.0)).call == call.id
        events.close()

    talking(script)
