"""The two UDP sockets of a stream and exact times of arrival."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from softphone.errors import TransportError
from softphone.media.rtp import Address
from softphone.media.srtp import Random

_ATTEMPTS = 64
_BUFFER = 2048
"Greater than any packet that libsrtp takes."
_TIMESTAMP = 35
"SO_TIMESTAMPNS and SCM_TIMESTAMPNS of Linux."
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_AT_ONCE = 64
"Packets that are read before other parts of the process get their turn."


class UdpSockets(Protocol):
    """The part of the phone's `Sockets` factory that a stream needs."""

    async def udp(self, host: str, port: int) -> socket.socket:
        """A bound, non-blocking UDP socket; port 0: any."""


async def open_pair(
    sockets: UdpSockets, host: str, ports: tuple[int, int] | None, random: Random
) -> tuple[socket.socket, socket.socket]:
    """Sockets for RTP on an even port and for RTCP on the next (RFC 3550 section 11).

    ``ports``: the first and the last port that may be used; None: any. Raises `TransportError`.
    """
    failure: Exception = OSError("no attempt was made")
    for _ in range(_ATTEMPTS):
        rtp = rtcp = None
        try:
            if ports is None:
                rtp = await sockets.udp(host, 0)
                port = rtp.getsockname()[1]
                if port % 2:
                    rtp.close()
                    port = port + 1 if port < 65_535 else port - 3
                    rtp = await sockets.udp(host, port)
            else:
                first = (ports[0] + 1) // 2
                port = 2 * (first + int.from_bytes(random(4)) % max(1, (ports[1] + 1) // 2 - first))
                rtp = await sockets.udp(host, port)
            rtcp = await sockets.udp(host, port + 1)
        except (OSError, TransportError) as exc:
            if rtp is not None:
                rtp.close()
            failure = exc
        else:
            return rtp, rtcp
    where = f"in {ports[0]}-{ports[1]} " if ports else ""
    raise TransportError(f"no pair of UDP ports {where}on {host} after {_ATTEMPTS} attempts: {failure}") from failure


def stamp_arrivals(sock: socket.socket) -> bool:
    """Ask the kernel to note when packets arrive; False: it cannot for this socket."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
    except OSError:
        return False
    return True


def received(sock: socket.socket, now: float) -> Iterator[tuple[bytes, Address, float]]:
    """What has arrived on a socket: packet, sender, monotonic time of arrival."""
    for _ in range(_AT_ONCE):
        try:
            data, ancillary, _flags, sender = sock.recvmsg(_BUFFER, _ANCILLARY)
        except BlockingIOError:
            return
        except OSError:
            # An ICMP error of a packet that was sent before: the socket stays usable.
            continue
        at = now
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _TIMESTAMP and len(value) >= _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                # The kernel stamps with the wall clock; only its difference to now is used.
                age = time.time() - (seconds + nanoseconds / 1e9)
                if 0 <= age < 1:
                    at = now - age
        yield data, (sender[0], sender[1]), at
