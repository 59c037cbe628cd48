"""Packets of speech as they come to a node over IPv4, and which of them its kernel had nobody for."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from functools import partial

from bench.tap import SO_TIMESTAMPNS
from sip_test_env import namespace

BUFFER = 1 << 25
_SO_RCVBUFFORCE = 33
_IPV4 = 0x0800
_TIMESTAMP = struct.Struct("qq")
_UDP, _ICMP = 17, 1
_PORT_UNREACHABLE = b"\x03\x03"
_RTP = slice(28, 40)
"In an IPv4 packet without options."


def speech(packet: bytes) -> bytes | None:
    """The RTP header of an IPv4 packet that carries one (RFC 3550); what makes its packet different from all others."""
    if len(packet) < _RTP.stop or packet[0] != 0x45 or packet[9] != _UDP:
        return None
    header = packet[_RTP]
    # version 2, and no RTCP (RFC 5761 section 4)
    return header if header[0] >> 6 == 2 and not 72 <= header[1] & 0x7F <= 76 else None


def refused(packet: bytes) -> bytes | None:
    """The same of the packet that an ICMP port unreachable is about: there was no socket for it."""
    if len(packet) < 28 or packet[0] != 0x45 or packet[9] != _ICMP or packet[20:22] != _PORT_UNREACHABLE:
        return None
    return speech(packet[28:])


class RtpTap:
    """Taps interfaces of one namespace. A kernel must not hold its ICMP errors back (``icmp_ratelimit`` 0)."""

    def __init__(self, space: str, *interfaces: str) -> None:
        self._taps = [namespace.run_in(space, partial(_open, interface)) for interface in interfaces]
        self._arrived: dict[bytes, float] = {}
        self._refused: set[bytes] = set()

    def close(self) -> None:
        for tap in self._taps:
            tap.close()

    def arrivals(self) -> list[float]:
        """When packets came that a socket took, all since the tap was opened: seconds of the machine's clock."""
        for tap in self._taps:
            with suppress(BlockingIOError):
                while True:
                    packet, ancillary, _, address = tap.recvmsg(2048, 64)
                    seconds, nanoseconds = _TIMESTAMP.unpack(ancillary[0][2])
                    if address[2] != socket.PACKET_OUTGOING:
                        if header := speech(packet):
                            self._arrived.setdefault(header, seconds + nanoseconds / 1e9)
                    elif header := refused(packet):
                        self._refused.add(header)
        return sorted(at for header, at in self._arrived.items() if header not in self._refused)


def _open(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_IPV4))
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
    tap.setblocking(False)
    tap.bind((interface, 0x0003))  # ETH_P_ALL: what goes out is seen, too
    return tap
