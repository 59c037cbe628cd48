"""Echo requests of an ordinary host, by the kernel's ICMPv6, for as long as a demo runs."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address

INTERVAL = 0.1
"Seconds between two requests."
PATIENCE = 2.0
"Seconds for the answers that are still under way at the end."
_REQUEST, _REPLY = 128, 129
_IDENTIFIER = 0x726F
_ECHO = struct.Struct("!BBHHH")


def echo_socket() -> socket.socket:
    """One in the network namespace of the caller. Needs CAP_NET_RAW."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    made.setblocking(False)
    return made


class Echoes:
    """Asks ``target`` from now on; runs in the event loop of the caller."""

    def __init__(self, source: socket.socket, target: IPv6Address) -> None:
        self._socket = source
        self._target = (str(target), 0)
        self._sent = 0
        self._answered: set[int] = set()
        self._heard = asyncio.Event()
        asyncio.get_running_loop().add_reader(source, self._hear)
        self._task = asyncio.create_task(self._ask())

    async def end(self) -> tuple[int, int]:
        """Asks no more; how many requests were sent, and how many answered."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while len(self._answered) < self._sent:
                    self._heard.clear()
                    await self._heard.wait()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        return self._sent, len(self._answered)

    async def _ask(self) -> None:
        while True:
            request = _ECHO.pack(_REQUEST, 0, 0, _IDENTIFIER, self._sent & 0xFFFF)  # the kernel fills in the checksum
            with suppress(OSError):
                self._socket.sendto(request, self._target)
            self._sent += 1
            await asyncio.sleep(INTERVAL)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = self._socket.recv(2048)
                if len(packet) >= _ECHO.size:
                    kind, _, _, identifier, sequence = _ECHO.unpack_from(packet)
                    if (kind, identifier) == (_REPLY, _IDENTIFIER):
                        self._answered.add(sequence)
                        self._heard.set()
