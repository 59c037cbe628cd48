"""Finishes the work that a sender left to its network card.

A kernel on the other end of a veth pair hands over packets whose transport checksum is not computed yet, and TCP or
UDP packets far above the MTU that a card would cut up. A packet socket with PACKET_VNET_HDR says so in a header
(``struct virtio_net_hdr``). A home agent that passed such packets on as they are would send garbage.
"""

from __future__ import annotations

from struct import Struct

VNET_HEADER = Struct("=BBHHHH")  # flags, gso type, header length, gso size, checksum start, checksum offset
NEEDS_CHECKSUM = 0x01
GSO_NONE, GSO_TCP6, GSO_UDP_L4, GSO_ECN = 0, 4, 5, 0x80

_IP6_HEADER = 40
_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80


class OffloadError(ValueError):
    """The header and the packet do not fit together; the packet is of no use."""


def finish(header: bytes | memoryview, packet: bytes, link_header: int) -> list[bytes]:
    """The IPv6 packets as they have to look on a wire.

    ``header`` is the virtio header (10 bytes); its offsets count from the link-layer header, which is ``link_header``
    bytes long and no longer there. Raises OffloadError.
    """
    flags, kind, _length, size, start, offset = VNET_HEADER.unpack(header)
    start -= link_header
    kind &= ~GSO_ECN
    if kind == GSO_NONE:
        return [complete_checksum(packet, start, offset)] if flags & NEEDS_CHECKSUM else [packet]
    if kind == GSO_TCP6:
        return _segment_tcp(packet, start, size)
    if kind == GSO_UDP_L4:
        return _segment_udp(packet, start, size)
    raise OffloadError(f"segmentation offload of kind {kind} is not known")


def complete_checksum(packet: bytes, start: int, offset: int) -> bytes:
    """Computes the transport checksum from ``start`` to the end of the packet and puts it at ``start + offset``.

    The field holds the sum of the pseudo header already, as the kernel leaves it.
    """
    place = start + offset
    if start < _IP6_HEADER or place + 2 > len(packet):
        raise OffloadError(f"checksum at {place} of a packet of {len(packet)} bytes")
    checksum = _fold(packet[start:]) ^ 0xFFFF
    # Zero would mean "no checksum" in UDP; both stand for the same number.
    return b"%b%b%b" % (packet[:place], (checksum or 0xFFFF).to_bytes(2, "big"), packet[place + 2 :])


def _fold(data: bytes) -> int:
    """One's complement sum: the whole as one big number modulo 65535, which is the same and faster."""
    if len(data) & 1:
        data += b"\0"
    total = int.from_bytes(data, "big")
    return total % 0xFFFF or (0xFFFF if total else 0)


def _pseudo_header(packet: bytes, protocol: int, length: int) -> bytes:
    return packet[8:40] + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")


def _segment_tcp(packet: bytes, start: int, size: int) -> list[bytes]:
    if start < _IP6_HEADER or len(packet) < start + 20 or not size:
        raise OffloadError("TCP super-packet shorter than its headers")
    header_length = (packet[start + 12] >> 4) * 4
    data_at = start + header_length
    if header_length < 20 or data_at > len(packet):
        raise OffloadError("TCP super-packet with an invalid data offset")
    sequence = int.from_bytes(packet[start + 4 : start + 8], "big")
    flags = packet[start + 13]
    segments = []
    for at in range(data_at, len(packet), size) or [data_at]:
        data = packet[at : at + size]
        tcp = bytearray(packet[start:data_at])
        tcp[4:8] = ((sequence + at - data_at) & 0xFFFFFFFF).to_bytes(4, "big")
        tcp[13] = flags
        if at + size < len(packet):
            tcp[13] &= ~_FIN_PSH & 0xFF  # these belong to the last segment, CWR to the first
        if at > data_at:
            tcp[13] &= ~_CWR & 0xFF
        segments.append(_with_transport(packet, start, bytes(tcp) + data, _TCP, 16))
    return segments


def _segment_udp(packet: bytes, start: int, size: int) -> list[bytes]:
    if start < _IP6_HEADER or len(packet) < start + 8 or not size:
        raise OffloadError("UDP super-packet shorter than its headers")
    segments = []
    for at in range(start + 8, len(packet), size) or [start + 8]:
        data = packet[at : at + size]
        udp = packet[start : start + 4] + (8 + len(data)).to_bytes(2, "big") + b"\0\0" + data
        segments.append(_with_transport(packet, start, udp, _UDP, 6))
    return segments


def _with_transport(packet: bytes, start: int, transport: bytes, protocol: int, offset: int) -> bytes:
    """The network headers of ``packet`` in front of a transport payload, with lengths and checksum made right."""
    transport = transport[:offset] + b"\0\0" + transport[offset + 2 :]
    checksum = _fold(_pseudo_header(packet, protocol, len(transport)) + transport) ^ 0xFFFF or 0xFFFF
    transport = transport[:offset] + checksum.to_bytes(2, "big") + transport[offset + 2 :]
    payload_length = start - _IP6_HEADER + len(transport)
    return packet[:4] + payload_length.to_bytes(2, "big") + packet[6:start] + transport
