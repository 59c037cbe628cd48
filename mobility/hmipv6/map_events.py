"""What a mobility anchor point tells of its bindings."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.outputs import Event


@dataclass(frozen=True, slots=True)
class RegionalBindingCreated(Event):
    """A terminal has come into the domain."""

    rcoa: IPv6Address
    lcoa: IPv6Address
    terminal: str
    lifetime: int
    "Seconds."


@dataclass(frozen=True, slots=True)
class RegionalBindingMoved(Event):
    """It moved within the domain: only this MAP hears of it."""

    rcoa: IPv6Address
    lcoa: IPv6Address
    previous: IPv6Address
    sent_again: int
    "Packets that were on their way to the previous LCoA when it was lost."


@dataclass(frozen=True, slots=True)
class RegionalBindingRemoved(Event):
    """An RCoA is not bound any more."""

    rcoa: IPv6Address
    why: str


@dataclass(frozen=True, slots=True)
class LocalUpdateRefused(Event):
    """A local binding update was answered with a refusal."""

    rcoa: IPv6Address
    lcoa: IPv6Address
    status: str
