"""What a host tells its owner."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.outputs import Event
from mobility.wire.map_option import MapOption


@dataclass(frozen=True, slots=True)
class AddressReady(Event):
    """An address of more than link scope can be used from now on (optimistic, RFC 4429, or better).

    Comes again when an address is confirmed after a change of link, and when a deprecated one is preferred again.
    """

    link: str
    address: IPv6Address
    prefix_length: int
    router: IPv6Address | None
    "Link-local address of the router whose prefix this is; None: a configured address."


@dataclass(frozen=True, slots=True)
class AddressLost(Event):
    """An address that was ready cannot be used any more, or not for now (the link went down)."""

    link: str
    address: IPv6Address
    why: str


@dataclass(frozen=True, slots=True)
class AddressDeprecated(Event):
    """The preferred lifetime ended: still valid, but not for new communication (RFC 4862 section 5.5.4)."""

    link: str
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class AddressConflict(Event):
    """Another node on the link uses this address (RFC 4862 section 5.4); it was removed."""

    link: str
    address: IPv6Address
    by: str
    "Link-layer address of the other node."


@dataclass(frozen=True, slots=True)
class RouterFound(Event):
    """A default router appeared, or came back."""

    link: str
    router: IPv6Address
    prefixes: tuple[IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class RouterLost(Event):
    """A default router is gone: unreachable, expired, withdrawn or left behind."""

    link: str
    router: IPv6Address
    why: str


@dataclass(frozen=True, slots=True)
class PathMtuChanged(Event):
    """The largest packet (octets, IPv6 header included) that reaches the destination (RFC 8201)."""

    link: str
    destination: IPv6Address
    mtu: int


@dataclass(frozen=True, slots=True)
class MapsHeard(Event):
    """The mobility anchor points that a router tells of at the moment (RFC 5380), as it tells of them, unchecked.

    Comes when they change, and otherwise some times within their lifetimes, which count from the event.
    """

    link: str
    router: IPv6Address
    maps: tuple[MapOption, ...]
    "Empty: it told of some before."
