"""The options of the mobility header (RFC 6275 section 6.2, 3963 4.3, 5094, 5555 section 3.1, 5648 section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from struct import Struct
from typing import ClassVar, Self

from mobility.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class BindingRefreshAdvice:
    """RFC 6275 section 6.2.4."""

    kind: ClassVar[int] = 2
    align: ClassVar[tuple[int, int]] = (2, 0)

    interval: int
    "Seconds; the wire counts units of four, rounded down."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 2, "binding refresh advice")
        return cls(int.from_bytes(data, "big") * 4)

    def __bytes__(self) -> bytes:
        return units(self.interval).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class AlternateCareOfAddress:
    """RFC 6275 section 6.2.5."""

    kind: ClassVar[int] = 3
    align: ClassVar[tuple[int, int]] = (8, 6)

    address: IPv6Address

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 16, "alternate care-of address")
        return cls(IPv6Address(data))

    def __bytes__(self) -> bytes:
        return self.address.packed


@dataclass(frozen=True, slots=True)
class NonceIndices:
    """RFC 6275 section 6.2.6."""

    kind: ClassVar[int] = 4
    align: ClassVar[tuple[int, int]] = (2, 0)

    home: int
    care_of: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 4, "nonce indices")
        return cls(*_HH.unpack(data))

    def __bytes__(self) -> bytes:
        return _HH.pack(self.home, self.care_of)


@dataclass(frozen=True, slots=True)
class BindingAuthorizationData:
    """RFC 6275 section 6.2.7; must be the last option."""

    kind: ClassVar[int] = 5
    align: ClassVar[tuple[int, int]] = (8, 2)

    authenticator: bytes
    "96 bits."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 12, "binding authorization data")
        return cls(data)

    def __bytes__(self) -> bytes:
        if len(self.authenticator) != 12:
            raise ValueError(f"an authenticator has 12 octets, not {len(self.authenticator)}")
        return self.authenticator


@dataclass(frozen=True, slots=True)
class MobileNetworkPrefix:
    """RFC 3963 section 4.3: a prefix that a mobile router takes with it."""

    kind: ClassVar[int] = 6
    align: ClassVar[tuple[int, int]] = (8, 4)

    prefix: IPv6Address
    length: int
    "0 to 255: what makes no sense is parsed as well, because its sender is told so (status 141)."

    @classmethod
    def of(cls, network: IPv6Network) -> Self:
        """The option for a prefix."""
        return cls(network.network_address, network.prefixlen)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 18, "mobile network prefix")
        return cls(IPv6Address(data[2:]), data[1])

    def __bytes__(self) -> bytes:
        return b"\0%c%b" % (self.length, self.prefix.packed)

    @property
    def network(self) -> IPv6Network | None:
        """The prefix; None: there is no such length, or bits are set behind it."""
        try:
            return IPv6Network((self.prefix, self.length))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class VendorSpecific:
    """RFC 5094 section 3. Whoever does not know vendor and sub-type skips it."""

    kind: ClassVar[int] = 19
    align: ClassVar[tuple[int, int]] = (4, 2)

    vendor: int
    "Private enterprise number."
    subtype: int
    data: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) < 5:
            raise WireError("vendor specific option", at=0, why=f"needs 5 octets, has {len(data)}")
        return cls(int.from_bytes(data[:4]), data[4], data[5:])

    def __bytes__(self) -> bytes:
        return b"%b%c%b" % (self.vendor.to_bytes(4), self.subtype, self.data)


@dataclass(frozen=True, slots=True)
class IPv4HomeAddress:
    """RFC 5555 section 3.1.1; 0.0.0.0 asks the home agent for an address."""

    kind: ClassVar[int] = 29
    align: ClassVar[tuple[int, int]] = (4, 0)

    address: IPv4Address
    prefix_length: int = 32

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 6, "IPv4 home address")
        return cls(IPv4Address(data[2:]), data[0] >> 2)

    def __bytes__(self) -> bytes:
        return b"%c\0%b" % (self.prefix_length << 2, self.address.packed)


@dataclass(frozen=True, slots=True)
class IPv4AddressAcknowledgement:
    """RFC 5555 section 3.2.1; a status of 128 or more is a refusal."""

    kind: ClassVar[int] = 30
    align: ClassVar[tuple[int, int]] = (4, 0)

    status: int
    address: IPv4Address
    prefix_length: int = 32

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 6, "IPv4 address acknowledgement")
        return cls(data[0], IPv4Address(data[2:]), data[1] >> 2)

    def __bytes__(self) -> bytes:
        return b"%c%c%b" % (self.status, self.prefix_length << 2, self.address.packed)


@dataclass(frozen=True, slots=True)
class NatDetection:
    """RFC 5555 section 3.2.2: there is a NAT between terminal and home agent (or UDP is forced)."""

    kind: ClassVar[int] = 31
    align: ClassVar[tuple[int, int]] = (4, 0)

    refresh_time: int
    "Seconds between packets that keep the NAT's mapping; 0xFFFFFFFF: the terminal's own choice."
    forced: bool = False
    "The F flag: UDP encapsulation is to be used although no NAT was found."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 6, "NAT detection")
        return cls(int.from_bytes(data[2:]), bool(data[0] & 0x80))

    def __bytes__(self) -> bytes:
        return b"%c\0%b" % (0x80 if self.forced else 0, self.refresh_time.to_bytes(4))


@dataclass(frozen=True, slots=True)
class IPv4CareOfAddress:
    """RFC 5555 section 3.1.2: the terminal's own idea of its address, which a NAT may replace on the way."""

    kind: ClassVar[int] = 32
    align: ClassVar[tuple[int, int]] = (4, 0)

    address: IPv4Address

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _exactly(data, 6, "IPv4 care-of address")
        return cls(IPv4Address(data[2:]))

    def __bytes__(self) -> bytes:
        return b"\0\0" + self.address.packed


@dataclass(frozen=True, slots=True)
class BindingIdentifier:
    """RFC 5648 section 4.2: which of several bindings of one home address a message is about."""

    kind: ClassVar[int] = 35
    align: ClassVar[tuple[int, int]] = (8, 2)

    identifier: int
    "1 to 65535."
    status: int = 0
    "In acknowledgements; 0: that of the message."
    simultaneous_home: bool = False
    "The H flag."
    care_of_address: IPv6Address | IPv4Address | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) not in (4, 8, 20):
            raise WireError("binding identifier", at=0, why=f"has 4, 8 or 20 octets, not {len(data)}")
        address = None if len(data) == 4 else IPv4Address(data[4:]) if len(data) == 8 else IPv6Address(data[4:])
        return cls(int.from_bytes(data[:2]), data[2], bool(data[3] & 0x80), address)

    def __bytes__(self) -> bytes:
        address = b"" if self.care_of_address is None else self.care_of_address.packed
        return b"%b%c%c%b" % (
            self.identifier.to_bytes(2),
            self.status,
            0x80 if self.simultaneous_home else 0,
            address,
        )


@dataclass(frozen=True, slots=True)
class UnknownMobilityOption:
    """An option that a receiver skips (RFC 6275 section 6.2.1)."""

    align: ClassVar[tuple[int, int]] = (1, 0)

    kind: int
    data: bytes

    def __bytes__(self) -> bytes:
        return self.data


Option = (
    BindingRefreshAdvice
    | AlternateCareOfAddress
    | NonceIndices
    | BindingAuthorizationData
    | MobileNetworkPrefix
    | VendorSpecific
    | IPv4HomeAddress
    | IPv4AddressAcknowledgement
    | NatDetection
    | IPv4CareOfAddress
    | BindingIdentifier
    | UnknownMobilityOption
)

_KNOWN = {
    known.kind: known
    for known in (
        BindingRefreshAdvice,
        AlternateCareOfAddress,
        NonceIndices,
        BindingAuthorizationData,
        MobileNetworkPrefix,
        VendorSpecific,
        IPv4HomeAddress,
        IPv4AddressAcknowledgement,
        NatDetection,
        IPv4CareOfAddress,
        BindingIdentifier,
    )
}
_HH = Struct("!HH")
_PAD1 = 0
_PADN = 1


def append_options(out: bytearray, options: tuple[Option, ...]) -> None:
    """Add the options to a header, each aligned as it wants, and pad to eight octets (RFC 6275 section 6.2)."""
    for option in options:
        modulus, rest = option.align
        out += _padding((rest - len(out)) % modulus)
        data = bytes(option)
        out += b"%c%c%b" % (option.kind, len(data), data)
    out += _padding(-len(out) % 8)


def parse_options(data: bytes, at: int) -> tuple[Option, ...]:
    """The options from octet ``at`` to the end of a header. Raises `WireError`."""
    options: list[Option] = []
    size = len(data)
    while at < size:
        kind = data[at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > size or (end := at + 2 + data[at + 1]) > size:
            raise WireError("mobility option", at=at, why=f"option {kind} is cut off")
        value = data[at + 2 : end]
        try:
            match kind:
                case 1:
                    pass
                case _ if kind in _KNOWN:
                    options.append(_KNOWN[kind].parse(value))
                case _:
                    options.append(UnknownMobilityOption(kind, value))
        except WireError as error:
            raise WireError(error.what, at=at + 1, why=error.why) from None
        at = end
    return tuple(options)


def _padding(size: int) -> bytes:
    if size == 0:
        return b""
    return b"\0" if size == 1 else b"%c%c%b" % (_PADN, size - 2, bytes(size - 2))


def _exactly(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise WireError(what, at=0, why=f"needs {size} octets, has {len(data)}")


def units(seconds: int) -> int:
    """Seconds as the wire counts them, in fours, rounded down."""
    return min(seconds // 4, 0xFFFF)
