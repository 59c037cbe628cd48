"""The desk: one device, and all the calls that its user takes part in.

The device is open while it is needed, the microphone only while somebody is to hear us. One that is lost, or cannot be
opened, is replaced by what there is, and tried again; calls go on.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from softphone.devices.choice import AudioSettings, make_device, resolved
from softphone.devices.device import RATE, Device, DeviceError, Kind
from softphone.devices.null import NullDevice
from softphone.devices.signals import Signal, Sounding
from softphone.events import DeviceChanged, DeviceLost, Event
from softphone.media.capture import CaptureError, Conditioned, SpeexProcessor
from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.mixer import Mixer, Port, limit

log = logging.getLogger(__name__)

LINGER = 1.0
"Seconds for which a device that nobody needs any more stays open: the next call may come at once."
RETRY = 5.0
"Seconds after which a device that was lost is tried again."
SURE = 0.04
"Seconds less than the known delay for which the echo canceller waits: it must never look for an echo too late."
_FRAME = round(RATE * PACKET_TIME)
_CATCH_UP = 5
"Turns that are made up for at once after a standstill."


class Line:
    """One call at the desk: ``far`` is the call's end, an `AudioSource` and an `AudioSink`."""

    def __init__(self) -> None:
        mixer = Mixer()
        self.near, self.far = mixer.join(), mixer.join()


class Desk:
    """Methods belong to the event loop. ``tell`` gets `DeviceLost` and `DeviceChanged`.

    ``make`` replaces how devices are made (tests).
    """

    def __init__(
        self, settings: AudioSettings, tell: Callable[[Event], None],
        make: Callable[[AudioSettings, Device | None], Device] = make_device,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.headset: Device | None = None
        "The browser's, where it is served."
        self.device: Device | None = None
        "The one that is open."
        self._tell = tell
        self._make = make
        self._ports: set[Port] = set()
        self._sounding: Sounding | None = None
        self._wanted = asyncio.Event()
        self._changed = False
        self._lost = ""
        self._told = False
        "That the chosen device is not to be had."
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="desk")

    async def close(self) -> None:
        """The device is closed, too."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def join(self, port: Port) -> None:
        """Take part: what the port gives is heard, what is spoken is written to it."""
        self._ports.add(port)
        self._wanted.set()

    def leave(self, port: Port) -> None:
        self._ports.discard(port)

    def signal(self, signal: Signal | None) -> None:
        """Let the user hear this from now on; None: nothing of that kind."""
        if signal is None:
            self._sounding = None
        elif self._sounding is None or self._sounding.signal is not signal:
            self._sounding = Sounding(signal)
            self._wanted.set()

    @property
    def signalling(self) -> Signal | None:
        return None if self._sounding is None else self._sounding.signal

    async def choose(self, device: str, microphone: str | None = None, loudspeaker: str | None = None) -> None:
        """Another device, also in the middle of a call. Raises DeviceError where there is none of that name."""
        settings = replace(self.settings, device=device, input=microphone, output=loudspeaker)
        made = await _resolved(settings)
        self._make(made, self.headset)  # raises what can be known beforehand
        self.configure(settings)

    def configure(self, settings: AudioSettings) -> None:
        """From now on this is wanted, whether it can be had or not: `DeviceLost` tells."""
        if settings != self.settings:
            self.settings = settings
            self._changed, self._told = True, False

    def again(self) -> None:
        """The chosen device may be there now: try it at once."""
        self._changed, self._told = True, False

    # -- the device's life --------------------------------------------------------------------------------------------

    @property
    def _needed(self) -> bool:
        return bool(self._ports) or self._sounding is not None

    async def _run(self) -> None:
        while True:
            if not self._needed:
                self._wanted.clear()
                await self._wanted.wait()
            self._changed, self._lost = False, ""
            device, chosen = await self._opened()
            try:
                self._announce(device)
                await self._serve(device, chosen=chosen)
            finally:
                await _closed(device)
            if self._lost:
                log.warning("%s is lost: %s", device.name, self._lost)
                self._tell(DeviceLost(device.name, self._lost))
                self._told = True

    def _announce(self, device: Device) -> None:
        before, self.device = self.device, device
        if before is None or (before.name, before.kind) != (device.name, device.kind):
            self._tell(DeviceChanged(device.name, device.kind))

    async def _opened(self) -> tuple[Device, bool]:
        """The chosen device, else another sound card in place of one, else none; whether it is the chosen one."""
        tries = [self.settings]
        if self.settings.device not in (Kind.NULL, Kind.FILE, Kind.BROWSER):
            tries.append(replace(self.settings, device=Kind.AUTO, input=None, output=None))
        for number, settings in enumerate(tries):
            device: Device | None = None
            try:
                device = self._make(await _resolved(settings), self.headset)
                await device.open(self._on_lost)
            except DeviceError as exc:
                log.info("%s: %s", settings.device, exc)
                if not self._told:
                    self._tell(DeviceLost(self.settings.device if device is None else device.name, str(exc)))
                    self._told = True
            else:
                self._told = self._told and number > 0
                return device, number == 0
        return NullDevice(), False

    def _on_lost(self, why: str) -> None:
        self._lost = why

    # -- sound --------------------------------------------------------------------------------------------------------

    async def _serve(self, device: Device, *, chosen: bool) -> None:
        """Until nobody needs it, it is lost, or another one was chosen, or may be there again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        due = math.ceil(began / PACKET_TIME) * PACKET_TIME
        idle_since: float | None = None
        place: Device | Conditioned = device
        listening = False
        while not (self._lost or self._changed):
            now = loop.time()
            if now < due:
                await asyncio.sleep(due - now)
                continue
            if now - due > _CATCH_UP * PACKET_TIME:
                due = math.floor(now / PACKET_TIME) * PACKET_TIME
            due += PACKET_TIME
            if self._needed:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since > LINGER:
                return
            if not chosen and device.kind is Kind.NULL and now - began > RETRY:
                return
            if self._ports and not listening:
                listening = True
                try:
                    await device.listen()
                except DeviceError as exc:
                    self._tell(DeviceLost(f"the microphone of {device.name}", str(exc)))
                place = self._conditioned(device)
                due = math.ceil(loop.time() / PACKET_TIME) * PACKET_TIME
            self._turn(place)

    def _turn(self, place: AudioSourceAndSink) -> None:
        """20 ms, both ways."""
        heard = [port.read(_FRAME) for port in self._ports]
        if self._sounding is not None:
            heard.append(self._sounding.next(_FRAME))
            if self._sounding.over:
                self._sounding = None
        place.write(_sum(heard))
        spoken = place.read(_FRAME)
        for port in self._ports:
            port.write(spoken)

    def _conditioned(self, device: Device) -> AudioSourceAndSink:
        """With echo, noise and level taken care of, for sound cards."""
        settings = self.settings
        echo, noise, gain = settings.echo_cancellation, settings.noise_suppression, settings.gain_control
        if device.kind is not Kind.SOUNDDEVICE or not (echo or noise or gain):
            return device
        try:
            processor = SpeexProcessor(RATE, echo=echo, noise=noise, gain=gain)
        except CaptureError as exc:
            log.warning("the microphone is used as it is: %s", exc)
            return device
        return Conditioned(device, device, processor, delay=max(0.0, device.delay - SURE))


async def _resolved(settings: AudioSettings) -> AudioSettings:
    """In a thread where PortAudio has to look."""
    known = settings.device in tuple(Kind) and settings.device != Kind.AUTO
    return settings if known else await asyncio.to_thread(resolved, settings)


AudioSourceAndSink = Device | Conditioned


def _sum(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    total = np.zeros(_FRAME, np.int32)
    for part in parts:
        total += part
    return limit(total)


async def _closed(device: Device) -> None:
    try:
        await device.close()
    except Exception:
        log.exception("%s could not be closed", device.name)
