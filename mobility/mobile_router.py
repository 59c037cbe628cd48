"""A mobile router (RFC 3963): a terminal that takes networks along, and is their router. A `Node`.

Towards the outside it is a `Terminal`, whose tunnel carries packets of the networks as well. Each ingress interface is
a link of its own (`Ingress`), past the kernel as those to the outside are, so nothing of the machine's forwarding or
routes is touched. Programs of the machine itself have the home address, as on any terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.around_terminal import AroundTerminal
from mobility.discards import Reason
from mobility.host.errors import TokenBucket
from mobility.links import LinkSettings
from mobility.nemo.ingress import Ingress
from mobility.outputs import Deliver, Discarded, Event, Output
from mobility.terminal import Terminal
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError

GRACE = 10.0
"Seconds without a way out after which nodes are told to use another router, if they have one; a handover is shorter."


@dataclass(frozen=True, slots=True)
class NetworkOpened(Event):
    """There is a way between the mobile networks and the outside (again)."""

    networks: str


@dataclass(frozen=True, slots=True)
class NetworkClosed(Event):
    """There is none for a while: no binding, or one that does not take the networks along."""

    networks: str


class MobileRouter(AroundTerminal):
    """See above. ``ingress``: the links of the networks, each with its prefixes of 64 bits."""

    def __init__(
        self,
        terminal: Terminal,
        ingress: Sequence[tuple[LinkSettings, tuple[IPv6Network, ...]]],
        random: Callable[[int], bytes],
        secret: bytes,
    ) -> None:
        """``secret``: as that of `Terminal`."""
        super().__init__(terminal)
        self.ingress = {link.name: Ingress(link, networks, random, secret) for link, networks in ingress}
        self.open = False
        "Whether nodes are told that there is a way out."
        self._closes_at: float | None = None
        self._told: tuple[bool, int] | None = None
        "What nodes were told last: whether there is a way out, and what fits."
        self._errors = TokenBucket()
        self._networks = terminal.forwarding.networks
        self._text = " ".join(str(network) for network in self._networks.networks)

    # ------------------------------------------------------------ Node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [self.terminal.timer, self._closes_at, *(each.timer for each in self.ingress.values())]
        return min((time for time in times if time is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its addresses in the networks; the links are down yet."""
        outputs = super().start(now)
        for ingress in self.ingress.values():
            outputs += ingress.start(now)
        return outputs

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of a link came or went."""
        ingress = self.ingress.get(link)
        if ingress is not None:
            return self._counted(ingress.link_changed(up, now))
        return super().link_changed(link, up, now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived: from a network, or from outside."""
        ingress = self.ingress.get(link)
        if ingress is None:
            return super().from_link(link, packet, sender, now)
        outputs, onward = ingress.receive(packet, sender, now)
        if onward is None:
            return self._counted(outputs)
        return self._outward(ingress, onward, now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        if self.terminal.timer is not None and self.terminal.timer <= now:
            outputs += self.terminal.handle_timer(now)
        outputs = self._passed(outputs, now)
        for ingress in self.ingress.values():
            if ingress.timer is not None and ingress.timer <= now:
                outputs += self._counted(ingress.handle_timer(now))
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        """As `Terminal.snapshot`, with the networks."""
        return {
            **self.terminal.snapshot(now),
            "role": "mobile-router",
            "mobile_router": {
                "networks": [str(network) for network in self._networks.networks],
                "explicit": self.terminal.settings.explicit,
                "open": self.open,
                "ingress": {name: each.snapshot(now) for name, each in self.ingress.items()},
                "counters": dict(self.counters),
            },
        }

    # ------------------------------------------------------------ between networks and outside

    def _outward(self, ingress: Ingress, packet: bytes, now: float) -> list[Output]:
        """From a network to wherever: another network of ours, or through the tunnel."""
        to = self._ingress_of(packet[24:40])
        if to is not None and to.owns(packet[24:40]):
            return self._counted(self._for_us(packet, ingress.send, now))
        mtu = self.terminal.network_mtu if to is None else to.mtu
        if len(packet) > mtu:
            told = ingress.report(icmp6.PacketTooBig(mtu, packet), now)
            return self._counted([*told, Discarded(Reason.TOO_BIG, "mobile-router", f"{len(packet)} octets")])
        if to is not None:
            return self._counted(to.send(packet, now))
        self.counters["from-networks"] += 1
        outputs = self.terminal.from_network(packet, now)
        return outputs if len(outputs) == 1 else self._passed(outputs, now)

    def _inward(self, packet: bytes, now: float) -> list[Output]:
        """Out of the tunnel, or at home off the link, to a network."""
        ingress = self._ingress_of(packet[24:40])
        if ingress is None:
            return [Discarded(Reason.NO_ROUTE, "mobile-router", f"to {IPv6Address(packet[24:40])}")]
        if ingress.owns(packet[24:40]):
            return self._for_us(packet, self.terminal.from_network, now)
        if packet[7] <= 1:
            told = self._tell(ingress, icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now)
            return [*told, Discarded(Reason.HOP_LIMIT, "mobile-router", "")]
        if len(packet) > ingress.mtu:
            told = self._tell(ingress, icmp6.PacketTooBig(ingress.mtu, packet), now)
            return [*told, Discarded(Reason.TOO_BIG, "mobile-router", f"{len(packet)} octets")]
        self.counters["to-networks"] += 1
        return ingress.send(b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:]), now)

    def _ingress_of(self, address: bytes) -> Ingress | None:
        return next((each for each in self.ingress.values() if address in each.prefixes), None)

    def _for_us(self, packet: bytes, back: Callable[[bytes, float], list[Output]], now: float) -> list[Output]:
        """Somebody outside of a network asks our address in it whether we are there; ``back`` is the way to him."""
        if packet[6] != ip6.ICMPV6:
            return [Discarded(Reason.NOT_OURS, "mobile-router", f"protocol {packet[6]} for the router itself")]
        try:
            reply = icmp6.echo_reply(packet)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, "mobile-router", str(error))]
        if reply is None:
            return [Discarded(Reason.ICMP_IGNORED, "mobile-router", f"type {packet[40]} for the router itself")]
        return back(reply, now)

    def _tell(self, ingress: Ingress, error: icmp6.Error, now: float) -> list[Output]:
        """Tells a sender outside what is wrong with its packet."""
        if not icmp6.may_be_answered_with_error(error.invoking) or not self._errors.take(now):
            return []
        return self.terminal.from_network(icmp6.packet(ingress.own, IPv6Address(error.invoking[8:24]), error), now)

    def _passed(self, outputs: list[Output], now: float) -> list[Output]:
        """What the terminal answers; what it delivers to a network goes there."""
        result: list[Output] = []
        for output in outputs:
            if type(output) is Deliver and output.packet[0] >> 4 == 6 and output.packet[24:40] in self._networks:
                result += self._counted(self._inward(output.packet, now))
            else:
                result.append(output)
        return result + self._counted(self._follow(now))

    def _follow(self, now: float) -> list[Output]:
        """Nodes are told whether there is a way out, and what fits through it."""
        outputs: list[Output] = []
        if self.terminal.forwarding.ready:
            self._closes_at = None
            if not self.open:
                self.open = True
                outputs.append(NetworkOpened(self._text))
        elif self.open and self._closes_at is None:
            self._closes_at = now + GRACE
        elif self._closes_at is not None and self._closes_at <= now:
            self._closes_at, self.open = None, False
            outputs.append(NetworkClosed(self._text))
        told = self.open, self.terminal.network_mtu
        if told != self._told:
            self._told = told
            for ingress in self.ingress.values():
                outputs += ingress.follow(default=self.open, mtu=self.terminal.network_mtu, now=now)
        return outputs
