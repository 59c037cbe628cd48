"""What an acknowledgement tells, and what a scenario can do with it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from mobility.mipv6.binding_update_list import ListEntry
from mobility.outputs import Output
from mobility.wire import mh
from mobility.wire.map_option import RegistrationType


@dataclass(frozen=True, slots=True)
class Situation:
    """A binding acknowledgement that passed routine 70, with what its packet said."""

    acknowledgement: mh.BindingAcknowledgement
    acknowledger: IPv6Address
    "Source of the packet."
    care_of_address: IPv6Address
    "Destination of the packet, before the type 2 routing header was processed."
    home_address: IPv6Address
    from_home_agent: bool
    under_ipsec: bool
    translated: bool = False
    "Programs speak IPv4: the scenario of the home agent's acknowledgement translates."
    route: ListEntry | None = None
    "Of a correspondent that accepted: the row for the binding update list."
    registration: RegistrationType | None = None
    "Of a MAP: the type of registration that it wants; then the home address is the RCoA, the care-of address the LCoA."


@dataclass(frozen=True, slots=True)
class HandedOn:
    """What step 76 hands to scenario processing: the number stands for the UDP destination port of Fig. 11."""

    number: int
    situation: Situation


class Tunnels(Protocol):
    """The part of forwarding that scenarios set."""

    def set_tunnel(self, home_agent: IPv6Address, care_of_address: IPv6Address) -> None:
        """Packets go through the tunnel between these from now on (steps 63, 81, 91)."""

    def set_route(self, entry: ListEntry) -> None:
        """Packets for a correspondent go directly from now on (steps 84, 93)."""

    def clear_route(self, correspondent: IPv6Address) -> None:
        """They go through the tunnel again (steps 85, 94)."""

    def set_regional(self, anchor: IPv6Address, rcoa: IPv6Address, lcoa: IPv6Address) -> bool:
        """Where the terminal is in the domain of a MAP (steps 95, 98, 99); whether the RCoA is a new one (step 96)."""


class Scenario(Protocol):
    """One way to communicate. A new one is a class in a module of its own and a row in the table."""

    @property
    def number(self) -> int: ...

    @property
    def substance(self) -> str:
        """For people: what this scenario is about."""

    def applies(self, situation: Situation) -> bool:
        """Whether this is the scenario of such an acknowledgement."""

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        """Routine 60 for this scenario. Raises `Discard` (steps 62, 67)."""
