"""The links of a terminal to the outside: a host of its own on an interface, the domain of a MAP, or UDP (RFC 5555)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from mobility.hmipv6.regional import Station
from mobility.links import UDP4, endpoint, is_udp, mapped
from mobility.outputs import Output, Transmit
from mobility.wire import ip6

UDP4_OVERHEAD, UDP6_OVERHEAD = 28, 48
"Octets of outer IP and UDP headers."


class Uplinks:
    """Sends on any of them, and knows what fits."""

    def __init__(
        self, stations: Mapping[str, Station], home_agent: IPv6Address, home_agent4: IPv4Address | None, port: int
    ) -> None:
        """``stations``: all but those of UDP; may change. ``home_agent4``, ``port``: where the home agent listens for
        UDP; None: not through IPv4."""
        self.stations = stations
        self._agent = home_agent.packed
        self._endpoints = {6: endpoint(home_agent, port)}
        if home_agent4 is not None:
            self._endpoints[4] = endpoint(home_agent4, port)
        self._udp: dict[str, tuple[IPv6Address, int]] = {}
        "Our address and the MTU of the interface."

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int) -> IPv6Address | None:
        """A link of UDP came, changed or went; returns our address on it, if the home agent can be reached by it."""
        self._udp.pop(link, None)
        if address is None or self.endpoint_of(link) is None:
            return None
        present = mapped(address)
        self._udp[link] = present, mtu
        return present

    def address(self, link: str) -> IPv6Address | None:
        """Our address on a link of UDP; None: there is no such link."""
        known = self._udp.get(link)
        return None if known is None else known[0]

    def endpoint_of(self, link: str) -> bytes | None:
        """The home agent's, for a link of UDP; None: it cannot be reached that way."""
        return self._endpoints.get(4 if link.endswith(UDP4) else 6)

    def send(self, link: str, packet: bytes, now: float) -> list[Output]:
        """A whole packet, or the payload of a datagram for the home agent."""
        if not is_udp(link):
            station = self.stations.get(link)
            return [] if station is None else station.send(packet, now)
        to = self.endpoint_of(link)
        return [] if to is None or link not in self._udp else [Transmit(packet, to, link)]

    def path_mtu(self, link: str) -> int:
        """Octets for an outer IPv6 packet to the home agent; where UDP carries, what leaves as much room."""
        if not is_udp(link):
            return self.stations[link].path_mtu(self._agent)
        _, mtu = self._udp[link]
        return mtu + ip6.HEADER_SIZE - (UDP4_OVERHEAD if link.endswith(UDP4) else UDP6_OVERHEAD)

    def smallest_mtu(self) -> int:
        """The smallest of all: what fits there need not change when the terminal moves."""
        return min((self.path_mtu(link) for link in (*self.stations, *self._udp)), default=ip6.MINIMUM_MTU)
