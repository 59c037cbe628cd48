"""The home agent's engine: registration, and the tunnel both ways (RFC 6275 section 10, RFC 3963, 5555, 5648)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.links import describe_endpoint
from mobility.mipv6.binding_cache import BindingCache
from mobility.mipv6.binding_events import BindingCreated as BindingCreated
from mobility.mipv6.binding_events import BindingRemoved as BindingRemoved
from mobility.mipv6.binding_events import UpdateRefused as UpdateRefused
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.home_errors import HomeErrors
from mobility.mipv6.home_errors import SenderTold as SenderTold
from mobility.mipv6.home_errors import settled as settled
from mobility.mipv6.home_paths import HomeLink as HomeLink
from mobility.mipv6.home_paths import Outlet, Path
from mobility.mipv6.home_paths import Reply as Reply
from mobility.mipv6.home_prefixes import AdvertisePrefixes, HomePrefixes
from mobility.mipv6.home_settings import AuthorisedTerminal as AuthorisedTerminal
from mobility.mipv6.home_settings import HomeAgentSettings as HomeAgentSettings
from mobility.mipv6.prefix_messages import advertisement_packet, solicitation_in
from mobility.mipv6.registrar import Registrar
from mobility.mipv6.served_terminal import NEVER, ServedTerminal
from mobility.mipv6.signalling import received as opened
from mobility.mipv6.signalling import unwrap
from mobility.mipv6.tunnel import (
    Content,
    TunnelForm,
    agent_policies,
    checked,
    checked4,
    content,
    decapsulate,
    from_datagram,
)
from mobility.mipv6.update_request import UpdateRequest
from mobility.nemo.mobile_networks import MobileNetworks, Prefixes
from mobility.nemo.nest import Nest
from mobility.outputs import Deliver, Discarded, Output
from mobility.wire import icmp6, ip4, ip6, mh
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import PREFIX_SOLICITATION, PrefixAdvertisement

WAKE_INTERVAL = 1.0
"Seconds between reminders to a terminal that uses a binding which this home agent does not know."
_PREFIX_SOLICITATION = bytes((PREFIX_SOLICITATION,))


class HomeAgent:
    """Finds out whose a packet is, and carries it between the home link and the tunnels."""

    def __init__(
        self,
        settings: HomeAgentSettings,
        link: HomeLink,
        answer: Callable[[Reply, float], list[Output]],
        prefixes: HomePrefixes | None = None,
    ) -> None:
        """``answer`` sends a native reply to whoever sent the packet that is being handled.

        ``prefixes``: those of the home link; None: terminals are told none.

        Raises `ValueError`: associations that do not suit the tunnel, or an SPI or a home address twice.
        """
        self.settings = settings
        self.cache = BindingCache(settings.cache_limit)
        self.security = _security(settings.address, settings.prefix_length, settings.terminals)
        self.link = self._link = Nest(link, self._carrier)
        "The home link, with the tunnels in front of it."
        self._address = settings.address.packed
        self._outlet = Outlet(settings.address, self._link, settings.udp_port)
        self.registrar = Registrar(settings, self.cache, self.security, self._link, self._outlet, answer)
        self.prefixes = prefixes
        self._terminals: dict[bytes, ServedTerminal] = {}
        self._networks: MobileNetworks[ServedTerminal] = MobileNetworks()
        self._by_tunnel_spi: dict[bytes, ServedTerminal] = {}
        self._homes4 = self.registrar.homes4
        home = IPv6Network((settings.address, settings.prefix_length), strict=False)
        self._tell = HomeErrors(settings.address, home, self._link)
        for terminal in settings.terminals:
            self._admit(terminal)
        self._share_networks()

    def _admit(self, terminal: AuthorisedTerminal) -> None:
        served = ServedTerminal(terminal, self._address, self.security, self._outlet)
        self._terminals[served.home] = served
        for spi in _tunnel_spis(terminal):
            self._by_tunnel_spi[spi] = served

    def _share_networks(self) -> None:
        self._networks = MobileNetworks(
            (network, served) for served in self._terminals.values() for network in served.settings.mobile_networks
        )

    def _carrier(self, address: bytes) -> ServedTerminal | None:
        """Whose tunnel leads to an address: that of the node that is away, or has taken its network along."""
        terminal = self._terminals.get(address)
        if terminal is None:
            terminal = self._networks.owner(address)
            if terminal is None or address not in terminal.networks:
                return None
        return None if terminal.path is None else terminal

    def forwards(self, address: bytes) -> bool:
        """Whether packets for this address, of the home network's routers, are for us to carry on."""
        return self._networks.owner(address) is not None

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self.registrar.timer

    def handle_timer(self, now: float) -> list[Output]:
        """Bindings expire, terminals are reminded."""
        return self.registrar.handle_timer(now)

    # ------------------------------------------------------------ for operators

    def reconfigure(self, terminals: Iterable[AuthorisedTerminal], now: float) -> list[Output]:
        """Other terminals from now on. One that is equal to what it was, associations included, notices nothing.

        The bindings of one that is gone, not admitted any more, or has another form or other associations, end.
        Raises `ValueError` as the constructor does; then nothing has changed.
        """
        terminals = tuple(terminals)
        wanted = {terminal.home_address.packed: terminal for terminal in terminals}
        policies = _security(self.settings.address, self.settings.prefix_length, terminals).spd
        self._homes4.reconfigure(terminals)
        self.security.replace(policies)
        self.settings = replace(self.settings, terminals=terminals)
        outputs: list[Output] = []
        for home, served in list(self._terminals.items()):
            present, after = served.settings, wanted.pop(home, None)
            if after == present:
                continue
            same_keys = after is not None and (after.form, after.associations) == (present.form, present.associations)
            if after is not None and same_keys and after.mobile_networks == present.mobile_networks:
                served.renew(after)
                held = self._homes4.of(after.home_address)
                if not after.admitted:
                    outputs += self.registrar.drop(served, "not admitted any more", now)
                elif after.home_address4 not in (None, held) and held is not None:
                    outputs += self.registrar.drop(served, "another IPv4 home address", now)
                continue
            changed = "other mobile networks" if same_keys else "other keys"
            why = "removed from the configuration" if after is None else changed
            outputs += self.registrar.drop(served, why, now)
            del self._terminals[home]
            self._forget_prefixes(present.home_address)
            for spi in _tunnel_spis(present):
                self._by_tunnel_spi.pop(spi, None)
            if after is not None:
                wanted[home] = after
        for terminal in wanted.values():
            self._admit(terminal)
        self._share_networks()
        return outputs

    def bindings(self, wall_offset: float) -> list[BindingRecord]:
        """All that has to be known elsewhere; ``wall_offset``: seconds from the node's clock to that of the wall."""
        records = (self.registrar.record(terminal, wall_offset) for terminal in self._terminals.values())
        return [record for record in records if record is not None]

    def record(self, home_address: IPv6Address, wall_offset: float) -> BindingRecord | None:
        """The same of one home address; None: it is not bound."""
        terminal = self._terminals.get(home_address.packed)
        return None if terminal is None else self.registrar.record(terminal, wall_offset)

    def restore(self, records: Iterable[BindingRecord], wall_offset: float, now: float) -> list[Output]:
        """Bindings of an earlier process, or of another home agent, go on.

        What is over, of a terminal that is unknown, not admitted, or bound by now, is left out.
        """
        outputs: list[Output] = []
        for record in records:
            terminal = self._terminals.get(record.home_address.packed)
            if terminal is not None and terminal.settings.admitted:
                outputs += self.registrar.restore(terminal, record, wall_offset, now)
        return outputs

    def stand_in(self, now: float) -> list[Output]:
        """Answers for all bound home addresses on the home link from now on."""
        return self.registrar.stand_in(self._bound(), now)

    def stand_by(self, now: float) -> list[Output]:
        """Forgets all bindings without a word: another home agent has them."""
        return self.registrar.stand_by(self._bound(), now)

    def _bound(self) -> list[ServedTerminal]:
        return [terminal for terminal in self._terminals.values() if terminal.path is not None]

    # ------------------------------------------------------------ keys that are negotiated

    def learn(self, home_address: IPv6Address, spi: int, sa: InboundSA, *, tunnel: bool) -> None:
        """What comes by this SPI is for an association of a terminal. Raises `ValueError`: it is taken."""
        self.security.learn(spi, sa)
        terminal = self._terminals.get(home_address.packed)
        if tunnel and terminal is not None:
            self._by_tunnel_spi[spi.to_bytes(4)] = terminal

    def forget(self, spi: int) -> None:
        """Nothing comes by this SPI any more."""
        self.security.forget(spi)
        self._by_tunnel_spi.pop(spi.to_bytes(4), None)

    def path_of(self, home_address: IPv6Address) -> Path | None:
        """Where a terminal is, by its primary binding."""
        terminal = self._terminals.get(home_address.packed)
        return None if terminal is None else terminal.path

    def send_datagram(self, payload: bytes, path: Path, now: float) -> list[Output]:
        """What is not of a tunnel, in a datagram to where one may be."""
        try:
            return self._outlet.datagram(payload, path, now)
        except Discard as discard:
            return [Discarded.of(discard, "home-agent")]

    # ------------------------------------------------------------ signalling (sections 9.5, 10.3)

    def signalling(self, packet: bytes, now: float, path: Path | None = None) -> list[Output]:
        """A packet with a mobility message for this home agent; ``path``: None if it came as it is.

        Raises `Discard`: not answered, nothing changes.
        """
        clear, under_ipsec = unwrap(packet, self.security)
        if clear[6] == ip6.ICMPV6:
            return self._prefixes_asked(clear, Path(packet[8:24]) if path is None else path, now)
        received = opened(packet, clear, under_ipsec)
        if received.destination != self.settings.address:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility message to {received.destination}")
        terminal = self._terminals.get(received.source.packed)
        if terminal is None:
            raise Discard(Reason.NOT_OURS, f"{received.source} is no home address of this home agent")
        late = not self._is_newest(terminal)
        back = Path(received.outer_source.packed) if path is None else path
        update = received.message
        if isinstance(update, mh.UnknownMessage):
            told = self.registrar.tell_unknown(terminal, back, now) if self._tell.allowed(now) else []
            return [*told, Discarded(Reason.TYPE_UNKNOWN, "home-agent", f"type {update.type}")]
        if not isinstance(update, mh.BindingUpdate):
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(update.type)}")
        if not update.flags & mh.UpdateFlag.HOME_REGISTRATION:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding update of {received.source} without the H flag")
        return self.registrar.update(terminal, UpdateRequest.of(update, received, back, late=late), now)

    def _is_newest(self, terminal: ServedTerminal) -> bool:
        """Whether the signalling packet that is being handled overtook, or was sent after, all earlier ones."""
        association = terminal.settings.associations.signalling_in
        if association is None:
            return True
        newest = association.top != terminal.signalling_top
        terminal.signalling_top = association.top
        return newest

    def _prefixes_asked(self, clear: bytes, path: Path, now: float) -> list[Output]:
        """A terminal that is away asks for the prefixes of its home link (section 10.6.3). Raises `Discard`."""
        terminal = self._terminals.get(clear[8:24])
        if terminal is None or clear[24:40] != self._address or self.prefixes is None:
            raise Discard(Reason.NOT_OURS, f"mobile prefix solicitation of {IPv6Address(clear[8:24])}")
        self._is_newest(terminal)
        solicitation = solicitation_in(clear)
        if terminal.path is None:
            raise Discard(Reason.BINDING_UNKNOWN, f"mobile prefix solicitation of {terminal.settings.home_address}")
        if terminal.sources.get(path.source, NEVER) <= now:
            raise _wrong_place(terminal, path.source)
        home = terminal.settings.home_address
        return self._tell_prefixes(terminal, path, self.prefixes.answer(solicitation, home, now), now)

    def advertise_prefixes(self, advertise: AdvertisePrefixes, now: float) -> list[Output]:
        """Tells a terminal of a change, by its primary binding (section 10.6.2)."""
        terminal = self._terminals.get(advertise.home_address.packed)
        if terminal is None or terminal.path is None:
            self._forget_prefixes(advertise.home_address)
            return []
        try:
            return self._tell_prefixes(terminal, terminal.path, advertise.message, now)
        except Discard as discard:
            return [Discarded.of(discard, "home-agent")]

    def _forget_prefixes(self, home_address: IPv6Address) -> None:
        if self.prefixes is not None:
            self.prefixes.forget(home_address)

    def prefixes_changed(self, now: float) -> None:
        """All terminals that are away are told in their time."""
        if self.prefixes is not None:
            self.prefixes.schedule((terminal.settings.home_address for terminal in self._bound()), now)

    def _tell_prefixes(
        self, terminal: ServedTerminal, path: Path, message: PrefixAdvertisement, now: float
    ) -> list[Output]:
        home = terminal.settings.home_address
        if path.native:
            care_of = IPv6Address(path.source)
            return self._link.send(
                advertisement_packet(message, self.settings.address, home, care_of, self.security), now
            )
        packet = advertisement_packet(message, self.settings.address, home, home, self.security)
        return self._outlet.datagram(packet, path, now)

    def conflict(self, home_address: IPv6Address, now: float) -> list[Output]:
        """Another node on the home link claims this address."""
        terminal = self._terminals.get(home_address.packed)
        return [] if terminal is None else self.registrar.conflict(terminal, now)

    def is_signalling(self, packet: bytes) -> bool:
        """Whether a packet for this home agent holds a mobility message, as far as can be seen from outside."""
        if packet[6] == ip6.ESP:
            return packet[40:44] not in self._by_tunnel_spi
        try:
            headers = ip6.walk(packet)
        except WireError:
            return False
        if headers.protocol == ip6.ESP:
            return packet[headers.offset : headers.offset + 4] not in self._by_tunnel_spi
        if headers.protocol == ip6.ICMPV6:
            return packet[headers.offset : headers.offset + 1] == _PREFIX_SOLICITATION
        return headers.protocol in (ip6.MOBILITY, ip6.AH)

    # ------------------------------------------------------------ from the home link (section 10.4.2)

    def intercept(self, packet: bytes, now: float) -> list[Output]:
        """A packet for a home address or a mobile network: into the tunnel with it. Raises `Discard`."""
        packet = self._tell.hop(packet, now)
        carrier = self._carrier(packet[24:40])
        return self._not_away(packet, now) if carrier is None else self._into_tunnel(packet, carrier, now)

    def _not_away(self, packet: bytes, now: float) -> list[Output]:
        """For a mobile network whose router may be at home: there it is the next hop (RFC 3963 section 6.4)."""
        router = self._networks.owner(packet[24:40])
        if router is None or router.path is not None or not self._link.has_neighbours:
            raise self._tell.nowhere(packet, now)
        return self._link.send_via(packet, router.home, now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A packet of the operator's kernel for an IPv4 home address. Raises `Discard`."""
        if packet[:1] and packet[0] >> 4 == 6:
            raise Discard(Reason.LINK_LOCAL_CHATTER, "IPv6 of the host OS; only IPv4 goes this way")
        packet = checked4(packet)
        terminal = self._terminals.get(self._homes4.holders.get(packet[16:20], b""))
        if terminal is None or terminal.path is None:
            raise Discard(Reason.BINDING_UNKNOWN, "to an IPv4 address that no bound terminal has")
        if terminal.reach is not None and packet[12:16] not in terminal.reach:
            raise Discard(Reason.ACCESS_DENIED, f"{terminal.settings.name}: from {IPv4Address(packet[12:16])}")
        room = terminal.room()
        if len(packet) > room and not ip4.may_be_fragmented(packet):
            detail = f"{len(packet)} octets of IPv4, {room} fit"
            error = ip4.too_big(packet, room, self._homes4.own) if self._tell.allowed(now) else None
            told: list[Output] = [] if error is None else [Deliver(error)]
            return [*told, Discarded(Reason.TOO_BIG, "home-agent", detail)]
        return terminal.send(packet, now)

    # ------------------------------------------------------------ from the tunnels (section 10.4.5)

    def reverse(self, packet: bytes, now: float) -> list[Output]:
        """A packet that a terminal tunnelled natively to this home agent: on its way with it. Raises `Discard`."""
        match packet[6]:
            case ip6.ESP:
                terminal = self._owner(packet[40:44])
            case ip6.IPV6:
                terminal = self._claimed(packet[48:64])
            case ip6.IPV4:
                terminal = self._claimed(self._homes4.holders.get(packet[52:56], b""))
            case other:
                raise Discard(Reason.NOT_TUNNELLED, f"next header {other} from {IPv6Address(packet[8:24])}")
        source = packet[8:24]
        if terminal.sources.get(source, NEVER) > now:
            return self._forward(terminal, decapsulate(packet, terminal.form, self.security), Path(source), now)
        if terminal.path is not None:
            raise _wrong_place(terminal, source)
        return self._wake(terminal, decapsulate(packet, terminal.form, self.security), Path(source), now)

    def datagram(self, payload: bytes, endpoint: bytes, link: str, now: float) -> list[Output]:
        """The payload of a datagram to this home agent's UDP port (`tunnel.content`). Raises `Discard`.

        ``endpoint``: who sent it; ``link``: where it came; empty: to the home agent's own IPv6 address.
        """
        path = Path(endpoint, link)
        match content(payload):
            case Content.ESP:
                terminal = self._owner(payload[:4])
                return self._authenticated(terminal, payload, path, now)
            case Content.IPV6:
                inner = checked(payload)
                if inner[24:40] == self._address and self.is_signalling(inner):
                    return self.signalling(inner, now, path)
                return self._plain(self._claimed(inner[8:24]), inner, path, now)
            case Content.IPV4:
                inner = checked4(payload)
                return self._plain(self._claimed(self._homes4.holders.get(inner[12:16], b"")), inner, path, now)
            case Content.KEEPALIVE:
                raise Discard(Reason.KEEPALIVE, f"from {path}")

    def _authenticated(self, terminal: ServedTerminal, payload: bytes, path: Path, now: float) -> list[Output]:
        """ESP of a tunnel in a datagram; an endpoint that is not known may be a known one behind a NAT that changed."""
        endpoint = path.source
        known = terminal.sources.get(endpoint, NEVER) > now
        primary = terminal.path
        association = terminal.association_in  # None: the form ``plain``, where ESP is around home tests only
        follows = primary is not None and not primary.native and association is not None
        if not known and primary is not None and (not follows or endpoint in terminal.lost):
            raise _wrong_place(terminal, endpoint)
        before = 0 if association is None else association.top
        inner = from_datagram(payload, terminal.home + self._address, terminal.form, self.security)
        if known:
            return self._forward(terminal, inner, path, now)
        if primary is None:
            return self._wake(terminal, inner, path, now)
        self._check_source(terminal, inner)
        outputs: list[Output] = []
        if association is not None and association.top > before:
            outputs = self.registrar.rebind(terminal, path, now)
        try:
            return outputs + self._forward(terminal, inner, path, now)
        except Discard as discard:  # the terminal has moved all the same
            return outputs + settled(discard, "home-agent")

    def _plain(self, terminal: ServedTerminal, inner: bytes, path: Path, now: float) -> list[Output]:
        """A packet of the form ``plain`` in a datagram: nothing proves whose it is but where it comes from."""
        known = terminal.sources.get(path.source, NEVER) > now
        if not known and terminal.path is not None:
            raise _wrong_place(terminal, path.source)
        self._unprotected(terminal, inner)
        return self._forward(terminal, inner, path, now) if known else self._wake(terminal, inner, path, now)

    def _unprotected(self, terminal: ServedTerminal, inner: bytes) -> None:
        if inner[0] >> 4 == 6:
            self.security.check(inner, None, tunnelled=True)
        elif terminal.form is not TunnelForm.PLAIN:
            raise Discard(Reason.POLICY_VIOLATED, f"IPv4 of {terminal.settings.home_address} came unprotected")

    def _owner(self, spi: bytes) -> ServedTerminal:
        """Whose packet this claims to be; nothing is proven yet."""
        terminal = self._by_tunnel_spi.get(spi)
        if terminal is None:
            raise Discard(Reason.SA_UNKNOWN, f"SPI {spi.hex()}")
        return terminal

    def _claimed(self, source: bytes) -> ServedTerminal:
        terminal = self._terminals.get(source) or self._networks.owner(source)
        if terminal is None:
            raise Discard(Reason.INNER_SOURCE_WRONG, "the inner source is no address that this home agent serves")
        return terminal

    def _check_source(self, terminal: ServedTerminal, inner: bytes) -> None:
        """A terminal sends from its own addresses and networks only. Raises `Discard` INNER_SOURCE_WRONG."""
        if inner[0] >> 4 == 6:
            source = inner[8:24]
            own = terminal.networks if terminal.path is not None else Prefixes(terminal.settings.mobile_networks)
            if source != terminal.home and source not in own:
                detail = f"{IPv6Address(source)} is not {terminal.settings.home_address}, nor behind it"
                raise Discard(Reason.INNER_SOURCE_WRONG, detail)
        elif self._homes4.holders.get(inner[12:16]) != terminal.home:
            detail = f"no IPv4 home address of {terminal.settings.home_address}"
            raise Discard(Reason.INNER_SOURCE_WRONG, detail)

    def _forward(self, terminal: ServedTerminal, inner: bytes, path: Path, now: float) -> list[Output]:
        """What a terminal sent through its tunnel, by ``path``."""
        if inner[0] >> 4 == 4:
            self._check_source(terminal, inner)
            if terminal.reach is not None and inner[16:20] not in terminal.reach:
                raise Discard(Reason.ACCESS_DENIED, f"{terminal.settings.name}: to {IPv4Address(inner[16:20])}")
            return [Deliver(inner)]
        if inner[8:24] != terminal.home:
            self._check_source(terminal, inner)
        if inner[24:40] == self._address:
            return self._for_us(inner, terminal, path, now)
        if terminal.reach is not None and inner[24:40] not in terminal.reach:
            return self._tell.denied(inner, terminal.settings.name, now)
        inner = self._tell.hop(inner, now)
        other = self._carrier(inner[24:40])
        if other is not None:
            return self._into_tunnel(inner, other, now)
        if self._networks.owner(inner[24:40]) is not None:
            return self._not_away(inner, now)
        if len(inner) > (mtu := self._link.path_mtu(inner[24:40])):
            return self._tell.too_big(inner, mtu, now)
        return self._outlet.onto_link(inner, now)

    def _wake(self, terminal: ServedTerminal, inner: bytes, path: Path, now: float) -> list[Output]:
        """A terminal believes that it is bound, but this home agent was restarted: ask it to register again.

        Without this it would notice at the next refresh only. Once a second at most, and only if the packet is genuine.
        """
        home_address = terminal.settings.home_address
        unknown = Discarded(Reason.BINDING_UNKNOWN, "home-agent", f"from {home_address}")
        if inner[0] >> 4 == 6:
            self._check_source(terminal, inner)
        if terminal.woken_until > now:
            return [unknown]
        terminal.woken_until = now + WAKE_INTERVAL
        return [unknown, *self.registrar.request_refresh(home_address, path, now)]

    def _for_us(self, inner: bytes, terminal: ServedTerminal, path: Path, now: float) -> list[Output]:
        """Echo of a terminal is answered by the path that it came. All else is of nodes behind it: their tunnels end
        here as well, so it is received like any other packet.
        """
        if inner[6] != ip6.ICMPV6 or inner[8:24] != terminal.home:
            return self._link.receive_inner(inner, now)
        try:
            reply = icmp6.echo_reply(inner)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        if reply is not None:
            return terminal.send_by(reply, path, now)
        return self._link.receive_inner(inner, now)

    # ------------------------------------------------------------ both ways

    def _into_tunnel(self, packet: bytes, terminal: ServedTerminal, now: float) -> list[Output]:
        """A packet for a terminal, or for a network behind it (header 352 of Fig. 36; `Nest` adds the others)."""
        if terminal.reach is not None and packet[8:24] not in terminal.reach:
            return self._tell.denied(packet, terminal.settings.name, now)
        if len(packet) > (room := terminal.room()):
            return self._tell.too_big(packet, room, now)
        return terminal.send(packet, now)

    def is_bound(self, home_address: bytes) -> bool:
        """Whether packets for this address are intercepted."""
        return self.cache.find(home_address) is not None

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "address": str(self.settings.address),
            "binding_cache": self.cache.snapshot(now, self._homes4.of),
            "terminals": [terminal.snapshot() for terminal in self._terminals.values()],
            "ipv4": self._homes4.snapshot(),
        }


def _security(address: IPv6Address, prefix_length: int, terminals: Iterable[AuthorisedTerminal]) -> IpsecProcessing:
    homes: set[IPv6Address] = set()
    home = IPv6Network((address, prefix_length), strict=False)
    for terminal in terminals:
        if terminal.home_address in homes:
            raise ValueError(f"home address {terminal.home_address} is configured twice; give each terminal its own")
        homes.add(terminal.home_address)
        for network in terminal.mobile_networks:
            if network.overlaps(home):
                raise ValueError(f"mobile network {network} is in the home network {home}; give it another prefix")
    MobileNetworks((network, each) for each in terminals for network in each.mobile_networks)  # they may not overlap
    return agent_policies(
        address, ((each.home_address, each.form, each.associations, each.mobile_networks) for each in terminals)
    )


def _tunnel_spis(terminal: AuthorisedTerminal) -> list[bytes]:
    """SPIs of ESP in tunnel mode that the terminal sends with."""
    inbound = (terminal.associations.tunnel_in, terminal.associations.home_test_in)
    return [spi.to_bytes(4) for association in inbound if association is not None for spi in association.spis]


def _wrong_place(terminal: ServedTerminal, source: bytes) -> Discard:
    place = str(IPv6Address(source)) if len(source) == 16 else describe_endpoint(source)
    if source in terminal.lost:
        return Discard(Reason.CARE_OF_ADDRESS_LOST, f"{place} of {terminal.settings.home_address}")
    return Discard(Reason.OUTER_SOURCE_WRONG, f"{place} is not the care-of address of {terminal.settings.home_address}")
