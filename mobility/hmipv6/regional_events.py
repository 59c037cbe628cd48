"""What the terminal's regional part tells."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.outputs import Event
from mobility.wire import mh


@dataclass(frozen=True, slots=True)
class LocalUpdateSent(Event):
    """A local binding update leaves for a MAP."""

    anchor: IPv6Address
    rcoa: IPv6Address
    lcoa: IPv6Address
    sequence: int
    lifetime: int
    "Seconds; 0 deregisters."
    transmission: int


@dataclass(frozen=True, slots=True)
class MapBound(Event):
    """The MAP acknowledged where the terminal is."""

    anchor: IPv6Address
    rcoa: IPv6Address
    lcoa: IPv6Address
    registration_type: int
    lifetime: int
    "Seconds."
    round_trip: float
    "Seconds between the local binding update and its acknowledgement."


@dataclass(frozen=True, slots=True)
class MapRefused(Event):
    """The MAP said no; where another node has the RCoA, the next one is tried."""

    anchor: IPv6Address
    rcoa: IPv6Address
    status: str
    why: str
    "And what to do about it, for people."


@dataclass(frozen=True, slots=True)
class MapLeft(Event):
    """A MAP is not used any more."""

    anchor: IPv6Address
    rcoa: IPv6Address
    why: str
    retry_in: float
    "Seconds until it may be tried again; 0: whenever it is heard."


@dataclass(frozen=True, slots=True)
class RegionalHandover(Event):
    """The terminal moved within the domain of a MAP: the home agent heard nothing of it."""

    anchor: IPv6Address
    from_link: str
    from_lcoa: IPv6Address
    to_link: str
    to_lcoa: IPv6Address
    since_noticed_ms: float
    since_update_ms: float
    sent_again: int
    "Packets of this terminal."
    make_before_break: bool


@dataclass(frozen=True, slots=True)
class RegionalRegistration(Event):
    """Step 97: what scenario processing hands to the Mobile IPv6 part, because the RCoA is another one now."""

    anchor: IPv6Address
    rcoa: IPv6Address
    lcoa: IPv6Address
    registration_type: int
    acknowledgement: mh.BindingAcknowledgement
    "With the registration type in its mobility options."
