"""ICMPv6: echo and errors (RFC 4443)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct
from typing import Protocol, Self

from mobility.wire import ip6
from mobility.wire.errors import WireError

DESTINATION_UNREACHABLE = 1
PACKET_TOO_BIG = 2
TIME_EXCEEDED = 3
PARAMETER_PROBLEM = 4
ECHO_REQUEST = 128
ECHO_REPLY = 129

NO_ROUTE = 0
"Destination Unreachable: no route."
PROHIBITED = 1
"Destination Unreachable: communication administratively prohibited."
ADDRESS_UNREACHABLE = 3
PORT_UNREACHABLE = 4

HOP_LIMIT_EXCEEDED = 0
REASSEMBLY_TIME_EXCEEDED = 1

ERRONEOUS_HEADER_FIELD = 0
UNKNOWN_NEXT_HEADER = 1
UNKNOWN_OPTION = 2

INVOKING_LIMIT = ip6.MINIMUM_MTU - ip6.HEADER_SIZE - 8
"So much of the invoking packet fits into an error (RFC 4443 section 2.4 c)."

_ECHO = Struct("!BBHHH")
_ERROR = Struct("!BBHI")


class Message(Protocol):
    """Anything whose bytes are an ICMPv6 message with a checksum of zero."""

    def __bytes__(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Echo:
    """Echo Request or Echo Reply (RFC 4443 section 4)."""

    identifier: int
    sequence: int
    data: bytes = b""
    reply: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Self:
        kind, _ = _prefix(data, "Echo")
        if kind not in (ECHO_REQUEST, ECHO_REPLY):
            raise WireError("Echo", at=0, why=f"type is {kind}")
        _, _, _, identifier, sequence = _ECHO.unpack_from(data)
        return cls(identifier, sequence, data[8:], kind == ECHO_REPLY)

    def __bytes__(self) -> bytes:
        kind = ECHO_REPLY if self.reply else ECHO_REQUEST
        return _ECHO.pack(kind, 0, 0, self.identifier, self.sequence) + self.data


@dataclass(frozen=True, slots=True)
class DestinationUnreachable:
    """RFC 4443 section 3.1."""

    code: int
    invoking: bytes
    "As much of the packet that caused this as fits."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        code, _ = _error(data, DESTINATION_UNREACHABLE, "Destination Unreachable")
        return cls(code, data[8:])

    def __bytes__(self) -> bytes:
        return _ERROR.pack(DESTINATION_UNREACHABLE, self.code, 0, 0) + self.invoking[:INVOKING_LIMIT]


@dataclass(frozen=True, slots=True)
class PacketTooBig:
    """RFC 4443 section 3.2."""

    mtu: int
    "Octets."
    invoking: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        _, mtu = _error(data, PACKET_TOO_BIG, "Packet Too Big")
        return cls(mtu, data[8:])

    def __bytes__(self) -> bytes:
        return _ERROR.pack(PACKET_TOO_BIG, 0, 0, self.mtu) + self.invoking[:INVOKING_LIMIT]


@dataclass(frozen=True, slots=True)
class TimeExceeded:
    """RFC 4443 section 3.3."""

    code: int
    invoking: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        code, _ = _error(data, TIME_EXCEEDED, "Time Exceeded")
        return cls(code, data[8:])

    def __bytes__(self) -> bytes:
        return _ERROR.pack(TIME_EXCEEDED, self.code, 0, 0) + self.invoking[:INVOKING_LIMIT]


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """RFC 4443 section 3.4."""

    code: int
    pointer: int
    "Offset in the invoking packet."
    invoking: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        code, pointer = _error(data, PARAMETER_PROBLEM, "Parameter Problem")
        return cls(code, pointer, data[8:])

    def __bytes__(self) -> bytes:
        return _ERROR.pack(PARAMETER_PROBLEM, self.code, 0, self.pointer) + self.invoking[:INVOKING_LIMIT]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that is not handled here (neighbour discovery is in `ndisc`)."""

    type: int
    code: int
    body: bytes
    "After type, code and checksum."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) < 4:
            raise WireError("ICMPv6", at=len(data), why="needs 4 octets")
        return cls(data[0], data[1], data[4:])

    def __bytes__(self) -> bytes:
        return b"%c%c\0\0%b" % (self.type, self.code, self.body)

    @property
    def is_error(self) -> bool:
        """Unknown errors go to the upper layer; unknown information is dropped (RFC 4443 section 2.4)."""
        return self.type < 128


Error = DestinationUnreachable | PacketTooBig | TimeExceeded | ParameterProblem


def parse(data: bytes) -> Echo | Error | Unknown:
    """The ICMPv6 message in ``data``, whose checksum is not looked at (see `verify`). Raises `WireError`."""
    if not data:
        raise WireError("ICMPv6", at=0, why="empty")
    match data[0]:
        case 128 | 129:
            return Echo.parse(data)
        case 1:
            return DestinationUnreachable.parse(data)
        case 2:
            return PacketTooBig.parse(data)
        case 3:
            return TimeExceeded.parse(data)
        case 4:
            return ParameterProblem.parse(data)
        case _:
            return Unknown.parse(data)


def verify(source: bytes, destination: bytes, data: bytes) -> None:
    """Raises `WireError` unless the checksum of the message is right."""
    if len(data) < 4:
        raise WireError("ICMPv6", at=len(data), why="needs 4 octets")
    if ip6.checksum(source, destination, ip6.ICMPV6, data):
        raise WireError("ICMPv6", at=2, why="wrong checksum")


def payload(source: ip6.Address, destination: ip6.Address, message: Message) -> bytes:
    """The message with its checksum filled in."""
    data = bytes(message)
    value = ip6.checksum(ip6.packed(source), ip6.packed(destination), ip6.ICMPV6, data)
    return b"%b%b%b" % (data[:2], value.to_bytes(2, "big"), data[4:])


def packet(source: ip6.Address, destination: ip6.Address, message: Message, hop_limit: int = 64) -> bytes:
    """A whole IPv6 packet with the message."""
    return ip6.packet(source, destination, ip6.ICMPV6, payload(source, destination, message), hop_limit)


def echo_reply(request: bytes) -> bytes | None:
    """What answers to this whole ICMPv6 packet without extension headers, if it is an echo request; else None.

    Raises `WireError`: malformed, or a wrong checksum.
    """
    source, destination, body = request[8:24], request[24:40], request[ip6.HEADER_SIZE :]
    verify(source, destination, body)
    message = parse(body)
    if not isinstance(message, Echo) or message.reply:
        return None
    return packet(destination, source, Echo(message.identifier, message.sequence, message.data, reply=True))


def may_be_answered_with_error(invoking: bytes, allow_multicast: bool = False) -> bool:
    """Whether an ICMPv6 error may be sent about a packet (RFC 4443 section 2.4 e).

    Never about an ICMPv6 error or redirect, about multicast (but Packet Too Big and unknown options:
    ``allow_multicast``), or to a source that is not one node.
    """
    if len(invoking) < ip6.HEADER_SIZE:
        return False
    source = IPv6Address(invoking[8:24])
    if source.is_unspecified or source.is_multicast or (invoking[24] == 0xFF and not allow_multicast):
        return False
    try:
        headers = ip6.walk(invoking)
    except WireError:
        return True
    if headers.later_fragment:
        return False
    if headers.protocol != ip6.ICMPV6:
        return True
    if headers.offset >= len(invoking):
        return False
    kind = invoking[headers.offset]
    return kind >= 128 and kind != 137


def _prefix(data: bytes, what: str) -> tuple[int, int]:
    if len(data) < 8:
        raise WireError(what, at=len(data), why="needs 8 octets")
    return data[0], data[1]


def _error(data: bytes, kind: int, what: str) -> tuple[int, int]:
    found, code = _prefix(data, what)
    if found != kind:
        raise WireError(what, at=0, why=f"type is {found}, not {kind}")
    return code, int.from_bytes(data[4:8], "big")
