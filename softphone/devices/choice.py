"""Which device: what the user wants, what there is, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from softphone.devices.device import Described, Device, DeviceError, Kind
from softphone.devices.file import FileDevice
from softphone.devices.null import NullDevice
from softphone.devices.sound_card import SoundCard, sound_cards

AUTO = "auto"
"The sound card that the system prefers, or `Kind.NULL` where there is none."


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """What a user can say about sound."""

    device: str = AUTO
    "A `Kind`, `AUTO`, or the name of a sound card."
    input: str | None = None
    "Name of the microphone, or the file to be spoken; None: the device's own, or silence."
    output: str | None = None
    "Name of the loudspeaker, or the file that gets what is heard; None: the device's own, or none."
    echo_cancellation: bool = True
    noise_suppression: bool = True
    gain_control: bool = True
    "These three are for sound cards: browsers have their own."


def available() -> list[Described]:
    """Everything that can be chosen. Takes up to a second: PortAudio looks for cards."""
    try:
        cards = sound_cards()
    except DeviceError:
        cards = []
    return [
        *cards,
        Described(Kind.BROWSER, Kind.BROWSER, 1, 1),
        Described(Kind.FILE, Kind.FILE, 1, 1),
        Described(Kind.NULL, Kind.NULL, 0, 0),
    ]


def resolved(settings: AudioSettings) -> AudioSettings:
    """With a `Kind` as device. Takes up to a second. Raises DeviceError where there is nothing of that name."""
    wanted = settings.device
    if wanted in tuple(Kind):
        return settings
    if wanted == AUTO:
        has_card = any(device.kind is Kind.SOUNDDEVICE and device.outputs for device in available())
        return replace(settings, device=Kind.SOUNDDEVICE if has_card else Kind.NULL)
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


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
