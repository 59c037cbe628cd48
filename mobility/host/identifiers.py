"""Interface identifiers: stable and opaque (RFC 7217), or made from the link-layer address (RFC 4291)."""

from __future__ import annotations

import hashlib
import hmac

RESERVED = (
    (0x0000000000000000, 0x0000000000000000),  # subnet-router anycast
    (0x02005EFFFE000000, 0x02005EFFFEFFFFFF),  # IANA Ethernet block
    (0xFDFFFFFFFFFFFF80, 0xFDFFFFFFFFFFFFFF),  # reserved subnet anycast
)
"First and last of the identifiers that no host may take (RFC 5453)."


def eui64(link_address: bytes) -> bytes:
    """Modified EUI-64 of a 48-bit link-layer address (RFC 4291 appendix A)."""
    if len(link_address) != 6:
        raise ValueError(f"EUI-64 needs a link-layer address of 6 octets, got {len(link_address)}")
    return bytes((link_address[0] ^ 2,)) + link_address[1:3] + b"\xff\xfe" + link_address[3:]


def stable_opaque(secret: bytes, prefix: bytes, link_address: bytes, conflicts: int) -> bytes:
    """RFC 7217 section 5: the same in the same network, unrelated in every other.

    ``prefix``: the first 8 octets; ``conflicts``: how often duplicate address detection said no (DAD_Counter).
    """
    attempt = conflicts << 8
    while True:
        digest = hmac.digest(secret, prefix + link_address + attempt.to_bytes(4), hashlib.sha256)
        identifier = digest[-8:]
        number = int.from_bytes(identifier)
        if not any(first <= number <= last for first, last in RESERVED):
            return identifier
        attempt += 1
