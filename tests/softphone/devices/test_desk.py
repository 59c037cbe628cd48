"""The desk and its attendant: which calls are on the device, what it sounds like, and what happens when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.devices.attendant import Attendant
from softphone.devices.choice import AudioSettings, available, make_device, resolved
from softphone.devices.desk import LINGER, RETRY, Desk, Line
from softphone.devices.device import RATE, Device, DeviceError, Kind
from softphone.devices.null import NullDevice
from softphone.devices.signals import Signal
from softphone.events import DeviceChanged, DeviceLost, Event
from softphone.media import recorder
from softphone.media.audio import AudioSource
from softphone.media.codecs import Samples
from softphone.media.files import WavRecorder, read_sound
from softphone.phone import Softphone
from tests.softphone.peers import Pair, between
from tests.softphone.support import simulate

FRAME = RATE // 50
HUM = np.full(FRAME, 1000, np.int16)


class Fake(NullDevice):
    """Hums, keeps what it was given, and is lost when the test wants it."""

    def __init__(self, broken: bool = False) -> None:
        self.heard: list[Samples] = []
        self.broken = broken
        self.opened = asyncio.Event()
        self.listens = False
        self.lost: Callable[[str], None] = lambda why: None

    name = "fake"
    kind = Kind.FILE

    async def open(self, lost: Callable[[str], None]) -> None:
        if self.broken:
            raise DeviceError("it is broken: repair it")
        self.lost = lost
        self.opened.set()

    async def listen(self) -> None:
        self.listens = True

    async def close(self) -> None:
        self.listens = False
        self.opened.clear()

    def read(self, count: int) -> Samples:
        return np.full(count, 1000 if self.listens else 0, np.int16)

    def write(self, samples: Samples) -> None:
        self.heard.append(samples)


@asynccontextmanager
async def desk_of(fake: Fake) -> AsyncIterator[tuple[Desk, list[Event]]]:
    told: list[Event] = []

    def make(settings: AudioSettings, headset: Device | None) -> Device:
        return fake if settings.device == "file" else NullDevice()

    desk = Desk(AudioSettings(device="file"), told.append, make)
    desk.start()
    try:
        yield desk, told
    finally:
        await desk.close()
        assert not fake.opened.is_set()


def at_a_desk(test: Callable[[Desk, Fake, list[Event]], Coroutine[Any, Any, None]]) -> None:
    async def work() -> None:
        fake = Fake()
        async with desk_of(fake) as (desk, told):
            await test(desk, fake, told)

    simulate(work)


async def opened(fake: Fake) -> None:
    async with asyncio.timeout(30):
        await fake.opened.wait()


def test_two_calls_share_the_device_and_do_not_hear_each_other() -> None:
    async def test(desk: Desk, fake: Fake, told: list[Event]) -> None:
        one, other = Line(), Line()
        desk.join(one.near)
        desk.join(other.near)
        await opened(fake)
        for _ in range(25):
            one.far.write(3 * HUM)
            other.far.write(4 * HUM)
            await asyncio.sleep(0.02)
        assert int(np.max(fake.heard[-3:])) == 7000
        assert one.far.read(FRAME).tolist() == HUM.tolist()
        assert other.far.read(FRAME).tolist() == HUM.tolist()
        desk.leave(one.near)
        desk.leave(other.near)
        await asyncio.sleep(LINGER + 0.5)
        assert not fake.opened.is_set()
        assert told == [DeviceChanged("fake", "file")]

    at_a_desk(test)


def test_a_device_that_is_lost_is_replaced_by_silence_and_tried_again() -> None:
    async def test(desk: Desk, fake: Fake, told: list[Event]) -> None:
        line = Line()
        desk.join(line.near)
        await opened(fake)
        fake.broken = True
        fake.lost("somebody pulled the plug")
        await asyncio.sleep(1)
        why = "somebody pulled the plug"
        assert told == [DeviceChanged("fake", "file"), DeviceLost("fake", why), DeviceChanged("null", "null")]
        assert not line.far.read(FRAME).any()
        await asyncio.sleep(3 * RETRY)  # it is said once, however often it is tried
        fake.broken = False
        await opened(fake)
        await asyncio.sleep(0.1)
        assert told[3:] == [DeviceChanged("fake", "file")]
        assert line.far.read(FRAME).any()

    at_a_desk(test)


def test_another_device_is_chosen_in_mid_call() -> None:
    async def test(desk: Desk, fake: Fake, told: list[Event]) -> None:
        line = Line()
        desk.join(line.near)
        await opened(fake)
        with pytest.raises(DeviceError, match="softphone devices"):
            await desk.choose("the one of my neighbour")
        assert fake.opened.is_set()
        await desk.choose("null")
        await asyncio.sleep(0.5)
        assert not fake.opened.is_set()
        assert told == [DeviceChanged("fake", "file"), DeviceChanged("null", "null")]

    at_a_desk(test)


def test_the_loudspeaker_rings_while_the_microphone_stays_closed() -> None:
    async def test(desk: Desk, fake: Fake, told: list[Event]) -> None:
        desk.signal(Signal.RING)
        await opened(fake)
        await asyncio.sleep(1)
        assert not fake.listens
        assert np.abs(np.concatenate(fake.heard)).max() > 3000
        desk.signal(None)
        await asyncio.sleep(0.1)
        assert not fake.heard[-1].any()

    at_a_desk(test)


def with_attendants(test: Callable[[Pair, dict[str, Desk]], Coroutine[Any, Any, None]]) -> None:
    """Both have a desk."""

    async def work(pair: Pair) -> None:
        async def attend(phone: Softphone, desk: Desk) -> None:
            attendant = Attendant(desk, lambda: phone.calls)
            async for event in phone.events():
                attendant.happened(event)

        desks = {name: Desk(AudioSettings(device="null"), lambda event: None) for name in ("alice", "bob")}
        tasks = []
        for name, phone in (("alice", pair.alice), ("bob", pair.bob)):
            desks[name].start()
            tasks.append(asyncio.create_task(attend(phone, desks[name])))
        await asyncio.sleep(0)
        try:
            await test(pair, desks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for desk in desks.values():
                await desk.close()

    between(work)


def sources(pair: Pair) -> list[AudioSource | None]:
    return [media.source for media in pair.a_media]


def signals(desks: dict[str, Desk]) -> list[Signal | None]:
    return [desk.signalling for desk in desks.values()]


def test_ringing_talking_holding_and_the_end() -> None:
    async def test(pair: Pair, desks: dict[str, Desk]) -> None:
        call, incoming = await pair.dial()
        await incoming.ring()
        await call.ringing(5)
        await asyncio.sleep(0.1)
        assert signals(desks) == [Signal.RINGBACK, Signal.RING]
        await incoming.answer()
        await call.answered(5)
        await asyncio.sleep(0.1)
        assert signals(desks) == [None, None]
        microphone = pair.a_media[0].source
        assert microphone is not None
        assert pair.a_media[0].sink is not None
        call.speak()
        assert pair.a_media[0].source is not microphone
        call.play(None)
        assert pair.a_media[0].source is microphone
        await call.hold()
        await asyncio.sleep(0.1)
        assert sources(pair) == [None]
        await call.resume()
        await asyncio.sleep(0.1)
        assert sources(pair) != [None]
        await call.hangup()
        await asyncio.sleep(0.1)
        assert signals(desks) == [None, None]

    with_attendants(test)


def test_who_is_refused_hears_it_once() -> None:
    async def test(pair: Pair, desks: dict[str, Desk]) -> None:
        call, incoming = await pair.dial()
        await incoming.reject(486)
        await call.ended(5)
        await asyncio.sleep(0.1)
        assert desks["alice"].signalling is Signal.BUSY
        assert desks["bob"].signalling is None
        await asyncio.sleep(5)
        assert desks["alice"].signalling is None

    with_attendants(test)


def test_a_second_caller_is_told_by_another_tone() -> None:
    async def test(pair: Pair, desks: dict[str, Desk]) -> None:
        await pair.talk()
        _, waiting = await pair.dial()
        await waiting.ring()
        await asyncio.sleep(0.1)
        assert desks["bob"].signalling is Signal.WAITING
        await waiting.reject()

    with_attendants(test)


def test_files_in_place_of_microphone_and_loudspeaker(tmp_path: Path) -> None:
    async def work() -> None:
        spoken, heard = tmp_path / "spoken.wav", tmp_path / "heard.wav"
        with WavRecorder(spoken, RATE) as file:
            file.write(np.full(FRAME + 7, 5000, np.int16))
        device = make_device(AudioSettings(device="file", input=str(spoken), output=str(heard)))
        for name in ("heard.wav", "heard-2.wav"):
            await device.open(lambda why: None)
            await device.listen()
            assert int(device.read(FRAME).min()) == 5000
            assert np.count_nonzero(device.read(FRAME)) == 7
            assert not device.read(FRAME).any()
            device.write(HUM)
            await device.close()
            assert read_sound(tmp_path / name)[0].tolist() == HUM.tolist()
        with pytest.raises(DeviceError, match="cannot be written"):
            await make_device(AudioSettings(device="file", output=str(tmp_path / "no/where.wav"))).open(
                lambda why: None
            )
        with pytest.raises(DeviceError, match="cannot be read"):
            await make_device(AudioSettings(device="file", input=str(tmp_path / "none.wav"))).listen()

    asyncio.run(work())


def test_a_full_disk_is_a_lost_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        lost: list[str] = []
        device = make_device(AudioSettings(device="file", output=str(tmp_path / "heard.wav")))
        await device.open(lost.append)
        monkeypatch.setattr(recorder, "LEAST_FREE", 1 << 62)
        async with asyncio.timeout(10):
            while not lost:
                device.write(HUM)
                await asyncio.sleep(0.01)
        await device.close()
        assert lost == ["the disk is full"]

    asyncio.run(work())


def test_what_can_be_chosen_is_what_there_is() -> None:
    names = [device.name for device in available()]
    assert names[0] == "auto"
    assert names[-3:] == ["browser", "file", "null"]
    assert resolved(AudioSettings(device="browser")).device == "browser"
    with pytest.raises(DeviceError, match="softphone headset"):
        make_device(AudioSettings(device="browser"))
    with pytest.raises(DeviceError, match="devices"):
        resolved(AudioSettings(device="nobody has this one"))
