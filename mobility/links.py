"""What a node is told about its interfaces, and names and addresses of the links that it sees.

A link is an interface itself (IPv6 packets, link-layer addresses of six octets), or UDP over an interface, which needs
no privilege and crosses NAT and IPv4-only access (RFC 5555): then what is sent and received are the payloads of
datagrams, and the "link-layer address" of the other side is its endpoint: 16 octets of address (IPv4 as
``::ffff:a.b.c.d``) and two of port.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

MOBILITY_PORT = 4191
"UDP port of a home agent (RFC 5555 section 8)."
UDP4, UDP6 = "udp4", "udp6"
"What follows the interface in the name of a link of UDP: ``wlan0/udp4``."

_ENDPOINT = Struct("!16sH")


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


def udp_link(interface: str, version: int) -> str:
    """Name of the link that is UDP over IPv4 or IPv6 (``version`` 4 or 6) on an interface."""
    return f"{interface}/{UDP4 if version == 4 else UDP6}"


def interface_of(link: str) -> str:
    """The interface that a link, of either kind, is on."""
    return link.partition("/")[0]


def is_udp(link: str) -> bool:
    """Whether a link is UDP over an interface and not the interface itself."""
    return "/" in link


def mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    """An address of either version as IPv6 address: IPv4 as ``::ffff:a.b.c.d`` (RFC 4291 section 2.5.5.2)."""
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


def unmapped(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The other way round."""
    return address if address.ipv4_mapped is None else address.ipv4_mapped


def endpoint(address: IPv4Address | IPv6Address, port: int) -> bytes:
    """An address and a UDP port in 18 octets."""
    return _ENDPOINT.pack(mapped(address).packed, port)


def endpoint_address(data: bytes) -> IPv6Address:
    """The address of an endpoint, mapped if it is IPv4."""
    return IPv6Address(data[:16])


def describe_endpoint(data: bytes) -> str:
    """For people: ``192.0.2.1:4191`` or ``[2001:db8::1]:4191``."""
    packed, port = _ENDPOINT.unpack(data)
    address = unmapped(IPv6Address(packed))
    return f"{address}:{port}" if isinstance(address, IPv4Address) else f"[{address}]:{port}"
