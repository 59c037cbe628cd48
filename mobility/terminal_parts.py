"""The parts of a terminal (`mobility.terminal`): made from its settings, and each acting on what the others say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address
from math import inf

from mobility.application_keys import ApplicationKeys
from mobility.discards import Discard
from mobility.forwarding import Forwarding
from mobility.hierarchy import Hierarchy
from mobility.hmipv6.regional import Regional, Station
from mobility.hmipv6.regional_events import MapBound
from mobility.home_network_watch import HomeNetworkWatch
from mobility.homecoming import Homecoming
from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, PathMtuChanged, RouterFound, RouterLost
from mobility.host.host import Host
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.key_source import no_clock
from mobility.map_keys import MapKeys
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.liveness import Verdict
from mobility.mipv6.mobile_node import MobileNode, MobileNodeSettings
from mobility.mipv6.movement import Attachment
from mobility.mipv6.place_binding import HomeAddress4Assigned, HomeAddress4Refused
from mobility.mipv6.registration import HomeAgentUnreachable, ReturnedHome
from mobility.mipv6.signalling import received, unwrap
from mobility.mipv6.tunnel import (
    MobileAssociations,
    TunnelForm,
    terminal_policies,
)
from mobility.negotiated import peer
from mobility.nemo.mobile_networks import Prefixes
from mobility.outputs import Arrived, Discarded, Event, Output
from mobility.path_watch import PathWatch
from mobility.receiving import Receiving
from mobility.scenario.policy import SCENARIOS, NoScenario, ScenarioPolicy
from mobility.sending import Sending
from mobility.short_way import ShortWay, short_way
from mobility.terminal_keys import TerminalKeys
from mobility.terminal_settings import TerminalSettings as TerminalSettings
from mobility.uplinks import Uplinks
from mobility.wire import ip6


@dataclass(frozen=True, slots=True)
class HostMtuChanged(Event):
    """The host OS's interface should have this MTU (octets): what is longer does not fit through both IPsec layers."""

    mtu: int


class TerminalParts:
    """What is inside a `Terminal`, which says what the arguments are. `Arrived` never gets out of here."""

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
        names = [link.name for link in settings.links]
        if len(set(names)) != len(names):
            raise ValueError("a terminal has each link only once")
        self.updates = BindingUpdateList()
        self.scenarios = ScenarioPolicy((*SCENARIOS, *settings.more_scenarios), settings.scenarios)
        networks = self._networks = Prefixes(settings.mobile_networks)
        tunnel_security = terminal_policies(
            settings.home_address, settings.home_agent, settings.tunnel, associations, networks.networks
        )
        self.forwarding = Forwarding(
            settings.home_address, settings.home_agent, settings.tunnel, tunnel_security, self.updates, networks
        )
        self.own_hosts = (
            {link.name: Host(link.name, link.link_address, link.mtu, random, secret=secret) for link in settings.links}
            if hosts is None
            else {}
        )
        self.hosts = self.own_hosts if hosts is None else hosts
        self._home_addresses = home_addresses or (settings.home_address,)
        if networks:
            for host in self.hosts.values():
                host.forwards = networks.__contains__
        self.stations: dict[str, Station] = dict(self.hosts)
        "Those, and the domains of MAPs."
        self.uplinks = Uplinks(self.stations, settings.home_agent, settings.home_agent4, settings.udp_port)
        self.homecoming = Homecoming(settings.home_address, settings.home_agent, self.hosts)
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
            None if settings.regional is None else self._lasts,
        )
        self.sending = Sending(
            settings,
            application,
            self.forwarding,
            self.mobile_node,
            self.scenarios,
            associations.tunnel_out,
            self.put,
            random,
        )
        self.waiting = self.sending.waiting
        self.optimization = self.sending.optimization
        self.forwarding.accepts_direct = self.optimization.accepts
        self.counters: Counter[str] = Counter()
        self.below = self._hierarchy(settings, names, sequence, random, secret, utc)
        self.watch = PathWatch(
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
            self.watch,
            associations.signalling_in if isinstance(associations.signalling_in, InboundSA) else None,
            self._signalling,
            self.counters,
        )
        if (below := self.below) is not None:
            above = self.mobile_node
            self.receiving.overlapping = lambda now: above.overlapping(now) or below.regional.overlapping(now)
        self.home_network = HomeNetworkWatch(settings, tunnel_security, self.mobile_node, self.put, random)
        self.security = tunnel_security
        self._tunnel_in = tunnel_in
        self.keys = None
        if settings.keys is not None:
            self.keys = TerminalKeys(
                settings.home_agent,
                peer(
                    settings.keys,
                    settings.home_address,
                    settings.home_agent,
                    settings.tunnel,
                    settings.mobile_networks,
                    at_terminal=True,
                ),
                settings.keys.lifetime,
                associations,
                tunnel_security,
                self.put,
                random,
                utc,
                self.uplinks,
            )
        self.receiving.keys, self.receiving.keyed = self.keys, self.keyed
        self.application_keys = None
        if settings.application_keys is not None:
            self.application_keys = ApplicationKeys(
                settings.home_address, application, settings.application_keys, self.sending.as_it_is, random, utc
            )
        self.sending.application_keys = self.receiving.application_keys = self.application_keys
        self.path: ShortWay | None = None
        "What the last `follow` found."
        self.sending.measure(self.uplinks.smallest_mtu())

    def _lasts(self, link: str, now: float) -> float:
        return inf if self.below is None else self.below.regional.lasts(link, now)

    def _hierarchy(
        self,
        settings: TerminalSettings,
        names: list[str],
        sequence: int,
        random: Callable[[int], bytes],
        secret: bytes | None,
        utc: Callable[[], datetime],
    ) -> Hierarchy | None:
        if settings.regional is None:
            return None
        mobile_node = self.mobile_node
        keys = MapKeys(settings.regional, settings.home_address, self.hosts, random, utc)
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
            keys.secured,
            sequence=sequence,
            again=settings.tunnel is not TunnelForm.PLAIN,
        )
        return Hierarchy(regional, keys, self.scenarios, self.forwarding)

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        earliest = self.mobile_node.timer
        for time in (
            self.waiting.timer,
            self.sending.finished.timer,
            self.receiving.timer,
            self.homecoming.timer,
            self.watch.timer,
            self.optimization.timer,
            None if self.below is None else self.below.timer,
            self.home_network.timer,
            None if self.keys is None else self.keys.timer,
            None if self.application_keys is None else self.application_keys.timer,
            *(host.timer for host in self.own_hosts.values()),
        ):
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        return earliest

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come for some of the parts."""
        outputs: list[Output] = []
        for host in self.own_hosts.values():
            if host.timer is not None and host.timer <= now:
                outputs += self.absorb(host.handle_timer(now), now)
        if self.below is not None:
            outputs += self.absorb(self.below.handle_timer(now), now)
        outputs += self.absorb(self.mobile_node.handle_timer(now), now)
        outputs += self._look(now)
        outputs += self.optimization.handle_timer(now)
        outputs += self.moved(now) if self.mobile_node.undecided else self.follow(now)
        outputs += self.waiting.expire(now)
        outputs += self.sending.finished.expire(now)
        outputs += self.receiving.handle_timer(now)
        outputs += self.absorb(self.homecoming.handle_timer(now), now)
        outputs += self.home_network.handle_timer(now)
        if self.keys is not None:
            outputs += self.keyed(self.keys.handle_timer(now), now)
        if self.application_keys is not None:
            outputs += self.application_keys.handle_timer(now)
        return outputs

    # ------------------------------------------------------------ what the parts say

    def _look(self, now: float) -> list[Output]:
        match self.watch.look(now, self.sending.sent, self.receiving.delivered):
            case Verdict.NOTHING:
                return []
            case Verdict.DEAD:
                present = self.mobile_node.present
                outputs = self.absorb(self.mobile_node.dead(now), now)
                if present is not None and present.link in self.stations:
                    outputs += self.absorb(self.stations[present.link].suspect(now), now)
                return outputs
            case Verdict.ASK:
                return self._ask(now)

    def probe(self, now: float) -> list[Output]:
        """Finds out how long the round trip to the home agent is. Raises `ValueError`: there is no way there."""
        if not self.watch.probe(now):
            raise ValueError("there is no tunnel to the home agent whose round trip could be measured")
        return self._ask(now)

    def _ask(self, now: float) -> list[Output]:
        present = self.mobile_node.present
        if present is None or self.forwarding.tunnel is None:
            return []
        try:
            outer = self.forwarding.send(self.watch.question())
        except Discard as discard:
            return [Discarded.of(discard, "liveness")]
        return self.put(present.link, outer, now)

    def put(self, link: str, packet: bytes, now: float) -> list[Output]:
        """A packet onto a link, and what the link says to it."""
        return self.absorb(self.uplinks.send(link, packet, now), now)

    def _signalling(self, packet: bytes, link: str, now: float) -> list[Output]:
        """The home agent says something: routine 70, then routine 60 of scenario processing."""
        try:
            clear, under_ipsec = unwrap(packet, self.security)  # steps 71 to 74
            if clear[6] == ip6.ICMPV6:
                return self.home_network.receive(clear, now)
            outputs, handed_on = self.mobile_node.receive(received(packet, clear, under_ipsec), now, link)
        except Discard as discard:
            return [Discarded.of(discard, "ba-routine")]
        outputs = self.absorb(outputs, now)
        if link in self.stations:
            outputs += self.absorb(self.stations[link].confirm(packet[8:24], now), now)
        if handed_on is not None:
            try:
                outputs += self.scenarios.process(handed_on, self.forwarding)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "scenario"))
                if handed_on.situation.acknowledgement.accepted:
                    outputs += self.absorb([self.scenarios.none_fits(discard.detail)], now)
        return outputs + self.follow(now)

    def absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        """Acts on what the own parts say; the rest, and every event, goes on to the outside."""
        result: list[Output] = []
        moved = changed = False
        movement, homes, below = self.mobile_node.movement, self._home_addresses, self.below
        for output in outputs:
            if isinstance(output, Arrived):
                result += self.from_below(output.packet, output.link, now)
                continue
            result.append(output)
            if below is not None and below.regional.hears(output, now):
                continue
            if self.keys is not None and isinstance(output, HomeAgentUnreachable):
                result += self.keyed(self.keys.unreachable(now), now)
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
                case MapBound():
                    result += self.absorb(self.mobile_node.outlasted(now), now)
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
                case HomeAgentUnreachable() if self.homecoming.link is not None:
                    # Nobody answers for the home address, so nobody is in the way of using it.
                    result += self._settle_at_home(now)
        if below is not None:
            if settled := below.settle(now):
                result += self.absorb(settled, now)
            moved, below.regional.moved = moved or below.regional.moved, False
        if moved:
            result += self.moved(now)
        elif changed:
            result += self.follow(now)
        return result

    def keyed(self, outputs: list[Output], now: float) -> list[Output]:
        """Acts on what has become of keys: with those of a new IKE SA the terminal registers at once, for the home
        agent may know nothing of it."""
        keys = self.keys
        if keys is None:
            return outputs
        result = self.absorb(outputs, now)
        if keys.changed:
            keys.changed = False
            self.path = self.make_path(self.mobile_node.present)
        if keys.ready:
            keys.ready = False
            result += self.absorb(self.mobile_node.refresh(now), now)
        return result

    @property
    def negotiators(self) -> list[TerminalKeys | ApplicationKeys]:
        """What negotiates keys: with the home agent, with MAPs, of the application."""
        maps = [] if self.below is None else self.below.keys.all
        return [each for each in (self.keys, *maps, self.application_keys) if each is not None]

    @property
    def agreed(self) -> bool:
        """There is an IKE SA with the home agent."""
        return self.keys is not None and self.keys.agreed

    def rekey(self, now: float) -> list[Output]:
        """New keys of ESP at once. Raises `ValueError`: there are none that could be renewed."""
        outputs = [] if self.keys is None else self.keyed(self.keys.rekey(now), now)
        outputs += [] if self.below is None else self.absorb(self.below.rekey(now), now)
        return outputs if self.application_keys is None else outputs + self.application_keys.rekey(now)

    def from_below(self, packet: bytes, link: str, now: float) -> list[Output]:
        """A packet that the host of a link does not handle: the regional part's, or one for this part."""
        if self.below is not None:
            taken = self.below.packet(packet, link, now)
            if taken is not None:
                return self.absorb(taken, now)
        return self.receiving.packet(packet, link, now)

    # ------------------------------------------------------------ following the mobile node

    def moved(self, now: float) -> list[Output]:
        """There are other places to be at, or another order of them."""
        if not self.mobile_node.would_replace(now):
            # Nothing changes, or the old place is used until the new one has proven to work.
            return self.absorb(self.mobile_node.moved(now), now) + self.follow(now)
        decided = self.mobile_node.movement.decide(now)
        outputs: list[Output] = []
        home = decided.link if decided is not None and decided.at_home else None
        if self.homecoming.link not in (None, home):
            outputs += self.absorb(self.homecoming.leave(now), now)
        self.forwarding.left_home()
        self.forwarding.clear_tunnel()
        if home is not None:
            outputs += self.absorb(self.homecoming.arrive(home, now), now)
        outputs += self.absorb(self.mobile_node.moved(now), now)
        loss = self.mobile_node.loss
        here = decided is not None and loss is not None and decided.address == loss.address
        self.forwarding.lost_address = b"" if loss is None or here else loss.address.packed
        return outputs + self.follow(now)

    def _settle_at_home(self, now: float) -> list[Output]:
        if self.homecoming.link is None:
            return []
        self.forwarding.arrived_home()
        self.scenarios.lacking = None
        return self.absorb(self.homecoming.settle(now), now) + self.follow(now)

    def follow(self, now: float) -> list[Output]:
        """Forwarding follows the registration: no binding, no tunnel; with one, whatever waits goes on its way."""
        forwarding, registration = self.forwarding, self.mobile_node.registration
        present = self.mobile_node.present
        if forwarding.tunnel is not None and not registration.bound:
            forwarding.clear_tunnel()
        forwarding.datagrams = present is not None and present.udp
        outputs: list[Output] = []
        self.path = self.make_path(present)
        tunnelled = None if forwarding.tunnel is None else present
        self.watch.follow(tunnelled, now, self.sending.sent, self.receiving.delivered)
        if self.sending.measure(self.uplinks.smallest_mtu()):
            outputs.append(HostMtuChanged(self.sending.host_mtu))
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
        self.home_network.follow(now)
        if self.keys is not None:
            outputs += self.keyed(self.keys.follow(present, now), now)
        due = registration.refresh_due
        if self.below is not None and present is not None and due is not None:
            self.below.regional.refresh_before(present.link, due, registration.wanted_lifetime)
        return outputs

    def make_path(self, present: Attachment | None) -> ShortWay | None:
        """The short way from the present place; None: there is none."""
        if present is None:
            return None
        tunnel_in = self._tunnel_in
        spi = None if tunnel_in is None else tunnel_in.spi.to_bytes(4)
        return short_way(self.forwarding, self.uplinks, present.link, spi)
