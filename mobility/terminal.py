"""The terminal of Fig. 2 put together: host OS - application IPsec - forwarding with mobile tunnel - links."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from mobility.application_keys import ApplicationKeys, application_snapshot
from mobility.discards import Discard, Reason
from mobility.hmipv6.domain import Domain
from mobility.host.host import Host
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import no_clock
from mobility.links import is_udp
from mobility.mipv6 import direct
from mobility.mipv6.route_optimization import UNDECIDED, Route
from mobility.mipv6.tunnel import (
    MobileAssociations,
    decapsulate,
    encapsulate,
    from_datagram,
    seal,
)
from mobility.negotiated import negotiated_snapshot
from mobility.outputs import Deliver, Discarded, Event, Output, Transmit
from mobility.short_way import ShortWay
from mobility.terminal_parts import HostMtuChanged as HostMtuChanged
from mobility.terminal_parts import TerminalParts
from mobility.terminal_settings import TerminalSettings as TerminalSettings


class Terminal:
    """A mobile terminal; a `Node`.

    ``application`` is the first IPsec processing part; the second, that of the mobile tunnel, is made from
    ``associations``. They share nothing. ``sequence`` is the number that the last binding update may have had; with the
    same ``secret`` a terminal has the same care-of address whenever it is in the same network (RFC 7217).

    Where several terminals share their links (`mobility.homes`), ``hosts`` are those of all and run by whoever gives
    them, and ``home_addresses`` are those of all: they are no care-of addresses.
    """

    def __init__(
        self,
        settings: TerminalSettings,
        application: IpsecProcessing,
        associations: MobileAssociations,
        random: Callable[[int], bytes],
        *,
        sequence: int = 0,
        secret: bytes | None = None,
        hosts: Mapping[str, Host] | None = None,
        home_addresses: Collection[IPv6Address] = (),
        utc: Callable[[], datetime] = no_clock,
    ) -> None:
        """Raises `ValueError`: no links, one twice, or associations that do not suit the form of the tunnel."""
        self.settings = settings
        self.application = application
        parts = self.parts = TerminalParts(
            settings,
            application,
            associations,
            random,
            sequence=sequence,
            secret=secret,
            hosts=hosts,
            home_addresses=home_addresses,
            utc=utc,
        )
        self.hosts, self.stations, self.uplinks = parts.hosts, parts.stations, parts.uplinks
        self.updates, self.scenarios, self.mobile_node = parts.updates, parts.scenarios, parts.mobile_node
        self.forwarding, self.sending, self.receiving = parts.forwarding, parts.sending, parts.receiving
        self.sent_lately, self.waiting = parts.sending.sent_lately, parts.waiting
        self.optimization, self.counters = parts.optimization, parts.counters
        self._out_of_tunnel = parts.receiving.out_of_tunnel
        self._security = parts.security
        self._form = settings.tunnel
        self._home = settings.home_address.packed
        self._timer: float | None = None

    # ------------------------------------------------------------ Node

    @property
    def host_mtu(self) -> int:
        """Octets of the largest packet that the host OS may send."""
        return self.sending.host_mtu

    @property
    def network_mtu(self) -> int:
        """The same of nodes in the networks behind this one."""
        return self.sending.network_mtu

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._timer

    def start(self, now: float) -> list[Output]:
        """Nothing happens until a link comes up."""
        return []

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of a link came or went."""
        host = self.hosts.get(link)
        if host is None:
            return self._finish([Discarded(Reason.NO_SUCH_LINK, "terminal", link)])
        return self._finish(self.parts.absorb(host.link_changed(up, now), now))

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        """A link of UDP has another address of ours from now on; None: it is gone."""
        movement, before = self.mobile_node.movement, self.uplinks.address(link)
        present = self.uplinks.udp_changed(link, address, mtu)
        if before is not None and before != present:
            movement.address_lost(link, before, now)
        if present is not None:
            movement.address_ready(link, present, now)
        return self._finish(self.parts.moved(now))

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        """The order of preference of the interfaces is another one."""
        if self.parts.below is None:
            self.mobile_node.movement.interfaces_changed(order)
        else:
            self.parts.below.regional.interfaces_changed(order)
        return self._finish(self.parts.absorb([], now) + self.parts.moved(now))

    def resumed(self, now: float) -> list[Output]:
        """The machine was asleep: whether the links lead where they led is found out anew."""
        outputs: list[Output] = []
        for host in self.parts.own_hosts.values():
            if host.up:
                outputs += self.parts.absorb(host.link_changed(False, now), now)
                outputs += self.parts.absorb(host.link_changed(True, now), now)
        return self._finish([*outputs, *self.parts.absorb(self.mobile_node.refresh(now), now)])

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet: application IPsec, then send routine 100."""
        path, sending = self.parts.path, self.sending
        size = len(packet)
        if (
            path is not None
            and packet[8:24] == self._home
            and 44 <= size <= sending.host_mtu
            and packet[24] < 0xFE
            and packet[4] << 8 | packet[5] == size - 40
            and packet[0] >> 4 == 6
        ):
            if sending.optimizes:
                way = self.optimization.ways.get(packet[24:40], UNDECIDED)
                if way is not None:
                    return self._optimized(packet, way, path.link, now)
            # The short way: the same steps as `Sending.from_host`, for packets that need no thought.
            udp, below = path.endpoint, path.below
            to = path.next_hop(path.agent) if udp is None else udp
            if to is not None or below is not None:
                try:
                    protected = self.application.protect(packet)
                    if udp is None:
                        outer = encapsulate(protected, path.outbound_ends, self._form, self._security)
                    else:
                        outer = seal(protected, path.outbound_ends, self._form, self._security)[1]
                except Discard as discard:
                    return self._finish(sending.unsealed(packet, discard, now))
                self.sent_lately.sealed(protected, now)
                if to is None:
                    return self._into_domain(outer, path, now)
                if udp is not None or len(outer) <= path.mtu:
                    sending.sent += 1
                    return [Transmit(outer, to, path.link)]
                return self._finish(self.parts.put(path.link, outer, now))
        return self._finish(sending.from_host(packet, now))

    def from_network(self, packet: bytes, now: float) -> list[Output]:
        """A packet of a node in a mobile network behind this one, which the caller has looked at: into the tunnel."""
        path = self.parts.path
        if path is not None and path.endpoint is None and (to := path.next_hop(path.agent)) is not None:
            try:
                outer = encapsulate(packet, path.outbound_ends, self._form, self._security)
            except Discard as discard:
                return self._finish([Discarded.of(discard, "send-routine")])
            self.sent_lately.sealed(packet, now)
            if len(outer) <= path.mtu:
                self.sending.sent += 1
                return [Transmit(outer, to, path.link)]
            return self._finish(self.parts.put(path.link, outer, now))
        return self._finish(self.sending.from_network(packet, now))

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on a link: the host's, the mobile node's, or through receive routine 120 for a program."""
        path = self.parts.path
        if path is not None and path.below is not None and path.below.brings(packet, link):
            return self._from_domain(packet, path.below, path, now)
        if path is not None and link == path.link:
            # The short way: the same steps as `Host.receive` and `Forwarding.receive`.
            try:
                if path.endpoint is not None:
                    if sender != path.endpoint or packet[:4] != path.inbound_spi:
                        return self._finish(self.receiving.datagram(link, packet, sender, now))
                    inner = from_datagram(packet, path.inbound_ends, self._form, self._security)
                elif (
                    packet[8:40] == path.inbound_ends
                    and packet[6] == path.protocol
                    and (packet[40:44] == path.inbound_spi or path.inbound_spi is None)
                    and packet[4] << 8 | packet[5] == len(packet) - 40
                    and packet[0] >> 4 == 6
                ):
                    inner = decapsulate(packet, self._form, self._security)
                elif (
                    packet[24:40] == path.outbound_ends[:16]
                    and (way := self.optimization.ways.get(packet[8:24])) is not None
                    and (quick := direct.quickly_from_correspondent(packet)) is not None
                    and quick[24:40] == self._home
                ):
                    outputs = self._out_of_tunnel(quick, now)
                    if outputs and type(outputs[0]) is Deliver:
                        way.heard += 1  # a stranger can send such packets, but not such that are delivered
                        return outputs
                    return self._finish(outputs)
                else:
                    return self._finish(self.parts.absorb(self.hosts[link].receive(packet, sender, now), now))
                if inner[24:40] != self._home:
                    self.forwarding.check_inner(inner)
            except Discard as discard:
                return self._finish(self.receiving.not_received(discard, now))
            outputs = self._out_of_tunnel(inner, now)
            return outputs if outputs and type(outputs[0]) is Deliver else self._finish(outputs)
        if is_udp(link):
            return self._finish(self.receiving.datagram(link, packet, sender, now))
        host = self.hosts.get(link)
        if host is None:
            return self._finish([Discarded(Reason.NO_SUCH_LINK, "terminal", link)])
        return self._finish(self.parts.absorb(host.receive(packet, sender, now), now))

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        return self._finish(self.parts.handle_timer(now))

    # ------------------------------------------------------------ one of several (`mobility.homes`)

    def heard(self, events: Sequence[Event], now: float) -> list[Output]:
        """These things happened on the links; who tells it has told the outside already."""
        outputs = self.parts.absorb(events, now)
        return self._finish([output for output in outputs if not any(output is event for event in events)])

    def arrived(self, packet: bytes, link: str, now: float) -> list[Output]:
        """A whole packet that the host of a link does not handle."""
        return self._finish(self.parts.from_below(packet, link, now))

    def receives_by(self, spi: int) -> bool:
        """Whether ESP with this SPI is for this terminal's tunnel, or its signalling."""
        return self._security.knows(spi)

    def retire(self, now: float) -> list[Output]:
        """Another terminal takes its place, or none: the links do without its home address."""
        return self.parts.homecoming.leave(now)

    # ------------------------------------------------------------ for people

    def command(self, name: str, now: float) -> list[Output]:
        """``reregister``, ``rekey`` (negotiated keys), ``probe`` (the round trip), ``move LINK`` (prefer it), ``roam``
        (prefer none any more), ``return-home``; ``optimize ADDRESS`` and ``tunnel ADDRESS``: how packets of a
        correspondent go; ``scenario enable NUMBER`` and ``scenario disable NUMBER``: the policy table, which counts at
        once. Raises `ValueError` for anything else."""
        movement = self.mobile_node.movement
        match name.split():
            case ["reregister"]:
                return self._finish(self.parts.absorb(self.mobile_node.refresh(now), now))
            case ["rekey"] if self.parts.negotiators:
                return self._finish(self.parts.rekey(now))
            case ["probe"]:
                return self._finish(self.parts.probe(now))
            case ["move", link]:
                self._prefer(link)
            case ["roam"]:
                self._prefer(None)
            case ["return-home"]:
                home = movement.home_link()
                if home is None:
                    raise ValueError(f"no link hears the home network {movement.home_prefix}; connect one to it first")
                movement.prefer(home)
            case ["optimize", address]:
                return self._finish(self.optimization.ask(_address(address), now))
            case ["tunnel", address]:
                return self._finish(self.optimization.dismiss(_address(address), now))
            case ["scenario", "enable" | "disable" as verb, number]:
                self.scenarios.enable(self.scenarios.number(number), verb == "enable")
                return self._finish([*self.parts.absorb(self.mobile_node.refresh(now), now), *self.parts.follow(now)])
            case _:
                known = "reregister, rekey (where keys are negotiated), probe, move LINK, roam, return-home,"
                known += " optimize ADDRESS, tunnel ADDRESS,"
                known += " scenario enable NUMBER, scenario disable NUMBER"
                raise ValueError(f"there is no command {name!r}; there are: {known}")
        return self._finish(self.parts.absorb([], now) + self.parts.moved(now))

    def _prefer(self, link: str | None) -> None:
        self.mobile_node.movement.prefer(link)
        if self.parts.below is not None:
            self.parts.below.regional.prefer(link)

    def ipsec_parts(self) -> list[tuple[str, IpsecProcessing]]:
        """As `mobility.packet_stream.HasIpsec` wants it."""
        below = self.parts.below
        regional = [] if below is None else below.regional.ipsec_parts()
        return [
            ("application", self.application),
            ("tunnel", self._security),
            *(("regional", processing) for processing in regional),
        ]

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""
        return [each.ike for each in self.parts.negotiators]

    @property
    def application_keys(self) -> ApplicationKeys | None:
        """Those of the application that are negotiated, if they are."""
        return self.parts.application_keys

    def negotiate(self, operation: Callable[[ApplicationKeys], list[Output]], now: float) -> list[Output]:
        """Has `application_keys` do something, if there are any. Raises what that raises."""
        keys = self.application_keys
        return [] if keys is None else self._finish(operation(keys))

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "terminal",
            "mobile_node": self.mobile_node.snapshot(now),
            "scenarios": self.scenarios.snapshot(),
            "no_scenario": self.scenarios.lacking,
            "forwarding": self.forwarding.snapshot(),
            "regional": None if self.parts.below is None else self.parts.below.regional.snapshot(now),
            "route_optimization": self.optimization.snapshot(now),
            "application": self.application.spd.describe(),
            **negotiated_snapshot(self.parts.negotiators, now),
            **application_snapshot(self.application_keys, now),
            "links": {name: host.snapshot(now) for name, host in self.hosts.items()},
            "host_mtu": self.sending.host_mtu,
            "home_network": self.parts.home_network.discovery.snapshot(now),
            "waiting": len(self.waiting),
            "liveness": self.parts.watch.snapshot(now),
            "sent_lately": self.sent_lately.snapshot(),
            "counters": {"sent": self.sending.sent, "delivered": self.receiving.delivered, **self.counters},
        }

    def _optimized(self, packet: bytes, way: Route, link: str, now: float) -> list[Output]:
        """A packet that needs no thought but for where it goes."""
        if way is UNDECIDED:
            return self._finish(self.sending.from_host(packet, now))
        try:
            protected = self.application.protect(packet)
            if not direct.can_go_direct(protected):
                return self._finish(self.sending.on_its_way(protected, link, now))
        except Discard as discard:
            return self._finish(self.sending.unsealed(packet, discard, now))
        station, to = self.stations[link], packet[24:40]
        outer = direct.to_correspondent(protected, way.care_of, self._home)
        way.sent += 1
        self.optimization.sent_directly.keep(to, protected, now)
        self.sending.sent += 1
        hop = station.next_hop(to)
        if hop is not None and len(outer) <= station.path_mtu(to):
            return [Transmit(outer, hop, link)]
        return self._finish(self.parts.put(link, outer, now))

    def _into_domain(self, outer: bytes, path: ShortWay, now: float) -> list[Output]:
        """The short way through the domain of a MAP."""
        self.sending.sent += 1
        outputs = self.stations[path.link].send(outer, now)
        if len(outputs) == 1 and type(outputs[0]) is Transmit:
            return outputs
        return self._finish(self.parts.absorb(outputs, now))

    def _from_domain(self, packet: bytes, below: Domain, path: ShortWay, now: float) -> list[Output]:
        """And back: the same steps as `Hierarchy.packet` and `Forwarding.receive`."""
        try:
            middle = below.opened(packet, now)
            if (
                middle[8:40] != path.inbound_ends
                or middle[6] != path.protocol
                or (path.inbound_spi is not None and middle[40:44] != path.inbound_spi)
            ):
                return self._finish(self.parts.absorb(below.above(middle, now), now))
        except Discard as discard:
            return self._finish([Discarded.of(discard, "regional")])
        try:
            inner = decapsulate(middle, self._form, self._security)
            self.forwarding.check_inner(inner)
        except Discard as discard:
            return self._finish(self.receiving.not_received(discard, now))
        outputs = self._out_of_tunnel(inner, now)
        return outputs if outputs and type(outputs[0]) is Deliver else self._finish(outputs)

    def _finish(self, outputs: list[Output]) -> list[Output]:
        """Every way out but the two short ones, which change no timer: discards are counted, `timer` is set."""
        for output in outputs:
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
        self._timer = self.parts.timer
        return outputs


def _address(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address; name that of a correspondent, as 2001:db8::1") from None
