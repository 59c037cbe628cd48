"""UDP over IPv6 (RFC 768, RFC 8200 section 8.1), for whoever has an address that no kernel knows."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from mobility.wire import ip6
from mobility.wire.errors import WireError

HEADER_SIZE = 8
CHECKSUM = "UDP checksum"
"What a `WireError` names when the checksum is missing or wrong."

_HEADER = Struct("!HHHH")
_LENGTH = Struct("!H").pack


class Datagram(NamedTuple):
    """What a UDP packet carries."""

    source_port: int
    destination_port: int
    payload: bytes


def parse(packet: bytes, at: int = ip6.HEADER_SIZE) -> Datagram:
    """The datagram in a whole IPv6 packet whose UDP header begins at ``at``.

    Raises `WireError`: cut off, another length than it claims, no checksum (which IPv6 forbids), a wrong one.
    """
    size = len(packet) - at
    if size < HEADER_SIZE:
        raise WireError("UDP header", at=len(packet), why=f"needs {HEADER_SIZE} octets, has {max(size, 0)}")
    source_port, destination_port, length, checksum = _HEADER.unpack_from(packet, at)
    if length != size:
        raise WireError("UDP header", at=at + 4, why=f"claims {length} octets, has {size}")
    if checksum == 0:
        raise WireError(CHECKSUM, at=at + 6, why="no checksum")
    if ip6.checksum(packet[8:24], packet[24:40], ip6.UDP, packet[at:]):
        raise WireError(CHECKSUM, at=at + 6, why="wrong checksum")
    return Datagram(source_port, destination_port, packet[at + HEADER_SIZE :])


def packet(ends: bytes, ports: tuple[int, int], payload: bytes, marks: bytes = b"\x60\0") -> bytes:
    """A whole packet with its checksum; ``ends`` and ``ports`` are those of source and destination (32 octets).

    ``marks``: the first two octets of a packet whose version and traffic class it takes over. Raises `WireError`: the
    payload is too large for one datagram.
    """
    length = HEADER_SIZE + len(payload)
    if length > 0xFFFF:
        raise WireError("UDP header", at=4, why=f"{len(payload)} octets are too large for one datagram")
    head = _HEADER.pack(*ports, length, 0)
    checksum = ip6.checksum(ends[:16], ends[16:], ip6.UDP, head + payload)
    return b"%c%c\0\0%b\x11\x40%b%b%b%b" % (
        marks[0],
        marks[1] & 0xF0,
        _LENGTH(length),
        ends,
        head[:6],
        _LENGTH(checksum),
        payload,
    )
