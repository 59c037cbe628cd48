"""Checksums of upper layers under another pair of addresses, without looking at the payload (RFC 1624)."""

from __future__ import annotations

from mobility.wire import ip6

DCCP = 33
WITH_PSEUDO_HEADER = {ip6.TCP: 16, ip6.UDP: 6, ip6.UDP_LITE: 6, DCCP: 6}
"Protocol -> where its checksum, over a pseudo header with the addresses, lies."


def words(data: bytes) -> int:
    """The sum of the 16-bit words of ``data`` (of even length) in ones' complement: arithmetic modulo 0xFFFF."""
    return int.from_bytes(data) % 0xFFFF


def adjusted(protocol: int, body: bytes, shift: int) -> bytes:
    """The body with its checksum for other addresses; as it is when it has none, or is cut off before it.

    ``shift``: `words` of the old addresses minus `words` of the new ones.
    """
    at = WITH_PSEUDO_HEADER.get(protocol)
    if at is None or len(body) < at + 2:
        return body
    value = ((body[at] << 8 | body[at + 1]) + shift) % 0xFFFF
    if value == 0 and protocol != ip6.TCP:
        value = 0xFFFF  # zero says that there is none
    return b"%b%b%b" % (body[:at], value.to_bytes(2), body[at + 2 :])
