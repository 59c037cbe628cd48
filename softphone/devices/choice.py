"""Which device: what the user wants, what there is, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from softphone.devices.device import Described, Device, DeviceError, Kind
from softphone.devices.file import FileDevice
from softphone.devices.null import NullDevice
from softphone.devices.sound_card import SoundCard, sound_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """What a user can say about sound."""

    device: str = Kind.AUTO
    "A `Kind`, or the name of a sound card."
    input: str | None = None
    "Name of the microphone, or the file to be spoken; None: the device's own, or silence."
    output: str | None = None
    "Name of the loudspeaker, or the file that gets what is heard; None: the device's own, or none."
    echo_cancellation: bool = True
    noise_suppression: bool = True
    gain_control: bool = True
    "These three are for sound cards: browsers have their own."
    headset_port: int = 0
    "Of the browser headset, on this machine; 0: any that is free."

    @classmethod
    def of(cls, preferences: Mapping[str, Any], beside: Path) -> Self:
        """What the configuration says under ``audio``; relative paths begin at ``beside``."""
        named = {field.name: preferences.get(f"audio.{field.name}") for field in fields(cls)}
        settings = cls(**{name: value for name, value in named.items() if value is not None})
        if settings.device != Kind.FILE:
            return settings
        return replace(settings, input=_beside(beside, settings.input), output=_beside(beside, settings.output))


def available() -> list[Described]:
    """Everything that can be chosen. Takes up to a second: PortAudio looks for cards."""
    try:
        cards = sound_cards()
    except DeviceError:
        cards = []
    return [
        Described(Kind.AUTO, Kind.AUTO, 1, 1),
        *cards,
        Described(Kind.BROWSER, Kind.BROWSER, 1, 1),
        Described(Kind.FILE, Kind.FILE, 1, 1),
        Described(Kind.NULL, Kind.NULL, 0, 0),
    ]


def resolved(settings: AudioSettings) -> AudioSettings:
    """With a `Kind` as device. Takes up to a second. Raises DeviceError where there is nothing of that name."""
    wanted = settings.device
    if wanted == Kind.AUTO:
        has_card = any(device.kind is Kind.SOUNDDEVICE and device.outputs for device in available())
        return replace(settings, device=Kind.SOUNDDEVICE if has_card else Kind.NULL)
    if wanted in tuple(Kind):
        return settings
    named = next((card for card in sound_cards() if card.name == wanted), None)
    if named is None:
        raise DeviceError(f"there is no device {wanted!r}: `softphone devices` lists what there is")
    return replace(
        settings, device=Kind.SOUNDDEVICE,
        input=wanted if named.inputs and settings.input is None else settings.input,
        output=wanted if named.outputs and settings.output is None else settings.output,
    )  # fmt: skip


def make_device(settings: AudioSettings, headset: Device | None = None) -> Device:
    """The device of resolved settings, not open yet; ``headset`` is the browser's. Raises DeviceError."""
    match settings.device:
        case Kind.SOUNDDEVICE:
            return SoundCard(settings.input, settings.output)
        case Kind.FILE:
            return FileDevice(_path(settings.input), _path(settings.output))
        case Kind.BROWSER if headset is None:
            raise DeviceError(
                "the browser headset belongs to the daemon: start `softphone daemon`, then `softphone headset`"
            )
        case Kind.BROWSER if headset is not None:
            return headset
        case _:
            return NullDevice()


def _beside(beside: Path, name: str | None) -> str | None:
    return None if name is None else str(beside / Path(name).expanduser())


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
