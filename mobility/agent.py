"""The home agent put together: engine, host on the home link, IPsec; a `Node`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.agent_keys import AgentKeys
from mobility.discards import Discard, Reason
from mobility.host.advertiser import Advertiser
from mobility.host.events import AddressConflict
from mobility.host.host import Host
from mobility.host.routed_host import RoutedHost
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.numbers import NON_ESP_MARKER
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import no_clock
from mobility.links import LinkSettings, endpoint, is_udp
from mobility.mipv6.binding_events import BindingCreated, BindingRebound
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.home_advertising import advertising, farewell
from mobility.mipv6.home_agent import HomeAgent, settled
from mobility.mipv6.home_link_watch import HomeLinkWatch
from mobility.mipv6.home_paths import Path, Reply
from mobility.mipv6.home_prefixes import AdvertisePrefixes, HomePrefixChanged
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.negotiated import datagram, negotiated_snapshot
from mobility.nemo.nest import NESTING_LIMIT
from mobility.outputs import Arrived, Discarded, Event, Output, Transmit
from mobility.serving_keys import PORTS as IKE_PORTS
from mobility.wire import ip6

ANNOUNCEMENTS = 3
"Of the home agent's address when it takes over (MAX_NEIGHBOR_ADVERTISEMENT, RFC 4861 section 10)."
ANNOUNCEMENT_INTERVAL = 1.0
"Seconds."
FIRST_RETAKE = 2.0
"Seconds until the home agent's address is tried again, after somebody seemed to have it; doubled each time."
LONGEST_RETAKE = 60.0
_ICMPV6 = bytes((ip6.ICMPV6,))


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the node of a home agent has to know."""

    home_agent: HomeAgentSettings
    link: LinkSettings
    "On the home link, where a router advertises itself."
    standby: bool = False
    "Begins silent on the home link, until `HomeAgentNode.activate`."
    routed: bool = False
    "The home link is not physical: its prefix is routed to this machine, whose kernel is at the other end of ``link``."


@dataclass(frozen=True, slots=True)
class ServiceChanged(Event):
    """This home agent took over, or stood back."""

    active: bool
    bindings: int
    "Home addresses that are bound."


class HomeAgentNode:
    """A home agent; a `Node` with the home link, any number of links of UDP, and a host OS for IPv4.

    On standby it has no address on the home link, answers for nobody there, and drops datagrams. To take over:
    `restore` the bindings of the other home agent, then `activate`.
    """

    def __init__(
        self, settings: AgentSettings, random: Callable[[int], bytes], utc: Callable[[], datetime] = no_clock
    ) -> None:
        """``utc``: the wall clock, for certificates. Raises `ValueError` as `HomeAgent` does."""
        self.settings = settings
        link = settings.link
        self.host: Host | RoutedHost
        if settings.routed:
            self.host = RoutedHost(link.name, link.mtu, random)
        else:
            self.host = Host(link.name, link.link_address, link.mtu, random)
        self.watch = HomeLinkWatch(settings.home_agent, random)
        self.engine = HomeAgent(settings.home_agent, self.host, self._answer, self.watch.prefixes)
        self.host.forwards = self.engine.forwards
        self.keys = AgentKeys(self.engine, settings.home_agent.terminals, random, utc)
        self._tell_of_routers()
        self.active = not settings.standby
        "Whether this home agent serves."
        self.engine.registrar.standing_in = self.active
        self.counters: Counter[str] = Counter()
        self.intercepted = 0
        "Packets for terminals that are away."
        self.reversed = 0
        "Packets that terminals sent through their tunnels."
        self._address = settings.home_agent.address.packed
        self._anycast = None if self.watch.anycast is None else self.watch.anycast.packed
        self._port = settings.home_agent.udp_port
        self._sender = b""
        "Link-layer address of the packet that is being handled."
        self._inside = 0
        "Tunnels that the packet that is being handled has come out of."
        self._advertiser: Advertiser | None = None
        agent = settings.home_agent
        if agent.advertise > 0 and isinstance(self.host, Host):
            told = advertising(agent.address, agent.prefix_length, agent.preference, agent.advertise)
            host = self.host
            self._advertiser = Advertiser(link.name, link.link_address, told, lambda: host.link_local, random)
            self._advertising = told
        self._announcements = 0
        self._announce_at: float | None = None
        self._taken_at = 0.0
        self._retake_at: float | None = None
        self._retake = FIRST_RETAKE

    # ------------------------------------------------------------ Node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        advertiser = None if self._advertiser is None else self._advertiser.timer
        parts = (self.host.timer, self.engine.timer, self.watch.timer, advertiser, self.keys.timer)
        times = (*parts, self._announce_at, self._retake_at)
        return min((time for time in times if time is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its address, unless on standby; the link may come up later."""
        if not self.active:
            return []
        return self._take_address(now) + self._absorb(self._share_anycast(now), now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of the home link came or went."""
        if link != self.settings.link.name:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "home-agent", link)], now)
        outputs = self._absorb(self.host.link_changed(up, now), now)
        if self._advertiser is not None and not up:
            self._advertiser.link_down()
        elif up and self.active:
            outputs += self._advertise(now)
        if up and self._announcements:
            outputs += self._announce(now)
        return outputs

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on the home link, or the payload of a datagram on a link of UDP."""
        if link == self.settings.link.name:
            self._sender = sender
            outputs = self._absorb(self.host.receive(packet, sender, now), now)
            if packet[6:7] == _ICMPV6:
                outputs += self._absorb(self.watch.overhear(packet, now), now)
            return outputs
        if not is_udp(link) or len(sender) != 18:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "home-agent", link)], now)
        return self._absorb(self._guarded(self._datagram, packet, now, sender, link), now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """The operator's kernel sends IPv4 to terminals."""
        return self._absorb(self._guarded(self.engine.from_host, packet, now), now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        self._sender = b""
        outputs = self._absorb(self.host.handle_timer(now), now)
        outputs += self._absorb(self.engine.handle_timer(now), now)
        outputs += self._absorb(self.watch.handle_timer(now), now)
        outputs += self._absorb(self.keys.handle_timer(now), now)
        if self._advertiser is not None:
            outputs += self._advertiser.handle_timer(now)
        if self._announce_at is not None and self._announce_at <= now:
            outputs += self._announce(now)
        if self._retake_at is not None and self._retake_at <= now:
            self._retake_at = None
            outputs += self._take_address(now) if self.active else []
        return outputs

    def ipsec_parts(self) -> list[tuple[str, IpsecProcessing]]:
        """As `mobility.packet_stream.HasIpsec` wants it."""
        return [("tunnel", self.engine.security)]

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""
        return [self.keys.ike]

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "home-agent",
            "active": self.active,
            **self.engine.snapshot(now),
            **negotiated_snapshot([self.keys], now),
            "home_link": self.watch.snapshot(now),
            "links": {self.settings.link.name: self.host.snapshot(now)},
            "counters": {"intercepted": self.intercepted, "reversed": self.reversed, **self.counters},
        }

    # ------------------------------------------------------------ for operators

    def activate(self, now: float) -> list[Output]:
        """Serves from now on: takes the home agent's address and those of all bound terminals, and tells the link."""
        if self.active:
            return []
        self.active = True
        agent = self.settings.home_agent
        # Whoever had the address before does not answer any more, or this would not be called: nothing to be detected,
        # and the neighbours shall come here at once.
        outputs = self.host.add_address(agent.address, now, prefix_length=agent.prefix_length, quiet=True)
        outputs += self._share_anycast(now)
        outputs += self.engine.stand_in(now)
        outputs.append(ServiceChanged(True, len(self.engine.cache)))
        self._announcements = ANNOUNCEMENTS
        if self.host.up:
            outputs += self._advertise(now)
        return self._absorb(outputs, now) + self._announce(now)

    def deactivate(self, now: float) -> list[Output]:
        """Stands back: silent on the home link, all bindings forgotten; for the outside they go on elsewhere."""
        if not self.active:
            return []
        self.active = False
        self._announcements, self._announce_at = 0, None
        outputs = self.engine.stand_by(now)
        self.keys.stand_by()
        if self._advertiser is not None:
            self._advertiser.advertising = farewell(self._advertising)
            outputs += self._advertiser.stop(now)
        outputs += self.host.remove_address(self.settings.home_agent.address, now)
        if self.watch.anycast is not None:
            outputs += self.host.remove_address(self.watch.anycast, now)
        outputs.append(ServiceChanged(False, 0))
        return self._absorb(outputs, now)

    def reconfigure(self, terminals: Iterable[AuthorisedTerminal], now: float) -> list[Output]:
        """Other terminals; see `HomeAgent.reconfigure`. Raises `ValueError`; then nothing has changed."""
        terminals = tuple(terminals)
        outputs = self.engine.reconfigure(terminals, now)
        outputs += self.keys.reconfigure(terminals, now)
        self._tell_of_routers()
        return self._absorb(outputs, now)

    def bindings(self, wall_offset: float) -> list[BindingRecord]:
        """All bindings as they are to be kept; ``wall_offset``: seconds from this node's clock to that of the wall."""
        return self.engine.bindings(wall_offset)

    def record(self, home_address: IPv6Address, wall_offset: float) -> BindingRecord | None:
        """The same of one home address; None: it is not bound."""
        return self.engine.record(home_address, wall_offset)

    def restore(self, records: Iterable[BindingRecord], wall_offset: float, now: float) -> list[Output]:
        """Bindings of an earlier process, or of another home agent, go on; see `HomeAgent.restore`."""
        records = list(records)
        self.keys.bereft((record.home_address for record in records), now)
        return self._absorb(self.engine.restore(records, wall_offset, now), now)

    def resume(self) -> None:
        """All associations go on where their states are: another home agent has used them."""
        for policy in self.engine.security.spd.policies:
            if policy.outbound_sa is not None:
                policy.outbound_sa.resume()
            if policy.inbound_sa is not None:
                policy.inbound_sa.resume()

    # ------------------------------------------------------------ inside

    def _tell_of_routers(self) -> None:
        """Mobile routers that look for a home agent hear of this one if it has any."""
        terminals = self.engine.settings.terminals
        self.watch.agents.serves_routers = any(terminal.mobile_networks for terminal in terminals)

    def _take_address(self, now: float) -> list[Output]:
        self._taken_at = now
        agent = self.settings.home_agent
        return self._absorb(self.host.add_address(agent.address, now, prefix_length=agent.prefix_length), now)

    def _share_anycast(self, now: float) -> list[Output]:
        """The address at which home agents are discovered; quiet, for others of this link have it too (RFC 2526)."""
        if self.watch.anycast is None:
            return []
        prefix_length = self.settings.home_agent.prefix_length
        return self.host.add_address(self.watch.anycast, now, prefix_length=prefix_length, quiet=True)

    def _advertise(self, now: float) -> list[Output]:
        """Other home agents of the link hear of this one from now on."""
        if self._advertiser is None:
            return []
        self._advertiser.advertising = self._advertising
        return self._advertiser.start(now)

    def _announce(self, now: float) -> list[Output]:
        """The message may be lost, and the link may not be up yet."""
        outputs = self.host.announce(self.settings.home_agent.address, now)
        if outputs:
            self._announcements -= 1
        self._announce_at = now + ANNOUNCEMENT_INTERVAL if outputs and self._announcements else None
        return self._absorb(outputs, now)

    def _absorb(self, outputs: list[Output], now: float) -> list[Output]:
        if len(outputs) == 1:  # one packet in, one out
            (only,) = outputs
            if type(only) is Arrived:
                return self._take(only.packet, now)
            if type(only) is Transmit:
                return outputs
        result: list[Output] = []
        for output in outputs:
            match output:
                case Arrived(packet=packet):
                    result += self._take(packet, now)
                case AddressConflict(address=address) if self.engine.is_bound(address.packed):
                    result.append(output)
                    result += self._absorb(self.engine.conflict(address, now), now)
                case AddressConflict(address=address) if address == self.settings.home_agent.address:
                    # A terminal that comes home asks for this address in a way that looks like a claim to it.
                    if now - self._taken_at > LONGEST_RETAKE:
                        self._retake = FIRST_RETAKE
                    self._retake_at, self._retake = now + self._retake, min(self._retake * 2, LONGEST_RETAKE)
                    result.append(output)
                case HomePrefixChanged():
                    self.engine.prefixes_changed(now)
                    result.append(output)
                case AdvertisePrefixes():
                    result += self._absorb(self.engine.advertise_prefixes(output, now), now)
                case BindingCreated(home_address=home) | BindingRebound(home_address=home):
                    result.append(output)
                    result += self._absorb(self.keys.moved(home, self.engine.path_of(home), now), now)
                case Discarded(reason=reason):
                    self.counters[f"discarded-{reason}"] += 1
                    result.append(output)
                case _:
                    result.append(output)
        return result

    def _take(self, packet: bytes, now: float) -> list[Output]:
        """A packet of the home link, or out of a tunnel that ends here: another tunnel's packet may be inside."""
        if self._inside > NESTING_LIMIT:
            return self._absorb([Discarded(Reason.NESTING_LIMIT, "home-agent", "on the way out of tunnels")], now)
        self._inside += 1
        try:
            return self._absorb(self._guarded(self._arrived, packet, now), now)
        finally:
            self._inside -= 1

    def _guarded(self, handle: Callable[..., list[Output]], packet: bytes, now: float, *where: object) -> list[Output]:
        try:
            return handle(packet, now, *where)
        except Discard as discard:
            told: list[Output] = []
            if discard.reason is Reason.SA_UNKNOWN and self.active and self.keys.ike.peers:
                told = self._tell_of_unknown_spi(packet, now, *where)
            return told + settled(discard, "home-agent")

    def _tell_of_unknown_spi(self, packet: bytes, now: float, *where: object) -> list[Output]:
        """ESP under an SPI that is not known here: its sender may have agreed on it with us before a restart."""
        match where:
            case (bytes() as sender, str() as link):
                spi, path = packet[:4], Path(sender, link)
            case _ if packet[6] == ip6.UDP:
                spi, path = packet[48:52], Path(packet[8:24] + packet[40:42])
            case _:
                at = ip6.walk(packet).offset
                spi, path = packet[at : at + 4], Path(packet[8:24])
        return self.keys.unknown_spi(spi, path, now)

    def _arrived(self, packet: bytes, now: float) -> list[Output]:
        if packet[24:40] != self._address:
            if packet[24:40] == self._anycast:
                return self.host.send(self.watch.answer(packet, now), now)
            outputs = self.engine.intercept(packet, now)
            self.intercepted += 1
            return outputs
        if packet[6] != ip6.UDP and self.engine.is_signalling(packet):
            return self.engine.signalling(packet, now)
        if packet[6] == ip6.ICMPV6:
            return [Discarded(Reason.ICMP_IGNORED, "home-agent", f"type {packet[40]}")]
        if packet[6] == ip6.UDP:
            return self._own_datagram(packet, now)
        outputs = self.engine.reverse(packet, now)
        self.reversed += 1
        return outputs

    def _own_datagram(self, packet: bytes, now: float) -> list[Output]:
        """UDP to the home agent's own address, which no kernel knows."""
        payload, (source_port, port) = datagram(packet)
        if port in IKE_PORTS and source_port and self.active:
            return self.keys.packet(payload, (source_port, port), IPv6Address(packet[8:24]), now)
        if port != self._port or source_port == 0:
            raise Discard(Reason.NOT_TUNNELLED, f"UDP from port {source_port} to port {port}")
        return self._datagram(payload, now, endpoint(IPv6Address(packet[8:24]), source_port), "")

    def _datagram(self, payload: bytes, now: float, sender: bytes, link: str) -> list[Output]:
        if not self.active:
            raise Discard(Reason.STANDBY, f"a datagram on {link}")
        if payload[:4] == NON_ESP_MARKER:
            return self.keys.datagram(payload, sender, link, self._port, now)
        outputs = self.engine.datagram(payload, sender, link, now)
        self.reversed += 1
        return outputs

    def _answer(self, reply: Reply, now: float) -> list[Output]:
        if reply.at_home and self._sender:
            # The terminal does not answer for its home address before it has this acknowledgement (section 11.5.5).
            return [Transmit(reply.packet, self._sender, self.settings.link.name)]
        return self.engine.link.send(reply.packet, now)
