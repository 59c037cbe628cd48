"""What every device is: a place with a microphone and a loudspeaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from softphone.errors import SoftphoneError
from softphone.media.codecs import Samples

RATE = 48_000
"Samples a second of all devices, both ways: what the best codec has. Those with another rate convert."


class Kind(StrEnum):
    """What a device is."""

    AUTO = "auto"
    "The sound card that the system prefers, or `NULL` where there is none."
    NULL = "null"
    "Silence, and nobody listens: for machines whose calls play and record files."
    FILE = "file"
    "A file in place of the microphone, another in place of the loudspeaker."
    SOUNDDEVICE = "sounddevice"
    "A sound card, by PortAudio."
    BROWSER = "browser"
    "A browser is the headset."


class DeviceError(SoftphoneError):
    """A device cannot be used, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Described:
    """A device that can be chosen."""

    name: str
    kind: Kind
    inputs: int
    "Channels of microphones; 0: only a loudspeaker."
    outputs: int


class Device(Protocol):
    """A place where somebody speaks and hears; an `AudioSource` and an `AudioSink` of `RATE`, 20 ms at a time.

    All methods belong to the event loop. It may be opened again after it was closed.
    """

    @property
    def name(self) -> str:
        """For people."""

    @property
    def kind(self) -> Kind: ...

    @property
    def rate(self) -> int: ...

    @property
    def delay(self) -> float:
        """Seconds, as far as they are known, from `write` until `read` gives the echo of it."""

    async def open(self, lost: Callable[[str], None]) -> None:
        """The loudspeaker, from now on. ``lost`` is told, once, why it ends by itself. Raises DeviceError."""

    async def listen(self) -> None:
        """The microphone, too. Raises DeviceError."""

    async def close(self) -> None:
        """Also when it was not open, or is lost."""

    def read(self, count: int) -> Samples:
        """Exactly ``count`` samples; silence where there are none."""

    def write(self, samples: Samples) -> None: ...
