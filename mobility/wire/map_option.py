"""The MAP option of router advertisements (RFC 5380 section 9), with the bits of its draft on how to register."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar, Self

from mobility.wire.errors import WireError

HIGHEST_PREFERENCE = 15


class RegistrationType(IntEnum):
    """How a terminal of this MAP talks to its home agent (types 1 to 3 of the source, from the I, P and V bits)."""

    TUNNEL = 1
    "Both ways through the tunnel between terminal and MAP."
    REGIONAL_SOURCE = 2
    "What the terminal sends goes directly, from the RCoA; what it receives comes through the MAP."
    DIRECT = 3
    "Both ways directly, with the LCoA."


@dataclass(frozen=True, slots=True)
class MapOption:
    """A MAP that can be reached from this link. I, P and V are in the three bits after R, which RFC 5380 reserves."""

    kind: ClassVar[int] = 23

    address: IPv6Address
    "Of the MAP; its first 64 bits are the prefix of regional care-of addresses."
    lifetime: int
    "Seconds for which address and prefix are valid; 0: the MAP is out of service."
    distance: int = 1
    "1: on this link; at most 15."
    preference: int = HIGHEST_PREFERENCE
    "0: not to be used; 15: the best."
    prefix_usable: bool = True
    "R: an RCoA is to be formed from the prefix."
    may_use_source: bool = False
    "I: the RCoA may be the source of what the terminal sends."
    must_use_source: bool = False
    "P: it has to be."
    reverse_tunnel: bool = False
    "V: what the terminal sends has to go through the tunnel to the MAP."

    @classmethod
    def parse(cls, body: bytes) -> Self:
        if len(body) != _MAP.size:
            raise WireError("MAP", at=1, why=f"needs {_MAP.size} octets after type and length, has {len(body)}")
        rank, flags, lifetime, address = _MAP.unpack(body)
        bits = (bool(flags & bit) for bit in (0x80, 0x40, 0x20, 0x10))
        return cls(IPv6Address(address), lifetime, rank >> 4, rank & 15, *bits)

    def __bytes__(self) -> bytes:
        flags = self.prefix_usable << 7 | self.may_use_source << 6 | self.must_use_source << 5
        flags |= self.reverse_tunnel << 4
        return _MAP.pack(self.distance << 4 | self.preference, flags, self.lifetime, self.address.packed)

    @property
    def registration_type(self) -> RegistrationType:
        """V: type 1; else P or I: type 2; else type 3."""
        if self.reverse_tunnel:
            return RegistrationType.TUNNEL
        if self.must_use_source or self.may_use_source:
            return RegistrationType.REGIONAL_SOURCE
        return RegistrationType.DIRECT


_MAP = Struct("!BBI16s")
