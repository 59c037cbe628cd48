"""A small user-space IPv6 host on one link: addresses, neighbour and router discovery, errors. Does no I/O."""

from mobility.host.events import (
    AddressConflict,
    AddressDeprecated,
    AddressLost,
    AddressReady,
    MapsHeard,
    PathMtuChanged,
    RouterFound,
    RouterLost,
)
from mobility.host.host import Host

__all__ = [
    "AddressConflict",
    "AddressDeprecated",
    "AddressLost",
    "AddressReady",
    "Host",
    "MapsHeard",
    "PathMtuChanged",
    "RouterFound",
    "RouterLost",
]
