"""IP headers of one version into those of the other (RFC 7915), packet by packet, without state.

Whose address is what says the translation table; what an error is answered with goes back the way the packet came.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.translation import icmp
from mobility.translation.checksums import WITH_PSEUDO_HEADER, adjusted, words
from mobility.wire import icmp6, ip4, ip6
from mobility.wire.errors import WireError

LOWEST_IPV6_MTU = ip6.MINIMUM_MTU
"Octets of IPv6 packet that what may be fragmented is fragmented to (RFC 7915 section 4)."
FRAGMENT_HEADER = 8

DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET = 0x4000, 0x2000, 0x1FFF

IGMP = 2
_NOT_FROM_IPV4 = frozenset(
    (
        ip6.HOP_BY_HOP,
        IGMP,
        ip6.ROUTING,
        ip6.FRAGMENT,
        ip6.AH,
        ip6.ICMPV6,
        ip6.NO_NEXT,
        ip6.DEST_OPTIONS,
        ip6.MOBILITY,
    )
)
"Protocols that would be something else after an IPv6 header, and AH, which signs the addresses."
_NOT_FROM_IPV6 = frozenset((ip4.ICMP, IGMP, ip6.AH, ip6.NO_NEXT, ip6.MOBILITY))

_FRAGMENT = Struct("!BBHI")
_SOURCE_ROUTES = (131, 137)


class Refused(Discard):
    """A packet that its sender is told about: ``answer`` is the ICMP error for it, in its own version of IP."""

    def __init__(self, reason: Reason, detail: str, answer: bytes | None) -> None:
        super().__init__(reason, detail)
        self.answer = answer


class Addresses(Protocol):
    """What the translation table says; all addresses are packed."""

    def to6(self, ipv4: bytes) -> bytes:
        """Raises `Discard`."""

    def to4(self, ipv6: bytes) -> bytes:
        """Raises `Discard`."""

    def quoted6(self, ipv4: bytes) -> bytes:
        """As `to6`, but makes no new row: the packet is only quoted. Raises `Discard`."""

    def quoted4(self, ipv6: bytes) -> bytes:
        """As `to4`, but makes no new row. Raises `Discard`."""


class Translator:
    """Both directions. ``mtu``: octets of the largest IPv6 packet that can be sent (not less than 1280).

    ``router4`` and ``router6`` are in whose name errors are sent: what the programs, and what the correspondents, take
    for the router that translates.
    """

    def __init__(
        self, addresses: Addresses, router4: IPv4Address, router6: IPv6Address, identification: int = 0
    ) -> None:
        self.mtu = LOWEST_IPV6_MTU
        self._addresses = addresses
        self._router4 = router4
        self._router6 = router6
        self._identification = identification

    def next_identification(self) -> int:
        """Sixteen bits that no packet has had for a while."""
        self._identification = (self._identification + 1) & 0xFFFF
        return self._identification

    # ------------------------------------------------------------ IPv4 to IPv6

    def to_ipv6(self, packet: bytes) -> list[bytes]:
        """The packet, or its fragments; `ip4.check` has accepted it (RFC 7915 section 4).

        Raises `Discard` (`Refused` where there is an answer): TRANSLATION_UNSUPPORTED, TRANSLATION_SOURCE_ROUTE,
        HOP_LIMIT, TOO_BIG, FRAGMENT_INVALID, MALFORMED, CHECKSUM_WRONG, and those of the table.
        """
        head = (packet[0] & 15) * 4
        if head > ip4.HEADER_SIZE and _source_route_left(packet[ip4.HEADER_SIZE : head]):
            raise Refused(
                Reason.TRANSLATION_SOURCE_ROUTE, "an IPv4 source route", ip4.error(packet, self._router4, 3, 5)
            )
        protocol, ttl, tos = packet[9], packet[8], packet[1]
        if protocol in _NOT_FROM_IPV4:
            raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"protocol {protocol} in IPv4")
        if ttl <= 1:
            raise Refused(Reason.HOP_LIMIT, "TTL is used up", ip4.error(packet, self._router4, 11, 0))
        ends = self._addresses.to6(packet[12:16]) + self._addresses.to6(packet[16:20])
        bits = packet[6] << 8 | packet[7]
        is_fragment = bool(bits & (MORE_FRAGMENTS | OFFSET))
        body = packet[head:]
        if not bits & OFFSET:
            body = self._upper6(protocol, body, packet[12:20], ends, is_fragment)
        following = ip6.ICMPV6 if protocol == ip4.ICMP else protocol
        size = ip6.HEADER_SIZE + len(body) + (FRAGMENT_HEADER if is_fragment else 0)
        whole = size <= LOWEST_IPV6_MTU
        if bits & DONT_FRAGMENT:
            if size > self.mtu:
                fits = self.mtu - icmp.HEADER_GROWS - (FRAGMENT_HEADER if is_fragment else 0)
                raise Refused(
                    Reason.TOO_BIG, f"{size} octets, {self.mtu} fit", ip4.too_big(packet, fits, self._router4)
                )
            whole = True
        if whole and not is_fragment:
            return [ip6.packet(ends[:16], ends[16:], following, body, ttl - 1, tos)]
        more, offset = bits & MORE_FRAGMENTS, (bits & OFFSET) * 8
        if not body or (more and len(body) % 8):
            raise Discard(Reason.FRAGMENT_INVALID, f"a fragment of {len(body)} octets")
        identification = packet[4] << 8 | packet[5]
        room = len(body) if whole else (LOWEST_IPV6_MTU - ip6.HEADER_SIZE - FRAGMENT_HEADER) & ~7
        pieces: list[bytes] = []
        for at in range(0, len(body), room):
            last = at + room >= len(body)
            position = offset + at | (1 if more or not last else 0)
            header = _FRAGMENT.pack(following, 0, position, identification)
            pieces.append(ip6.packet(ends[:16], ends[16:], ip6.FRAGMENT, header + body[at : at + room], ttl - 1, tos))
        return pieces

    def _upper6(self, protocol: int, body: bytes, former: bytes, ends: bytes, is_fragment: bool) -> bytes:
        """The upper layer of a whole packet, or of a first fragment."""
        if protocol == ip4.ICMP:
            if is_fragment:  # its checksum would need the length of the whole
                raise Discard(Reason.TRANSLATION_UNSUPPORTED, "a fragment of ICMP")
            return icmp.to_icmp6(body, ends, self._quoted6, self.mtu)
        if protocol == ip6.UDP and len(body) >= 8 and body[6:8] == b"\0\0":
            if is_fragment:
                raise Discard(Reason.TRANSLATION_UNSUPPORTED, "a fragment of UDP without checksum")
            value = ip6.checksum(ends[:16], ends[16:], ip6.UDP, body)
            return b"%b%b%b" % (body[:6], value.to_bytes(2), body[8:])
        if protocol in WITH_PSEUDO_HEADER:
            return adjusted(protocol, body, words(former) - words(ends))
        return body

    def _quoted6(self, packet: bytes) -> bytes:
        """A packet that an ICMP error quotes (RFC 7915 section 4.3)."""
        head = (packet[0] & 15) * 4 if packet else 0
        if len(packet) < ip4.HEADER_SIZE or packet[0] >> 4 != 4 or not ip4.HEADER_SIZE <= head <= len(packet):
            raise Discard(Reason.MALFORMED, "an ICMP error quotes no IPv4 packet")
        ends = self._addresses.quoted6(packet[12:16]) + self._addresses.quoted6(packet[16:20])
        protocol, bits = packet[9], packet[6] << 8 | packet[7]
        if protocol in _NOT_FROM_IPV4:
            raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"an error about protocol {protocol} in IPv4")
        is_fragment, body = bool(bits & (MORE_FRAGMENTS | OFFSET)), packet[head:]
        length = max((packet[2] << 8 | packet[3]) - head, 0)
        if not bits & OFFSET:
            if protocol == ip4.ICMP:
                body = icmp.quoted_echo(protocol, body, ends, length)
            elif not (protocol == ip6.UDP and body[6:8] == b"\0\0"):
                body = adjusted(protocol, body, words(packet[12:20]) - words(ends))
        following = ip6.ICMPV6 if protocol == ip4.ICMP else protocol
        if is_fragment:
            position = (bits & OFFSET) * 8 | (1 if bits & MORE_FRAGMENTS else 0)
            body = _FRAGMENT.pack(following, 0, position, packet[4] << 8 | packet[5]) + body
            following, length = ip6.FRAGMENT, length + FRAGMENT_HEADER
        return ip6.header(ends[:16], ends[16:], following, min(length, 0xFFFF), packet[8], packet[1]) + body

    # ------------------------------------------------------------ IPv6 to IPv4

    def to_ipv4(self, packet: bytes) -> bytes:
        """`ip6.check` has accepted the packet (RFC 7915 section 5).

        Raises `Discard` (`Refused` where there is an answer): MALFORMED, TRANSLATION_UNSUPPORTED,
        TRANSLATION_SOURCE_ROUTE, HEADER_UNKNOWN, HOP_LIMIT, CHECKSUM_WRONG, and those of the table.
        """
        headers = _walk(packet)
        router = self._router6
        if headers.unknown_routing_at is not None or headers.segments_left:
            at = headers.unknown_routing_at if headers.unknown_routing_at is not None else headers.routing_at
            problem = icmp6.ParameterProblem(icmp6.ERRONEOUS_HEADER_FIELD, (at or 0) + 3, packet)
            raise Refused(
                Reason.TRANSLATION_SOURCE_ROUTE, "a routing header with hops left", _answer6(packet, router, problem)
            )
        _untranslatable(headers)
        if packet[7] <= 1:
            exceeded = icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet)
            raise Refused(Reason.HOP_LIMIT, "hop limit is used up", _answer6(packet, router, exceeded))
        protocol, body, ends = headers.protocol, packet[headers.offset :], packet[8:40]
        source, destination = self._addresses.to4(packet[8:24]), self._addresses.to4(packet[24:40])
        former = source + destination
        fragment = headers.fragment
        is_fragment = fragment is not None and (fragment.more or fragment.offset > 0)
        if not headers.later_fragment:
            body = self._upper4(protocol, body, former, ends, is_fragment)
        if is_fragment and fragment is not None:
            if fragment.more and len(body) % 8:
                raise Discard(Reason.FRAGMENT_INVALID, "length of a fragment is no multiple of 8 octets")
            bits = fragment.offset >> 3 | (MORE_FRAGMENTS if fragment.more else 0)
            identification = fragment.identification & 0xFFFF
        elif len(packet) > LOWEST_IPV6_MTU:
            bits, identification = DONT_FRAGMENT, 0
        else:
            bits, identification = 0, self.next_identification()
        try:
            return ip4.packet(
                former,
                ip4.ICMP if protocol == ip6.ICMPV6 else protocol,
                body,
                ttl=packet[7] - 1,
                tos=(packet[0] & 15) << 4 | packet[1] >> 4,
                identification=identification,
                bits=bits,
            )
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error

    def _upper4(self, protocol: int, body: bytes, latter: bytes, ends: bytes, is_fragment: bool) -> bytes:
        if protocol == ip6.ICMPV6:
            if is_fragment:
                raise Discard(Reason.TRANSLATION_UNSUPPORTED, "a fragment of ICMPv6")
            return icmp.to_icmp4(body, ends, self._quoted4, self.mtu)
        if protocol == ip6.UDP and body[6:8] == b"\0\0":
            raise Discard(Reason.CHECKSUM_WRONG, "UDP over IPv6 without checksum")
        return adjusted(protocol, body, words(ends) - words(latter))

    def _quoted4(self, packet: bytes) -> bytes:
        """A packet that an ICMPv6 error quotes (RFC 7915 section 5.3)."""
        if len(packet) < ip6.HEADER_SIZE or packet[0] >> 4 != 6:
            raise Discard(Reason.MALFORMED, "an ICMPv6 error quotes no IPv6 packet")
        ends = packet[8:40]
        former = self._addresses.quoted4(packet[8:24]) + self._addresses.quoted4(packet[24:40])
        headers = _walk(packet)
        _untranslatable(headers)
        protocol, body = headers.protocol, packet[headers.offset :]
        length = max((packet[4] << 8 | packet[5]) - (headers.offset - ip6.HEADER_SIZE), 0)
        if not headers.later_fragment:
            if protocol == ip6.ICMPV6:
                body = icmp.quoted_echo(protocol, body, ends, length)
            else:
                body = adjusted(protocol, body, words(ends) - words(former))
        bits = identification = 0
        if headers.fragment is not None:
            bits = headers.fragment.offset >> 3 | (MORE_FRAGMENTS if headers.fragment.more else 0)
            identification = headers.fragment.identification & 0xFFFF
        elif ip6.HEADER_SIZE + length > LOWEST_IPV6_MTU:
            bits = DONT_FRAGMENT
        quoted = ip4.packet(
            former,
            ip4.ICMP if protocol == ip6.ICMPV6 else protocol,
            body,
            ttl=packet[7],
            tos=(packet[0] & 15) << 4 | packet[1] >> 4,
            identification=identification,
            bits=bits,
        )
        return ip4.with_length(quoted, ip4.HEADER_SIZE + length)


def _source_route_left(options: bytes) -> bool:
    """Whether a source route has hops left (RFC 7915 section 4.1); what is no option at all ends the list."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if at + 2 > len(options) or options[at + 1] < 2:
            return False
        length = options[at + 1]
        if options[at] in _SOURCE_ROUTES and at + 2 < len(options) and options[at + 2] <= length:
            return True
        at += length
    return False


def _walk(packet: bytes) -> ip6.Headers:
    try:
        return ip6.walk(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def _untranslatable(headers: ip6.Headers) -> None:
    """Raises `Discard` for what stays in IPv6."""
    if headers.home_address is not None:
        # Only whoever has a binding for it may believe it (RFC 6275 section 9.3.1).
        raise Discard(Reason.HEADER_UNKNOWN, "a home address option")
    if headers.protocol in _NOT_FROM_IPV6:
        raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"next header {headers.protocol} in IPv6")
    fragment = headers.fragment
    if fragment is not None and (
        fragment.next_header != headers.protocol or (headers.later_fragment and headers.protocol in _EXTENSIONS)
    ):
        raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"a fragment of header {fragment.next_header}")


_EXTENSIONS = frozenset((ip6.HOP_BY_HOP, ip6.ROUTING, ip6.FRAGMENT, ip6.DEST_OPTIONS))


def _answer6(packet: bytes, router: IPv6Address, message: icmp6.Message) -> bytes | None:
    if not icmp6.may_be_answered_with_error(packet):
        return None
    return icmp6.packet(router, packet[8:24], message)
