"""A user-space IPv6 host on one link: the entry points, and what becomes of a packet."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host import fragments, messages
from mobility.host.addresses import AddressTable, Origin
from mobility.host.discovery import Discovery
from mobility.host.errors import TokenBucket
from mobility.host.interface import Interface
from mobility.host.neighbour_discovery import NeighbourDiscovery
from mobility.host.networks import KnownNetworks
from mobility.host.path_mtu import MINIMUM, PathMtus
from mobility.host.proxies import Proxies
from mobility.host.redirect import REDIRECT
from mobility.host.routers import RouterList
from mobility.outputs import Arrived, Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.errors import WireError

UPPER_LAYERS = frozenset((ip6.UDP, ip6.TCP, ip6.ESP, ip6.AH, ip6.IPV6, ip6.IPV4, ip6.MOBILITY, ip6.SCTP, ip6.UDP_LITE))
"Next headers that the owner of a host deals with; any other is answered with a Parameter Problem."

_MLD_QUERY = 130
_MOBILE_ICMP = range(144, 148)
"Home agent address discovery and mobile prefix messages (RFC 6275 section 6.5 ff.): the owner's."
_UNSPECIFIED = messages.UNSPECIFIED


class Host:
    """One node on one link. It owns its addresses; no kernel knows them. All times are monotonic seconds.

    Link-local and autoconfigured addresses come by themselves when the link is up (RFC 4862, optimistic RFC 4429).
    Every entry point answers with a list of outputs, never raises on what comes from the network, and may move `timer`.
    """

    def __init__(
        self,
        link: str,
        link_address: bytes,
        mtu: int,
        random: Callable[[int], bytes],
        *,
        interface_identifier: bytes | None = None,
        secret: bytes | None = None,
        duplicate_detection: bool = True,
        router: bool = False,
    ) -> None:
        """``interface_identifier``: 8 octets for all autoconfigured addresses (for example `identifiers.eui64`).

        Without one they are stable and opaque (RFC 7217): made from ``secret``, or from a random one for the life of
        this object. ``duplicate_detection=False``: addresses are taken for granted (RFC 4862 section 5.1, transmits 0).
        ``router``: the owner forwards packets; the host then listens to all-routers, says in its neighbour
        advertisements that it is a router, hands router solicitations up and ignores other routers' advertisements.
        """
        if len(link_address) != 6:
            raise ValueError(f"link {link}: a link-layer address has 6 octets, got {len(link_address)}")
        if mtu < MINIMUM:
            raise ValueError(f"link {link}: MTU {mtu} is too small for IPv6, which needs {MINIMUM}")
        if interface_identifier is not None and len(interface_identifier) != 8:
            raise ValueError(f"link {link}: an interface identifier has 8 octets, got {len(interface_identifier)}")
        self.link = link
        self._router = router
        self._interface = Interface(link, link_address, mtu, random)
        self._addresses = AddressTable(
            self._interface,
            identifier=interface_identifier,
            secret=random(32) if secret is None else secret,
            duplicate_detection=duplicate_detection,
        )
        self._groups = self._addresses.groups
        self._proxies = Proxies(self._interface, self._groups, self._own_link_local)
        self._routers = RouterList(self._interface)
        self._networks = KnownNetworks()
        self._path_mtus = PathMtus(self._interface)
        self._discovery = Discovery(
            self._interface, self._addresses, self._routers, self._networks, self._path_mtus.clear
        )
        self._neighbours = self._discovery.neighbours
        self._neighbour_discovery = NeighbourDiscovery(
            self._interface,
            self._addresses,
            self._proxies,
            self._routers,
            self._discovery,
            self._arrive,
            router=router,
        )
        self._reassembly = fragments.Reassembly(self._interface, self._reassembly_timed_out)
        self.forwards: Callable[[bytes], bool] = _nothing
        "Whether the owner takes packets for an address (16 octets) that is not ours: they come as `Arrived`."
        self.programs: set[bytes] = set()
        "Addresses (16 octets) of a host OS: echo requests for them come as `Arrived`, so that its IPsec judges them."
        self._error_bucket = TokenBucket()
        self._arrived = 0
        self._timer: float | None = None
        # The hot path reads these two without asking their owners.
        self._usable = self._addresses.usable
        self._proxied = self._proxies.addresses
        self._resolved = self._interface.resolved

    # ---------------------------------------------------------------- entry points

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not at all."""
        return self._timer

    def handle_timer(self, now: float) -> list[Output]:
        """Runs every alarm that is due."""
        self._interface.alarms.run(now)
        return self._finish()

    def link_changed(self, up: bool, now: float) -> list[Output]:
        """The carrier came or went. Up without a down before it means: perhaps another link."""
        if self._interface.up:
            self._interface.up = False
            self._addresses.link_down(now)
            self._proxies.link_down()
            self._discovery.link_down(now)
        if up:
            self._interface.up = True
            if self._router and messages.ALL_ROUTERS not in self._groups:
                self._groups.join(messages.ALL_ROUTERS, now)
            self._addresses.link_up(now)
            self._proxies.link_up(now)
            if not self._router:
                self._discovery.link_up(now)
        return self._finish()

    def receive(self, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """An IPv6 packet came in from the link-layer address ``sender``."""
        size = len(packet)
        if (
            size > 40
            and packet[6] in UPPER_LAYERS
            and (packet[24:40] in self._usable or packet[24:40] in self._proxied)
            and packet[4] << 8 | packet[5] == size - 40
            and packet[0] >> 4 == 6
            and packet[8] != 0xFF
        ):
            self._arrived += 1
            return [Arrived(packet, self.link)]
        self._receive(packet, sender, now)
        return self._finish()

    def receive_inner(self, packet: bytes, now: float) -> list[Output]:
        """A packet for one of our addresses that came out of a tunnel: neighbour discovery cannot come that way."""
        try:
            packet = ip6.check(packet)
            if packet[24:40] in self._usable:
                self._process(packet, b"", now)
            else:
                self._interface.discard(Reason.NOT_OURS, f"to {IPv6Address(packet[24:40])}, out of a tunnel")
        except WireError as error:
            self._interface.discard(Reason.MALFORMED, str(error))
        return self._finish()

    def split(self, packet: bytes, limit: int) -> list[bytes]:
        """Fragments of one of our own packets, none longer than ``limit``. Raises `Discard` MALFORMED."""
        try:
            return fragments.fragment(packet, limit, int.from_bytes(self._interface.random(4)))
        except (ValueError, IndexError) as error:
            raise Discard(Reason.MALFORMED, str(error)) from error

    def send(self, packet: bytes, now: float, source: bytes | None = None) -> list[Output]:
        """Sends a packet whose source the owner has chosen: at once, or when the next hop is resolved.

        Longer than the path MTU and from one of our addresses: fragmented. ``source``: choose the router as if this
        were the packet's source.
        """
        self._send(packet, now, source)
        return self._finish()

    def send_via(self, packet: bytes, hop: bytes, now: float) -> list[Output]:
        """Sends a packet that the owner forwards: to the neighbour ``hop``, whatever our own routes say."""
        if len(packet) < ip6.HEADER_SIZE:
            self._interface.discard(Reason.MALFORMED, f"{len(packet)} octets are no IPv6 packet")
        elif self._interface.up:
            self._neighbours.send(packet, hop, now)
        else:
            self._interface.discard(Reason.LINK_DOWN, f"to {IPv6Address(packet[24:40])}")
        return self._finish()

    def next_hop(self, destination: bytes) -> bytes | None:
        """Link-layer address for packets to ``destination`` as the latest `send` to it decided; None: ask `send`.

        Who transmits by this keeps to `path_mtu` himself.
        """
        return self._resolved.get(destination)

    @property
    def up(self) -> bool:
        """Whether the link has a carrier."""
        return self._interface.up

    @property
    def link_local(self) -> bytes | None:
        """The link-local address, once it may be used (16 octets): what router advertisements come from."""
        address = self._addresses.link_local()
        return None if address is None else address.value

    def path_mtu(self, destination: bytes) -> int:
        """Octets of the largest packet to ``destination``, IPv6 header included."""
        return self._path_mtus.get(destination)

    def add_address(
        self,
        address: IPv6Address,
        now: float,
        optimistic: bool = True,
        *,
        prefix_length: int = 64,
        quiet: bool = False,
    ) -> list[Output]:
        """A configured address; `AddressReady` tells when it is usable: at once if ``optimistic``.

        The first ``prefix_length`` bits are on-link. ``quiet``: without duplicate address detection or defence until
        `announce`: a mobile node that returns home while the home agent still stands in (RFC 6275 section 11.5.5).
        Solicitations are answered: the home agent has to find us to acknowledge.
        """
        existing = self._addresses.get(address.packed)
        if existing is None:
            self._routers.configure_prefix(address.packed, prefix_length, on_link=True)
            self._addresses.add(address.packed, prefix_length, now, optimistic=optimistic, quiet=quiet)
        return self._finish()

    def remove_address(self, address: IPv6Address, now: float) -> list[Output]:
        """Takes a configured address away. One that is not there, or not configured, is left alone."""
        existing = self._addresses.get(address.packed)
        if existing is not None and existing.origin is Origin.CONFIGURED:
            self._routers.configure_prefix(address.packed, existing.prefix_length, on_link=False)
            self._addresses.remove(address.packed, now, "removed")
        return self._finish()

    def announce(self, address: IPv6Address, now: float) -> list[Output]:
        """Tell all neighbours that the address is ours now (unsolicited, overriding); ends `quiet`."""
        self._addresses.announce(address.packed, now)
        return self._finish()

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """Stand in for an absent node: announce, answer and defend its address; its packets come as `Arrived`."""
        self._proxies.add(address.packed, now)
        return self._finish()

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """The node is back: answer for it no more."""
        self._proxies.remove(address.packed, now)
        return self._finish()

    def confirm(self, destination: bytes, now: float, source: bytes = _UNSPECIFIED) -> list[Output]:
        """An answer came from ``destination``: the next hop towards it works, no probe needed (RFC 4861 section 7.3.1).

        ``source``: our address that the answer was for, which chooses the router as in `send`.
        """
        hop = self._routers.next_hop(source, destination, now)
        if hop is not None:
            self._neighbours.confirm(hop, now)
        return self._finish()

    def suspect(self, now: float) -> list[Output]:
        """Nothing comes through although the link is up: ask the present routers and look for others."""
        if self._interface.up:
            self._discovery.suspect(now)
        return self._finish()

    def report(self, error: icmp6.Error, now: float) -> list[Output]:
        """Sends an ICMPv6 error about ``error.invoking``, unless RFC 4443 section 2.4 forbids it or the rate is out."""
        self._report(error, now)
        return self._finish()

    def source_for(self, destination: bytes) -> bytes | None:
        """An address of ours to talk to ``destination`` from: same scope, preferred before deprecated."""
        return self._addresses.error_source(destination)

    def snapshot(self, now: float) -> dict[str, object]:
        """Tables and counters, JSON-ready."""
        interface = self._interface
        return {
            "link": self.link,
            "link_address": interface.mac.hex(":"),
            "up": interface.up,
            "mtu": interface.mtu,
            "addresses": self._addresses.snapshot(now),
            "proxied": sorted(str(IPv6Address(address)) for address in self._proxied),
            "routers": self._routers.snapshot(now),
            "neighbours": self._neighbours.snapshot(),
            "known_networks": self._networks.snapshot(),
            "path_mtus": self._path_mtus.snapshot(now),
            "groups": self._groups.snapshot(),
            "counters": {"arrived": self._arrived, **interface.counters},
        }

    # ---------------------------------------------------------------- sending

    def _finish(self) -> list[Output]:
        self._timer = self._interface.alarms.next
        return self._interface.take()

    def _own_link_local(self) -> bytes:
        return self.link_local or _UNSPECIFIED

    def _send(self, packet: bytes, now: float, source: bytes | None = None) -> None:
        interface = self._interface
        try:
            packet = ip6.check(packet)
        except WireError as error:
            interface.discard(Reason.MALFORMED, str(error))
            return
        destination = packet[24:40]
        if destination in self._usable:
            self._arrived += 1
            interface.emit(Arrived(packet, self.link))
            return
        if not interface.up:
            interface.discard(Reason.LINK_DOWN, f"to {IPv6Address(destination)}")
            return
        multicast = destination[0] == 0xFF
        hop = destination if multicast else self._routers.next_hop(source or packet[8:24], destination, now)
        if hop is None:
            interface.discard(Reason.NO_ROUTE, f"to {IPv6Address(destination)}")
            return
        if hop == destination and not multicast:
            hop = self._detour(hop, packet[8:24], now)
        for piece in self._fit(packet, destination):
            if multicast:
                interface.transmit(piece, ndisc.ethernet_multicast(destination))
            else:
                self._neighbours.send(piece, hop, now)

    def _detour(self, hop: bytes, source: bytes, now: float) -> bytes:
        """While every address is optimistic nobody may be asked for a link-layer address: the router is, if known.

        RFC 4429 section 3.3. Not from a quiet address: the answer would reach the node that still stands in for us.
        """
        neighbour = self._neighbours.get(hop)
        if (neighbour is not None and neighbour.mac is not None) or messages.is_link_local(hop):
            return hop
        address = self._addresses.get(source)
        if address is None or not address.being_checked or self._addresses.solicitation_source(source) is not None:
            return hop
        router = self._routers.default(source, now)
        known = None if router is None else self._neighbours.get(router)
        return hop if router is None or known is None or known.mac is None else router

    def _fit(self, packet: bytes, destination: bytes) -> list[bytes]:
        limit = self._path_mtus.get(destination)
        if len(packet) <= limit:
            return [packet]
        if packet[8:24] not in self._usable:
            self._interface.discard(Reason.TOO_BIG, f"{len(packet)} octets of another node's, {limit} fit")
            return []
        try:
            return self.split(packet, limit)
        except Discard as discard:
            self._interface.discard(discard.reason, discard.detail)
            return []

    def _report(self, error: icmp6.Error, now: float) -> None:
        invoking = error.invoking
        to_group = isinstance(error, icmp6.PacketTooBig) or (
            isinstance(error, icmp6.ParameterProblem) and error.code == icmp6.UNKNOWN_OPTION
        )
        if not icmp6.may_be_answered_with_error(invoking, to_group):
            return
        to, about = invoking[8:24], invoking[24:40]
        source = about if about in self._usable else self._addresses.error_source(to)
        if source is None or not self._error_bucket.take(now):
            self._interface.counters["errors-withheld"] += 1
            return
        self._send(icmp6.packet(source, to, error, self._interface.hop_limit), now)

    def _problem(self, packet: bytes, code: int, pointer: int, now: float) -> None:
        self._report(icmp6.ParameterProblem(code, pointer, packet), now)

    def _reassembly_timed_out(self, first: bytes, now: float) -> None:
        self._report(icmp6.TimeExceeded(icmp6.REASSEMBLY_TIME_EXCEEDED, first), now)

    # ---------------------------------------------------------------- receiving

    def _receive(self, packet: bytes, sender: bytes, now: float) -> None:
        interface = self._interface
        try:
            packet = ip6.check(packet)
        except WireError as error:
            interface.discard(Reason.MALFORMED, str(error))
            return
        if not interface.up:
            interface.discard(Reason.LINK_DOWN, "received without a carrier")
            return
        if packet[8] == 0xFF:
            interface.discard(Reason.SOURCE_INVALID, f"source {IPv6Address(packet[8:24])}")
            return
        destination = packet[24:40]
        try:
            if destination in self._proxied:
                self._receive_for_absent(packet, sender, now)
            elif destination in self._usable or (destination[0] == 0xFF and destination in self._groups):
                self._process(packet, sender, now)
            elif self.forwards(destination):
                self._arrive(packet)
            else:
                interface.discard(Reason.NOT_OURS, f"to {IPv6Address(destination)}")
        except WireError as error:
            interface.discard(Reason.MALFORMED, str(error))

    def _receive_for_absent(self, packet: bytes, sender: bytes, now: float) -> None:
        """Everything for a proxied address goes up, but the questions of its neighbours."""
        if packet[6] == ip6.ICMPV6 and packet[7] == ndisc.HOP_LIMIT and packet[40:41] in (b"\x87", b"\x88"):
            self._neighbour_discovery.receive(packet, ip6.HEADER_SIZE, sender, now)
        else:
            self._arrive(packet)

    def _arrive(self, packet: bytes) -> None:
        self._arrived += 1
        self._interface.emit(Arrived(packet, self.link))

    def _process(self, packet: bytes, sender: bytes, now: float) -> None:
        headers = ip6.walk(packet)
        whole = packet
        if headers.fragment is not None:
            try:
                reassembled = self._reassembly.add(packet, headers, headers.fragment, now)
            except fragments.FragmentProblem as problem:
                self._interface.discard(Reason.FRAGMENT_INVALID, str(problem))
                self._problem(packet, icmp6.ERRONEOUS_HEADER_FIELD, problem.pointer, now)
                return
            if reassembled is None:
                return
            whole = reassembled
            headers = ip6.walk(whole)
            if headers.fragment is not None:
                self._interface.discard(Reason.FRAGMENT_INVALID, "fragments inside fragments")
                return
        if not self._headers_known(whole, headers, now):
            return
        if headers.protocol in UPPER_LAYERS or headers.home_address is not None or headers.routing_at is not None:
            self._arrive(whole)
        elif headers.protocol == ip6.ICMPV6:
            self._icmp(whole, headers.offset, sender, now, fragmented=whole is not packet)
        elif headers.protocol == ip6.NO_NEXT:
            self._interface.discard(Reason.HEADER_UNKNOWN, "nothing follows (no next header)")
        else:
            self._interface.discard(Reason.HEADER_UNKNOWN, f"next header {headers.protocol}")
            self._problem(whole, icmp6.UNKNOWN_NEXT_HEADER, headers.next_header_at, now)

    def _headers_known(self, packet: bytes, headers: ip6.Headers, now: float) -> bool:
        """RFC 8200 sections 4.2, 4.4. False: discarded."""
        for option in headers.unknown_options:
            if option.action == 0:
                continue
            self._interface.discard(Reason.HEADER_UNKNOWN, f"option {option.type}")
            if option.action == 2 or (option.action == 3 and packet[24] != 0xFF):
                self._problem(packet, icmp6.UNKNOWN_OPTION, option.at, now)
            return False
        if headers.unknown_routing_at is not None:
            at = headers.unknown_routing_at + 2
            self._interface.discard(Reason.HEADER_UNKNOWN, f"routing header of type {packet[at]}")
            self._problem(packet, icmp6.ERRONEOUS_HEADER_FIELD, at, now)
            return False
        return True

    # ---------------------------------------------------------------- ICMPv6

    def _icmp(self, packet: bytes, offset: int, sender: bytes, now: float, *, fragmented: bool) -> None:
        interface = self._interface
        data = packet[offset:]
        try:
            icmp6.verify(packet[8:24], packet[24:40], data)
        except WireError as error:
            interface.discard(Reason.CHECKSUM_WRONG, str(error))
            return
        kind = data[0]
        if ndisc.ROUTER_SOLICITATION <= kind <= REDIRECT:
            if fragmented or not sender:
                why = "came in fragments (RFC 6980)" if fragmented else "came out of a tunnel"
                interface.discard(Reason.NDISC_INVALID, why)
            else:
                self._neighbour_discovery.receive(packet, offset, sender, now)
        elif kind == icmp6.ECHO_REQUEST and packet[24:40] not in self.programs:
            self._echo(packet, data, now)
        elif kind == _MLD_QUERY:
            self._mld_query(packet, data, now)
        elif kind == icmp6.PACKET_TOO_BIG:
            self._packet_too_big(packet, data, now)
        elif kind < 128:
            if self._is_about_us(data):
                self._arrive(packet)
        elif kind in (icmp6.ECHO_REQUEST, icmp6.ECHO_REPLY) or kind in _MOBILE_ICMP:
            self._arrive(packet)
        else:
            interface.discard(Reason.ICMP_IGNORED, f"type {kind}")

    def _is_about_us(self, data: bytes) -> bool:
        """Whether an error quotes a packet that we can have sent; otherwise it is discarded."""
        quoted_source = data[16:32]
        if len(data) >= 48 and (quoted_source in self._usable or quoted_source in self._proxied):
            return True
        self._interface.discard(Reason.ICMP_IGNORED, f"error {data[0]} about a packet that we did not send")
        return False

    def _echo(self, packet: bytes, data: bytes, now: float) -> None:
        source = packet[8:24]
        if source == _UNSPECIFIED:
            self._interface.discard(Reason.SOURCE_INVALID, "echo request from nobody")
            return
        echo = icmp6.Echo.parse(data)
        own = packet[24:40] if packet[24] != 0xFF else self._addresses.error_source(source)
        if own is None:
            self._interface.discard(Reason.NO_ROUTE, "no address to answer an echo request from")
            return
        reply = icmp6.Echo(echo.identifier, echo.sequence, echo.data, reply=True)
        self._interface.counters["echo-answered"] += 1
        self._send(icmp6.packet(own, source, reply, self._interface.hop_limit), now)

    def _packet_too_big(self, packet: bytes, data: bytes, now: float) -> None:
        message = icmp6.PacketTooBig.parse(data)
        if not self._is_about_us(data):
            return
        if message.mtu < MINIMUM:
            # RFC 8201 section 4: not a reason for anything, and a classic forgery.
            self._interface.discard(Reason.ICMP_IGNORED, f"packet too big with an MTU of {message.mtu}")
            return
        self._path_mtus.lower(data[32:48], message.mtu, now)
        self._arrive(packet)

    def _mld_query(self, packet: bytes, data: bytes, now: float) -> None:
        if packet[7] != 1 or not messages.is_link_local(packet[8:24]) or len(data) < 24:
            self._interface.discard(Reason.ICMP_IGNORED, "MLD query: hop limit, source or size")
            return
        code = int.from_bytes(data[4:6])
        if len(data) > 24 and code >= 0x8000:  # floating point of MLDv2 (RFC 3810 section 5.1.3)
            code = (code & 0xFFF | 0x1000) << ((code >> 12 & 7) + 3)
        self._groups.queried(data[8:24], code / 1000, now)


def _nothing(_address: bytes) -> bool:
    return False
