"""The plain nodes of a network in memory: a router and an end host. Both stand on `mobility.host.Host`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from mobility.discards import Reason
from mobility.host import Host
from mobility.host.identifiers import eui64
from mobility.outputs import Arrived, Deliver, Discarded, Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.errors import WireError
from mobility.wire.ndisc import Preference

Random = Callable[[int], bytes]


@dataclass(slots=True)
class RouterInterface:
    """One link of a router, and what it advertises there. May be changed while it runs."""

    link: str
    mac: bytes
    address: IPv6Interface
    "The router's own address and the prefix that is on-link."
    advertised: tuple[IPv6Network, ...] = ()
    "Prefixes for autoconfiguration."
    lifetime: int = 1800
    "Seconds as a default router; 0: is none."
    valid_lifetime: int = 86400
    preferred_lifetime: int = 14400
    interval: float = 30.0
    "Seconds between unsolicited advertisements, on average; 0: never any."
    mtu: int = 1500
    advertise_mtu: bool = False
    preference: Preference = Preference.MEDIUM
    home_agent: bool = False
    maps: tuple[ndisc.MapOption, ...] = ()


class SimRouter:
    """A router: forwards between its links, advertises itself, answers solicitations at once. A `Node`."""

    def __init__(
        self,
        interfaces: Sequence[RouterInterface],
        random: Random,
        routes: Mapping[IPv6Network, IPv6Address] | None = None,
    ) -> None:
        """``routes``: network -> address of the next router, which is on one of the links; the longest prefix wins."""
        self.interfaces = {interface.link: interface for interface in interfaces}
        self.hosts = {
            interface.link: Host(
                interface.link,
                interface.mac,
                interface.mtu,
                random,
                interface_identifier=eui64(interface.mac),
                duplicate_detection=False,
                router=True,
            )
            for interface in interfaces
        }
        self.routes = dict(routes or {})
        self.beyond: tuple[IPv6Network, ...] = ()
        "Networks behind the router that are not on its links: packets for them are its host OS's (`World.gateway`)."
        self.forwarded = 0
        self._random = random
        self._next_advertisement: dict[str, float] = {}

    # ---------------------------------------------------------------- node

    @property
    def timer(self) -> float | None:
        times = [host.timer for host in self.hosts.values()]
        return min([time for time in times if time is not None] + list(self._next_advertisement.values()), default=None)

    def start(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for link, interface in self.interfaces.items():
            address, length = interface.address.ip, interface.address.network.prefixlen
            outputs += self.hosts[link].add_address(address, now, prefix_length=length)
        return outputs

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        outputs = self.hosts[link].link_changed(up, now)
        if not up:
            self._next_advertisement.pop(link, None)
            return outputs
        return outputs + self._advertise_regularly(link, now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        if self._is_to_be_forwarded(packet):
            return self._forward(link, packet, now)
        outputs: list[Output] = []
        for output in self.hosts[link].receive(packet, sender, now):
            if isinstance(output, Arrived):
                outputs += self._take(output, now)
            else:
                outputs.append(output)
        return outputs

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        return self._route(packet, None, now)

    def handle_timer(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for host in self.hosts.values():
            if host.timer is not None and host.timer <= now:
                outputs += host.handle_timer(now)
        for link, time in list(self._next_advertisement.items()):
            if time <= now:
                outputs += self._advertise_regularly(link, now)
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        return {
            "links": {link: host.snapshot(now) for link, host in self.hosts.items()},
            "routes": {str(network): str(hop) for network, hop in self.routes.items()},
            "forwarded": self.forwarded,
        }

    # ---------------------------------------------------------------- advertisements

    def advertise(self, link: str, now: float, to: bytes = ndisc.ALL_NODES.packed) -> list[Output]:
        """A router advertisement with what the interface says at this moment."""
        interface, host = self.interfaces[link], self.hosts[link]
        options: list[ndisc.Option] = [ndisc.SourceLinkAddress(interface.mac)]
        if interface.advertise_mtu:
            options.append(ndisc.Mtu(interface.mtu))
        options += (
            ndisc.PrefixInformation(
                prefix.network_address, prefix.prefixlen, interface.valid_lifetime, interface.preferred_lifetime
            )
            for prefix in interface.advertised
        )
        options += interface.maps
        message = ndisc.RouterAdvertisement(
            interface.lifetime,
            64,
            home_agent=interface.home_agent,
            preference=interface.preference,
            options=tuple(options),
        )
        source = ndisc_source(interface.mac)
        return host.send(ndisc.packet(source, to, message), now)

    def _advertise_regularly(self, link: str, now: float) -> list[Output]:
        interface = self.interfaces[link]
        self._next_advertisement.pop(link, None)
        if interface.interval <= 0:
            return []
        spread = 0.75 + 0.5 * self._random(1)[0] / 255
        self._next_advertisement[link] = now + interface.interval * spread
        return self.advertise(link, now)

    def _take(self, arrived: Arrived, now: float) -> list[Output]:
        packet, link = arrived
        if packet[6] == ip6.ICMPV6 and packet[40] == ndisc.ROUTER_SOLICITATION:
            source = packet[8:24]
            return self.advertise(link, now, source if any(source) else ndisc.ALL_NODES.packed)
        return [Deliver(packet)]

    # ---------------------------------------------------------------- forwarding

    def _is_to_be_forwarded(self, packet: bytes) -> bool:
        if len(packet) < ip6.HEADER_SIZE:
            return False
        destination = packet[24:40]
        if destination[0] == 0xFF or (destination[0] == 0xFE and destination[1] & 0xC0 == 0x80):
            return False
        return not any(interface.address.packed == destination for interface in self.interfaces.values())

    def _forward(self, link: str, packet: bytes, now: float) -> list[Output]:
        try:
            packet = ip6.check(packet)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, "router", str(error))]
        source = IPv6Address(packet[8:24])
        if source.is_link_local or source.is_multicast or source.is_unspecified:
            return [Discarded(Reason.NOT_FORWARDED, "router", f"source {source}")]
        if packet[7] <= 1:
            told = self._tell(link, icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now)
            return [Discarded(Reason.HOP_LIMIT, "router", f"from {source}"), *told]
        self.forwarded += 1
        return self._route(b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:]), link, now)

    def _route(self, packet: bytes, came_from: str | None, now: float) -> list[Output]:
        destination = IPv6Address(packet[24:40])
        hop = destination
        link = self._connected(destination)
        if link is None:
            if any(destination in network for network in self.beyond):
                return [Deliver(packet)]
            matching = [network for network in self.routes if destination in network]
            if matching:
                hop = self.routes[max(matching, key=lambda network: network.prefixlen)]
                link = self._connected(hop)
        if link is None:
            if came_from is None:
                return [Discarded(Reason.NO_ROUTE, "router", f"to {destination}")]
            told = self._tell(came_from, icmp6.DestinationUnreachable(icmp6.NO_ROUTE, packet), now)
            return [Discarded(Reason.NO_ROUTE, "router", f"to {destination}"), *told]
        mtu = self.interfaces[link].mtu
        if len(packet) > mtu and came_from is not None:
            told = self._tell(came_from, icmp6.PacketTooBig(mtu, packet), now)
            return [Discarded(Reason.TOO_BIG, "router", f"{len(packet)} octets for an MTU of {mtu}"), *told]
        return self.hosts[link].send_via(packet, hop.packed, now)

    def _tell(self, came_from: str, error: icmp6.Error, now: float) -> list[Output]:
        """The sender of a packet is told by our own routes, as a kernel does it; the host of a link has none."""
        if not icmp6.may_be_answered_with_error(error.invoking, isinstance(error, icmp6.PacketTooBig)):
            return []
        source, to = self.interfaces[came_from].address.ip, IPv6Address(error.invoking[8:24])
        return self._route(icmp6.packet(source, to, error), None, now)

    def _connected(self, address: IPv6Address) -> str | None:
        for link, interface in self.interfaces.items():
            if address in interface.address.network or any(address in prefix for prefix in interface.advertised):
                return link
        return None


def ndisc_source(mac: bytes) -> bytes:
    """The link-local address of a `SimRouter` interface."""
    return b"\xfe\x80" + bytes(6) + eui64(mac)


class EndHost:
    """A plain IPv6 node with one link: packets of its programs out, packets for them in. A `Node`."""

    def __init__(
        self,
        link: str,
        mac: bytes,
        random: Random,
        *,
        mtu: int = 1500,
        addresses: Sequence[IPv6Interface] = (),
        secret: bytes | None = None,
    ) -> None:
        """``addresses``: configured ones, besides those that routers give."""
        self.host = Host(link, mac, mtu, random, secret=secret)
        self.replies: list[tuple[float, icmp6.Echo]] = []
        "Answers to `ping`, with their time."
        self._addresses = addresses

    @property
    def timer(self) -> float | None:
        return self.host.timer

    def start(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for address in self._addresses:
            outputs += self.host.add_address(address.ip, now, prefix_length=address.network.prefixlen)
        return outputs

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        return self.host.link_changed(up, now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        return [self._up(output, now) for output in self.host.receive(packet, sender, now)]

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        return [self._up(output, now) for output in self.host.send(packet, now)]

    def handle_timer(self, now: float) -> list[Output]:
        return self.host.handle_timer(now)

    def snapshot(self, now: float) -> dict[str, object]:
        return self.host.snapshot(now)

    def ping(self, destination: IPv6Address, sequence: int, now: float, size: int = 56) -> list[Output]:
        """An echo request from the best source address; nothing happens without one."""
        source = self.host.source_for(destination.packed)
        if source is None:
            return [Discarded(Reason.NO_ROUTE, "ping", f"no address to reach {destination} from")]
        request = icmp6.Echo(0x7069, sequence & 0xFFFF, bytes(size))
        return self.host.send(icmp6.packet(source, destination, request), now)

    def _up(self, output: Output, now: float) -> Output:
        if not isinstance(output, Arrived):
            return output
        packet = output.packet
        if packet[6] == ip6.ICMPV6 and packet[40] == icmp6.ECHO_REPLY:
            self.replies.append((now, icmp6.Echo.parse(packet[40:])))
        return Deliver(packet)
