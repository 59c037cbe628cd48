"""The IPv4-IPv6 translation of scenario processing (Fig. 5): table, translator and gateways put together.

A packet of one version goes in, packets of the other come out, with what the host OS and the outside are to be told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from mobility.discards import Discard, Reason
from mobility.outputs import Discarded, Event, Output
from mobility.translation.gateways import Gateways
from mobility.translation.native import NativeFlows
from mobility.translation.pieces import Pieces
from mobility.translation.settings import TranslationSettings
from mobility.translation.short_ways import ShortWays
from mobility.translation.translator import MORE_FRAGMENTS, OFFSET, Refused, Translator
from mobility.wire import ip4, ip6
from mobility.wire.errors import WireError

_WITH_PORTS = (ip6.UDP, ip6.TCP)
_PUT_TOGETHER = (ip6.UDP, ip6.ICMPV6, ip4.ICMP)
"Protocols whose fragments are put together: for the gateways, and because ICMP's checksums need the whole."


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


class Translation:
    """Between the programs that speak IPv4 and everything else of the terminal, which speaks IPv6.

    Packets are only translated between `acknowledged` and the end of the lifetime that it was told.
    """

    def __init__(self, settings: TranslationSettings, random: Callable[[int], bytes], now: float = 0.0) -> None:
        """Raises `ValueError`: pools that are too small for home agent and name servers."""
        self.settings = settings
        self.table = settings.new_table()
        self.servers = settings.virtual_servers
        self.native = NativeFlows()
        self._router4 = self.table.fix(settings.home_agent, now)
        self.translator = Translator(self, self._router4, settings.home_address, int.from_bytes(random(2)))
        self.gateways = Gateways(settings, self.translator, self._virtual4, self._standing_for)
        self.timer: float | None = None
        "When `handle_timer` wants to be called."
        self.sent = 0
        self.received = 0
        self._short_ways = ShortWays(self.table, self.translator, self.gateways.concern)
        self._pieces = Pieces(settings.home_address, random)
        self._home6 = settings.home_address.packed
        self._home4 = settings.address4.packed
        self._now = now
        self._asked = False

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
        quick = self._short_ways.outbound(packet, now)
        if quick is not None:
            self.sent += 1
            return Translated([quick])
        result = Translated()
        self._now, self._asked = now, True
        try:
            result.network += self._outbound(_checked(ip4.check, packet), now)
        except Discard as discard:
            if isinstance(discard, Refused) and discard.answer is not None:
                result.host.append(discard.answer)
            result.outputs.append(Discarded.of(discard, "translation"))
        self.sent += len(result.network)
        return self._end(result)

    def inbound(self, packet: bytes, now: float) -> Translated:
        """An IPv6 packet for the home address arrived (steps 510, 511)."""
        quick = None if self.native else self._short_ways.inbound(packet, now)
        if quick is not None:
            self.received += 1
            return Translated(host=[quick])
        result = Translated()
        self._now, self._asked = now, False
        try:
            result.host += self._inbound(_checked(ip6.check, packet), now)
        except Discard as discard:
            if isinstance(discard, Refused) and discard.answer is not None:
                result.network.append(discard.answer)
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
        self._now, self._asked = now, False
        self.table.expire(now)
        result.network += self._pieces.expire(now)
        try:
            result.host += self.gateways.expire(now)
        except Discard as discard:
            result.outputs.append(Discarded.of(discard, "translation"))
        return self._end(result)

    def snapshot(self, now: float) -> dict[str, object]:
        """Table 230 and counters, JSON-ready."""
        return {
            "active": self.active,
            "address4": str(self.settings.address4),
            "servers": [str(server) for server in self.servers],
            "table": self.table.snapshot(now),
            **self.gateways.snapshot(),
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

    def _virtual4(self, ipv6: bytes, asked: bool) -> bytes:
        if ipv6 == self._home6:
            return self._home4
        _sane6(ipv6)
        return self.table.of_ipv6(ipv6, self._now, asked=asked).ipv4

    def _standing_for(self, ipv4: bytes) -> bytes | None:
        row = self.table.known4(ipv4)
        is_virtual = ipv4 == self._home4 or IPv4Address(ipv4) in self.settings.pool4
        return row.ipv6 if row is not None and is_virtual else None

    # ------------------------------------------------------------ the long ways

    def _outbound(self, packet: bytes, now: float) -> list[bytes]:
        source, destination = packet[12:16], packet[16:20]
        if source != self._home4:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv4Address(source)))
        _sane4(destination)
        if destination == self._home4:
            raise Discard(Reason.NOT_FORWARDED, "to the virtual address itself")
        if not self.active:
            # Better than silence: the program may try another way at once.
            raise Refused(Reason.NO_BINDING, _NOT_NOW, ip4.error(packet, self._router4, 3, 1))
        if packet[0] == 0x45 and _is_fragment4(packet) and packet[9] in _PUT_TOGETHER:
            whole = self._pieces.add4(packet, now)
            if whole is None:
                return []
            packet = whole
        if packet[0] == 0x45 and packet[9] in _WITH_PORTS and len(packet) >= 24 and packet[8] > 1:
            here, there = packet[20] << 8 | packet[21], packet[22] << 8 | packet[23]
            if not _is_fragment4(packet) and self.gateways.concern(packet[9], here, there):
                made = self.gateways.outbound(packet, self.to6(destination), now)
                if made is not None:
                    return made
        translated = self.translator.to_ipv6(packet)
        row = self.table.known4(destination)
        if row is not None:
            self._short_ways.remember(packet[12:20], self._home6 + row.ipv6, row)
        return translated

    def _inbound(self, packet: bytes, now: float) -> list[bytes]:
        _sane6(packet[8:24])
        if not self.active:
            raise Discard(Reason.NO_BINDING, _NOT_NOW)
        try:
            headers = ip6.walk(packet)
            piece = headers.fragment
            if piece is not None and piece.next_header in _PUT_TOGETHER:
                whole = self._pieces.add6(packet, headers, piece, now)
                if whole is None:
                    return []
                packet, headers = whole, ip6.walk(whole)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        if packet in self.native:
            return [packet]
        if packet[6] in _WITH_PORTS and len(packet) >= 44 and packet[7] > 1:
            there, here = packet[40] << 8 | packet[41], packet[42] << 8 | packet[43]
            if self.gateways.concern(packet[6], here, there):
                made = self.gateways.inbound(packet, now)
                if made is not None:
                    return made
        translated = self.translator.to_ipv4(packet)
        row = self.table.known6(packet[8:24])
        if row is not None:
            self._short_ways.remember(self._home4 + row.ipv4, self._home6 + row.ipv6, row)
        return [translated]

    def _end(self, result: Translated) -> Translated:
        result.outputs += self.table.take_events()
        result.outputs += self._pieces.take()
        self._set_timer()
        return result

    def _set_timer(self) -> None:
        """The short ways change no time but those at which rows expire, which they only put off."""
        times = (self.table.timer, self.gateways.timer, self._pieces.timer)
        self.timer = min((time for time in times if time is not None), default=None)


_NOT_NOW = "no row of the translation table for the home address"
_MAPPED = bytes(10) + b"\xff\xff"


def _is_fragment4(packet: bytes) -> bool:
    return bool((packet[6] << 8 | packet[7]) & (MORE_FRAGMENTS | OFFSET))


def _checked(check: Callable[[bytes], bytes], packet: bytes) -> bytes:
    try:
        return check(packet)
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
