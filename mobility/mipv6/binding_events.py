"""What a home agent tells of its bindings.

Every change of what `BindingRecord` holds comes with a `BindingChanged` of that home address: whoever keeps records
asks for the present one then (`HomeAgentNode.record`), and None means that there is none any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mobility.outputs import Event


@dataclass(frozen=True, slots=True)
class BindingChanged(Event):
    """The record of this home address is another one now."""

    home_address: IPv6Address


@dataclass(frozen=True, slots=True)
class BindingCreated(BindingChanged):
    """A terminal is away from home from now on, or moved on."""

    care_of_address: IPv6Address | IPv4Address
    previous: IPv6Address | IPv4Address | None
    "Care-of address of the binding that was primary until now."
    lifetime: int
    "Seconds."
    sent_again: int = 0
    "Packets that were on their way to the previous care-of address when it was lost."
    identifier: int = 0
    "Binding identifier (RFC 5648); 0: none."
    way: str = "native"
    "Or ``udp``."
    nat: bool = False
    "Whether a NAT lies in between."
    mobile_networks: str = ""
    "That a mobile router takes along, with spaces in between; empty: it is a mobile host."


@dataclass(frozen=True, slots=True)
class BindingRefreshed(BindingChanged):
    """A binding goes on where it was."""

    identifier: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class BindingRebound(BindingChanged):
    """A NAT gave a terminal another address or port; authenticated packets came from there."""

    identifier: int
    endpoint: str
    previous: str


@dataclass(frozen=True, slots=True)
class BindingEnded(BindingChanged):
    """One of several bindings is gone; the terminal is bound by others."""

    identifier: int
    care_of_address: IPv6Address | IPv4Address
    why: str


@dataclass(frozen=True, slots=True)
class BindingRemoved(BindingChanged):
    """A terminal returned, or was not heard of for its lifetime: it has no binding any more."""

    why: str


@dataclass(frozen=True, slots=True)
class BindingRestored(Event):
    """A binding goes on that this home agent, or another one, had before. The record is what it was."""

    home_address: IPv6Address
    care_of_address: IPv6Address | IPv4Address


@dataclass(frozen=True, slots=True)
class UpdateRefused(Event):
    """A binding update was answered with a refusal."""

    home_address: IPv6Address
    status: str
    why: str = ""
    "Where the status does not say it all."
