"""The mobility header and its messages (RFC 6275 section 6.1); the options are in `mh_options` and named here too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar, Self

from mobility.wire import ip6
from mobility.wire.errors import WireError
from mobility.wire.mh_options import AlternateCareOfAddress as AlternateCareOfAddress
from mobility.wire.mh_options import BindingAuthorizationData as BindingAuthorizationData
from mobility.wire.mh_options import BindingIdentifier as BindingIdentifier
from mobility.wire.mh_options import BindingRefreshAdvice as BindingRefreshAdvice
from mobility.wire.mh_options import IPv4AddressAcknowledgement as IPv4AddressAcknowledgement
from mobility.wire.mh_options import IPv4CareOfAddress as IPv4CareOfAddress
from mobility.wire.mh_options import IPv4HomeAddress as IPv4HomeAddress
from mobility.wire.mh_options import MobileNetworkPrefix as MobileNetworkPrefix
from mobility.wire.mh_options import NatDetection as NatDetection
from mobility.wire.mh_options import NonceIndices as NonceIndices
from mobility.wire.mh_options import Option as Option
from mobility.wire.mh_options import UnknownMobilityOption as UnknownMobilityOption
from mobility.wire.mh_options import VendorSpecific as VendorSpecific
from mobility.wire.mh_options import append_options, parse_options, units


class Type(IntEnum):
    """MH Type (RFC 6275 section 6.1.1)."""

    BINDING_REFRESH_REQUEST = 0
    HOME_TEST_INIT = 1
    CARE_OF_TEST_INIT = 2
    HOME_TEST = 3
    CARE_OF_TEST = 4
    BINDING_UPDATE = 5
    BINDING_ACKNOWLEDGEMENT = 6
    BINDING_ERROR = 7


class Status(IntEnum):
    """Of a binding acknowledgement; 128 and above are refusals (RFC 6275 section 6.1.8, 3963, 5648, 5555)."""

    ACCEPTED = 0
    ACCEPTED_PREFIX_DISCOVERY = 1
    "Accepted, but prefix discovery is necessary."
    REASON_UNSPECIFIED = 128
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    HOME_REGISTRATION_NOT_SUPPORTED = 131
    NOT_HOME_SUBNET = 132
    NOT_HOME_AGENT = 133
    "Not home agent for this mobile node."
    DAD_FAILED = 134
    "Duplicate address detection failed."
    SEQUENCE_OUT_OF_WINDOW = 135
    EXPIRED_HOME_NONCE_INDEX = 136
    EXPIRED_CARE_OF_NONCE_INDEX = 137
    EXPIRED_NONCES = 138
    REGISTRATION_TYPE_CHANGE = 139
    "Registration type change disallowed."
    MOBILE_ROUTER_NOT_PERMITTED = 140
    "Mobile router operation not permitted (RFC 3963 section 4.2, likewise the next three)."
    INVALID_PREFIX = 141
    NOT_AUTHORIZED_FOR_PREFIX = 142
    FORWARDING_SETUP_FAILED = 143
    "Prefixes missing: none in the update, and the home agent knows none."
    MCOA_MALFORMED = 164
    "The binding identifier option makes no sense (RFC 5648 section 4.4, likewise the next three)."
    MCOA_NON_MCOA_BINDING_EXISTS = 165
    MCOA_PROHIBITED = 166
    MCOA_UNKNOWN_COA = 167
    "There is no binding with this identifier."
    MCOA_BULK_REGISTRATION_PROHIBITED = 168
    MCOA_SIMULTANEOUS_HOME_AND_FOREIGN_PROHIBITED = 169
    NOT_AUTHORIZED_FOR_IPV4_MOBILITY = 170
    "RFC 5555 section 3.3."
    INVALID_CARE_OF_ADDRESS = 174


class ErrorStatus(IntEnum):
    """Of a binding error (RFC 6275 section 6.1.9)."""

    UNKNOWN_BINDING = 1
    "Unknown binding for the Home Address destination option."
    UNRECOGNIZED_TYPE = 2
    "Unrecognized MH Type value."


class UpdateFlag(IntFlag):
    """Of a binding update (RFC 6275 section 6.1.7, RFC 5380, 3963, 5213)."""

    ACKNOWLEDGE = 0x8000
    HOME_REGISTRATION = 0x4000
    LINK_LOCAL = 0x2000
    "Link-local address compatibility."
    KEY_MANAGEMENT = 0x1000
    "Key management mobility capability."
    MAP_REGISTRATION = 0x0800
    MOBILE_ROUTER = 0x0400
    PROXY = 0x0200
    FORCE_UDP = 0x0100
    "Forcing UDP encapsulation (RFC 5555 section 3.1.3)."


class AckFlag(IntFlag):
    """Of a binding acknowledgement (RFC 6275 section 6.1.8, RFC 3963, 5213)."""

    KEY_MANAGEMENT = 0x80
    MOBILE_ROUTER = 0x40
    PROXY = 0x20


NO_FLAGS = AckFlag(0)


# ---------------------------------------------------------------- messages (section 6.1)


@dataclass(frozen=True, slots=True)
class BindingRefreshRequest:
    """RFC 6275 section 6.1.2."""

    type: ClassVar[int] = Type.BINDING_REFRESH_REQUEST

    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 8, "binding refresh request")
        return cls(parse_options(data, 8))

    def __bytes__(self) -> bytes:
        return _message(self.type, b"\0\0", self.options)


@dataclass(frozen=True, slots=True)
class _TestInit:
    """What the two messages that begin return routability share."""

    type: ClassVar[int]

    cookie: bytes
    "Init cookie, 8 octets."
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 16, "test init")
        return cls(data[8:16], parse_options(data, 16))

    def __bytes__(self) -> bytes:
        return _message(self.type, b"\0\0" + _octets(self.cookie, "cookie"), self.options)


@dataclass(frozen=True, slots=True)
class HomeTestInit(_TestInit):
    """RFC 6275 section 6.1.3."""

    type: ClassVar[int] = Type.HOME_TEST_INIT


@dataclass(frozen=True, slots=True)
class CareOfTestInit(_TestInit):
    """RFC 6275 section 6.1.4."""

    type: ClassVar[int] = Type.CARE_OF_TEST_INIT


@dataclass(frozen=True, slots=True)
class _Test:
    """What the two messages that answer share."""

    type: ClassVar[int]

    nonce_index: int
    cookie: bytes
    "That of the init message."
    token: bytes
    "Keygen token, 8 octets."
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 24, "test")
        return cls(int.from_bytes(data[6:8], "big"), data[8:16], data[16:24], parse_options(data, 24))

    def __bytes__(self) -> bytes:
        body = self.nonce_index.to_bytes(2, "big") + _octets(self.cookie, "cookie") + _octets(self.token, "token")
        return _message(self.type, body, self.options)


@dataclass(frozen=True, slots=True)
class HomeTest(_Test):
    """RFC 6275 section 6.1.5."""

    type: ClassVar[int] = Type.HOME_TEST


@dataclass(frozen=True, slots=True)
class CareOfTest(_Test):
    """RFC 6275 section 6.1.6."""

    type: ClassVar[int] = Type.CARE_OF_TEST


@dataclass(frozen=True, slots=True)
class BindingUpdate:
    """RFC 6275 section 6.1.7."""

    type: ClassVar[int] = Type.BINDING_UPDATE

    sequence: int
    flags: UpdateFlag
    lifetime: int
    "Seconds; the wire counts units of four, rounded down (so 1 to 3 would deregister)."
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 12, "binding update")
        sequence, flags, units = _HHH.unpack_from(data, 6)
        return cls(sequence, UpdateFlag(flags & _UPDATE_FLAGS), units * 4, parse_options(data, 12))

    def __bytes__(self) -> bytes:
        return _message(self.type, _HHH.pack(self.sequence, self.flags, units(self.lifetime)), self.options)

    @property
    def alternate_care_of(self) -> IPv6Address | None:
        """The address in an Alternate Care-of Address option, if there is one."""
        return next((o.address for o in self.options if isinstance(o, AlternateCareOfAddress)), None)


@dataclass(frozen=True, slots=True)
class BindingAcknowledgement:
    """RFC 6275 section 6.1.8."""

    type: ClassVar[int] = Type.BINDING_ACKNOWLEDGEMENT

    status: int
    "A `Status`, or a number from a later document."
    sequence: int
    lifetime: int
    "Seconds; the wire counts units of four, rounded down."
    flags: AckFlag = NO_FLAGS
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 12, "binding acknowledgement")
        status, flags, sequence, units = _BBHH.unpack_from(data, 6)
        return cls(status, sequence, units * 4, AckFlag(flags & _ACK_FLAGS), parse_options(data, 12))

    def __bytes__(self) -> bytes:
        body = _BBHH.pack(self.status, self.flags, self.sequence, units(self.lifetime))
        return _message(self.type, body, self.options)

    @property
    def accepted(self) -> bool:
        return self.status < 128

    @property
    def refresh_interval(self) -> int | None:
        """Seconds, from a Binding Refresh Advice option, if there is one."""
        return next((o.interval for o in self.options if isinstance(o, BindingRefreshAdvice)), None)


@dataclass(frozen=True, slots=True)
class BindingError:
    """RFC 6275 section 6.1.9."""

    type: ClassVar[int] = Type.BINDING_ERROR

    status: int
    "An `ErrorStatus`, or a number from a later document."
    home_address: IPv6Address
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _open(data, cls.type, 24, "binding error")
        return cls(data[6], IPv6Address(data[8:24]), parse_options(data, 24))

    def __bytes__(self) -> bytes:
        return _message(self.type, b"%c\0%b" % (self.status, self.home_address.packed), self.options)


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """An MH type that we do not know: answered with a binding error (RFC 6275 section 9.2)."""

    type: int
    body: bytes
    "After the checksum."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _frame(data)
        return cls(data[2], data[6:])

    def __bytes__(self) -> bytes:
        return _message(self.type, self.body, ())


Message = (
    BindingRefreshRequest
    | HomeTestInit
    | CareOfTestInit
    | HomeTest
    | CareOfTest
    | BindingUpdate
    | BindingAcknowledgement
    | BindingError
    | UnknownMessage
)

_PARSERS: dict[int, Callable[[bytes], Message]] = {
    Type.BINDING_REFRESH_REQUEST: BindingRefreshRequest.parse,
    Type.HOME_TEST_INIT: HomeTestInit.parse,
    Type.CARE_OF_TEST_INIT: CareOfTestInit.parse,
    Type.HOME_TEST: HomeTest.parse,
    Type.CARE_OF_TEST: CareOfTest.parse,
    Type.BINDING_UPDATE: BindingUpdate.parse,
    Type.BINDING_ACKNOWLEDGEMENT: BindingAcknowledgement.parse,
    Type.BINDING_ERROR: BindingError.parse,
}


def parse(data: bytes, source: ip6.Address, destination: ip6.Address) -> Message:
    """The message in a mobility header, checksum verified. Raises `WireError`.

    The addresses are those of the pseudo header: the home address where a Home Address option or a type 2
    routing header carries it (RFC 6275 section 6.1.1).
    """
    _frame(data)
    if ip6.checksum(ip6.packed(source), ip6.packed(destination), ip6.MOBILITY, data):
        raise WireError("mobility header", at=4, why="wrong checksum")
    return _PARSERS.get(data[2], UnknownMessage.parse)(data)


def payload(message: Message, source: ip6.Address, destination: ip6.Address) -> bytes:
    """The mobility header with its checksum; addresses as in `parse`."""
    data = bytes(message)
    value = ip6.checksum(ip6.packed(source), ip6.packed(destination), ip6.MOBILITY, data)
    return b"%b%b%b" % (data[:4], value.to_bytes(2, "big"), data[6:])


# ---------------------------------------------------------------- inside

_HHH = Struct("!HHH")
_BBHH = Struct("!BBHH")
_UPDATE_FLAGS = sum(UpdateFlag)
_ACK_FLAGS = sum(AckFlag)


def _frame(data: bytes) -> None:
    if len(data) < 8:
        raise WireError("mobility header", at=len(data), why="needs 8 octets")
    if len(data) != (data[1] + 1) * 8:
        raise WireError("mobility header", at=1, why=f"claims {(data[1] + 1) * 8} octets, has {len(data)}")
    if data[0] != ip6.NO_NEXT:
        raise WireError("mobility header", at=0, why=f"payload proto is {data[0]}, not {ip6.NO_NEXT}")


def _open(data: bytes, kind: int, fixed: int, what: str) -> None:
    _frame(data)
    if data[2] != kind:
        raise WireError(what, at=2, why=f"MH type is {data[2]}, not {int(kind)}")
    if len(data) < fixed:
        raise WireError(what, at=1, why=f"needs {fixed} octets, has {len(data)}")


def _message(kind: int, body: bytes, options: tuple[Option, ...]) -> bytes:
    """The whole header with a checksum of zero, padded to eight octets (RFC 6275 sections 6.1.1, 6.2)."""
    out = bytearray(b"%c\0%c\0\0\0%b" % (ip6.NO_NEXT, kind, body))
    append_options(out, options)
    if len(out) > 2048:
        raise ValueError(f"a mobility header holds at most 2048 octets, not {len(out)}")
    out[1] = len(out) // 8 - 1
    return bytes(out)


def _octets(value: bytes, what: str) -> bytes:
    if len(value) != 8:
        raise ValueError(f"a {what} has 8 octets, not {len(value)}")
    return value
