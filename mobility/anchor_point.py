"""The mobility anchor point put together: engine, host on its link, and advertisements of it; a `Node`.

It also advertises: on its own link, or in the name of an access router on that router's links, with or without having
an engine here. That is how the MAP options of access routers come about (dynamic MAP discovery, RFC 5380 section 6.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.anchor_point_keys import AnchorPointKeys
from mobility.discards import Discard, Reason
from mobility.hmipv6.map import MobilityAnchorPoint
from mobility.hmipv6.map_events import RegionalBindingCreated, RegionalBindingMoved
from mobility.hmipv6.map_settings import PREFIX_LENGTH, MapSettings
from mobility.host.advertiser import Advertiser, Advertising
from mobility.host.events import AddressConflict
from mobility.host.host import Host
from mobility.ipsec.ike.endpoint import Ike
from mobility.key_source import no_clock
from mobility.links import LinkSettings
from mobility.mipv6.home_errors import settled
from mobility.negotiated import datagram, negotiated_snapshot
from mobility.outputs import Arrived, Discarded, Output, Transmit
from mobility.serving_keys import PORTS
from mobility.wire import ip6, ndisc


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is advertised on one link."""

    link: LinkSettings
    advertising: Advertising
    router: IPv6Address | None = None
    "Link-local address of the access router in whose name this is said; None: an address of our own."


@dataclass(frozen=True, slots=True)
class AnchorPointSettings:
    """What the node of a mobility anchor point has to know."""

    anchor: MapSettings | None = None
    "None: it only advertises others."
    link: LinkSettings | None = None
    "Of the anchor point, where a router advertises itself."
    announcements: tuple[Announcement, ...] = ()


class AnchorPointNode:
    """A MAP, an announcer of MAPs, or both."""

    def __init__(
        self, settings: AnchorPointSettings, random: Callable[[int], bytes], utc: Callable[[], datetime] = no_clock
    ) -> None:
        """Raises `ValueError`: an anchor point without a link, a link advertised on twice, and as the engine does."""
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self.intercepted = 0
        "Packets for RCoAs."
        self.reversed = 0
        "Packets that terminals sent through their tunnels."
        self.hosts: dict[str, Host] = {}
        self.engine: MobilityAnchorPoint | None = None
        self.keys: AnchorPointKeys | None = None
        self._address = b""
        link = settings.link
        if settings.anchor is not None:
            if link is None:
                raise ValueError("a mobility anchor point needs a link")
            host = self.hosts[link.name] = Host(link.name, link.link_address, link.mtu, random)
            self.engine = MobilityAnchorPoint(settings.anchor, host)
            anchor = settings.anchor
            if anchor.certified is not None or any(each.keys is not None for each in anchor.terminals):
                self.keys = AnchorPointKeys(self.engine, host.send, random, utc)
            self._address = settings.anchor.address.packed
        self.advertisers: dict[str, Advertiser] = {}
        for each in settings.announcements:
            if each.link.name in self.advertisers:
                raise ValueError(f"{each.link.name} is advertised on twice; say everything in one table")
            self.advertisers[each.link.name] = self._advertiser(each, random)

    def _advertiser(self, announcement: Announcement, random: Callable[[int], bytes]) -> Advertiser:
        link, router = announcement.link, announcement.router
        if router is not None:
            spoken = router.packed
            return Advertiser(link.name, link.link_address, announcement.advertising, lambda: spoken, random)
        host = self.hosts.get(link.name)
        if host is None:
            host = self.hosts[link.name] = Host(link.name, link.link_address, link.mtu, random, router=True)
        own = host
        return Advertiser(link.name, link.link_address, announcement.advertising, lambda: own.link_local, random)

    # ------------------------------------------------------------ Node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [host.timer for host in self.hosts.values()]
        times += [advertiser.timer for advertiser in self.advertisers.values()]
        times += [part.timer for part in (self.engine, self.keys) if part is not None]
        return min((time for time in times if time is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its address; the link may come up later."""
        settings = self.settings
        if settings.anchor is None or settings.link is None:
            return []
        host = self.hosts[settings.link.name]
        return self._absorb(host.add_address(settings.anchor.address, now, prefix_length=PREFIX_LENGTH), now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of a link came or went."""
        host, advertiser = self.hosts.get(link), self.advertisers.get(link)
        if host is None and advertiser is None:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "map", link)], now)
        outputs = [] if host is None else self._absorb(host.link_changed(up, now), now)
        if advertiser is None:
            return outputs
        if not up:
            advertiser.link_down()
            return outputs
        return outputs + advertiser.start(now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on a link."""
        advertiser, host = self.advertisers.get(link), self.hosts.get(link)
        if advertiser is not None and _is_solicitation(packet):
            return self._absorb(advertiser.solicited(packet, sender, now), now)
        if host is None:
            if advertiser is None:
                return self._absorb([Discarded(Reason.NO_SUCH_LINK, "map", link)], now)
            return []  # of the access router, whose kernel sees it too
        return self._absorb(host.receive(packet, sender, now), now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """There is no host OS behind a MAP."""
        return self._absorb([Discarded(Reason.NOT_OURS, "map", "from a host OS")], now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        for host in self.hosts.values():
            outputs += self._absorb(host.handle_timer(now), now)
        for advertiser in self.advertisers.values():
            outputs += advertiser.handle_timer(now)
        for part in (self.engine, self.keys):
            if part is not None:
                outputs += self._absorb(part.handle_timer(now), now)
        return outputs

    def stopping(self, now: float) -> list[Output]:
        """The last advertisements: whoever hears them does not wait for lifetimes to end."""
        return [output for advertiser in self.advertisers.values() for output in advertiser.stop(now)]

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""
        return [] if self.keys is None else [self.keys.ike]

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        keys = self.keys
        return {
            "role": "map",
            "anchor": None if self.engine is None else self.engine.snapshot(now),
            **negotiated_snapshot([] if keys is None else [keys], now),
            "advertised": {
                link: {
                    "sent": advertiser.sent,
                    "prefixes": [f"{each.prefix}/{each.length}" for each in advertiser.advertising.prefixes],
                    "maps": [
                        {"address": str(each.address), "type": each.registration_type, "lifetime": each.lifetime}
                        for each in advertiser.advertising.options
                        if isinstance(each, ndisc.MapOption)
                    ],
                }
                for link, advertiser in self.advertisers.items()
            },
            "links": {name: host.snapshot(now) for name, host in self.hosts.items()},
            "counters": {"intercepted": self.intercepted, "reversed": self.reversed, **self.counters},
        }

    # ------------------------------------------------------------ inside

    def _absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        result: list[Output] = []
        engine = self.engine
        for output in outputs:
            match output:
                case Transmit():
                    result.append(output)
                case Arrived(packet=packet) if engine is not None:
                    result += self._absorb(self._guarded(engine, packet, now), now)
                case Arrived():
                    self.counters[f"discarded-{Reason.NOT_OURS}"] += 1
                    result.append(Discarded(Reason.NOT_OURS, "map", "this node only advertises"))
                case AddressConflict(address=address) if engine is not None and engine.is_bound(address.packed):
                    result += [output, *self._absorb(engine.conflict(address, now), now)]
                case RegionalBindingCreated(rcoa=rcoa, lcoa=lcoa) | RegionalBindingMoved(rcoa=rcoa, lcoa=lcoa):
                    result.append(output)
                    result += [] if self.keys is None else self._absorb(self.keys.moved(rcoa, lcoa, now), now)
                case Discarded(reason=reason):
                    self.counters[f"discarded-{reason}"] += 1
                    result.append(output)
                case _:
                    result.append(output)
        return result

    def _guarded(self, engine: MobilityAnchorPoint, packet: bytes, now: float) -> list[Output]:
        try:
            return self._arrived(engine, packet, now)
        except Discard as discard:
            told: list[Output] = []
            if discard.reason is Reason.SA_UNKNOWN and self.keys is not None:
                at = ip6.walk(packet).offset
                told = self.keys.unknown_spi(packet[at : at + 4], IPv6Address(packet[8:24]), now)
            return [*told, *settled(discard, "map")]

    def _arrived(self, engine: MobilityAnchorPoint, packet: bytes, now: float) -> list[Output]:
        if packet[24:40] != self._address:
            outputs = engine.intercept(packet, now)
            self.intercepted += 1
            return outputs
        if packet[6] == ip6.ICMPV6:
            return [Discarded(Reason.ICMP_IGNORED, "map", f"type {packet[40]}")]
        if packet[6] == ip6.UDP and self.keys is not None:
            payload, (source_port, port) = datagram(packet)
            if port not in PORTS or not source_port:
                raise Discard(Reason.NOT_TUNNELLED, f"UDP from port {source_port} to port {port}")
            return self.keys.packet(payload, (source_port, port), IPv6Address(packet[8:24]), now)
        if engine.is_signalling(packet):
            return engine.signalling(packet, now)
        outputs = engine.reverse(packet, now)
        self.reversed += 1
        return outputs


def _is_solicitation(packet: bytes) -> bool:
    return packet[6:7] == _ICMPV6 and packet[40:41] == _ROUTER_SOLICITATION


_ICMPV6, _ROUTER_SOLICITATION = bytes((ip6.ICMPV6,)), bytes((ndisc.ROUTER_SOLICITATION,))
