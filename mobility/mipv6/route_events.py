"""What becomes of the way to a correspondent, and what is to be said to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address

from mobility.outputs import Event
from mobility.wire import mh


@dataclass(frozen=True, slots=True)
class RouteOptimized(Event):
    """Packets to and from a correspondent go directly from now on."""

    correspondent: IPv6Address
    care_of_address: IPv6Address
    lifetime: int
    milliseconds: float
    "From the first test (or update, where no test was needed) to the acknowledgement."


@dataclass(frozen=True, slots=True)
class RouteEnded(Event):
    """Packets to a correspondent go through the tunnel again."""

    correspondent: IPv6Address
    why: str


@dataclass(frozen=True, slots=True)
class RouteRefused(Event):
    """A correspondent cannot or will not do without the tunnel."""

    correspondent: IPv6Address
    why: str
    retry_in: float
    "Seconds."


class Way(Enum):
    """How a message goes to the correspondent."""

    HOME = auto()
    "From the home address: through the tunnel, or as it is at home."
    DIRECT = auto()
    "From the care-of address, as it is."
    WITH_HOME_ADDRESS = auto()
    "From the care-of address, with a Home Address option."


@dataclass(frozen=True, slots=True)
class Say(Event):
    """A message for the correspondent, which is put into a packet at once."""

    message: mh.Message
    way: Way


@dataclass(frozen=True, slots=True)
class Granted(Event):
    """The correspondent accepted a binding (step 75)."""

    care_of_address: IPv6Address
    lifetime: int
    expires: float
    sequence: int


@dataclass(frozen=True, slots=True)
class NotHeard(Event):
    """The correspondent tells what it had received from a place that was lost: the rest may be sent again."""

    highest: Mapping[int, int]
    "SPI and sequence number."
