"""The IPv4 header (RFC 791), as far as a tunnel has to look at it."""

from __future__ import annotations

from mobility.wire.errors import WireError

HEADER_SIZE = 20
"Octets without options."


def check(packet: bytes) -> bytes:
    """A whole IPv4 packet without padding behind it. Raises `WireError`."""
    size = len(packet)
    if size < HEADER_SIZE:
        raise WireError("IPv4 header", at=size, why=f"needs {HEADER_SIZE} octets")
    if packet[0] >> 4 != 4:
        raise WireError("IPv4 header", at=0, why=f"version {packet[0] >> 4}")
    header, total = (packet[0] & 15) * 4, packet[2] << 8 | packet[3]
    if header < HEADER_SIZE or header > total:
        raise WireError("IPv4 header", at=0, why=f"header of {header} octets in a packet of {total}")
    if total > size:
        raise WireError("IPv4 header", at=2, why=f"says {total} octets, there are {size}")
    if _sum(packet[:header]) != 0xFFFF:
        raise WireError("IPv4 header", at=10, why="wrong checksum")
    return packet if total == size else packet[:total]


def source(packet: bytes) -> bytes:
    """Four octets."""
    return packet[12:16]


def destination(packet: bytes) -> bytes:
    """Four octets."""
    return packet[16:20]


def _sum(header: bytes) -> int:
    """One's complement sum (RFC 1071); 0xFFFF over a header with the right checksum."""
    total = sum(int.from_bytes(header[at : at + 2]) for at in range(0, len(header), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
