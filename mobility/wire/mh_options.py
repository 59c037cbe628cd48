"""The options of the mobility header (RFC 6275 section 6.2, RFC 5094)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
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
    | VendorSpecific
    | UnknownMobilityOption
)

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
                case 2:
                    options.append(BindingRefreshAdvice.parse(value))
                case 3:
                    options.append(AlternateCareOfAddress.parse(value))
                case 4:
                    options.append(NonceIndices.parse(value))
                case 5:
                    options.append(BindingAuthorizationData.parse(value))
                case 19:
                    options.append(VendorSpecific.parse(value))
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
