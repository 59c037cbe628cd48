"""What the user of the daemon speaks and hears with."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from softphone.daemon.calls import Calls
from softphone.daemon.headset import HeadsetPage, Perform
from softphone.daemon.operations import Ground, Operation
from softphone.daemon.protocol import Arguments, RequestError
from softphone.daemon.topics import Topic
from softphone.devices.attendant import Attendant
from softphone.devices.browser import BrowserDevice
from softphone.devices.choice import AudioSettings, available
from softphone.devices.desk import Desk
from softphone.devices.device import Described, Kind
from softphone.event_names import described
from softphone.events import Event

log = logging.getLogger(__name__)


class Sound:
    """All calls of all accounts on one desk."""

    def __init__(self, ground: Ground, calls: Calls, perform: Perform) -> None:
        """``perform`` does operations of all parts."""
        self._ground = ground
        self._wanted = self._settings()
        self._desk = Desk(self._wanted, self._tell)
        self._desk.headset = BrowserDevice()
        self._page = HeadsetPage(self._desk.headset, perform, self._snapshot, self._headset)
        self._calls = calls
        self._attendant = Attendant(
            self._desk, lambda: [call for _, call in ground.calls()], lambda: list(calls.conferences.values())
        )

    @property
    def operations(self) -> dict[str, Operation]:
        return {"devices": self._devices, "device": self._device, "headset": self._serve}

    async def start(self) -> None:
        self._desk.start()
        if self._wanted.device == Kind.BROWSER:
            try:
                await self._page.start(self._wanted.headset_port)
            except RequestError as exc:
                log.warning("%s", exc)

    async def close(self) -> None:
        await self._page.close()
        await self._desk.close()

    def configured(self) -> None:
        """Another configuration counts."""
        self._wanted = self._settings()
        self._headset(self._page.connected)

    def happened(self, event: Event) -> None:
        """In one of the phones."""
        self._attendant.happened(event)
        self._page.changed()

    def _settings(self) -> AudioSettings:
        configuration = self._ground.phones.configuration
        return AudioSettings.of(configuration.preferences, configuration.path.parent)

    def _tell(self, event: Event) -> None:
        self._ground.audience.tell(Topic.EVENTS, described(event))

    async def _devices(self, arguments: Arguments) -> object:
        arguments.end()
        found = await asyncio.to_thread(available)
        return {"devices": [{**_values(device), "chosen": self._is_chosen(device)} for device in found]}

    async def _device(self, arguments: Arguments) -> object:
        """Also in the middle of a call. Until the daemon ends: `settings-save` keeps it."""
        name, microphone, loudspeaker = (
            arguments.text("name"),
            arguments.optional("input"),
            arguments.optional("output"),
        )
        arguments.end()
        await self._desk.choose(name, microphone, loudspeaker)
        self._wanted = self._desk.settings
        return None

    async def _serve(self, arguments: Arguments) -> object:
        """The page of the browser headset, from now on."""
        arguments.end()
        await self._page.start(self._wanted.headset_port)
        return {"url": self._page.url}

    def _headset(self, connected: bool) -> None:
        """A page that is the headset is the device, whatever else is wanted."""
        if not connected:
            self._desk.configure(self._wanted)
            return
        self._desk.configure(replace(self._wanted, device=Kind.BROWSER, input=None, output=None))
        self._desk.again()

    def _snapshot(self) -> dict[str, object]:
        return {"calls": [self._calls.described(name, call) for name, call in self._ground.calls()]}

    def _is_chosen(self, device: Described) -> bool:
        settings = self._desk.settings
        if device.kind is Kind.SOUNDDEVICE:
            return device.name in (settings.device, settings.input, settings.output)
        return device.name == settings.device


def _values(device: Described) -> dict[str, object]:
    return {"name": device.name, "kind": device.kind, "inputs": device.inputs, "outputs": device.outputs}
