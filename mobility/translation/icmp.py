"""ICMP into ICMPv6 and back (RFC 7915 sections 4.2, 4.3, 5.2, 5.3), with the packets that errors quote.

Only echo and errors have a counterpart. An error quotes a packet that its receiver sent, so the quoted packet is
translated the way that its receiver would have sent it.
"""

from __future__ import annotations

from collections.abc import Callable

from mobility.discards import Discard, Reason
from mobility.translation.checksums import words
from mobility.wire import icmp6, ip4, ip6

Quoted = Callable[[bytes], bytes]
"Translates a quoted, mostly cut-off, packet into the other version of IP. Raises `Discard`."

ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 8, 11, 12

HEADER_GROWS = ip6.HEADER_SIZE - ip4.HEADER_SIZE
LOWEST_IPV4_MTU = ip6.MINIMUM_MTU - HEADER_GROWS

_PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492)
"Of RFC 1191 section 7, as far as they are larger than 1280."
_QUOTE6 = icmp6.INVOKING_LIMIT
_QUOTE4 = 548
_EXTENDED = 128
"Octets that a quoted packet has at least where extensions follow it (RFC 4884 section 3)."

# Code of ICMP Destination Unreachable -> type, code, pointer of ICMPv6; code 4 is dealt with apart.
_UNREACHABLE_6 = {
    **dict.fromkeys((0, 1, 5, 6, 7, 8, 11, 12), (icmp6.DESTINATION_UNREACHABLE, icmp6.NO_ROUTE, 0)),
    **dict.fromkeys((9, 10, 13, 15), (icmp6.DESTINATION_UNREACHABLE, icmp6.PROHIBITED, 0)),
    2: (icmp6.PARAMETER_PROBLEM, icmp6.UNKNOWN_NEXT_HEADER, 6),
    3: (icmp6.DESTINATION_UNREACHABLE, icmp6.PORT_UNREACHABLE, 0),
}
_UNREACHABLE_4 = {
    icmp6.NO_ROUTE: 1,
    icmp6.PROHIBITED: 10,
    2: 1,
    icmp6.ADDRESS_UNREACHABLE: 1,
    icmp6.PORT_UNREACHABLE: 3,
}

# Pointers (RFC 7915 figures 3 and 6): what an octet of one header is in the other.
_POINTER_6 = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, **dict.fromkeys(range(12, 16), 8), **dict.fromkeys(range(16, 20), 24)}
_POINTER_4 = {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, **dict.fromkeys(range(8, 24), 12), **dict.fromkeys(range(24, 40), 16)}


def to_icmp6(message: bytes, ends: bytes, quoted: Quoted, mtu: int) -> bytes:
    """``message``: whole, of ICMP. ``ends``: IPv6 source and destination, 32 octets. ``mtu``: of the IPv6 side.

    Raises `Discard`: MALFORMED, CHECKSUM_WRONG, TRANSLATION_UNSUPPORTED, and those of ``quoted``.
    """
    if len(message) < 8:
        raise Discard(Reason.MALFORMED, f"ICMP of {len(message)} octets")
    if ip4.checksum(message):
        raise Discard(Reason.CHECKSUM_WRONG, "ICMP")
    type_, code = message[0], message[1]
    match type_:
        case 8 | 0:
            kind = icmp6.ECHO_REQUEST if type_ == ECHO_REQUEST else icmp6.ECHO_REPLY
            return _complete6(b"%c%c\0\0%b" % (kind, code, message[4:]), ends)
        case 3 if code == 4:
            told = message[6] << 8 | message[7]
            if not told:
                told = _likely(message[8:])
            fits = max(ip6.MINIMUM_MTU, min(told + HEADER_GROWS, mtu))
            head = b"\x02\0\0\0%b" % fits.to_bytes(4)
        case 3 if code in _UNREACHABLE_6:
            kind, code, pointer = _UNREACHABLE_6[code]
            head = b"%c%c\0\0%b" % (kind, code, pointer.to_bytes(4))
        case 11:
            head = b"\x03%c\0\0\0\0\0\0" % code
        case 12 if code in (0, 2) and message[4] in _POINTER_6:
            head = b"\x04\0\0\0%b" % _POINTER_6[message[4]].to_bytes(4)
        case _:
            raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"ICMP type {type_} code {code}")
    # RFC 4884: octet 5 counts words of four octets of the quoted packet, if extensions follow it.
    extended = message[5] * 4 if type_ in (UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM) else 0
    original, extensions = _split(message[8:], extended)
    if extensions and head[0] in (icmp6.DESTINATION_UNREACHABLE, icmp6.TIME_EXCEEDED):
        body = _extended(quoted(original), extensions, _QUOTE6, 8)
        if body is not None:
            length = (len(body) - len(extensions)) // 8
            return _complete6(b"%b%c%b%b" % (head[:4], length, head[5:], body), ends)
    return _complete6(head + quoted(original)[:_QUOTE6], ends)


def to_icmp4(message: bytes, ends: bytes, quoted: Quoted, mtu: int) -> bytes:
    """``message``: whole, of ICMPv6, whose IPv6 source and destination were ``ends``. ``mtu``: of the IPv6 side.

    Raises `Discard`: MALFORMED, CHECKSUM_WRONG, TRANSLATION_UNSUPPORTED, and those of ``quoted``.
    """
    if len(message) < 8:
        raise Discard(Reason.MALFORMED, f"ICMPv6 of {len(message)} octets")
    if ip6.checksum(ends[:16], ends[16:], ip6.ICMPV6, message):
        raise Discard(Reason.CHECKSUM_WRONG, "ICMPv6")
    type_, code = message[0], message[1]
    number = int.from_bytes(message[4:8])
    match type_:
        case 128 | 129:
            kind = ECHO_REQUEST if type_ == icmp6.ECHO_REQUEST else ECHO_REPLY
            return _complete4(b"%c%c\0\0%b" % (kind, code, message[4:]))
        case 1 if code in _UNREACHABLE_4:
            head = b"\x03%c\0\0\0\0\0\0" % _UNREACHABLE_4[code]
        case 2:
            # No IPv6 path is narrower than 1280, whatever a stranger says (RFC 8201 section 4).
            fits = max(LOWEST_IPV4_MTU, min(number, mtu) - HEADER_GROWS)
            head = b"\x03\x04\0\0\0\0%b" % min(fits, 0xFFFF).to_bytes(2)
        case 3:
            head = b"\x0b%c\0\0\0\0\0\0" % code
        case 4 if code == icmp6.UNKNOWN_NEXT_HEADER:
            head = b"\x03\x02\0\0\0\0\0\0"
        case 4 if code == icmp6.ERRONEOUS_HEADER_FIELD and number in _POINTER_4:
            head = b"\x0c\0\0\0%c\0\0\0" % _POINTER_4[number]
        case _:
            raise Discard(Reason.TRANSLATION_UNSUPPORTED, f"ICMPv6 type {type_} code {code}")
    # RFC 4884: octet 4 counts words of eight octets.
    extended = message[4] * 8 if type_ in (icmp6.DESTINATION_UNREACHABLE, icmp6.TIME_EXCEEDED) else 0
    original, extensions = _split(message[8:], extended)
    if extensions:
        body = _extended(quoted(original), extensions, _QUOTE4, 4)
        if body is not None:
            length = (len(body) - len(extensions)) // 4
            return _complete4(b"%b%c%b%b" % (head[:5], length, head[6:], body))
    return _complete4(head + quoted(original)[:_QUOTE4])


def quoted_echo(protocol: int, body: bytes, there: bytes, length: int) -> bytes:
    """A quoted echo, or its beginning, as the other version's; other quoted messages are errors, which none quotes.

    ``protocol``: of ``body``. ``there``: both addresses of the IPv6 side. ``length``: what the whole message has.

    Raises `Discard` TRANSLATION_UNSUPPORTED.
    """
    kinds = _ECHOES.get(protocol, {})
    if not body or body[0] not in kinds:
        raise Discard(Reason.TRANSLATION_UNSUPPORTED, "an error about something that is not echo")
    kind = kinds[body[0]]
    if len(body) < 4:
        return b"%c%b" % (kind, body[1:])
    pseudo = words(there) + length + ip6.ICMPV6
    shift = (body[0] - kind) * 256 + (pseudo if protocol == ip6.ICMPV6 else -pseudo)
    value = (int.from_bytes(body[2:4]) + shift) % 0xFFFF
    return b"%c%c%b%b" % (kind, body[1], value.to_bytes(2), body[4:])


_ECHOES = {
    ip4.ICMP: {ECHO_REQUEST: icmp6.ECHO_REQUEST, ECHO_REPLY: icmp6.ECHO_REPLY},
    ip6.ICMPV6: {icmp6.ECHO_REQUEST: ECHO_REQUEST, icmp6.ECHO_REPLY: ECHO_REPLY},
}


def _likely(original: bytes) -> int:
    """The MTU of a router that does not tell it (RFC 1191 section 5): the next plateau below what was sent."""
    sent = original[2] << 8 | original[3] if len(original) >= 4 else 0
    return next((plateau for plateau in _PLATEAUS if plateau < sent), LOWEST_IPV4_MTU)


def _split(quote: bytes, extended: int) -> tuple[bytes, bytes]:
    if not extended or extended > len(quote):
        return quote, b""
    return quote[:extended], quote[extended:]


def _extended(original: bytes, extensions: bytes, room: int, unit: int) -> bytes | None:
    """Quoted packet, padded, and extensions; None: there is no room for both (extensions are then left out)."""
    space = (room - len(extensions)) // unit * unit
    if space < _EXTENDED:
        return None
    size = max(_EXTENDED, -(-min(len(original), space) // unit * unit))
    return original[: min(size, space)].ljust(min(size, space), b"\0") + extensions


def _complete6(message: bytes, ends: bytes) -> bytes:
    value = ip6.checksum(ends[:16], ends[16:], ip6.ICMPV6, message)
    return b"%b%b%b" % (message[:2], value.to_bytes(2), message[4:])


def _complete4(message: bytes) -> bytes:
    return b"%b%b%b" % (message[:2], ip4.checksum(message).to_bytes(2), message[4:])
