"""Networks the host has been in: a known one is recognised by its router's answer alone (Simple DNA, RFC 6059)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.host.routers import Prefix
from mobility.wire.ndisc import MapOption, Preference

LIMIT = 16
"Remembered routers; the one seen longest ago goes first."
PROBED_AT_ONCE = 6
"Routers asked after a change of link, those seen last."


@dataclass(frozen=True, slots=True)
class Network:
    """What a router said of its network. Times are absolute."""

    router: bytes
    mac: bytes
    default_until: float
    preference: Preference
    prefixes: tuple[Prefix, ...]
    mtu: int
    hop_limit: int
    retrans_timer: float
    reachable_time: float
    maps: tuple[MapOption, ...] = ()
    maps_heard: float = 0.0
    "When; their lifetimes count from then."


class KnownNetworks:
    """Bounded memory of networks, by router address and link-layer address together."""

    def __init__(self) -> None:
        self._networks: dict[tuple[bytes, bytes], Network] = {}

    def remember(self, network: Network) -> None:
        key = (network.router, network.mac)
        self._networks.pop(key, None)
        while len(self._networks) >= LIMIT:
            del self._networks[next(iter(self._networks))]
        self._networks[key] = network

    def candidates(self, now: float) -> list[Network]:
        """The networks worth a question, the latest first; those without a valid prefix are forgotten."""
        for key, network in list(self._networks.items()):
            if not any(prefix.valid_until > now for prefix in network.prefixes):
                del self._networks[key]
        return list(reversed(self._networks.values()))[:PROBED_AT_ONCE]

    def snapshot(self) -> list[dict[str, object]]:
        return [
            {
                "router": str(IPv6Address(network.router)),
                "link_address": network.mac.hex(":"),
                "prefixes": [str(prefix) for prefix in network.prefixes],
            }
            for network in self._networks.values()
        ]
