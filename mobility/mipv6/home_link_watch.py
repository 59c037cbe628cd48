"""What a home agent hears on its home link beside packets for terminals, and answers to who asks the link."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.mipv6.home_agents_list import HomeAgentsList, anycast
from mobility.mipv6.home_prefixes import HomePrefixes
from mobility.mipv6.home_settings import HomeAgentSettings
from mobility.outputs import Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import HomeAgentsRequest

_ANYCAST_LIMIT = 120
"Bits; a home prefix that is longer has no anycast addresses, so its home agents cannot be discovered."


class HomeLinkWatch:
    """Feeds the home agents list and the home prefixes with router advertisements (RFC 6275 sections 10.5, 10.6)."""

    def __init__(self, settings: HomeAgentSettings, random: Callable[[int], bytes]) -> None:
        home = IPv6Network((settings.address, settings.prefix_length), strict=False)
        self.anycast: IPv6Address | None = anycast(home) if home.prefixlen <= _ANYCAST_LIMIT else None
        "To which terminals send their requests."
        self.agents = HomeAgentsList(settings.address, home, random, settings.preference)
        self.prefixes = HomePrefixes(settings.address, home, random, settings.prefix_intervals)

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min((t for t in (self.agents.timer, self.prefixes.timer) if t is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Home agents and prefixes end; terminals are told."""
        return self.agents.handle_timer(now) + self.prefixes.handle_timer(now)

    def overhear(self, packet: bytes, now: float) -> list[Output]:
        """Any packet of the home link; what is no valid router advertisement is left to the host, which counts it."""
        if packet[40:41] != _ROUTER_ADVERTISEMENT or packet[6] != ip6.ICMPV6:
            return []
        try:
            message = ndisc.parse(ip6.check(packet))
        except WireError:
            return []
        if not isinstance(message, ndisc.RouterAdvertisement):
            return []
        return self.agents.heard(IPv6Address(packet[8:24]), message, now) + self.prefixes.heard(message, now)

    def answer(self, packet: bytes, now: float) -> bytes:
        """The packet that answers one to the anycast address. Raises `Discard`."""
        if packet[6] != ip6.ICMPV6:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"protocol {packet[6]} to the anycast address of home agents")
        try:
            request = HomeAgentsRequest.parse(packet[ip6.HEADER_SIZE :])
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        source = IPv6Address(packet[8:24])
        return icmp6.packet(self.agents.own, source, self.agents.answer(request, source, now))

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "anycast": None if self.anycast is None else str(self.anycast),
            "home_agents": self.agents.snapshot(now),
            **self.prefixes.snapshot(now),
        }


_ROUTER_ADVERTISEMENT = bytes((ndisc.ROUTER_ADVERTISEMENT,))
