"""What a node is told about one of its interfaces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One interface of a node."""

    name: str
    link_address: bytes
    "Six bytes."
    mtu: int = 1500


def link_scope(address: bytes) -> bool:
    """Multicast, or link-local unicast: 16 bytes without a meaning beyond the interface of the host OS."""
    return address[0] == 0xFF or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
