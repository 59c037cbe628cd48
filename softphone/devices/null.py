"""No device at all: silence is spoken, and nobody hears."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from softphone.devices.device import RATE, Kind
from softphone.media.codecs import Samples


class NullDevice:
    """A `Device`."""

    name = "null"
    kind = Kind.NULL
    rate = RATE
    delay = 0.0

    async def open(self, lost: Callable[[str], None]) -> None:
        pass

    async def listen(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def read(self, count: int) -> Samples:
        return np.zeros(count, np.int16)

    def write(self, samples: Samples) -> None:
        pass
