"""Data between a terminal and a correspondent without the tunnel: what is put behind the IPv6 header, and taken away.

Towards the correspondent a Home Address option (RFC 6275 section 6.3), towards the terminal a type 2 routing header
(section 6.4). Both are outside of the application's ESP, whose selectors are home addresses: it never notices.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from struct import Struct

from mobility.discards import Discard, Reason
from mobility.mipv6.signalling import logical
from mobility.wire import ip6

OVERHEAD = 24
"Octets of the option with its header, and of the routing header."

_LENGTH = Struct("!H").pack
_FIRST = frozenset((ip6.HOP_BY_HOP, ip6.ROUTING))
_THOUGHT = frozenset((ip6.HOP_BY_HOP, ip6.ROUTING, ip6.FRAGMENT, ip6.DEST_OPTIONS, ip6.MOBILITY, ip6.IPV6, ip6.IPV4))
"Next headers that need more than a quick look."
_OPTION = bytes((2, ip6.PADN, 2, 0, 0, ip6.HOME_ADDRESS, 16))
_ROUTING = bytes((2, 2, 1, 0, 0, 0, 0))


def can_go_direct(packet: bytes) -> bool:
    """Whether nothing in the packet would have to stand before the option (RFC 6275 section 6.3), and all fits."""
    return packet[6] not in _FIRST and len(packet) - ip6.HEADER_SIZE + OVERHEAD <= 0xFFFF


def to_correspondent(packet: bytes, care_of: bytes, home: bytes) -> bytes:
    """A packet of the home address, after the application's IPsec, from the care-of address (step 103)."""
    return b"%b%b\x3c%c%b%b%c\x02\x01\x02\0\0\xc9\x10%b%b" % (
        packet[:4],
        _LENGTH(len(packet) - 16),
        packet[7],
        care_of,
        packet[24:40],
        packet[6],
        home,
        packet[40:],
    )


def to_terminal(packet: bytes, care_of: bytes) -> bytes:
    """A packet for a home address, after the application's IPsec, to the care-of address."""
    return b"%b%b\x2b%c%b%b%c\x02\x02\x01\0\0\0\0%b%b" % (
        packet[:4],
        _LENGTH(len(packet) - 16),
        packet[7],
        packet[8:24],
        care_of,
        packet[6],
        packet[24:40],
        packet[40:],
    )


def quickly_from_terminal(packet: bytes) -> bytes | None:
    """What `to_correspondent` was given, if the packet looks exactly as that makes it; nothing is judged."""
    if packet[41:48] != _OPTION or packet[6] != ip6.DEST_OPTIONS or not _plain(packet):
        return None
    return b"%b%b%b%c%b%b%b" % (
        packet[:4],
        _LENGTH(len(packet) - 64),
        packet[40:41],
        packet[7],
        packet[48:64],
        packet[24:40],
        packet[64:],
    )


def quickly_from_correspondent(packet: bytes) -> bytes | None:
    """What `to_terminal` was given, if the packet looks exactly as that makes it; nothing is judged."""
    if packet[41:48] != _ROUTING or packet[6] != ip6.ROUTING or not _plain(packet):
        return None
    return b"%b%b%b%c%b%b%b" % (
        packet[:4],
        _LENGTH(len(packet) - 64),
        packet[40:41],
        packet[7],
        packet[8:24],
        packet[48:64],
        packet[64:],
    )


def opened(packet: bytes) -> tuple[bytes, ip6.Headers]:
    """The packet between home address and correspondent, and what its extension headers said. Raises `Discard`."""
    plain, headers = logical(packet)
    return packet[:4] + plain[4:], headers


def check_routing(headers: ip6.Headers, home: bytes) -> None:
    """Step 123. Raises `Discard`: a type 2 routing header for another home address, or a Home Address option."""
    if headers.home_address is not None:
        raise Discard(Reason.HOME_ADDRESS_UNVERIFIED, f"{IPv6Address(headers.home_address)} is not bound here")
    if headers.routing_address is not None and headers.routing_address != home:
        raise Discard(Reason.HOME_ADDRESS_NOT_OURS, f"routing header {IPv6Address(headers.routing_address)}")


def _plain(packet: bytes) -> bool:
    size = len(packet)
    return size >= 68 and packet[4] << 8 | packet[5] == size - 40 and packet[0] >> 4 == 6 and packet[40] not in _THOUGHT
