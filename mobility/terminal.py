"""The terminal of Fig. 2 put together: host OS - application IPsec - forwarding with mobile tunnel - links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mobility.discards import Discard, Reason
from mobility.forwarding import Forwarding
from mobility.homecoming import Homecoming
from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, PathMtuChanged, RouterFound, RouterLost
from mobility.host.host import Host
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import Mode
from mobility.links import describe_endpoint, is_udp, link_scope
from mobility.mipv6 import direct
from mobility.mipv6.again import SentLately
from mobility.mipv6.again_direct import highest_received
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.liveness import Liveness, Verdict
from mobility.mipv6.mobile_node import MobileNode, MobileNodeSettings
from mobility.mipv6.movement import Attachment
from mobility.mipv6.place_binding import HomeAddress4Assigned, HomeAddress4Refused
from mobility.mipv6.registration import HomeAgentUnreachable, ReturnedHome
from mobility.mipv6.route_optimization import UNDECIDED, Route, RouteOptimization
from mobility.mipv6.tunnel import (
    Content,
    MobileAssociations,
    checked,
    checked4,
    content,
    decapsulate,
    encapsulate,
    from_datagram,
    seal,
    terminal_policies,
)
from mobility.outputs import Arrived, Deliver, Discarded, Event, Output, Transmit
from mobility.scenario.policy import SCENARIOS, NoScenario, ScenarioPolicy
from mobility.short_way import ShortWay, short_way
from mobility.terminal_settings import TerminalSettings as TerminalSettings
from mobility.uplinks import Uplinks
from mobility.waiting import WaitingRoom
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class HostMtuChanged(Event):
    """The host OS's interface should have this MTU (octets): what is longer does not fit through both IPsec layers."""

    mtu: int


class Terminal:
    """A mobile terminal; a `Node`.

    ``application`` is the first IPsec processing part; the second, that of the mobile tunnel, is made from
    ``associations``. They share nothing. ``sequence`` is the number that the last binding update may have had; with the
    same ``secret`` a terminal has the same care-of address whenever it is in the same network (RFC 7217).
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
    ) -> None:
        """Raises `ValueError`: no links, one twice, or associations that do not suit the form of the tunnel."""
        names = [link.name for link in settings.links]
        if len(set(names)) != len(names):
            raise ValueError("a terminal has each link only once")
        self.settings = settings
        self.application = application
        self.updates = BindingUpdateList()
        self.scenarios = ScenarioPolicy((*SCENARIOS, *settings.more_scenarios), settings.scenarios)
        tunnel_security = terminal_policies(settings.home_address, settings.home_agent, settings.tunnel, associations)
        self.forwarding = Forwarding(
            settings.home_address, settings.home_agent, settings.tunnel, tunnel_security, self.updates
        )
        self.hosts = {
            link.name: Host(link.name, link.link_address, link.mtu, random, secret=secret) for link in settings.links
        }
        self.uplinks = Uplinks(self.hosts, settings.home_agent, settings.home_agent4, settings.udp_port)
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
            ),
            tunnel_security,
            self.updates,
            self.scenarios,
            self.uplinks.send,
            sequence,
            None if (tunnel_in := associations.tunnel_in) is None else lambda: tunnel_in.top,
        )
        self.sent_lately = SentLately(associations.tunnel_out)
        self.optimization = RouteOptimization(
            settings.home_address,
            settings.home_agent,
            settings.route_optimization,
            self.scenarios,
            self.forwarding,
            self._send_directly,
            self._send_home,
            self._send_some_way,
            lambda correspondent: highest_received(application, correspondent),
            random,
        )
        self.forwarding.accepts_direct = self.optimization.accepts
        self._optimizes = settings.route_optimization.ever
        self.waiting = WaitingRoom()
        self.counters: Counter[str] = Counter()
        self.sent = 0
        "Packets of the host OS that went to the network."
        self.delivered = 0
        "Packets for the host OS."
        self._security = tunnel_security
        self._form = settings.tunnel
        self._tunnel_out = associations.tunnel_out
        self._home = settings.home_address.packed
        self._agent = settings.home_agent.packed
        signalling, data = associations.signalling_in, associations.tunnel_in
        self._signalling_spi = None if signalling is None else signalling.spi.to_bytes(4)
        self._tunnel_spi = None if data is None else data.spi.to_bytes(4)
        self._path: ShortWay | None = None
        self._timer: float | None = None
        self._liveness = Liveness()
        self._echo_identifier = int.from_bytes(random(2))
        self.host_mtu = self._host_mtu()
        "Octets of the largest packet that the host OS may send."

    # ------------------------------------------------------------ Node

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
        self.mobile_node.movement.interfaces_changed(order)
        return self._finish(self._moved(now))

    def resumed(self, now: float) -> list[Output]:
        """The machine was asleep: whether the links lead where they led is found out anew."""
        outputs: list[Output] = []
        for host in self.hosts.values():
            if host.up:
                outputs += self._absorb(host.link_changed(False, now), now)
                outputs += self._absorb(host.link_changed(True, now), now)
        return self._finish([*outputs, *self._absorb(self.mobile_node.refresh(now), now)])

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet: application IPsec, then send routine 100."""
        path = self._path
        size = len(packet)
        if (
            path is not None
            and packet[8:24] == self._home
            and 44 <= size <= self.host_mtu
            and packet[24] < 0xFE
            and packet[4] << 8 | packet[5] == size - 40
            and packet[0] >> 4 == 6
        ):
            if self._optimizes:
                way = self.optimization.ways.get(packet[24:40], UNDECIDED)
                if way is not None:
                    return self._optimized(packet, way, path.link, now)
            # The short way: the same steps as `_outbound`, for packets that need no thought.
            udp = path.endpoint
            to = path.next_hop(path.agent) if udp is None else udp
            if to is not None:
                try:
                    protected = self.application.protect(packet)
                    if udp is None:
                        outer = encapsulate(protected, path.outbound_ends, self._form, self._security)
                    else:
                        outer = seal(protected, path.outbound_ends, self._form, self._security)[1]
                except Discard as discard:
                    return self._finish([Discarded.of(discard, "send-routine")])
                self.sent_lately.sealed(protected, now)
                if udp is not None or len(outer) <= path.mtu:
                    self.sent += 1
                    return [Transmit(outer, to, path.link)]
                return self._finish(self._absorb(self.hosts[path.link].send(outer, now), now))
        return self._finish(self._from_host(packet, now))

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on a link: the host's, the mobile node's, or through receive routine 120 for a program."""
        path = self._path
        if path is not None and link == path.link:
            # The short way: the same steps as `Host.receive` and `Forwarding.receive`.
            try:
                if path.endpoint is not None:
                    if sender != path.endpoint or packet[:4] != path.inbound_spi:
                        return self._finish(self._datagram(link, packet, sender, now))
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
                    outputs = self._from_tunnel(quick, now)
                    if type(outputs[0]) is Deliver:
                        way.heard += 1  # a stranger can send such packets, but not such that are delivered
                    return outputs
                else:
                    return self._finish(self._absorb(self.hosts[link].receive(packet, sender, now), now))
                if inner[24:40] != self._home:
                    self.forwarding.check_inner(inner)
            except Discard as discard:
                return self._finish(self._not_received(discard, now))
            outputs = self._from_tunnel(inner, now)
            return outputs if outputs and type(outputs[0]) is Deliver else self._finish(outputs)
        if is_udp(link):
            return self._finish(self._datagram(link, packet, sender, now))
        host = self.hosts.get(link)
        if host is None:
            return self._finish([Discarded(Reason.NO_SUCH_LINK, "terminal", link)])
        return self._finish(self._absorb(host.receive(packet, sender, now), now))

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        for host in self.hosts.values():
            if host.timer is not None and host.timer <= now:
                outputs += self._absorb(host.handle_timer(now), now)
        outputs += self._absorb(self.mobile_node.handle_timer(now), now)
        outputs += self._look(now)
        outputs += self.optimization.handle_timer(now)
        outputs += self._moved(now) if self.mobile_node.undecided else self._follow(now)
        outputs += self.waiting.expire(now)
        outputs += self._absorb(self._homecoming.handle_timer(now), now)
        return self._finish(outputs)

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
        return self._finish(self._moved(now))

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "terminal",
            "mobile_node": self.mobile_node.snapshot(now),
            "scenarios": self.scenarios.snapshot(),
            "no_scenario": self.scenarios.lacking,
            "forwarding": self.forwarding.snapshot(),
            "route_optimization": self.optimization.snapshot(now),
            "application": self.application.spd.describe(),
            "links": {name: host.snapshot(now) for name, host in self.hosts.items()},
            "host_mtu": self.host_mtu,
            "waiting": len(self.waiting),
            "liveness": self._liveness.snapshot(now),
            "sent_lately": self.sent_lately.snapshot(),
            "counters": {"sent": self.sent, "delivered": self.delivered, **self.counters},
        }

    # ------------------------------------------------------------ from the host OS

    def _from_host(self, packet: bytes, now: float) -> list[Output]:
        try:
            if packet[:1] and packet[0] >> 4 == 4:
                return self._from_host4(checked4(packet), now)
            packet = checked(packet)
            self._of_home_address(packet)
        except Discard as discard:
            return [Discarded.of(discard, "terminal")]
        if len(packet) > self.host_mtu:
            return self._too_big(packet)
        if not self.forwarding.ready:
            return list(self.waiting.add(packet, now))
        return self._outbound(packet, now)

    def _from_host4(self, packet: bytes, now: float) -> list[Output]:
        """A program sends IPv4: into the tunnel with it, if the home agent hands out an address. Raises `Discard`."""
        address = self.mobile_node.home_address4
        if address is None or packet[12:16] != address.packed:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv4Address(packet[12:16])))
        if not self.forwarding.ready:
            return list(self.waiting.add(packet, now))
        return self._outbound4(packet, now)

    def _outbound4(self, packet: bytes, now: float) -> list[Output]:
        present = self.mobile_node.present
        if present is None:
            return [Discarded(Reason.NO_BINDING, "send-routine", "the terminal is on no link")]
        try:
            outer = self.forwarding.send4(packet, self._tunnel_out)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]
        self.sent += 1
        return self._absorb(self.uplinks.send(present.link, outer, now), now)

    def _of_home_address(self, packet: bytes) -> None:
        source, destination = packet[8:24], packet[24:40]
        if link_scope(source) or link_scope(destination) or not any(source):
            raise Discard(Reason.LINK_LOCAL_CHATTER, f"{IPv6Address(source)} to {IPv6Address(destination)}")
        if source != self._home:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv6Address(source)))

    def _outbound(self, packet: bytes, now: float) -> list[Output]:
        present = self.mobile_node.present
        if present is None:
            return [Discarded(Reason.NO_BINDING, "send-routine", "the terminal is on no link")]
        try:
            outputs = self._on_its_way(self.application.protect(packet), present.link, now)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]
        if self._optimizes and packet[24:40] not in self.optimization.ways and not self.forwarding.at_home:
            outputs += self.optimization.noticed(packet[24:40], now)
        return outputs

    def _on_its_way(self, protected: bytes, link: str, now: float) -> list[Output]:
        """Send routine 100 for a packet that the application's IPsec is done with. Raises `Discard`."""
        outer = self.forwarding.send(protected)
        if outer[6] == ip6.DEST_OPTIONS and outer[24:40] == protected[24:40] and outer is not protected:
            self.optimization.sent(protected, now)
        elif not self.forwarding.at_home:
            self.sent_lately.sealed(protected, now)
        self.sent += 1
        return self._absorb(self.uplinks.send(link, outer, now), now)

    def _optimized(self, packet: bytes, way: Route, link: str, now: float) -> list[Output]:
        """A packet that needs no thought but for where it goes."""
        if way is UNDECIDED:
            return self._finish(self._from_host(packet, now))
        try:
            protected = self.application.protect(packet)
            if not direct.can_go_direct(protected):
                return self._finish(self._on_its_way(protected, link, now))
        except Discard as discard:
            return self._finish([Discarded.of(discard, "send-routine")])
        host, to = self.hosts[link], packet[24:40]
        outer = direct.to_correspondent(protected, way.care_of, self._home)
        way.sent += 1
        self.optimization.sent_directly.keep(to, protected, now)
        self.sent += 1
        hop = host.next_hop(to)
        if hop is not None and len(outer) <= host.path_mtu(to):
            return [Transmit(outer, hop, link)]
        return self._finish(self._absorb(host.send(outer, now), now))

    def _send_directly(self, packet: bytes, now: float) -> list[Output]:
        """A packet from the care-of address, as it is."""
        present = self.mobile_node.present
        return [] if present is None else self._absorb(self.uplinks.send(present.link, packet, now), now)

    def _send_home(self, packet: bytes, now: float) -> list[Output]:
        """A message from the home address, through the tunnel if the terminal is away."""
        present = self.mobile_node.present
        if present is None or not self.forwarding.ready:
            return []
        try:
            outer = self.forwarding.send_tunnelled(packet)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]
        return self._absorb(self.uplinks.send(present.link, outer, now), now)

    def _send_some_way(self, protected: bytes, now: float) -> list[Output]:
        """A packet again that the application's IPsec is done with."""
        present = self.mobile_node.present
        if present is None or not self.forwarding.ready:
            return []
        try:
            return self._on_its_way(protected, present.link, now)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]

    def _send_again(self, now: float) -> list[Output]:
        """What the home agent did not receive from the place that was left goes first."""
        mobile_node = self.mobile_node
        progress, present = mobile_node.progress, mobile_node.present
        if progress is None or present is None:
            return mobile_node.settle(now)
        mobile_node.progress = None
        packets = self.sent_lately.after(progress.highest, now)
        outputs = mobile_node.settle(now, len(packets), progress.sent_again)
        for packet in packets:
            try:
                outputs += self._on_its_way(packet, present.link, now)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "send-routine"))
        return outputs

    def _too_big(self, packet: bytes) -> list[Output]:
        """Tell the program, in the name of the home agent, which is the first router on its way."""
        outputs: list[Output] = []
        if icmp6.may_be_answered_with_error(packet):
            error = icmp6.PacketTooBig(self.host_mtu, packet)
            outputs.append(Deliver(icmp6.packet(self._agent, self._home, error)))
        detail = f"{len(packet)} octets, {self.host_mtu} fit"
        return [*outputs, Discarded(Reason.TOO_BIG, "terminal", detail)]

    # ------------------------------------------------------------ from the links

    def _arrived(self, packet: bytes, link: str, now: float) -> list[Output]:
        if self._is_signalling(packet):
            return self._signalling(packet, link, now)
        if packet[6] == ip6.ICMPV6 and packet[24:40] != self._home:
            return self._icmp(packet, now)
        try:
            inner = self.forwarding.receive(packet)
        except Discard as discard:
            return self._not_received(discard, now)
        outputs = self._received(inner, now)
        if packet[8:24] != self._agent and not self.forwarding.at_home and outputs and type(outputs[0]) is Deliver:
            outputs += self.optimization.heard(packet[8:24], now)
        return outputs

    def _icmp(self, packet: bytes, now: float) -> list[Output]:
        """An error about a packet of the care-of address."""
        try:
            message = icmp6.parse(packet[ip6.HEADER_SIZE :])
            if not isinstance(message, icmp6.Error):
                raise Discard(Reason.ICMP_IGNORED, f"type {packet[40]} for the care-of address")
            return self.optimization.problem(message, now)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, "terminal", str(error))]
        except Discard as discard:
            return [Discarded.of(discard, "terminal")]

    def _datagram(self, link: str, payload: bytes, sender: bytes, now: float) -> list[Output]:
        """The home agent, or somebody else, sent a datagram."""
        local = self.uplinks.address(link)
        if local is None:
            return [Discarded(Reason.NO_SUCH_LINK, "terminal", link)]
        if sender != self.uplinks.endpoint_of(link):
            return [Discarded(Reason.OUTER_SOURCE_WRONG, "terminal", f"a datagram of {describe_endpoint(sender)}")]
        try:
            match content(payload):
                case Content.KEEPALIVE:
                    self.counters["keepalives"] += 1
                    return []
                case Content.IPV6 if self._is_signalling(payload):
                    return self._signalling(payload, link, now)
                case _:
                    inner = self.forwarding.receive_datagram(payload, local.packed)
        except Discard as discard:
            return self._not_received(discard, now)
        return self._received(inner, now)

    def _not_received(self, discard: Discard, now: float) -> list[Output]:
        if discard.reason is Reason.REPLAYED and self.mobile_node.overlapping(now):
            # The home agent sends to the old place and to the new one; this one came second.
            self.counters["duplicates-removed"] += 1
            return []
        return [Discarded.of(discard, "receive-routine")]

    def _received(self, inner: bytes, now: float) -> list[Output]:
        """What receive routine 120 hands to scenario processing, if there is a scenario that takes it."""
        if self.scenarios.lacking is not None:
            return [Discarded(Reason.SCENARIO_DISABLED, "scenario", "there is no tunnel that it may come through")]
        return self._from_tunnel(inner, now)

    def _from_tunnel(self, inner: bytes, now: float) -> list[Output]:
        """Receive routine 120 is done: the application's IPsec, then the host OS."""
        if inner[6] == ip6.ICMPV6 and inner[8:24] == self._agent and self._echoed(inner, now):
            return []
        if inner[6] == ip6.MOBILITY and inner[0] >> 4 == 6:
            return self._of_correspondent(inner, now, tunnelled=True)
        if inner[0] >> 4 == 4:
            self.delivered += 1
            return [Deliver(inner)]
        try:
            plain = self.application.accept(inner)
        except Discard as discard:
            return [Discarded.of(discard, "app-ipsec")]
        self.delivered += 1
        return [Deliver(plain)]

    # ------------------------------------------------------------ whether anything comes through

    def _look(self, now: float) -> list[Output]:
        match self._liveness.look(now, self.sent, self.delivered):
            case Verdict.NOTHING:
                return []
            case Verdict.DEAD:
                present = self.mobile_node.present
                outputs = self._absorb(self.mobile_node.dead(now), now)
                if present is not None and not present.udp:
                    outputs += self._absorb(self.hosts[present.link].suspect(now), now)
                return outputs
            case Verdict.ASK:
                present = self.mobile_node.present
                if present is None or self.forwarding.tunnel is None:
                    return []
                question = icmp6.Echo(self._echo_identifier, self._liveness.sequence)
                try:
                    outer = self.forwarding.send(icmp6.packet(self._home, self._agent, question))
                except Discard as discard:
                    return [Discarded.of(discard, "liveness")]
                return self._absorb(self.uplinks.send(present.link, outer, now), now)

    def _echoed(self, inner: bytes, now: float) -> bool:
        """Whether this is an answer to `_look`."""
        try:
            message = icmp6.parse(inner[ip6.HEADER_SIZE :])
        except WireError:
            return False
        return (
            isinstance(message, icmp6.Echo)
            and message.reply
            and message.identifier == self._echo_identifier
            and self._liveness.reply(message.sequence, now)
        )

    def _is_signalling(self, packet: bytes) -> bool:
        try:
            headers = ip6.walk(packet)
        except WireError:
            return False
        if headers.protocol == ip6.ESP:
            return packet[headers.offset : headers.offset + 4] == self._signalling_spi
        if headers.protocol == ip6.AH:
            return packet[8:24] == self._agent  # Figs. 14, 19 and 20: nothing else comes under AH
        return headers.protocol == ip6.MOBILITY

    def _signalling(self, packet: bytes, link: str, now: float) -> list[Output]:
        """Routine 70, then routine 60 of scenario processing."""
        if packet[8:24] != self._agent and packet[6] != ip6.ESP:
            return self._of_correspondent(packet, now, tunnelled=self.forwarding.at_home or is_udp(link))
        try:
            outputs, handed_on = self.mobile_node.receive(packet, now, link)
        except Discard as discard:
            return [Discarded.of(discard, "ba-routine")]
        outputs = self._absorb(outputs, now)
        if not is_udp(link):
            outputs += self._absorb(self.hosts[link].confirm(packet[8:24], now), now)
        if handed_on is not None:
            try:
                outputs += self.scenarios.process(handed_on, self.forwarding)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "scenario"))
                if handed_on.situation.acknowledgement.accepted:
                    outputs += self._absorb([self.scenarios.none_fits(discard.detail)], now)
        return outputs + self._follow(now)

    def _of_correspondent(self, packet: bytes, now: float, *, tunnelled: bool) -> list[Output]:
        """Routine 70 for a mobility message that is not the home agent's."""
        try:
            return self.optimization.receive(packet, now, tunnelled=tunnelled)
        except Discard as discard:
            return [Discarded.of(discard, "ba-routine")]

    def _absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        """Acts on what the own parts say; the rest, and every event, goes on to the outside."""
        result: list[Output] = []
        moved = changed = False
        movement, home = self.mobile_node.movement, self.settings.home_address
        for output in outputs:
            if isinstance(output, Arrived):
                result += self._arrived(output.packet, output.link, now)
                continue
            result.append(output)
            match output:
                case AddressReady(link=link, address=address) | AddressDeprecated(link=link, address=address):
                    if address != home:
                        movement.address_ready(link, address, now, isinstance(output, AddressDeprecated))
                        moved = True
                case AddressLost(link=link, address=address) if address != home:
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
        if moved:
            result += self._moved(now)
        elif changed:
            result += self._follow(now)
        return result

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
        self._watch(present, now)
        mtu = self._host_mtu()
        if mtu != self.host_mtu:
            self.host_mtu = mtu
            outputs.append(HostMtuChanged(mtu))
        if self._optimizes:
            outputs += self.optimization.follow(
                present,
                ready=forwarding.ready,
                home_until=registration.expires,
                is_lost=self.mobile_node.movement.is_lost,
                now=now,
            )
        if forwarding.ready:
            outputs += self._send_again(now)
            for packet in self.waiting.take():
                outputs += self._outbound4(packet, now) if packet[0] >> 4 == 4 else self._outbound(packet, now)
        return outputs

    def _watch(self, present: Attachment | None, now: float) -> None:
        """Has the path that is in use looked after."""
        liveness = self._liveness
        if present is None or self.forwarding.tunnel is None:
            liveness.end()
        elif liveness.timer is None or liveness.link != present.link:
            keepalive = self.settings.keepalive if present.udp else 0.0
            liveness.begin(present.link, keepalive, now, self.sent, self.delivered)

    def _make_path(self, present: Attachment | None) -> ShortWay | None:
        if present is None:
            return None
        return short_way(self.forwarding, self.uplinks, present.link, self._tunnel_spi)

    def _host_mtu(self) -> int:
        """What is left of the narrowest link, or of the path to the home agent, after both IPsec layers."""
        inner = self.forwarding.tunnel_room(self.uplinks.smallest_mtu())
        body = inner - ip6.HEADER_SIZE
        for policy in self.application.spd.policies:
            sa = policy.outbound_sa
            if sa is not None and sa.mode is Mode.TRANSPORT:
                inner = min(inner, ip6.HEADER_SIZE + sa.algorithm.room(body))
        # A link of IPv6 carries 1280 octets; where the tunnel does not, the host fragments the outer packet.
        return max(inner, ip6.MINIMUM_MTU)

    def _finish(self, outputs: list[Output]) -> list[Output]:
        """Every way out but the two short ones, which change no timer: discards are counted, `timer` is set."""
        for output in outputs:
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
        earliest = self.mobile_node.timer
        for time in (
            self.waiting.timer,
            self._homecoming.timer,
            self._liveness.timer,
            self.optimization.timer,
            *(host.timer for host in self.hosts.values()),
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
