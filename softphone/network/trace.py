"""SIP and RTP of a phone as a pcapng file for Wireshark.

Messages are written as the phone sees them, so that SIP over TLS can be read: every one as a UDP datagram, whatever
carried it (the comment of the packet says what). RTP is as it was on the wire: encrypted where SRTP was agreed on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from ipaddress import ip_address
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Self

from mobility.pcapng import PcapngWriter
from softphone.errors import ConfigError
from softphone.sip.endpoint import Traced
from softphone.sip.transport import Address

_IPV6, _IPV4, _UDP = Struct("!IHBB16s16s"), Struct("!BBHHHBBH4s4s"), Struct("!HHHH")
_PROTOCOL = socket.IPPROTO_UDP
_MOST = 65_000
"Bytes of a message that fit into a datagram; what is beyond is left out."


class PhoneTrace:
    """One file, mode 0600: what people say and whom they call is nobody else's business. Make it in the event loop."""

    def __init__(self, path: Path | str) -> None:
        """Raises ConfigError where the file cannot be made."""
        self.failure = ""
        "Why nothing is written any more."
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigError(f"the trace {path} cannot be written: {exc.strerror}") from exc
        self._path = path
        self._writer = PcapngWriter(os.fdopen(descriptor, "wb"))
        self._epoch = time.time() - asyncio.get_running_loop().time()

    def sip(self, message: Traced) -> None:
        """As `Softphone` takes it: its ``trace``."""
        comment = f"SIP over {message.transport}"
        self._write(message.sent, _pair(message.local), _pair(message.peer), message.data, comment)

    def media(self, sent: bool, local: tuple[str, int], peer: tuple[str, int], data: bytes) -> None:
        """As `Softphone` takes it: its ``media_trace``."""
        self._write(sent, local, peer, data, None)

    def close(self) -> None:
        """Complete the file."""
        try:
            self._writer.close()
        except OSError as exc:
            self._failed(exc)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(
        self, sent: bool, local: tuple[str, int], peer: tuple[str, int], data: bytes, comment: str | None
    ) -> None:
        if self.failure:
            return
        source, target = (local, peer) if sent else (peer, local)
        when = self._epoch + asyncio.get_running_loop().time()
        try:
            self._writer.write("phone", datagram(source, target, data[:_MOST]), when, outbound=sent, comment=comment)
        except OSError as exc:  # a call is worth more than its trace
            self._failed(exc)

    def _failed(self, error: OSError) -> None:
        self.failure = self.failure or f"the trace {self._path} ends here: {error.strerror}"


def _pair(address: Address) -> tuple[str, int]:
    return address.host, address.port


def datagram(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """An IP packet with a UDP datagram, with right checksums; the addresses are of one version."""
    one, other = (ip_address(host.partition("%")[0]) for host, _ in (source, target))
    length = _UDP.size + len(data)
    pseudo = one.packed + other.packed + length.to_bytes(4) + _PROTOCOL.to_bytes(4)
    udp = _UDP.pack(source[1], target[1], length, 0) + data
    udp = _UDP.pack(source[1], target[1], length, _checksum(pseudo + udp) or 0xFFFF) + data
    if one.version == 6:
        return _IPV6.pack(6 << 28, length, _PROTOCOL, 64, one.packed, other.packed) + udp
    head = (0x45, 0, 20 + length, 0, 0, 64, _PROTOCOL)
    checksum = _checksum(_IPV4.pack(*head, 0, one.packed, other.packed))
    return _IPV4.pack(*head, checksum, one.packed, other.packed) + udp


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    # 2^16 is 1 modulo 2^16 - 1: the sum of the words with their carries is the whole number's remainder.
    total = int.from_bytes(data + bytes(len(data) % 2)) % 0xFFFF
    return ~total & 0xFFFF if total or not any(data) else 0
