"""Writes pcapng (draft-ietf-opsawg-pcapng), what a trace of IP packets needs of it. Part of the public interface."""

from __future__ import annotations

from struct import Struct
from typing import BinaryIO

LINKTYPE_RAW = 101
"IPv4 or IPv6, by the first digit."
_HEADER = Struct("<II")
_SECTION = Struct("<IHHq")
_INTERFACE = Struct("<HHI")
_PACKET = Struct("<IIIII")
_COMMENT, _IF_NAME, _IF_TSRESOL, _EPB_FLAGS, _END = 1, 2, 9, 2, 0
_INBOUND, _OUTBOUND = 1, 2


class PcapngWriter:
    """Writes IP packets of several named places (interfaces) into a pcapng file that Wireshark opens."""

    def __init__(self, file: BinaryIO) -> None:
        """Takes over the file; `close` closes it."""
        self._file = file
        self._interfaces: dict[str, int] = {}
        self._block(0x0A0D0D0A, _SECTION.pack(0x1A2B3C4D, 1, 0, -1))

    def write(
        self, where: str, packet: bytes, when: float, *, outbound: bool | None = None, comment: str | None = None
    ) -> None:
        """``when``: seconds since 1970. Raises OSError."""
        number = self._interfaces.get(where)
        if number is None:
            number = self._interfaces[where] = len(self._interfaces)
            options = _option(_IF_NAME, where.encode()) + _option(_IF_TSRESOL, b"\x09") + _option(_END, b"")
            self._block(1, _INTERFACE.pack(LINKTYPE_RAW, 0, 0) + options)
        nanoseconds = int(when * 1_000_000) * 1000
        options = b"" if comment is None else _option(_COMMENT, comment.encode())
        if outbound is not None:
            options += _option(_EPB_FLAGS, (_OUTBOUND if outbound else _INBOUND).to_bytes(4, "little"))
        if options:
            options += _option(_END, b"")
        length = len(packet)
        head = _PACKET.pack(number, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF, length, length)
        self._block(6, head + _padded(packet) + options)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        self._file.write(_HEADER.pack(kind, length) + body + length.to_bytes(4, "little"))


def _option(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
