"""IPv6 packets: header, extension headers, checksum, selectors (RFC 8200; RFC 6275 sections 6.3, 6.4)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct
from typing import NamedTuple, Self

from mobility.wire.errors import WireError

HOP_BY_HOP = 0
IPV4 = 4
TCP = 6
UDP = 17
IPV6 = 41
ROUTING = 43
FRAGMENT = 44
ESP = 50
AH = 51
ICMPV6 = 58
NO_NEXT = 59
DEST_OPTIONS = 60
SCTP = 132
MOBILITY = 135
UDP_LITE = 136

HEADER_SIZE = 40
MINIMUM_MTU = 1280

PAD1 = 0
PADN = 1
ROUTER_ALERT = 5
HOME_ADDRESS = 201

Address = IPv6Address | bytes
"An address in a builder's argument: the value of engines, or the 16 bytes of the data path."

_HEADER = Struct("!IHBB16s16s")
_FLOW_PORTS = Struct("!HH")
_FRAGMENT = Struct("!BBHI")
_PSEUDO_TAIL = Struct("!II")
_LENGTH = Struct("!H")


def packed(address: Address) -> bytes:
    """The 16 bytes of an address. Raises `ValueError` when bytes of another length are given."""
    if isinstance(address, IPv6Address):
        return address.packed
    if len(address) != 16:
        raise ValueError(f"an IPv6 address has 16 bytes, not {len(address)}")
    return address


def header(
    source: Address,
    destination: Address,
    next_header: int,
    length: int,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """The 40 bytes of an IPv6 header; ``length`` is that of everything after it (RFC 8200 section 3)."""
    if length > 0xFFFF:
        raise ValueError(f"payload of {length} octets does not fit into one IPv6 packet (65535)")
    return _HEADER.pack(
        6 << 28 | (traffic_class & 0xFF) << 20 | flow_label & 0xFFFFF,
        length,
        next_header,
        hop_limit,
        packed(source),
        packed(destination),
    )


def packet(
    source: Address,
    destination: Address,
    next_header: int,
    payload: bytes,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """A whole IPv6 packet."""
    return header(source, destination, next_header, len(payload), hop_limit, traffic_class, flow_label) + payload


def fast_packet(addresses: bytes, next_header: int, payload: bytes, hop_limit: int = 64) -> bytes:
    """A whole packet without other checks, for the data path; ``addresses`` are source and destination, 32 bytes.

    Raises `WireError`: the payload is larger than 65535 octets.
    """
    if len(payload) > 0xFFFF:
        raise WireError("IPv6 packet", at=4, why=f"payload of {len(payload)} octets is too large")
    return b"\x60\0\0\0%b%c%c%b%b" % (_LENGTH.pack(len(payload)), next_header, hop_limit, addresses, payload)


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed header of a packet (RFC 8200 section 3)."""

    source: IPv6Address
    destination: IPv6Address
    next_header: int
    hop_limit: int
    length: int
    "Octets after this header."
    traffic_class: int = 0
    flow_label: int = 0

    @classmethod
    def parse(cls, packet: bytes) -> Self:
        """Raises `WireError` unless `check` accepts the packet."""
        check(packet)
        first, length, next_header, hop_limit, source, destination = _HEADER.unpack_from(packet)
        return cls(
            IPv6Address(source),
            IPv6Address(destination),
            next_header,
            hop_limit,
            length,
            first >> 20 & 0xFF,
            first & 0xFFFFF,
        )

    def __bytes__(self) -> bytes:
        return header(
            self.source,
            self.destination,
            self.next_header,
            self.length,
            self.hop_limit,
            self.traffic_class,
            self.flow_label,
        )


def parse(packet: bytes) -> Header:
    """The fixed header of a packet; raises `WireError` when `check` does."""
    return Header.parse(packet)


def check(packet: bytes) -> bytes:
    """The packet without what Ethernet padded it with. Raises `WireError`: wrong version, shorter than it claims."""
    size = len(packet)
    if size < HEADER_SIZE:
        raise WireError("IPv6 header", at=size, why=f"needs {HEADER_SIZE} octets")
    if packet[0] >> 4 != 6:
        raise WireError("IPv6 header", at=0, why=f"version is {packet[0] >> 4}, not 6")
    end = HEADER_SIZE + (packet[4] << 8 | packet[5])
    if size == end:
        return packet
    if size < end:
        raise WireError("IPv6 packet", at=size, why=f"claims {end} octets")
    return packet[:end]


def forwardable(address: bytes) -> bool:
    """Whether packets from or to this address may leave the link: not multicast, link-local, unspecified, loopback."""
    first = address[0]
    if first == 0xFF or (first == 0xFE and address[1] & 0xC0 == 0x80):
        return False
    return address[:15] != bytes(15) or address[15] > 1


def checksum(source: bytes, destination: bytes, next_header: int, payload: bytes) -> int:
    """The upper-layer checksum over pseudo header and payload (RFC 8200 section 8.1).

    Zero over a payload whose own checksum field is filled in means: it is right. A computed zero is returned as
    0xFFFF for UDP, which has no other way to say it.
    """
    size = len(payload)
    # Ones' complement addition of 16-bit words is arithmetic modulo 0xFFFF, which Python does for us in C.
    data = b"%b%b%b%b" % (source, destination, _PSEUDO_TAIL.pack(size, next_header), payload)
    total = int.from_bytes(data, "big") << 8 if size & 1 else int.from_bytes(data, "big")
    result = -total % 0xFFFF
    if result == 0 and next_header == UDP and payload[6:8] == b"\0\0":
        return 0xFFFF
    return result


class Fragment(NamedTuple):
    """A fragment header (RFC 8200 section 4.5)."""

    at: int
    "Offset of the fragment header in the packet."
    next_header: int
    offset: int
    "Octets."
    more: bool
    identification: int


class UnknownOption(NamedTuple):
    """An option that we do not know."""

    at: int
    "Offset of the option type in the packet: the pointer of a Parameter Problem."
    type: int

    @property
    def action(self) -> int:
        """What to do (RFC 8200 section 4.2).

        0 skip it, 1 discard the packet, 2 discard and report, 3 discard and report unless it was multicast.
        """
        return self.type >> 6


@dataclass(frozen=True, slots=True)
class Headers:
    """What a walk over the extension headers found. The walk ends at ESP, AH, or any upper-layer protocol."""

    protocol: int
    "Upper-layer protocol (or ESP, AH)."
    offset: int
    "Where its header begins."
    next_header_at: int
    "Offset of the octet that names ``protocol``."
    home_address: bytes | None = None
    "From the Home Address option (RFC 6275 section 6.3)."
    home_address_at: int | None = None
    "Offset of the option's type; the address lies two octets later."
    routing_address: bytes | None = None
    "From a type 2 routing header (RFC 6275 section 6.4)."
    routing_at: int | None = None
    "Offset of a type 2 routing header in the packet."
    segments_left: int = 0
    "Of the type 2 routing header."
    fragment: Fragment | None = None
    unknown_options: tuple[UnknownOption, ...] = ()
    "Options whose action is not to be skipped, and those we do not know, in order."
    unknown_routing_at: int | None = None
    "Offset of a routing header of another type with segments left: a Parameter Problem (RFC 8200 section 4.4)."
    router_alert: bool = False

    @property
    def later_fragment(self) -> bool:
        """Whether the packet is a fragment other than the first, so that ``offset`` holds no header."""
        return self.fragment is not None and self.fragment.offset > 0


def walk(packet: bytes) -> Headers:
    """Walks the extension headers of a packet. Raises `WireError`: truncated, nonsense."""
    if len(packet) < HEADER_SIZE:
        raise WireError("IPv6 header", at=len(packet), why=f"needs {HEADER_SIZE} octets")
    protocol = packet[6]
    named_at = 6
    at = HEADER_SIZE
    # Hot path: nothing to walk.
    if protocol not in _EXTENSIONS:
        return Headers(protocol, at, named_at)
    size = len(packet)
    home_at: int | None = None
    routing_at: int | None = None
    unknown_routing_at: int | None = None
    segments_left = 0
    fragment: Fragment | None = None
    unknown: list[UnknownOption] = []
    alert = False
    while protocol in _EXTENSIONS:
        if at + 8 > size:
            raise WireError("extension header", at=at, why=f"header {protocol} is cut off")
        if protocol == FRAGMENT:
            if fragment is not None:
                raise WireError("fragment header", at=at, why="a second one")
            following, _, bits, identification = _FRAGMENT.unpack_from(packet, at)
            fragment = Fragment(at, following, bits & 0xFFF8, bool(bits & 1), identification)
            protocol, named_at, at = following, at, at + 8
            if fragment.offset:
                break
            continue
        end = at + (packet[at + 1] + 1) * 8
        if end > size:
            raise WireError("extension header", at=at + 1, why=f"header {protocol} claims to end at {end} of {size}")
        if protocol == ROUTING:
            if packet[at + 2] == 2:
                if end - at != 24:
                    raise WireError("type 2 routing header", at=at + 1, why="length is not 2")
                if routing_at is not None:
                    raise WireError("type 2 routing header", at=at, why="a second one")
                if packet[at + 3] > 1:
                    raise WireError("type 2 routing header", at=at + 3, why="segments left is not 0 or 1")
                routing_at, segments_left = at, packet[at + 3]
            elif packet[at + 3] and unknown_routing_at is None:
                unknown_routing_at = at
        else:
            if protocol == HOP_BY_HOP and named_at != 6:
                raise WireError("hop-by-hop options", at=named_at, why="not right after the IPv6 header")
            option = at + 2
            while option < end:
                kind = packet[option]
                if kind == PAD1:
                    option += 1
                    continue
                if option + 2 > end or (following := option + 2 + packet[option + 1]) > end:
                    raise WireError("option", at=option, why=f"option {kind} is cut off")
                if kind == HOME_ADDRESS and protocol == DEST_OPTIONS:
                    if packet[option + 1] != 16:
                        raise WireError("home address option", at=option + 1, why="length is not 16")
                    if home_at is not None:
                        raise WireError("home address option", at=option, why="a second one")
                    home_at = option
                elif kind == ROUTER_ALERT and protocol == HOP_BY_HOP:
                    alert = True
                elif kind != PADN:
                    unknown.append(UnknownOption(option, kind))
                option = following
        protocol, named_at, at = packet[at], at, end
    return Headers(
        protocol,
        at,
        named_at,
        None if home_at is None else packet[home_at + 2 : home_at + 18],
        home_at,
        None if routing_at is None else packet[routing_at + 8 : routing_at + 24],
        routing_at,
        segments_left,
        fragment,
        tuple(unknown),
        unknown_routing_at,
        alert,
    )


_EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DEST_OPTIONS))


def home_address_option(home_address: Address, next_header: int) -> bytes:
    """A destination options header with a Home Address option, aligned 8n+6 (RFC 6275 section 6.3): 24 octets."""
    return b"%c\x02\x01\x02\0\0\xc9\x10%b" % (next_header, packed(home_address))


def routing_header(home_address: Address, next_header: int, segments_left: int = 1) -> bytes:
    """A type 2 routing header (RFC 6275 section 6.4): 24 octets."""
    return b"%c\x02\x02%c\0\0\0\0%b" % (next_header, segments_left, packed(home_address))


def insert(packet: bytes, headers: bytes, next_header: int) -> bytes:
    """Puts ready extension headers, the first named ``next_header``, right after the IPv6 header.

    The last of ``headers`` must name what the packet's IPv6 header named.
    """
    return b"%b%b%c%b%b%b" % (
        packet[:4],
        _LENGTH.pack(len(packet) - HEADER_SIZE + len(headers)),
        next_header,
        packet[7:HEADER_SIZE],
        headers,
        packet[HEADER_SIZE:],
    )


class Flow(NamedTuple):
    """What selectors look at (RFC 4301 section 4.4.1.1), in the direction of the packet.

    The addresses are the logical ones: home address option for source, type 2 routing header for destination.
    """

    source: bytes
    destination: bytes
    protocol: int
    source_port: int | None = None
    "None: the protocol has none, or the fragment does not hold it."
    destination_port: int | None = None
    type: int | None = None
    "ICMPv6 type, or mobility header type."
    code: int | None = None
    "ICMPv6 code."


def flow(packet: bytes, headers: Headers | None = None, *, swapped: bool = True) -> Flow:
    """The selectors of a packet. Raises `WireError` when the upper-layer header is cut off.

    ``swapped``: home addresses of options and routing headers count, as at the ends of a packet's way; False: the
    addresses of the header do, as where it goes through a tunnel.
    """
    if headers is None:
        headers = walk(packet)
    source, destination = packet[8:24], packet[24:40]
    if swapped:
        source = headers.home_address or source
        # With no segments left the addresses have been swapped already: the header holds the home address.
        if headers.segments_left and headers.routing_address is not None:
            destination = headers.routing_address
    protocol, at = headers.protocol, headers.offset
    if headers.later_fragment:
        return Flow(source, destination, protocol)
    if protocol in _WITH_PORTS:
        if len(packet) < at + 4:
            raise WireError("ports", at=len(packet), why=f"header {protocol} at {at} is cut off")
        source_port, destination_port = _FLOW_PORTS.unpack_from(packet, at)
        return Flow(source, destination, protocol, source_port, destination_port)
    if protocol == ICMPV6:
        if len(packet) < at + 4:
            raise WireError("ICMPv6", at=len(packet), why=f"header at {at} is cut off")
        return Flow(source, destination, protocol, type=packet[at], code=packet[at + 1])
    if protocol == MOBILITY:
        if len(packet) < at + 6:
            raise WireError("mobility header", at=len(packet), why=f"header at {at} is cut off")
        return Flow(source, destination, protocol, type=packet[at + 2])
    return Flow(source, destination, protocol)


_WITH_PORTS = frozenset((TCP, UDP, SCTP, UDP_LITE))
