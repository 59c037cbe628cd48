"""Sees the frames at the terminal's cable, with the kernel's timestamps."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from sip_test_env.plan import CABLE

SO_TIMESTAMPNS = 35
_ETH_P_ALL = 3


def open_tap() -> socket.socket:
    """Sees every frame at the far end of the terminal's cable."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    tap.bind((CABLE, _ETH_P_ALL))
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    tap.setblocking(False)
    return tap


def drain(sock: socket.socket) -> list[tuple[float, int, bool]]:
    """What waits in a socket: kernel timestamp in ms, length, and (packet sockets) whether it goes to the terminal."""
    found = []
    with suppress(BlockingIOError):
        while True:
            data, ancillary, _, address = sock.recvmsg(2048, 128)
            at = 0.0
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    at = seconds * 1e3 + nanoseconds / 1e6
            outgoing = sock.family == socket.AF_PACKET and address[2] == socket.PACKET_OUTGOING
            found.append((at, len(data), outgoing))
    return found
