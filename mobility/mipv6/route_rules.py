"""With whom packets may go without the tunnel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network


class RoutePolicy(StrEnum):
    """Whether a correspondent may be told the care-of address, and so where the terminal is."""

    NEVER = "never"
    ASKED = "asked"
    "When the user says so."
    ALWAYS = "always"
    "As soon as packets flow."


@dataclass(frozen=True, slots=True)
class RouteRules:
    """The policy for each correspondent: the first network that holds it decides, else ``default``."""

    default: RoutePolicy = RoutePolicy.NEVER
    networks: tuple[tuple[IPv6Network, RoutePolicy], ...] = ()

    def of(self, correspondent: IPv6Address) -> RoutePolicy:
        """What holds for this correspondent."""
        return next((policy for network, policy in self.networks if correspondent in network), self.default)

    @property
    def ever(self) -> bool:
        """Whether any correspondent may be spoken to directly."""
        return any(policy is not RoutePolicy.NEVER for policy in (self.default, *(each for _, each in self.networks)))
