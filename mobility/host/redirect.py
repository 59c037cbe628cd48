"""The redirect message (RFC 4861 section 4.5), which only hosts read and only routers write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mobility.wire.errors import WireError

REDIRECT = 137
_FIXED = 40


@dataclass(frozen=True, slots=True)
class Redirect:
    """Use ``target`` for packets to ``destination``; equal addresses mean: it is a neighbour."""

    target: bytes
    destination: bytes
    mac: bytes | None
    "Link-layer address of the target, if the router told it."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the ICMPv6 message. Raises `WireError`: too short, code not zero, option of length zero or cut off."""
        if len(data) < _FIXED:
            raise WireError("redirect", at=len(data), why=f"needs {_FIXED} octets")
        if data[0] != REDIRECT or data[1] != 0:
            raise WireError("redirect", at=0, why=f"type {data[0]} code {data[1]}")
        target, destination = data[8:24], data[24:40]
        if destination[0] == 0xFF:
            raise WireError("redirect", at=24, why="destination is a multicast address")
        mac: bytes | None = None
        at = _FIXED
        while at < len(data):
            size = data[at + 1] * 8 if at + 1 < len(data) else 0
            if size == 0 or at + size > len(data):
                raise WireError("redirect option", at=at, why="length is zero or beyond the end")
            if data[at] == 2:
                mac = data[at + 2 : at + 8]
            at += size
        return cls(target, destination, mac)

    def __bytes__(self) -> bytes:
        option = b"" if self.mac is None else b"\x02\x01" + self.mac
        return b"%c\0\0\0\0\0\0\0%b%b%b" % (REDIRECT, self.target, self.destination, option)
