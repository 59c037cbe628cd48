"""The IPv4-IPv6 translation of scenario processing (Fig. 5): table, translator and gateways put together.

A packet of one version goes in, packets of the other come out, with what the host OS and the outside are to be told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from mobility.discards import Discard, Reason
from mobility.host.fragments import FragmentProblem, Reassembly, fragment
from mobility.host.interface import Interface
from mobility.outputs import Discarded, Event, Output
from mobility.translation.checksums import words
from mobility.translation.dns import DnsGateway
from mobility.translation.native import NativeFlows
from mobility.translation.settings import TranslationSettings
from mobility.translation.sip import SipGateway
from mobility.translation.streams import SipStreams
from mobility.translation.table import Row
from mobility.translation.translator import DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET, Refused, Translator
from mobility.wire import icmp6, ip4, ip6, tcp, udp
from mobility.wire.errors import WireError

DNS_PORT = 53
LOCAL_SIP_PORTS = 16
"Ports from which programs were seen to speak SIP; the oldest goes first."

_PORTS = Struct("!HHHH")
_LENGTH = Struct("!H").pack
_HEADER4 = Struct("!BBHHHBBH").pack
_NOT_WHOLE = DONT_FRAGMENT ^ 0xFFFF


@dataclass(frozen=True, slots=True)
class VirtualAddressSet(Event):
    """Interface 19 has this virtual IPv4 address from now on (steps 64, 82)."""

    address: IPv4Address


@dataclass(slots=True)
class Translated:
    """What became of a packet."""

    network: list[bytes] = field(default_factory=list)
    "IPv6 packets from the home address."
    host: list[bytes] = field(default_factory=list)
    "Packets for the host OS, IPv4 or, for programs that speak IPv6 themselves, IPv6."
    outputs: list[Output] = field(default_factory=list)
    "Discards and events."


class _Pair(NamedTuple):
    """Source and destination that are known: all that most packets need."""

    ends: bytes
    "Of the other version of IP."
    shift: int
    "Of checksums, see `checksums.adjusted`."
    row: Row
    "Of the correspondent."


class Translation:
    """Between the programs that speak IPv4 and everything else of the terminal, which speaks IPv6.

    Packets are only translated between `acknowledged` and the end of the lifetime that it was told.
    """

    def __init__(self, settings: TranslationSettings, random: Callable[[int], bytes], now: float = 0.0) -> None:
        """Raises `ValueError`: pools that are too small for home agent and name servers."""
        self.settings = settings
        self.table = settings.new_table()
        router4 = self.table.fix(settings.home_agent, now)
        self.servers = settings.virtual_servers
        self.native = NativeFlows()
        self._router4 = router4
        self.translator = Translator(self, router4, settings.home_address, int.from_bytes(random(2)))
        self.dns = DnsGateway(self._virtual4, self._standing_for)
        self.sip = SipGateway(self._literal4, self._literal6)
        self.streams = SipStreams(self.sip.is_message, self._sip_sent, self.sip.inbound)
        self.timer: float | None = None
        "When `handle_timer` wants to be called."
        self.sent = 0
        self.received = 0
        self._home6 = settings.home_address.packed
        self._home4 = settings.address4.packed
        self._local_sip: dict[int, None] = {}
        self._pairs4: dict[bytes, _Pair] = {}
        self._pairs6: dict[bytes, _Pair] = {}
        self._version = 0
        self._asked = False
        self._now = now
        self._pieces = Interface("translation", b"", 0xFFFF, random)
        self._answers: list[bytes] = []
        self._from_network = Reassembly(self._pieces, self._timed_out)
        self._from_host = Reassembly(self._pieces, lambda _first, _now: None)

    # ------------------------------------------------------------ scenario processing

    @property
    def active(self) -> bool:
        """Whether the table has the home address, so that packets are translated."""
        return self.table.home is not None

    def acknowledged(self, lifetime: float, now: float) -> list[Output]:
        """Steps 64 and 82: the row of the home address is made or refreshed; ``lifetime``: of the binding, seconds."""
        made = self.table.set_home(self.settings.home_address, self.settings.address4, now + lifetime, now)
        outputs: list[Output] = [*self.table.take_events()]
        self._set_timer()
        return [*outputs, VirtualAddressSet(self.settings.address4)] if made else outputs

    def stop(self) -> list[Output]:
        """Another scenario is in use: packets go as they are."""
        self.table.forget_home()
        return [*self.table.take_events()]

    @property
    def mtu(self) -> int:
        """Octets of the largest IPv6 packet that can be sent."""
        return self.translator.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self.translator.mtu = max(mtu, ip6.MINIMUM_MTU)

    # ------------------------------------------------------------ packets

    def outbound(self, packet: bytes, now: float) -> Translated:
        """A program sends an IPv4 packet (steps 513, 514)."""
        quick = self._quick6(packet, now)
        if quick is not None:
            self.sent += 1
            return Translated([quick])
        result = Translated()
        self._begin(now, asked=True)
        try:
            self._outbound(_checked4(packet), now, result)
        except Refused as refused:
            if refused.answer is not None:
                result.host.append(refused.answer)
            result.outputs.append(Discarded.of(refused, "translation"))
        except Discard as discard:
            result.outputs.append(Discarded.of(discard, "translation"))
        self.sent += len(result.network)
        return self._end(result)

    def inbound(self, packet: bytes, now: float) -> Translated:
        """An IPv6 packet for the home address arrived (steps 510, 511)."""
        if not self.native:
            quick = self._quick4(packet, now)
            if quick is not None:
                self.received += 1
                return Translated(host=[quick])
        result = Translated()
        self._begin(now, asked=False)
        try:
            self._inbound(_checked6(packet), now, result)
        except Refused as refused:
            if refused.answer is not None:
                result.network.append(refused.answer)
            result.outputs.append(Discarded.of(refused, "translation"))
        except Discard as discard:
            result.outputs.append(Discarded.of(discard, "translation"))
        self.received += len(result.host)
        return self._end(result)

    def native_sent(self, packet: bytes) -> None:
        """A program sends an IPv6 packet itself: what answers to it is not translated."""
        self.native.sent(packet)

    # ------------------------------------------------------------ time

    def handle_timer(self, now: float) -> Translated:
        """The time in `timer` has come."""
        result = Translated()
        self._begin(now, asked=False)
        self.table.expire(now)
        self._pieces.alarms.run(now)
        for port, server, payload in self.dns.expire(now):
            try:
                result.host.append(self._datagram4(server, (DNS_PORT, port), payload))
            except Discard as discard:
                result.outputs.append(Discarded.of(discard, "translation"))
        result.network += self._answers
        self._answers = []
        return self._end(result)

    def snapshot(self, now: float) -> dict[str, object]:
        """Table 230 and counters, JSON-ready."""
        return {
            "active": self.active,
            "address4": str(self.settings.address4),
            "servers": [str(server) for server in self.servers],
            "table": self.table.snapshot(now),
            "dns": self.dns.snapshot(),
            "sip": self.sip.snapshot(),
            "sip_streams": len(self.streams),
            "native_flows": len(self.native),
            "sent": self.sent,
            "received": self.received,
        }

    # ------------------------------------------------------------ what the translator asks

    def to6(self, ipv4: bytes) -> bytes:
        return self._home6 if ipv4 == self._home4 else self.table.of_ipv4(ipv4, self._now).ipv6

    def to4(self, ipv6: bytes) -> bytes:
        return self._home4 if ipv6 == self._home6 else self.table.of_ipv6(ipv6, self._now, asked=self._asked).ipv4

    def quoted6(self, ipv4: bytes) -> bytes:
        row = self.table.known4(ipv4)
        if row is None:
            raise Discard(Reason.ICMP_IGNORED, f"an error about a packet of {IPv4Address(ipv4)}, which nobody has")
        return row.ipv6

    def quoted4(self, ipv6: bytes) -> bytes:
        row = self.table.known6(ipv6)
        if row is None:
            raise Discard(Reason.ICMP_IGNORED, f"an error about a packet to {IPv6Address(ipv6)}, which nobody sent")
        return row.ipv4

    # ------------------------------------------------------------ what the gateways ask

    def _virtual4(self, ipv6: bytes) -> bytes:
        """The address to answer a program that asks for the address of an IPv6 host. Raises `Discard`."""
        if ipv6 == self._home6:
            return self._home4
        _sane6(ipv6)
        return self.table.of_ipv6(ipv6, self._now, asked=True).ipv4

    def _standing_for(self, ipv4: bytes) -> bytes | None:
        """The IPv6 address that a virtual IPv4 address stands for."""
        row = self.table.known4(ipv4)
        return None if row is None or not self._is_virtual(row) else row.ipv6

    def _literal4(self, ipv6: IPv6Address) -> IPv4Address | None:
        """What to write for an IPv6 address in a message to a program; None: leave it."""
        try:
            return IPv4Address(self._virtual4(ipv6.packed))
        except Discard:
            return None

    def _literal6(self, ipv4: IPv4Address) -> IPv6Address | None:
        """What to write for an IPv4 address in a message of a program; None: leave it."""
        found = self._standing_for(ipv4.packed)
        return None if found is None else IPv6Address(found)

    def _is_virtual(self, row: Row) -> bool:
        return row.ipv4 == self._home4 or IPv4Address(row.ipv4) in self.settings.pool4

    # ------------------------------------------------------------ the short ways

    def _quick6(self, packet: bytes, now: float) -> bytes | None:
        """UDP and TCP between addresses that are known, whole and small enough; None: it takes more thought."""
        pair = self._pairs4.get(packet[12:20])
        size = len(packet)
        if pair is None or size < 28 or packet[0] != 0x45 or packet[8] < 2 or self._version != self.table.version:
            return None
        bits = packet[6] << 8 | packet[7]
        protocol = packet[9]
        if (
            bits & _NOT_WHOLE
            or size > (self.translator.mtu - 20 if bits else 1260)
            or packet[2] << 8 | packet[3] != size
            or ip4.checksum(packet[:20])
        ):
            return None
        here, there = packet[20] << 8 | packet[21], packet[22] << 8 | packet[23]
        if protocol == ip6.UDP:
            at = 26
            if there == DNS_PORT or self._speaks_sip(here, there):
                return None
        elif protocol == ip6.TCP and size >= 40:
            at = 36
            if self._speaks_sip(here, there):
                return None
        else:
            return None
        checksum = packet[at] << 8 | packet[at + 1]
        if not checksum and at == 26:
            return None
        row = pair.row
        if now - row.used >= 1.0:
            self.table.touch(row, now, asked=True)
        tos = packet[1]
        return b"%c%c\0\0%b%c%c%b%b%b%b" % (
            0x60 | tos >> 4,
            tos << 4 & 0xF0,
            _LENGTH(size - 20),
            protocol,
            packet[8] - 1,
            pair.ends,
            packet[20:at],
            _LENGTH((checksum + pair.shift) % 0xFFFF or (0xFFFF if protocol == 17 else 0)),
            packet[at + 2 :],
        )

    def _quick4(self, packet: bytes, now: float) -> bytes | None:
        """As `_quick6`, for what arrived."""
        pair = self._pairs6.get(packet[8:40])
        size = len(packet)
        if (
            pair is None
            or size < 48
            or packet[7] < 2
            or packet[4] << 8 | packet[5] != size - 40
            or packet[0] >> 4 != 6
            or self._version != self.table.version
        ):
            return None
        protocol = packet[6]
        there, here = packet[40] << 8 | packet[41], packet[42] << 8 | packet[43]
        if protocol == ip6.UDP:
            at = 46
            if there == DNS_PORT or self._speaks_sip(here, there):
                return None
        elif protocol == ip6.TCP and size >= 60:
            at = 56
            if self._speaks_sip(here, there):
                return None
        else:
            return None
        checksum = packet[at] << 8 | packet[at + 1]
        if not checksum and at == 46:
            return None
        row = pair.row
        if now - row.used >= 1.0:
            self.table.touch(row, now, asked=False)
        tos = (packet[0] & 15) << 4 | packet[1] >> 4
        if size > 1280:
            bits, identification = DONT_FRAGMENT, 0
        else:
            bits, identification = 0, self.translator.next_identification()
        length, ttl = size - 20, packet[7] - 1
        total = 0x4500 + tos + length + identification + bits + (ttl << 8) + protocol + words(pair.ends)
        return b"%b%b%b%b%b" % (
            _HEADER4(0x45, tos, length, identification, bits, ttl, protocol, -total % 0xFFFF),
            pair.ends,
            packet[40:at],
            _LENGTH((checksum + pair.shift) % 0xFFFF or (0xFFFF if protocol == 17 else 0)),
            packet[at + 2 :],
        )

    def _speaks_sip(self, here: int, there: int) -> bool:
        return there in self.settings.sip_ports or here in self._local_sip

    def _remember(self, ends4: bytes, ends6: bytes, row: Row) -> None:
        if self._version != self.table.version:
            self._pairs4.clear()
            self._pairs6.clear()
            self._version = self.table.version
        shift = words(ends4) - words(ends6)
        self._pairs4[ends4] = _Pair(ends6, shift, row)
        self._pairs6[ends6[16:] + ends6[:16]] = _Pair(ends4[4:] + ends4[:4], -shift, row)

    # ------------------------------------------------------------ the long ways

    def _begin(self, now: float, *, asked: bool) -> None:
        self._now, self._asked = now, asked

    def _end(self, result: Translated) -> Translated:
        result.outputs += self.table.take_events()
        result.outputs += self._pieces.take()
        self._set_timer()
        return result

    def _set_timer(self) -> None:
        """The short ways change no time but those at which rows expire, which they only put off."""
        times = (self.table.timer, self.dns.timer, self._pieces.alarms.next)
        self.timer = min((time for time in times if time is not None), default=None)

    def _outbound(self, packet: bytes, now: float, result: Translated) -> None:
        source, destination = packet[12:16], packet[16:20]
        if source != self._home4:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv4Address(source)))
        _sane4(destination)
        if destination == self._home4:
            raise Discard(Reason.NOT_FORWARDED, "to the virtual address itself")
        if not self.active:
            # Better than silence: the program may try another way at once.
            answer = ip4.error(packet, self._router4, 3, 1)
            raise Refused(Reason.NO_BINDING, "no row of the translation table for the home address", answer)
        bits, protocol = packet[6] << 8 | packet[7], packet[9]
        if bits & (MORE_FRAGMENTS | OFFSET) and protocol in (ip6.UDP, ip4.ICMP) and packet[0] == 0x45:
            whole = self._put_together4(packet, now)
            if whole is None:
                return
            packet = whole
        if not (packet[6] << 8 | packet[7]) & (MORE_FRAGMENTS | OFFSET) and packet[0] == 0x45 and packet[8] > 1:
            if protocol == ip6.UDP and self._outbound_gateway(packet, ip4.HEADER_SIZE, now, result):
                return
            if protocol == ip6.TCP and self._outbound_stream(packet, now, result):
                return
        result.network += self.translator.to_ipv6(packet)
        row = self.table.known4(destination)
        if row is not None:
            self._remember(packet[12:20], self._home6 + row.ipv6, row)

    def _outbound_gateway(self, packet: bytes, head: int, now: float, result: Translated) -> bool:
        """DNS and SIP; whether the packet was either."""
        if len(packet) < head + udp.HEADER_SIZE:
            return False
        here, there, length, checksum = _PORTS.unpack_from(packet, head)
        is_sip = self._speaks_sip(here, there)
        if length != len(packet) - head or not (is_sip or there == DNS_PORT):
            return False
        if checksum and (words(packet[12:20]) + ip6.UDP + length + _sum(packet[head:])) % 0xFFFF:
            raise Discard(Reason.CHECKSUM_WRONG, "UDP over IPv4")
        server = self.table.of_ipv4(packet[16:20], now).ipv6
        payload = packet[head + udp.HEADER_SIZE :]
        if there == DNS_PORT:
            payloads = self.dns.outbound(payload, here, server, now)
        else:
            payloads = [self._sip_sent(payload)]
        for each in payloads:
            self._datagram6(packet, server, (here, there), each, result)
        return True

    def _datagram6(
        self, packet: bytes, destination: bytes, ports: tuple[int, int], payload: bytes, result: Translated
    ) -> None:
        try:
            made = udp.packet(self._home6 + destination, ports, payload, ip4.traffic_class(packet))
        except WireError as error:
            raise Discard(Reason.TOO_BIG, str(error)) from error
        if len(made) > self.mtu:
            result.network += fragment(made, self.mtu, self.translator.next_identification())
        else:
            result.network.append(made)

    def _outbound_stream(self, packet: bytes, now: float, result: Translated) -> bool:
        """SIP over TCP; whether it was."""
        segment = self._segment(packet[ip4.HEADER_SIZE :], packet[12:20])
        if segment is None or not self._speaks_sip(segment.source_port, segment.destination_port):
            return False
        there = self.table.of_ipv4(packet[16:20], now).ipv6
        made = self.streams.sent(there, segment)
        if made is None:
            return False
        for each in made:
            body = _with_checksum(bytes(each), self._home6 + there)
            result.network.append(ip6.packet(self._home6, there, ip6.TCP, body, packet[8] - 1, packet[1]))
        return True

    def _inbound_stream(self, packet: bytes, result: Translated) -> bool:
        segment = self._segment(packet[ip6.HEADER_SIZE :], packet[8:40])
        if segment is None or not self._speaks_sip(segment.destination_port, segment.source_port):
            return False
        made = self.streams.received(packet[8:24], segment)
        if made is None:
            return False
        ends = self.to4(packet[8:24]) + self._home4
        tos = (packet[0] & 15) << 4 | packet[1] >> 4
        for each in made:
            body, number = _with_checksum(bytes(each), ends), self.translator.next_identification()
            result.host.append(ip4.packet(ends, ip6.TCP, body, ttl=packet[7] - 1, tos=tos, identification=number))
        return True

    def _segment(self, data: bytes, ends: bytes) -> tcp.Segment | None:
        """None: it is none, or damaged, which its receiver will see."""
        if (words(ends) + ip6.TCP + len(data) + _sum(data)) % 0xFFFF:
            return None
        try:
            return tcp.Segment.parse(data)
        except WireError:
            return None

    def _sip_sent(self, message: bytes) -> bytes:
        """A message of a program, rewritten. Calls may come to where it wants answers from elsewhere than the proxy."""
        if self.sip.is_message(message) and (port := self.sip.sent_by(message)) is not None:
            self._learn(port)
        return self.sip.outbound(message)

    def _learn(self, port: int) -> None:
        if port in self._local_sip:
            return
        if len(self._local_sip) >= LOCAL_SIP_PORTS:
            del self._local_sip[next(iter(self._local_sip))]
        self._local_sip[port] = None

    def _inbound(self, packet: bytes, now: float, result: Translated) -> None:
        _sane6(packet[8:24])
        self._active()
        try:
            headers = ip6.walk(packet)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        piece = headers.fragment
        if piece is not None and piece.next_header in (ip6.UDP, ip6.ICMPV6):
            whole = self._put_together6(packet, headers, piece, now)
            if whole is None:
                return
            packet, headers = whole, ip6.walk(whole)
        if packet in self.native:
            result.host.append(packet)
            return
        if headers.protocol == ip6.UDP and headers.offset == ip6.HEADER_SIZE and len(packet) >= 48:
            there, here = packet[40] << 8 | packet[41], packet[42] << 8 | packet[43]
            if (there == DNS_PORT or self._speaks_sip(here, there)) and packet[7] > 1:
                self._inbound_gateway(packet, there == DNS_PORT, now, result)
                return
        if headers.protocol == ip6.TCP and headers.offset == ip6.HEADER_SIZE and packet[7] > 1:
            if self._inbound_stream(packet, result):
                return
        result.host.append(self.translator.to_ipv4(packet))
        row = self.table.known6(packet[8:24])
        if row is not None:
            self._remember(self._home4 + row.ipv4, self._home6 + row.ipv6, row)

    def _inbound_gateway(self, packet: bytes, is_dns: bool, now: float, result: Translated) -> None:
        try:
            datagram = udp.parse(packet)
        except WireError as error:
            reason = Reason.CHECKSUM_WRONG if error.what == udp.CHECKSUM else Reason.MALFORMED
            raise Discard(reason, str(error)) from error
        source, ports = packet[8:24], (datagram.source_port, datagram.destination_port)
        if is_dns:
            payloads = self.dns.inbound(datagram.payload, datagram.destination_port, source, now)
        else:
            payloads = [self.sip.inbound(datagram.payload)]
        result.host += [self._datagram4(source, ports, payload) for payload in payloads]

    def _datagram4(self, source6: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
        ends = self.to4(source6) + self._home4
        length = udp.HEADER_SIZE + len(payload)
        if length > 0xFFFF - ip4.HEADER_SIZE:
            raise Discard(Reason.TOO_BIG, f"{len(payload)} octets are too large for one datagram of IPv4")
        head = _PORTS.pack(*ports, length, 0)
        checksum = -(words(ends) + ip6.UDP + length + _sum(head + payload)) % 0xFFFF or 0xFFFF
        identification = self.translator.next_identification()
        return ip4.packet(ends, ip6.UDP, head[:6] + _LENGTH(checksum) + payload, identification=identification)

    def _active(self) -> None:
        if not self.active:
            raise Discard(Reason.NO_BINDING, "no row of the translation table for the home address")

    # ------------------------------------------------------------ fragments

    def _put_together4(self, packet: bytes, now: float) -> bytes | None:
        """The whole IPv4 packet when this was its last missing fragment.

        There is one reassembly, which knows IPv6; so the fragment is put into a header of IPv6 for it.
        """
        protocol, bits = packet[9], packet[6] << 8 | packet[7]
        piece = ip6.Fragment(
            ip6.HEADER_SIZE,
            protocol,
            (bits & OFFSET) * 8,
            bool(bits & MORE_FRAGMENTS),
            int.from_bytes(packet[4:6]) << 8 | protocol,
        )
        body = bytes(8) + packet[20:]
        as6 = ip6.packet(_MAPPED + packet[12:16], _MAPPED + packet[16:20], ip6.FRAGMENT, body, packet[8], packet[1])
        whole = self._add(self._from_host, as6, piece, now)
        if whole is None:
            return None
        try:
            return ip4.packet(
                packet[12:20],
                protocol,
                whole[40:],
                ttl=whole[7],
                tos=(whole[0] & 15) << 4 | whole[1] >> 4,
                identification=packet[4] << 8 | packet[5],
            )
        except WireError as error:
            raise Discard(Reason.FRAGMENT_INVALID, str(error)) from error

    def _put_together6(self, packet: bytes, headers: ip6.Headers, piece: ip6.Fragment, now: float) -> bytes | None:
        return self._add(self._from_network, packet, piece, now, headers)

    def _add(
        self, reassembly: Reassembly, packet: bytes, piece: ip6.Fragment, now: float, headers: ip6.Headers | None = None
    ) -> bytes | None:
        known = ip6.Headers(piece.next_header, piece.at + 8, piece.at) if headers is None else headers
        try:
            return reassembly.add(packet, known, piece, now)
        except FragmentProblem as problem:
            raise Discard(Reason.FRAGMENT_INVALID, str(problem)) from problem

    def _timed_out(self, first: bytes, _now: float) -> None:
        if icmp6.may_be_answered_with_error(first):
            error = icmp6.TimeExceeded(icmp6.REASSEMBLY_TIME_EXCEEDED, first)
            self._answers.append(icmp6.packet(self._home6, first[8:24], error))


_MAPPED = bytes(10) + b"\xff\xff"


def _sum(data: bytes) -> int:
    return words(data + b"\0") if len(data) & 1 else words(data)


def _with_checksum(segment: bytes, ends: bytes) -> bytes:
    value = -(words(ends) + ip6.TCP + len(segment) + _sum(segment)) % 0xFFFF
    return b"%b%b%b" % (segment[:16], value.to_bytes(2), segment[18:])


def _checked4(packet: bytes) -> bytes:
    try:
        return ip4.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def _checked6(packet: bytes) -> bytes:
    try:
        return ip6.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def _sane4(destination: bytes) -> None:
    """Raises `Discard` for what no host of another network has for an address."""
    if 224 <= destination[0] < 240 or destination == b"\xff\xff\xff\xff" or destination[:2] == b"\xa9\xfe":
        raise Discard(Reason.LINK_LOCAL_CHATTER, f"to {IPv4Address(destination)}")
    if destination[0] in (0, 127) or destination[0] >= 240:
        raise Discard(Reason.NOT_FORWARDED, f"to {IPv4Address(destination)}")


def _sane6(source: bytes) -> None:
    """Raises `Discard` unless one host of another link can have this address."""
    if source[0] == 0xFF or source[:12] in (bytes(12), _MAPPED) or (source[0] == 0xFE and source[1] & 0xC0 == 0x80):
        raise Discard(Reason.SOURCE_INVALID, str(IPv6Address(source)))
