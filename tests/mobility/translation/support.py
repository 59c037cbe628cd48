"""Addresses and packets of the tests of the translation; scapy makes and reads them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from mobility.translation.settings import TranslationSettings
from mobility.translation.translation import Translation

HOME = IPv6Address("2001:db8:1::100")
AGENT = IPv6Address("2001:db8:1::a")
PEER = IPv6Address("2001:db8:c::c")
SERVER = IPv6Address("2001:db8:1::53")
HERE = IPv4Address("198.18.0.1")
POOL4 = IPv4Network("198.18.0.0/16")
POOL6 = IPv6Network("64:ff9b:1::/96")
STRANGER4 = IPv4Address("203.0.113.9")

SETTINGS = TranslationSettings(HOME, HERE, AGENT, POOL4, POOL6, (SERVER,))


def translation(settings: TranslationSettings = SETTINGS) -> Translation:
    """One that is in use, for a long time."""
    made = Translation(settings, Random(1).randbytes)
    made.acknowledged(1e6, 0.0)
    made.mtu = 1400
    return made


def known(made: Translation, address: IPv6Address = PEER, now: float = 0.0) -> IPv4Address:
    """The virtual IPv4 address of a correspondent."""
    return IPv4Address(made.table.of_ipv6(address.packed, now, asked=True).ipv4)


def ip4(destination: IPv4Address, upper: Packet, **fields: object) -> bytes:
    """A packet of a program."""
    return bytes(IP(**{"src": str(HERE), "dst": str(destination), **fields}) / upper)


def ip6(upper: Packet, source: IPv6Address = PEER, **fields: object) -> bytes:
    """A packet for the home address."""
    return bytes(IPv6(**{"src": str(source), "dst": str(HOME), **fields}) / upper)


def datagram(ports: tuple[int, int], payload: bytes) -> Packet:
    return UDP(sport=ports[0], dport=ports[1]) / Raw(payload)


def consistent4(packet: bytes) -> IP:
    """The packet as scapy reads it; fails unless all its lengths and checksums are what scapy makes of it."""
    read = IP(packet)
    assert read.version == 4
    assert bytes(_again(IP(packet), ("len", "chksum", "ihl"))) == packet
    return read


def consistent6(packet: bytes) -> IPv6:
    """As `consistent4`."""
    read = IPv6(packet)
    assert read.version == 6
    assert bytes(_again(IPv6(packet), ("plen", "cksum", "chksum"))) == packet
    return read


_ERRORS = ("IPerror", "IPerror6")


def _again(packet: Packet, fields: tuple[str, ...]) -> Packet:
    """Has scapy compute these fields anew, in all layers but those that an error quotes."""
    layer: Packet = packet
    while layer is not None and layer.name != "NoPayload" and type(layer).__name__ not in _ERRORS:
        for name in (*fields, "chksum", "cksum"):
            if name in layer.fields and not (name == "len" and "ICMP" in type(layer).__name__):
                layer.delfieldval(name)
        layer = layer.payload
    return packet
