"""The home agent put together: engine, host on the home link, IPsec; a `Node`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mobility.discards import Discard, Reason
from mobility.host.events import AddressConflict
from mobility.host.host import Host
from mobility.links import LinkSettings
from mobility.mipv6.home_agent import HomeAgent, HomeAgentSettings, HopLimitExceeded, Reply
from mobility.outputs import Arrived, Discarded, Output, Transmit
from mobility.wire import ip6
from mobility.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the node of a home agent has to know."""

    home_agent: HomeAgentSettings
    link: LinkSettings
    "On the home link, where a router advertises itself."


class HomeAgentNode:
    """A home agent; a `Node` with one link, the home link, and no host OS."""

    def __init__(self, settings: AgentSettings, random: Callable[[int], bytes]) -> None:
        """Raises `ValueError` as `HomeAgent` does."""
        self.settings = settings
        link = settings.link
        self.host = Host(link.name, link.link_address, link.mtu, random)
        self.engine = HomeAgent(settings.home_agent, self.host, self._answer)
        self.counters: Counter[str] = Counter()
        self.intercepted = 0
        "Packets for terminals that are away."
        self.reversed = 0
        "Packets that terminals sent through their tunnels."
        self._address = settings.home_agent.address.packed
        self._sender = b""
        "Link-layer address of the packet that is being handled."

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [time for time in (self.host.timer, self.engine.timer) if time is not None]
        return min(times, default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its address; the link may come up later."""
        agent = self.settings.home_agent
        return self._absorb(self.host.add_address(agent.address, now, prefix_length=agent.prefix_length), now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of the home link came or went."""
        if link != self.settings.link.name:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "home-agent", link)], now)
        return self._absorb(self.host.link_changed(up, now), now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on the home link."""
        if link != self.settings.link.name:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "home-agent", link)], now)
        self._sender = sender
        return self._absorb(self.host.receive(packet, sender, now), now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A home agent has no host OS."""
        return self._absorb([Discarded(Reason.MESSAGE_UNEXPECTED, "home-agent", "a packet of a host OS")], now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        self._sender = b""
        outputs = self._absorb(self.host.handle_timer(now), now)
        return outputs + self._absorb(self.engine.handle_timer(now), now)

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "home-agent",
            **self.engine.snapshot(now),
            "links": {self.settings.link.name: self.host.snapshot(now)},
            "counters": {"intercepted": self.intercepted, "reversed": self.reversed, **self.counters},
        }

    def _absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            match output:
                case Arrived(packet=packet):
                    result += self._absorb(self._arrived(packet, now), now)
                case AddressConflict(address=address) if self.engine.is_bound(address.packed):
                    result.append(output)
                    result += self._absorb(self.engine.conflict(address, now), now)
                case Discarded(reason=reason):
                    self.counters[f"discarded-{reason}"] += 1
                    result.append(output)
                case _:
                    result.append(output)
        return result

    def _arrived(self, packet: bytes, now: float) -> list[Output]:
        try:
            if packet[24:40] != self._address:
                outputs = self.engine.intercept(packet, now)
                self.intercepted += 1
                return outputs
            if self._is_signalling(packet):
                return self.engine.signalling(packet, now)
            if packet[6] == ip6.ICMPV6:
                return [Discarded(Reason.ICMP_IGNORED, "home-agent", f"type {packet[40]}")]
            outputs = self.engine.reverse(packet, now)
            self.reversed += 1
            return outputs
        except HopLimitExceeded as exceeded:
            return [*exceeded.told, Discarded.of(exceeded, "home-agent")]
        except Discard as discard:
            return [Discarded.of(discard, "home-agent")]

    def _is_signalling(self, packet: bytes) -> bool:
        try:
            headers = ip6.walk(packet)
        except WireError:
            return False
        if headers.protocol == ip6.ESP:
            return not self.engine.is_tunnel(packet[headers.offset : headers.offset + 4])
        return headers.protocol == ip6.MOBILITY

    def _answer(self, reply: Reply, now: float) -> list[Output]:
        if reply.at_home and self._sender:
            # The terminal does not answer for its home address before it has this acknowledgement (section 11.5.5).
            return [Transmit(reply.packet, self._sender, self.settings.link.name)]
        return self.host.send(reply.packet, now)
