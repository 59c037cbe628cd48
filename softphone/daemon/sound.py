"""What the user of the daemon speaks and hears with."""

from __future__ import annotations

import asyncio

from softphone.daemon.calls import Calls
from softphone.daemon.operations import Ground, Operation
from softphone.daemon.protocol import Arguments
from softphone.daemon.topics import Topic
from softphone.devices.attendant import Attendant
from softphone.devices.choice import AudioSettings, available
from softphone.devices.desk import Desk
from softphone.devices.device import Described, Kind
from softphone.event_names import described
from softphone.events import Event


class Sound:
    """All calls of all accounts on one desk."""

    def __init__(self, ground: Ground, calls: Calls) -> None:
        self._ground = ground
        self._desk = Desk(self._settings(), self._tell)
        self._attendant = Attendant(
            self._desk, lambda: [call for _, call in ground.calls()], lambda: list(calls.conferences.values())
        )

    @property
    def operations(self) -> dict[str, Operation]:
        return {"devices": self._devices, "device": self._device}

    def start(self) -> None:
        self._desk.start()

    async def close(self) -> None:
        await self._desk.close()

    def configured(self) -> None:
        """Another configuration counts."""
        self._desk.configure(self._settings())

    def happened(self, event: Event) -> None:
        """In one of the phones."""
        self._attendant.happened(event)

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
        return None

    def _is_chosen(self, device: Described) -> bool:
        settings = self._desk.settings
        if device.kind is Kind.SOUNDDEVICE:
            return device.name in (settings.device, settings.input, settings.output)
        return device.name == settings.device


def _values(device: Described) -> dict[str, object]:
    return {"name": device.name, "kind": device.kind, "inputs": device.inputs, "outputs": device.outputs}
