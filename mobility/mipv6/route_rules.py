"""With whom packets go without the tunnel: what the rules allow, what the user says, what is worth it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from mobility.mipv6.correspondent_node import routable

ENOUGH = 4
"Packets to a correspondent within `LATELY` that make it worth six messages; a question of DNS does not."
LATELY = 4.0
"Seconds."
SAID_LIMIT = 256
"Correspondents that the user said something of."
COUNTED_LIMIT = 1024
"Destinations whose packets are counted."


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


class RouteChoice:
    """Which correspondents are to be spoken to directly, and since when. Destinations are 16 octets."""

    def __init__(self, rules: RouteRules, never: Collection[bytes]) -> None:
        """``never``: addresses that are no correspondents, the terminal's own and the home agent's."""
        self._rules = rules
        self._never = never
        self._asked: set[bytes] = set()
        self._dismissed: set[bytes] = set()
        self._counted: dict[bytes, tuple[int, float]] = {}
        "Packets, and since when."

    def ask(self, correspondent: IPv6Address) -> None:
        """The user wants packets to go directly. Raises `ValueError`: the rules forbid it, or it makes no sense."""
        address = correspondent.packed
        if self._rules.of(correspondent) is RoutePolicy.NEVER:
            raise ValueError(f"route optimization with {correspondent} is configured as never; change [mobile_node]")
        if not routable(address) or address in self._never:
            raise ValueError(f"{correspondent} is no correspondent; name the address of a host that you talk to")
        if len(self._asked) >= SAID_LIMIT:
            raise ValueError(f"{SAID_LIMIT} correspondents are optimized on demand; give one back with tunnel ADDRESS")
        self._asked.add(address)
        self._dismissed.discard(address)

    def dismiss(self, correspondent: IPv6Address) -> None:
        """The user wants packets to go through the tunnel, until `ask`. Raises `ValueError`: too many of them."""
        if len(self._dismissed) >= SAID_LIMIT:
            raise ValueError(f"{SAID_LIMIT} correspondents are kept in the tunnel; give one back with optimize ADDRESS")
        self._asked.discard(correspondent.packed)
        self._dismissed.add(correspondent.packed)

    def may(self, destination: bytes) -> bool:
        """Whether rules and user let packets go there directly."""
        if destination in self._never or destination in self._dismissed or not routable(destination):
            return False
        policy = self._rules.of(IPv6Address(destination))
        return policy is RoutePolicy.ALWAYS or (policy is RoutePolicy.ASKED and destination in self._asked)

    def worth(self, destination: bytes, now: float) -> bool:
        """A packet goes there through the tunnel: whether there were enough of them, or the user has asked."""
        count, since = self._counted.get(destination, (0, now))
        if now - since > LATELY:
            count, since = 0, now
        if count + 1 < ENOUGH and destination not in self._asked:
            if len(self._counted) >= COUNTED_LIMIT:
                self._counted.clear()
            self._counted[destination] = count + 1, since
            return False
        self._counted.pop(destination, None)
        return True
