"""The little of IPv4 that tunnel and translation of its packets need (RFC 791, RFC 792, RFC 1191)."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct

from mobility.wire.errors import WireError

HEADER_SIZE = 20
ICMP = 1

_HEADER = Struct("!BBHHHBBH4s4s")
_ICMP = Struct("!BBHI")
_QUOTED = 548
"Octets of a packet that an error about it quotes: 576 with both headers (RFC 1812 section 4.3.2.3)."


def check(packet: bytes) -> bytes:
    """The packet without padding behind it. Raises `WireError`: not IPv4, cut off, wrong header checksum."""
    size = len(packet)
    if size < HEADER_SIZE:
        raise WireError("IPv4 header", at=size, why=f"needs {HEADER_SIZE} octets")
    if packet[0] >> 4 != 4:
        raise WireError("IPv4 header", at=0, why=f"version is {packet[0] >> 4}, not 4")
    head = (packet[0] & 15) * 4
    length = packet[2] << 8 | packet[3]
    if not HEADER_SIZE <= head <= length:
        raise WireError("IPv4 header", at=0, why=f"header of {head} octets in a packet of {length}")
    if size < length:
        raise WireError("IPv4 packet", at=size, why=f"claims {length} octets")
    if checksum(packet[:head]):
        raise WireError("IPv4 header", at=10, why="wrong checksum")
    return packet if size == length else packet[:length]


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071); zero over data whose own checksum is filled in means: it is right."""
    total = int.from_bytes(data, "big") << 8 if len(data) & 1 else int.from_bytes(data, "big")
    return -total % 0xFFFF


def may_be_fragmented(packet: bytes) -> bool:
    """Whether the sender left it to routers to split the packet (the DF bit is not set)."""
    return not packet[6] & 0x40


def traffic_class(packet: bytes) -> bytes:
    """The first two octets of an IPv6 header that has this packet's traffic class."""
    return bytes((0x60 | packet[1] >> 4, packet[1] << 4 & 0xF0))


def packet(
    ends: bytes, protocol: int, payload: bytes, *, ttl: int = 64, tos: int = 0, identification: int = 0, bits: int = 0
) -> bytes:
    """A whole packet without options. ``ends``: source and destination, 8 octets.

    ``bits``: flags and fragment offset as they are in the header. Raises `WireError`: too large.
    """
    length = HEADER_SIZE + len(payload)
    if length > 0xFFFF:
        raise WireError("IPv4 packet", at=2, why=f"{length} octets are too large for one packet")
    header = _HEADER.pack(0x45, tos, length, identification, bits, ttl, protocol, 0, ends[:4], ends[4:])
    return b"%b%b%b%b" % (header[:10], checksum(header).to_bytes(2), ends, payload)


def with_length(packet: bytes, length: int) -> bytes:
    """A packet without options that claims this length: what is left of a longer one, for an error to quote."""
    header = b"%b%b%b\0\0%b" % (packet[:2], min(length, 0xFFFF).to_bytes(2), packet[4:10], packet[12:HEADER_SIZE])
    return b"%b%b%b" % (header[:10], checksum(header).to_bytes(2), packet[12:])


def error(packet_: bytes, source: IPv4Address, type_: int, code: int, rest: int = 0) -> bytes | None:
    """An ICMP error about a packet; ``rest``: the four octets behind the checksum.

    None: it must not be answered with one (RFC 1122 section 3.2.2): an error itself, a later fragment, from nobody.
    """
    head = (packet_[0] & 15) * 4
    sender = IPv4Address(packet_[12:16])
    later_fragment = (packet_[6] << 8 | packet_[7]) & 0x1FFF
    is_error = packet_[9] == ICMP and packet_[head : head + 1] not in (b"\0", b"\x08")
    to_one = packet_[16] < 224
    if later_fragment or is_error or not to_one or not _answerable(sender):
        return None
    body = _ICMP.pack(type_, code, 0, rest) + packet_[:_QUOTED]
    body = b"%b%b%b" % (body[:2], checksum(body).to_bytes(2), body[4:])
    return packet(source.packed + sender.packed, ICMP, body, tos=0xC0)


def too_big(packet: bytes, mtu: int, source: IPv4Address) -> bytes | None:
    """The ICMP error that tells the sender of ``packet`` what fits (RFC 1191 section 4); None as in `error`."""
    return error(packet, source, 3, 4, min(mtu, 0xFFFF))


def _answerable(address: IPv4Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.packed[0] >= 240)
