"""The terminal of Fig. 2 put together: host OS - application IPsec - forwarding with mobile tunnel - links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mobility.discards import Discard, Reason
from mobility.forwarding import Forwarding
from mobility.hierarchy import Hierarchy
from mobility.hmipv6.domain import Domain
from mobility.hmipv6.regional import Regional, Station
from mobility.home_network_watch import HomeNetworkWatch
from mobility.homecoming import Homecoming
from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, PathMtuChanged, RouterFound, RouterLost
from mobility.host.host import Host
from mobility.ipsec.processing import IpsecProcessing
from mobility.links import is_udp
from mobility.mipv6 import direct
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.liveness import Verdict
from mobility.mipv6.mobile_node import MobileNode, MobileNodeSettings
from mobility.mipv6.movement import Attachment
from mobility.mipv6.place_binding import HomeAddress4Assigned, HomeAddress4Refused
from mobility.mipv6.registration import HomeAgentUnreachable, ReturnedHome
from mobility.mipv6.route_optimization import UNDECIDED, Route
from mobility.mipv6.signalling import received, unwrap
from mobility.mipv6.tunnel import (
    MobileAssociations,
    TunnelForm,
    decapsulate,
    encapsulate,
    from_datagram,
    seal,
    terminal_policies,
)
from mobility.nemo.mobile_networks import Prefixes
from mobility.outputs import Arrived, Deliver, Discarded, Event, Output, Transmit
from mobility.path_watch import PathWatch
from mobility.receiving import Receiving
from mobility.scenario.policy import SCENARIOS, NoScenario, ScenarioPolicy
from mobility.sending import Sending
from mobility.short_way import ShortWay, short_way
from mobility.terminal_settings import TerminalSettings as TerminalSettings
from mobility.uplinks import Uplinks
from mobility.wire import ip6


@dataclass(frozen=True, slots=True)
class HostMtuChanged(Event):
    """The host OS's interface should have this MTU (octets): what is longer does not fit through both IPsec layers."""

    mtu: int


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
    ) -> None:
        """Raises `ValueError`: no links, one twice, or associations that do not suit the form of the tunnel."""
        names = [link.name for link in settings.links]
        if len(set(names)) != len(names):
            raise ValueError("a terminal has each link only once")
        self.settings = settings
        self.application = application
        self.updates = BindingUpdateList()
        self.scenarios = ScenarioPolicy((*SCENARIOS, *settings.more_scenarios), settings.scenarios)
        networks = self._networks = Prefixes(settings.mobile_networks)
        tunnel_security = terminal_policies(
            settings.home_address, settings.home_agent, settings.tunnel, associations, networks.networks
        )
        self.forwarding = Forwarding(
            settings.home_address, settings.home_agent, settings.tunnel, tunnel_security, self.updates, networks
        )
        self._own_hosts = (
            {link.name: Host(link.name, link.link_address, link.mtu, random, secret=secret) for link in settings.links}
            if hosts is None
            else {}
        )
        self.hosts = self._own_hosts if hosts is None else hosts
        self._home_addresses = home_addresses or (settings.home_address,)
        if networks:
            for host in self.hosts.values():
                host.forwards = networks.__contains__
        self.stations: dict[str, Station] = dict(self.hosts)
        "Those, and the domains of MAPs."
        self.uplinks = Uplinks(self.stations, settings.home_agent, settings.home_agent4, settings.udp_port)
        self._homecoming = Homecoming(settings.home_address, settings.home_agent, self.hosts)
        self.mobile_node = MobileNode(
            MobileNodeSettings(
                settings.home_address,
                settings.home_agent,
                settings.interfaces or names,
                settings.home_prefix_length,
                settings.lifetime,
                settings.key_management,
                settings.overlap,
                settings.home_address4,
                bool(networks),
                networks.networks if settings.explicit else (),
            ),
            tunnel_security,
            self.updates,
            self.scenarios,
            self.uplinks.send,
            sequence,
            None if (tunnel_in := associations.tunnel_in) is None else lambda: tunnel_in.top,
        )
        self.sending = Sending(
            settings,
            application,
            self.forwarding,
            self.mobile_node,
            self.scenarios,
            associations.tunnel_out,
            self._put,
            random,
        )
        self.sent_lately, self.waiting = self.sending.sent_lately, self.sending.waiting
        self.optimization = self.sending.optimization
        self.forwarding.accepts_direct = self.optimization.accepts
        self.counters: Counter[str] = Counter()
        self._below = self._hierarchy(settings, names, sequence, random, secret)
        self._watch = PathWatch(
            settings.home_address, settings.home_agent, settings.keepalive, int.from_bytes(random(2))
        )
        self.receiving = Receiving(
            settings,
            application,
            self.forwarding,
            self.mobile_node,
            self.scenarios,
            self.optimization,
            self.uplinks,
            self._watch,
            None if (signalling := associations.signalling_in) is None else signalling.spi,
            self._signalling,
            self.counters,
        )
        if (below := self._below) is not None:
            above = self.mobile_node
            self.receiving.overlapping = lambda now: above.overlapping(now) or below.regional.overlapping(now)
        self._out_of_tunnel = self.receiving.out_of_tunnel
        self._home_network = HomeNetworkWatch(settings, tunnel_security, self.mobile_node, self._put, random)
        inbound = (associations.signalling_in, associations.tunnel_in)
        self.inbound_spis = tuple(each.spi.to_bytes(4) for each in inbound if each is not None)
        "Four octets each: what comes under these is for this terminal."
        self._security = tunnel_security
        self._form = settings.tunnel
        self._home = settings.home_address.packed
        data = associations.tunnel_in
        self._tunnel_spi = None if data is None else data.spi.to_bytes(4)
        self._path: ShortWay | None = None
        self._timer: float | None = None
        self.sending.measure(self.uplinks.smallest_mtu())

    def _hierarchy(
        self,
        settings: TerminalSettings,
        names: list[str],
        sequence: int,
        random: Callable[[int], bytes],
        secret: bytes | None,
    ) -> Hierarchy | None:
        if settings.regional is None:
            return None
        mobile_node = self.mobile_node
        regional = Regional(
            settings.regional,
            self.hosts,
            self.stations,
            mobile_node.movement,
            lambda: mobile_node.places,
            settings.interfaces or names,
            settings.home_address,
            mobile_node.movement.home_prefix,
            random(32) if secret is None else secret,
            sequence=sequence,
            again=settings.tunnel is not TunnelForm.PLAIN,
        )
        return Hierarchy(regional, self.scenarios, self.forwarding)

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
        return self._finish(self._absorb(host.link_changed(up, now), now))

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        """A link of UDP has another address of ours from now on; None: it is gone."""
        movement, before = self.mobile_node.movement, self.uplinks.address(link)
        present = self.uplinks.udp_changed(link, address, mtu)
        if before is not None and before != present:
            movement.address_lost(link, before, now)
        if present is not None:
            movement.address_ready(link, present, now)
        return self._finish(self._moved(now))

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        """The order of preference of the interfaces is another one."""
        if self._below is None:
            self.mobile_node.movement.interfaces_changed(order)
        else:
            self._below.regional.interfaces_changed(order)
        return self._finish(self._absorb([], now) + self._moved(now))

    def resumed(self, now: float) -> list[Output]:
        """The machine was asleep: whether the links lead where they led is found out anew."""
        outputs: list[Output] = []
        for host in self._own_hosts.values():
            if host.up:
                outputs += self._absorb(host.link_changed(False, now), now)
                outputs += self._absorb(host.link_changed(True, now), now)
        return self._finish([*outputs, *self._absorb(self.mobile_node.refresh(now), now)])

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet: application IPsec, then send routine 100."""
        path, sending = self._path, self.sending
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
                    return self._finish([Discarded.of(discard, "send-routine")])
                self.sent_lately.sealed(protected, now)
                if to is None:
                    return self._into_domain(outer, path, now)
                if udp is not None or len(outer) <= path.mtu:
                    sending.sent += 1
                    return [Transmit(outer, to, path.link)]
                return self._finish(self._put(path.link, outer, now))
        return self._finish(sending.from_host(packet, now))

    def from_network(self, packet: bytes, now: float) -> list[Output]:
        """A packet of a node in a mobile network behind this one, which the caller has looked at: into the tunnel."""
        path = self._path
        if path is not None and path.endpoint is None and (to := path.next_hop(path.agent)) is not None:
            try:
                outer = encapsulate(packet, path.outbound_ends, self._form, self._security)
            except Discard as discard:
                return self._finish([Discarded.of(discard, "send-routine")])
            self.sent_lately.sealed(packet, now)
            if len(outer) <= path.mtu:
                self.sending.sent += 1
                return [Transmit(outer, to, path.link)]
            return self._finish(self._put(path.link, outer, now))
        return self._finish(self.sending.from_network(packet, now))

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on a link: the host's, the mobile node's, or through receive routine 120 for a program."""
        path = self._path
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
                    if type(outputs[0]) is Deliver:
                        way.heard += 1  # a stranger can send such packets, but not such that are delivered
                    return outputs
                else:
                    return self._finish(self._absorb(self.hosts[link].receive(packet, sender, now), now))
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
        return self._finish(self._absorb(host.receive(packet, sender, now), now))

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        for host in self._own_hosts.values():
            if host.timer is not None and host.timer <= now:
                outputs += self._absorb(host.handle_timer(now), now)
        if self._below is not None:
            outputs += self._absorb(self._below.handle_timer(now), now)
        outputs += self._absorb(self.mobile_node.handle_timer(now), now)
        outputs += self._look(now)
        outputs += self.optimization.handle_timer(now)
        outputs += self._moved(now) if self.mobile_node.undecided else self._follow(now)
        outputs += self.waiting.expire(now)
        outputs += self._absorb(self._homecoming.handle_timer(now), now)
        outputs += self._home_network.handle_timer(now)
        return self._finish(outputs)

    # ------------------------------------------------------------ one of several (`mobility.homes`)

    def heard(self, events: Sequence[Event], now: float) -> list[Output]:
        """These things happened on the links; who tells it has told the outside already."""
        outputs = self._absorb(events, now)
        return self._finish([output for output in outputs if not any(output is event for event in events)])

    def arrived(self, packet: bytes, link: str, now: float) -> list[Output]:
        """A whole packet that the host of a link does not handle."""
        return self._finish(self._from_below(packet, link, now))

    def retire(self, now: float) -> list[Output]:
        """Another terminal takes its place, or none: the links do without its home address."""
        return self._homecoming.leave(now)

    # ------------------------------------------------------------ for people

    def command(self, name: str, now: float) -> list[Output]:
        """``reregister``, ``move LINK`` (prefer it), ``return-home``; ``optimize ADDRESS`` and ``tunnel ADDRESS``: how
        packets of a correspondent go; ``scenario enable NUMBER`` and ``scenario disable NUMBER``: the policy table,
        which counts at once. Raises `ValueError` for anything else."""
        movement = self.mobile_node.movement
        match name.split():
            case ["reregister"]:
                return self._finish(self._absorb(self.mobile_node.refresh(now), now))
            case ["move", link]:
                movement.prefer(link)
                if self._below is not None:
                    self._below.regional.prefer(link)
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
                return self._finish([*self._absorb(self.mobile_node.refresh(now), now), *self._follow(now)])
            case _:
                known = "reregister, move LINK, return-home, optimize ADDRESS, tunnel ADDRESS, scenario enable NUMBER,"
                known += " scenario disable NUMBER"
                raise ValueError(f"there is no command {name!r}; there are: {known}")
        return self._finish(self._absorb([], now) + self._moved(now))

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "terminal",
            "mobile_node": self.mobile_node.snapshot(now),
            "scenarios": self.scenarios.snapshot(),
            "no_scenario": self.scenarios.lacking,
            "forwarding": self.forwarding.snapshot(),
            "regional": None if self._below is None else self._below.regional.snapshot(now),
            "route_optimization": self.optimization.snapshot(now),
            "application": self.application.spd.describe(),
            "links": {name: host.snapshot(now) for name, host in self.hosts.items()},
            "host_mtu": self.sending.host_mtu,
            "home_network": self._home_network.discovery.snapshot(now),
            "waiting": len(self.waiting),
            "liveness": self._watch.snapshot(now),
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
            return self._finish([Discarded.of(discard, "send-routine")])
        station, to = self.stations[link], packet[24:40]
        outer = direct.to_correspondent(protected, way.care_of, self._home)
        way.sent += 1
        self.optimization.sent_directly.keep(to, protected, now)
        self.sending.sent += 1
        hop = station.next_hop(to)
        if hop is not None and len(outer) <= station.path_mtu(to):
            return [Transmit(outer, hop, link)]
        return self._finish(self._put(link, outer, now))

    def _into_domain(self, outer: bytes, path: ShortWay, now: float) -> list[Output]:
        """The short way through the domain of a MAP."""
        self.sending.sent += 1
        outputs = self.stations[path.link].send(outer, now)
        if len(outputs) == 1 and type(outputs[0]) is Transmit:
            return outputs
        return self._finish(self._absorb(outputs, now))

    def _from_domain(self, packet: bytes, below: Domain, path: ShortWay, now: float) -> list[Output]:
        """And back: the same steps as `Hierarchy.packet` and `Forwarding.receive`."""
        try:
            middle = below.opened(packet, now)
            if (
                middle[8:40] != path.inbound_ends
                or middle[6] != path.protocol
                or (path.inbound_spi is not None and middle[40:44] != path.inbound_spi)
            ):
                return self._finish(self._absorb(below.above(middle, now), now))
        except Discard as discard:
            return self._finish([Discarded.of(discard, "regional")])
        try:
            inner = decapsulate(middle, self._form, self._security)
            self.forwarding.check_inner(inner)
        except Discard as discard:
            return self._finish(self.receiving.not_received(discard, now))
        outputs = self._out_of_tunnel(inner, now)
        return outputs if outputs and type(outputs[0]) is Deliver else self._finish(outputs)

    # ------------------------------------------------------------ what the parts say

    def _look(self, now: float) -> list[Output]:
        match self._watch.look(now, self.sending.sent, self.receiving.delivered):
            case Verdict.NOTHING:
                return []
            case Verdict.DEAD:
                present = self.mobile_node.present
                outputs = self._absorb(self.mobile_node.dead(now), now)
                if present is not None and present.link in self.stations:
                    outputs += self._absorb(self.stations[present.link].suspect(now), now)
                return outputs
            case Verdict.ASK:
                present = self.mobile_node.present
                if present is None or self.forwarding.tunnel is None:
                    return []
                try:
                    outer = self.forwarding.send(self._watch.question())
                except Discard as discard:
                    return [Discarded.of(discard, "liveness")]
                return self._put(present.link, outer, now)

    def _put(self, link: str, packet: bytes, now: float) -> list[Output]:
        """A packet onto a link, and what the link says to it."""
        return self._absorb(self.uplinks.send(link, packet, now), now)

    def _signalling(self, packet: bytes, link: str, now: float) -> list[Output]:
        """The home agent says something: routine 70, then routine 60 of scenario processing."""
        try:
            clear, under_ipsec = unwrap(packet, self._security)  # steps 71 to 74
            if clear[6] == ip6.ICMPV6:
                return self._home_network.receive(clear, now)
            outputs, handed_on = self.mobile_node.receive(received(packet, clear, under_ipsec), now, link)
        except Discard as discard:
            return [Discarded.of(discard, "ba-routine")]
        outputs = self._absorb(outputs, now)
        if link in self.stations:
            outputs += self._absorb(self.stations[link].confirm(packet[8:24], now), now)
        if handed_on is not None:
            try:
                outputs += self.scenarios.process(handed_on, self.forwarding)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "scenario"))
                if handed_on.situation.acknowledgement.accepted:
                    outputs += self._absorb([self.scenarios.none_fits(discard.detail)], now)
        return outputs + self._follow(now)

    def _absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        """Acts on what the own parts say; the rest, and every event, goes on to the outside."""
        result: list[Output] = []
        moved = changed = False
        movement, homes, below = self.mobile_node.movement, self._home_addresses, self._below
        for output in outputs:
            if isinstance(output, Arrived):
                result += self._from_below(output.packet, output.link, now)
                continue
            result.append(output)
            if below is not None and below.regional.hears(output, now):
                continue
            match output:
                case AddressReady(link=link, address=address) | AddressDeprecated(link=link, address=address):
                    # An address out of our own network would lead back to us.
                    if address not in homes and address.packed not in self._networks:
                        movement.address_ready(link, address, now, isinstance(output, AddressDeprecated))
                        moved = True
                case AddressLost(link=link, address=address) if address not in homes:
                    movement.address_lost(link, address, now)
                    moved = True
                case RouterFound(link=link, router=router):
                    movement.router_found(link, router)
                    moved = True
                case RouterLost(link=link, router=router):
                    movement.router_lost(link, router)
                    moved = True
                case PathMtuChanged():
                    changed = True
                case HomeAddress4Assigned(address=address4):
                    self.forwarding.home_address4 = address4.packed
                case NoScenario():
                    self.forwarding.clear_tunnel()
                case HomeAddress4Refused():
                    self.forwarding.home_address4 = b""
                case ReturnedHome():
                    result += self._settle_at_home(now)
                case HomeAgentUnreachable() if self._homecoming.link is not None:
                    # Nobody answers for the home address, so nobody is in the way of using it.
                    result += self._settle_at_home(now)
        if below is not None:
            if settled := below.settle(now):
                result += self._absorb(settled, now)
            moved, below.regional.moved = moved or below.regional.moved, False
        if moved:
            result += self._moved(now)
        elif changed:
            result += self._follow(now)
        return result

    def _from_below(self, packet: bytes, link: str, now: float) -> list[Output]:
        """A packet that the host of a link does not handle: the regional part's, or one for this part."""
        if self._below is not None:
            taken = self._below.packet(packet, link, now)
            if taken is not None:
                return self._absorb(taken, now)
        return self.receiving.packet(packet, link, now)

    # ------------------------------------------------------------ following the mobile node

    def _moved(self, now: float) -> list[Output]:
        if not self.mobile_node.would_replace(now):
            # Nothing changes, or the old place is used until the new one has proven to work.
            return self._absorb(self.mobile_node.moved(now), now) + self._follow(now)
        decided = self.mobile_node.movement.decide(now)
        outputs: list[Output] = []
        home = decided.link if decided is not None and decided.at_home else None
        if self._homecoming.link not in (None, home):
            outputs += self._absorb(self._homecoming.leave(now), now)
        self.forwarding.left_home()
        self.forwarding.clear_tunnel()
        if home is not None:
            outputs += self._absorb(self._homecoming.arrive(home, now), now)
        outputs += self._absorb(self.mobile_node.moved(now), now)
        loss = self.mobile_node.loss
        here = decided is not None and loss is not None and decided.address == loss.address
        self.forwarding.lost_address = b"" if loss is None or here else loss.address.packed
        return outputs + self._follow(now)

    def _settle_at_home(self, now: float) -> list[Output]:
        if self._homecoming.link is None:
            return []
        self.forwarding.arrived_home()
        self.scenarios.lacking = None
        return self._absorb(self._homecoming.settle(now), now) + self._follow(now)

    def _follow(self, now: float) -> list[Output]:
        """Forwarding follows the registration: no binding, no tunnel; with one, whatever waits goes on its way."""
        forwarding, registration = self.forwarding, self.mobile_node.registration
        present = self.mobile_node.present
        if forwarding.tunnel is not None and not registration.bound:
            forwarding.clear_tunnel()
        forwarding.datagrams = present is not None and present.udp
        outputs: list[Output] = []
        self._path = self._make_path(present)
        tunnelled = None if forwarding.tunnel is None else present
        self._watch.follow(tunnelled, now, self.sending.sent, self.receiving.delivered)
        if self.sending.measure(self.uplinks.smallest_mtu()):
            outputs.append(HostMtuChanged(self.host_mtu))
        if self.sending.optimizes:
            outputs += self.optimization.follow(
                present,
                ready=forwarding.ready,
                home_until=registration.expires,
                is_lost=self.mobile_node.movement.is_lost,
                now=now,
            )
        if forwarding.ready:
            outputs += self.sending.what_waited(now)
        self._home_network.follow(now)
        return outputs

    def _make_path(self, present: Attachment | None) -> ShortWay | None:
        if present is None:
            return None
        return short_way(self.forwarding, self.uplinks, present.link, self._tunnel_spi)

    def _finish(self, outputs: list[Output]) -> list[Output]:
        """Every way out but the two short ones, which change no timer: discards are counted, `timer` is set."""
        for output in outputs:
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
        earliest = self.mobile_node.timer
        for time in (
            self.waiting.timer,
            self._homecoming.timer,
            self._watch.timer,
            self.optimization.timer,
            None if self._below is None else self._below.timer,
            self._home_network.timer,
            *(host.timer for host in self._own_hosts.values()),
        ):
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        self._timer = earliest
        return outputs


def _address(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address; name that of a correspondent, as 2001:db8::1") from None
