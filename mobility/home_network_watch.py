"""What a terminal that is away hears of its home network: prefix discovery as packets (RFC 6275 11.4.2, 11.4.3)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.mipv6.mobile_node import MobileNode, Send
from mobility.mipv6.prefix_discovery import PrefixDiscovery, SolicitPrefixes
from mobility.mipv6.prefix_messages import advertisement_in, solicitation_packet
from mobility.mipv6.signalling import Protection
from mobility.outputs import Discarded, Output
from mobility.terminal_settings import TerminalSettings

SETTLED = 5.0
"Seconds with a binding until it is asked: what comes first through a new place is somebody's call."


class HomeNetworkWatch:
    """Asks the home agent, as IPsec demands, by the place in use; `HomeNetworkRenumbered` goes on to the outside."""

    def __init__(
        self,
        settings: TerminalSettings,
        protection: Protection,
        mobile_node: MobileNode,
        put: Send,
        random: Callable[[int], bytes],
    ) -> None:
        self.discovery = PrefixDiscovery(settings.home_address, settings.home_prefix_length, random)
        self._home = settings.home_address
        self._agent = settings.home_agent
        self._protection = protection
        self._mobile_node = mobile_node
        self._put = put
        self._ask_at: float | None = None
        self._bound = False

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        discovery = self.discovery.timer
        return self._ask_at if discovery is None else min(discovery, self._ask_at or discovery)

    def follow(self, now: float) -> None:
        """The terminal is away with a binding, or it is not."""
        present = self._mobile_node.present
        bound = present is not None and not present.at_home and self._mobile_node.registration.bound
        if not bound:
            self._ask_at = None
            self.discovery.unbound(now)
        elif not self._bound:
            self._ask_at = now + SETTLED
        self._bound = bound

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        outputs: list[Output] = []
        if self._ask_at is not None and self._ask_at <= now:
            self._ask_at = None
            outputs += self.discovery.bound(now)
        return self._carry_out([*outputs, *self.discovery.handle_timer(now)], now)

    def receive(self, clear: bytes, now: float) -> list[Output]:
        """A packet that `signalling.unwrap` has opened, with ICMPv6 in it. Raises `Discard`."""
        source, destination = IPv6Address(clear[8:24]), IPv6Address(clear[24:40])
        if source != self._agent:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"prefix advertisement of {source}, which is not the home agent")
        if destination != self._home:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, str(destination))
        return self._carry_out(self.discovery.receive(advertisement_in(clear), now), now)

    def _carry_out(self, outputs: list[Output], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            if isinstance(output, SolicitPrefixes):
                result += self._solicit(output, now)
            else:
                result.append(output)
        return result

    def _solicit(self, output: SolicitPrefixes, now: float) -> list[Output]:
        present = self._mobile_node.present
        if present is None:
            return []
        # In a datagram it goes from the home address itself, as binding updates do.
        care_of = self._home if present.udp else present.address
        try:
            packet = solicitation_packet(output.message, self._home, care_of, self._agent, self._protection)
        except Discard as discard:
            return [Discarded.of(discard, "prefix-discovery")]
        return self._put(present.link, packet, now)
