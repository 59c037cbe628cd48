"""Neighbour discovery messages (RFC 4861; preference RFC 4191; mobility options RFC 6275 section 7, RFC 5380)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar, Self

from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError
from mobility.wire.map_option import MapOption as MapOption

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
NEIGHBOR_SOLICITATION = 135
NEIGHBOR_ADVERTISEMENT = 136

ALL_NODES = IPv6Address("ff02::1")
ALL_ROUTERS = IPv6Address("ff02::2")
UNSPECIFIED = IPv6Address("::")

HOP_LIMIT = 255
"Proof that no router forwarded the packet."

INFINITE = 0xFFFFFFFF
"A lifetime in a prefix that never ends."


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group that the owner of an address listens to (RFC 4291 section 2.7.1)."""
    return IPv6Address(_SOLICITED + address.packed[13:])


def ethernet_multicast(group: bytes) -> bytes:
    """The Ethernet address of a multicast group (RFC 2464 section 7)."""
    return b"\x33\x33" + group[12:16]


# ---------------------------------------------------------------- options


@dataclass(frozen=True, slots=True)
class SourceLinkAddress:
    """RFC 4861 section 4.6.1."""

    kind: ClassVar[int] = 1

    address: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(body)

    def __bytes__(self) -> bytes:
        return self.address


@dataclass(frozen=True, slots=True)
class TargetLinkAddress:
    """RFC 4861 section 4.6.1."""

    kind: ClassVar[int] = 2

    address: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(body)

    def __bytes__(self) -> bytes:
        return self.address


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """RFC 4861 section 4.6.2, with the R bit of RFC 6275 section 7.2."""

    kind: ClassVar[int] = 3

    prefix: IPv6Address
    "With the R bit: a whole address of the router."
    length: int
    valid_lifetime: int
    "Seconds; `INFINITE` never ends."
    preferred_lifetime: int
    on_link: bool = True
    autonomous: bool = True
    router_address: bool = False

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _exactly(body, 30, "prefix information")
        length, flags, valid, preferred, _, prefix = _PREFIX.unpack(body)
        if length > 128:
            raise WireError("prefix information", at=0, why=f"prefix length is {length}")
        return cls(
            IPv6Address(prefix),
            length,
            valid,
            preferred,
            bool(flags & 0x80),
            bool(flags & 0x40),
            bool(flags & 0x20),
        )

    def __bytes__(self) -> bytes:
        flags = self.on_link << 7 | self.autonomous << 6 | self.router_address << 5
        return _PREFIX.pack(self.length, flags, self.valid_lifetime, self.preferred_lifetime, 0, self.prefix.packed)


@dataclass(frozen=True, slots=True)
class Mtu:
    """RFC 4861 section 4.6.4."""

    kind: ClassVar[int] = 5

    mtu: int
    "Octets."

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _exactly(body, 6, "MTU")
        return cls(int.from_bytes(body[2:], "big"))

    def __bytes__(self) -> bytes:
        return b"\0\0" + self.mtu.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class AdvertisementInterval:
    """RFC 6275 section 7.3."""

    kind: ClassVar[int] = 7

    interval: int
    "Milliseconds."

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _exactly(body, 6, "advertisement interval")
        return cls(int.from_bytes(body[2:], "big"))

    def __bytes__(self) -> bytes:
        return b"\0\0" + self.interval.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class HomeAgentInformation:
    """RFC 6275 section 7.4, RFC 3963 section 7.3."""

    kind: ClassVar[int] = 8

    preference: int
    lifetime: int
    "Seconds."
    router: bool = False
    "The R flag: it serves mobile routers."

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _exactly(body, 6, "home agent information")
        flags, preference, lifetime = _AGENT.unpack(body)
        return cls(preference, lifetime, bool(flags & 0x8000))

    def __bytes__(self) -> bytes:
        return _AGENT.pack(0x8000 if self.router else 0, self.preference, self.lifetime)


@dataclass(frozen=True, slots=True)
class Nonce:
    """RFC 3971 section 5.3.2; enhanced DAD (RFC 7527) tells our own looped-back probe from a stranger's by it."""

    kind: ClassVar[int] = 14

    value: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(body)

    def __bytes__(self) -> bytes:
        return self.value


@dataclass(frozen=True, slots=True)
class UnknownNeighborOption:
    """Skipped by receivers (RFC 4861 section 4.6)."""

    kind: int
    body: bytes
    "After type and length."

    def __bytes__(self) -> bytes:
        return self.body


Option = (
    SourceLinkAddress
    | TargetLinkAddress
    | PrefixInformation
    | Mtu
    | AdvertisementInterval
    | HomeAgentInformation
    | Nonce
    | MapOption
    | UnknownNeighborOption
)


# ---------------------------------------------------------------- messages


class Preference(IntEnum):
    """Of a router (RFC 4191 section 2.1); the reserved value reads as MEDIUM."""

    MEDIUM = 0
    HIGH = 1
    LOW = 3


@dataclass(frozen=True, slots=True)
class RouterSolicitation:
    """RFC 4861 section 4.1."""

    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, ROUTER_SOLICITATION, 8, "router solicitation")
        return cls(parse_options(data, 8))

    def __bytes__(self) -> bytes:
        return b"%c\0\0\0\0\0\0\0%b" % (ROUTER_SOLICITATION, build_options(self.options))


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """RFC 4861 section 4.2; H flag RFC 6275 section 7.1; preference RFC 4191."""

    router_lifetime: int
    "Seconds; 0: not a default router."
    hop_limit: int = 0
    "0: unspecified."
    managed: bool = False
    other: bool = False
    home_agent: bool = False
    preference: Preference = Preference.MEDIUM
    reachable_time: int = 0
    "Milliseconds; 0: unspecified."
    retransmission_time: int = 0
    "Milliseconds; 0: unspecified."
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, ROUTER_ADVERTISEMENT, 16, "router advertisement")
        hop_limit, flags, lifetime, reachable, retransmission = _RA.unpack_from(data, 4)
        preference = flags >> 3 & 3
        return cls(
            lifetime,
            hop_limit,
            bool(flags & 0x80),
            bool(flags & 0x40),
            bool(flags & 0x20),
            Preference.MEDIUM if preference == 2 else Preference(preference),
            reachable,
            retransmission,
            parse_options(data, 16),
        )

    def __bytes__(self) -> bytes:
        flags = self.managed << 7 | self.other << 6 | self.home_agent << 5 | self.preference << 3
        fixed = _RA.pack(self.hop_limit, flags, self.router_lifetime, self.reachable_time, self.retransmission_time)
        return b"%c\0\0\0%b%b" % (ROUTER_ADVERTISEMENT, fixed, build_options(self.options))

    @property
    def prefixes(self) -> tuple[PrefixInformation, ...]:
        return tuple(o for o in self.options if isinstance(o, PrefixInformation))


@dataclass(frozen=True, slots=True)
class NeighborSolicitation:
    """RFC 4861 section 4.3."""

    target: IPv6Address
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, NEIGHBOR_SOLICITATION, 24, "neighbor solicitation")
        return cls(_target(data, "neighbor solicitation"), parse_options(data, 24))

    def __bytes__(self) -> bytes:
        return b"%c\0\0\0\0\0\0\0%b%b" % (
            NEIGHBOR_SOLICITATION,
            self.target.packed,
            build_options(self.options),
        )


@dataclass(frozen=True, slots=True)
class NeighborAdvertisement:
    """RFC 4861 section 4.4."""

    target: IPv6Address
    router: bool = False
    solicited: bool = False
    override: bool = False
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, NEIGHBOR_ADVERTISEMENT, 24, "neighbor advertisement")
        flags = data[4]
        return cls(
            _target(data, "neighbor advertisement"),
            bool(flags & 0x80),
            bool(flags & 0x40),
            bool(flags & 0x20),
            parse_options(data, 24),
        )

    def __bytes__(self) -> bytes:
        flags = self.router << 7 | self.solicited << 6 | self.override << 5
        return b"%c\0\0\0%c\0\0\0%b%b" % (
            NEIGHBOR_ADVERTISEMENT,
            flags,
            self.target.packed,
            build_options(self.options),
        )


Message = RouterSolicitation | RouterAdvertisement | NeighborSolicitation | NeighborAdvertisement


def link_address(message: Message) -> bytes | None:
    """The six octets of the link-layer address option that belongs to the message, or None."""
    wanted = TargetLinkAddress if isinstance(message, NeighborAdvertisement) else SourceLinkAddress
    return next((o.address[:6] for o in message.options if isinstance(o, wanted)), None)


def parse(packet: bytes, offset: int = ip6.HEADER_SIZE) -> Message:
    """The message in a whole packet (``offset``: where ICMPv6 begins), fully validated. Raises `WireError`.

    Validity: hop limit, checksum, code, sizes, options, addresses (RFC 4861 sections 6.1, 7.1).
    """
    if len(packet) < ip6.HEADER_SIZE:
        raise WireError("IPv6 header", at=len(packet), why=f"needs {ip6.HEADER_SIZE} octets")
    data = packet[offset:]
    if packet[7] != HOP_LIMIT:
        raise WireError("neighbour discovery", at=7, why=f"hop limit is {packet[7]}: came through a router")
    icmp6.verify(packet[8:24], packet[24:40], data)
    if data[1] != 0:
        raise WireError("neighbour discovery", at=offset + 1, why=f"code is {data[1]}")
    source, destination = packet[8:24], packet[24:40]
    from_nobody = source == bytes(16)
    message: Message
    match data[0]:
        case 133:
            message = RouterSolicitation.parse(data)
            if from_nobody and link_address(message) is not None:
                raise WireError("router solicitation", at=8, why="link-layer address but no source address")
        case 134:
            message = RouterAdvertisement.parse(data)
            if source[0] != 0xFE or source[1] & 0xC0 != 0x80:
                raise WireError("router advertisement", at=8, why="source is not a link-local address")
        case 135:
            message = NeighborSolicitation.parse(data)
            if from_nobody and destination[:13] != _SOLICITED:
                raise WireError("neighbor solicitation", at=24, why="probe not sent to a solicited-node address")
            if from_nobody and link_address(message) is not None:
                raise WireError("neighbor solicitation", at=8, why="link-layer address but no source address")
        case 136:
            message = NeighborAdvertisement.parse(data)
            if destination[0] == 0xFF and message.solicited:
                raise WireError("neighbor advertisement", at=offset + 4, why="solicited, but sent to a group")
        case other:
            raise WireError("neighbour discovery", at=offset, why=f"ICMPv6 type {other}")
    return message


def packet(source: ip6.Address, destination: ip6.Address, message: Message) -> bytes:
    """A whole IPv6 packet with the message, hop limit 255."""
    return icmp6.packet(source, destination, message, HOP_LIMIT)


# ---------------------------------------------------------------- inside

_SOLICITED = IPv6Address("ff02::1:ff00:0").packed[:13]
_PREFIX = Struct("!BBIII16s")
_AGENT = Struct("!HHH")
_RA = Struct("!BBHII")


def _open(data: bytes, kind: int, fixed: int, what: str) -> None:
    if len(data) < fixed:
        raise WireError(what, at=len(data), why=f"needs {fixed} octets")
    if data[0] != kind:
        raise WireError(what, at=0, why=f"ICMPv6 type is {data[0]}, not {kind}")


def _target(data: bytes, what: str) -> IPv6Address:
    if data[8] == 0xFF:
        raise WireError(what, at=8, why="target is a multicast address")
    return IPv6Address(data[8:24])


def build_options(options: tuple[Option, ...]) -> bytes:
    """The options behind each other, each padded to a multiple of 8 octets (RFC 4861 section 4.6)."""
    out = b""
    for option in options:
        body = bytes(option)
        body += bytes(-(len(body) + 2) % 8)
        out += b"%c%c%b" % (option.kind, (len(body) + 2) // 8, body)
    return out


def parse_options(data: bytes, at: int) -> tuple[Option, ...]:
    """The options of a message from ``at`` to its end. Raises `WireError`."""
    options: list[Option] = []
    size = len(data)
    while at < size:
        if at + 2 > size:
            raise WireError("neighbour discovery option", at=at, why="cut off")
        kind, units = data[at], data[at + 1]
        end = at + units * 8
        if units == 0:
            raise WireError("neighbour discovery option", at=at + 1, why=f"option {kind} has length 0")
        if end > size:
            raise WireError("neighbour discovery option", at=at + 1, why=f"option {kind} claims to end at {end}")
        body = data[at + 2 : end]
        try:
            known = _PARSERS.get(kind)
            options.append(UnknownNeighborOption(kind, body) if known is None else known(body))
        except WireError as error:
            raise WireError(error.what, at=at, why=error.why) from None
        at = end
    return tuple(options)


_PARSERS: dict[int, Callable[[bytes], Option]] = {
    SourceLinkAddress.kind: SourceLinkAddress.parse,
    TargetLinkAddress.kind: TargetLinkAddress.parse,
    PrefixInformation.kind: PrefixInformation.parse,
    Mtu.kind: Mtu.parse,
    AdvertisementInterval.kind: AdvertisementInterval.parse,
    HomeAgentInformation.kind: HomeAgentInformation.parse,
    Nonce.kind: Nonce.parse,
    MapOption.kind: MapOption.parse,
}


def _exactly(body: bytes, size: int, what: str) -> None:
    if len(body) != size:
        raise WireError(what, at=1, why=f"needs {size} octets after type and length, has {len(body)}")
