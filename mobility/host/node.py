"""What an IPv6 node does with packets for its own addresses, whatever link they come by (RFC 8200, 4443, 8201)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host import fragments, messages
from mobility.host.errors import TokenBucket
from mobility.host.interface import Interface
from mobility.host.path_mtu import MINIMUM, PathMtus
from mobility.host.redirect import REDIRECT
from mobility.outputs import Arrived, Output
from mobility.wire import icmp6, ip6, ndisc
from mobility.wire.errors import WireError

UPPER_LAYERS = frozenset((ip6.UDP, ip6.TCP, ip6.ESP, ip6.AH, ip6.IPV6, ip6.IPV4, ip6.MOBILITY, ip6.SCTP, ip6.UDP_LITE))
"Next headers that the owner of a node deals with; any other is answered with a Parameter Problem."

MLD_QUERY = 130
_MOBILE_ICMP = range(144, 148)
"Home agent address discovery and mobile prefix messages (RFC 6275 section 6.5 ff.): the owner's."


class Ipv6Node:
    """The part of a node that does not depend on the kind of its link: what arrives, errors, path MTU.

    A subclass knows the link: which addresses are ours and how packets leave. All times are monotonic seconds. Every
    entry point answers with a list of outputs, never raises on what comes from the network, and may move `timer`.
    """

    def __init__(self, interface: Interface, usable: set[bytes], proxied: set[bytes]) -> None:
        """``usable``: our addresses; ``proxied``: of absent nodes that we stand in for. Both may change, in place."""
        if interface.hardware_mtu < MINIMUM:
            raise ValueError(
                f"link {interface.name}: MTU {interface.hardware_mtu} is too small for IPv6, which needs {MINIMUM}"
            )
        self.link = interface.name
        self._interface = interface
        self._usable = usable
        self._proxied = proxied
        self._path_mtus = PathMtus(interface)
        self._reassembly = fragments.Reassembly(interface, self._reassembly_timed_out)
        self.forwards: Callable[[bytes], bool] = _nothing
        "Whether the owner takes packets for an address (16 octets) that is not ours: they come as `Arrived`."
        self.programs: set[bytes] = set()
        "Addresses (16 octets) of a host OS: echo requests for them come as `Arrived`, so that its IPsec judges them."
        self._error_bucket = TokenBucket()
        self._arrived = 0
        self._timer: float | None = None

    # ---------------------------------------------------------------- entry points

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not at all."""
        return self._timer

    def handle_timer(self, now: float) -> list[Output]:
        """Runs every alarm that is due."""
        self._interface.alarms.run(now)
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

    @property
    def up(self) -> bool:
        """Whether the link has a carrier."""
        return self._interface.up

    def path_mtu(self, destination: bytes) -> int:
        """Octets of the largest packet to ``destination``, IPv6 header included."""
        return self._path_mtus.get(destination)

    def report(self, error: icmp6.Error, now: float) -> list[Output]:
        """Sends an ICMPv6 error about ``error.invoking``, unless RFC 4443 section 2.4 forbids it or the rate is out."""
        self._report(error, now)
        return self._finish()

    # ---------------------------------------------------------------- what the kind of link decides

    def source_for(self, destination: bytes) -> bytes | None:
        """An address of ours to talk to ``destination`` from; None: there is none."""
        raise NotImplementedError

    def _receive_other(self, packet: bytes, sender: bytes, now: float) -> None:
        """A valid packet that is for none of our addresses. May raise `WireError`."""
        raise NotImplementedError

    def _receive_for_absent(self, packet: bytes, sender: bytes, now: float) -> None:
        """A packet for a proxied address: it goes up. May raise `WireError`."""
        self._arrive(packet)

    def _link_message(self, packet: bytes, offset: int, sender: bytes, now: float) -> None:
        """An ICMPv6 message, with a good checksum, by which nodes of one link talk: neighbour discovery or MLD."""
        raise NotImplementedError

    def _leave(self, packet: bytes, source: bytes, now: float) -> None:
        """A valid packet goes out, by the link that is up. ``source``: chooses the way."""
        raise NotImplementedError

    # ---------------------------------------------------------------- sending

    def _finish(self) -> list[Output]:
        self._timer = self._interface.alarms.next
        return self._interface.take()

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
        elif not interface.up:
            interface.discard(Reason.LINK_DOWN, f"to {IPv6Address(destination)}")
        else:
            self._leave(packet, source or packet[8:24], now)

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
        source = about if about in self._usable else self.source_for(to)
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
            elif destination in self._usable:
                self._process(packet, sender, now)
            else:
                self._receive_other(packet, sender, now)
        except WireError as error:
            interface.discard(Reason.MALFORMED, str(error))

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
        if kind == MLD_QUERY:
            self._link_message(packet, offset, sender, now)
        elif ndisc.ROUTER_SOLICITATION <= kind <= REDIRECT:
            if fragmented or not sender:
                why = "came in fragments (RFC 6980)" if fragmented else "comes from no neighbour"
                interface.discard(Reason.NDISC_INVALID, why)
            else:
                self._link_message(packet, offset, sender, now)
        elif kind == icmp6.ECHO_REQUEST and packet[24:40] not in self.programs:
            self._echo(packet, data, now)
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
        if source == messages.UNSPECIFIED:
            self._interface.discard(Reason.SOURCE_INVALID, "echo request from nobody")
            return
        echo = icmp6.Echo.parse(data)
        own = packet[24:40] if packet[24] != 0xFF else self.source_for(source)
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


def _nothing(_address: bytes) -> bool:
    return False
