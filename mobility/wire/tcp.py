"""TCP segments (RFC 9293), as far as somebody in the middle has to know them."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from mobility.wire.errors import WireError

HEADER_SIZE = 20
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_HEADER = Struct("!HHIIBBHHH")
_NOP, _SACK_PERMITTED, _SACK = 1, 4, 5


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment, without its checksum."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    options: bytes = b""
    payload: bytes = b""
    urgent: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises `WireError`: cut off."""
        if len(data) < HEADER_SIZE:
            raise WireError("TCP header", at=len(data), why=f"needs {HEADER_SIZE} octets")
        here, there, sequence, acknowledgement, offset, flags, window, _, urgent = _HEADER.unpack_from(data)
        head = (offset >> 4) * 4
        if not HEADER_SIZE <= head <= len(data):
            raise WireError("TCP header", at=12, why=f"header of {head} octets in {len(data)}")
        options, payload = data[HEADER_SIZE:head], data[head:]
        return cls(here, there, sequence, acknowledgement, flags, window, options, payload, urgent)

    def __bytes__(self) -> bytes:
        """With a checksum of zero."""
        options = self.options + bytes(-len(self.options) % 4)
        offset = (HEADER_SIZE + len(options)) // 4 << 4
        return (
            _HEADER.pack(
                self.source_port,
                self.destination_port,
                self.sequence,
                self.acknowledgement,
                offset,
                self.flags,
                self.window,
                0,
                self.urgent,
            )
            + options
            + self.payload
        )

    def without_sack(self) -> bytes:
        """The options without selective acknowledgements and the offer of them (RFC 2018); what is malformed goes."""
        kept, at = bytearray(), 0
        options = self.options
        while at < len(options) and options[at]:
            if options[at] == _NOP:
                kept.append(_NOP)
                at += 1
                continue
            if at + 2 > len(options) or options[at + 1] < 2 or at + options[at + 1] > len(options):
                break
            end = at + options[at + 1]
            kept += bytes((_NOP,)) * (end - at) if options[at] in (_SACK_PERMITTED, _SACK) else options[at:end]
            at = end
        return bytes(kept)


def difference(one: int, other: int) -> int:
    """How far sequence number ``one`` is ahead of ``other`` (negative: behind), modulo 2^32."""
    return ((one - other + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
