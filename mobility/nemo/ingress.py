"""An ingress interface of a mobile router: the link of the network that it takes along (RFC 3963 section 5.5).

Nodes there are ordinary IPv6 hosts, or mobile ones: they see a router that advertises a prefix, wherever it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Reason
from mobility.host.advertiser import Advertiser, Advertising
from mobility.host.host import Host
from mobility.links import LinkSettings, link_scope
from mobility.nemo.mobile_networks import Prefixes
from mobility.outputs import Arrived, Discarded, Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.errors import WireError

VALID, PREFERRED = 86400, 14400
"Seconds. The prefixes are the network's own, so they do not change with the place of the router."
ROUTER_LIFETIME = 1800
MAX_INTERVAL, MIN_INTERVAL, SHORTEST_GAP = 30.0, 10.0, 0.5
"Seconds between advertisements; terminals move in and out of this network."


class Ingress:
    """A router on one link: neighbours, advertisements, and which packets go on from there."""

    def __init__(
        self, settings: LinkSettings, networks: tuple[IPv6Network, ...], random: Callable[[int], bytes], secret: bytes
    ) -> None:
        """``networks``: of this link, each with 64 bits. The first address of each is the router's own."""
        self.name = settings.name
        self.prefixes = Prefixes(networks)
        self.own = networks[0].network_address + 1
        "Our address, in whose name errors are told."
        self.mtu = settings.mtu
        self.counters: Counter[str] = Counter()
        self._host = Host(settings.name, settings.link_address, settings.mtu, random, secret=secret, router=True)
        self._owned = frozenset((each.network_address + 1).packed for each in networks)
        self._advertiser = Advertiser(
            settings.name,
            settings.link_address,
            Advertising(
                router_lifetime=0,
                prefixes=tuple(
                    ndisc.PrefixInformation(each.network_address, each.prefixlen, VALID, PREFERRED) for each in networks
                ),
                max_interval=MAX_INTERVAL,
                min_interval=MIN_INTERVAL,
                shortest_gap=SHORTEST_GAP,
            ),
            lambda: self._host.link_local,
            random,
        )

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min((t for t in (self._host.timer, self._advertiser.timer) if t is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its addresses; the link is down yet."""
        outputs: list[Output] = []
        for network in self.prefixes.networks:
            outputs += self._host.add_address(network.network_address + 1, now, prefix_length=network.prefixlen)
        return outputs

    def link_changed(self, up: bool, now: float) -> list[Output]:
        """The carrier of the link came or went."""
        outputs = self._host.link_changed(up, now)
        if up:
            return outputs + self._advertiser.start(now)
        self._advertiser.link_down()
        return outputs

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        outputs = self._advertiser.handle_timer(now)
        if self._host.timer is not None and self._host.timer <= now:
            outputs += self._host.handle_timer(now)
        return outputs

    def follow(self, *, default: bool, mtu: int, now: float) -> list[Output]:
        """Whether there is a way out for whoever is here, and what fits through it; tells the link what is new."""
        present = self._advertiser.advertising
        wanted = replace(present, router_lifetime=ROUTER_LIFETIME if default else 0, mtu=min(mtu, self.mtu))
        return [] if wanted == present else self._advertiser.change(wanted, now)

    # ------------------------------------------------------------ packets

    def receive(self, packet: bytes, sender: bytes, now: float) -> tuple[list[Output], bytes | None]:
        """A packet of the link: what to do now, and the packet with one hop less if it is to go on."""
        if not self._goes_on(packet):
            outputs: list[Output] = []
            for output in self._host.receive(packet, sender, now):
                outputs += self._take(output.packet, sender, now) if isinstance(output, Arrived) else [output]
            return outputs, None
        try:
            packet = ip6.check(packet)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, self.name, str(error))], None
        if packet[8:24] not in self.prefixes:
            # Nobody in this network may send in the name of nodes elsewhere (RFC 3963 section 8).
            return [Discarded(Reason.SOURCE_NOT_OF_NETWORK, self.name, str(IPv6Address(packet[8:24])))], None
        if packet[7] <= 1:
            told = self.report(icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now)
            return [*told, Discarded(Reason.HOP_LIMIT, self.name, "")], None
        return [], b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:])

    def send(self, packet: bytes, now: float) -> list[Output]:
        """A packet for a node of this network."""
        return self._host.send_via(packet, packet[24:40], now)

    def owns(self, address: bytes) -> bool:
        """Whether this is our address in the network."""
        return address in self._owned

    def report(self, error: icmp6.Error, now: float) -> list[Output]:
        """Tells a node of this network what is wrong with a packet of its."""
        return self._host.report(error, now)

    def _goes_on(self, packet: bytes) -> bool:
        return len(packet) >= ip6.HEADER_SIZE and not link_scope(packet[24:40]) and not self.owns(packet[24:40])

    def _take(self, packet: bytes, sender: bytes, now: float) -> list[Output]:
        if packet[6] == ip6.ICMPV6 and packet[40] == ndisc.ROUTER_SOLICITATION:
            return self._advertiser.solicited(packet, sender, now)
        return [Discarded(Reason.NOT_OURS, self.name, f"protocol {packet[6]} for the router itself")]

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        advertising = self._advertiser.advertising
        return {
            "networks": [str(network) for network in self.prefixes.networks],
            "router_lifetime": advertising.router_lifetime,
            "mtu": advertising.mtu,
            "advertisements": self._advertiser.sent,
            "counters": dict(self.counters),
            **self._host.snapshot(now),
        }
