"""IKE messages: the header and the row of payloads (RFC 7296 sections 3.1, 3.2), in clear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Self, TypeVar

from mobility.ipsec.ike.numbers import HEADER_SIZE, Exchange, Flag, Notification, PayloadType
from mobility.ipsec.ike.payloads import (
    AuthPayload,
    CertificatePayload,
    ConfigurationPayload,
    DeletePayload,
    IdentificationPayload,
    Identity,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    UnknownPayload,
    VendorIdPayload,
)
from mobility.ipsec.ike.proposals import SaPayload
from mobility.ipsec.ike.traffic import TrafficSelectorPayload
from mobility.wire.errors import WireError

_HEADER = Struct("!8s8sBBBBII")
_GENERIC = Struct("!BBH")
GENERIC_SIZE = _GENERIC.size
VERSION = 0x20
MOST_PAYLOADS = 64
NO_SPI = bytes(8)
_PayloadT = TypeVar("_PayloadT")


@dataclass(frozen=True, slots=True)
class Header:
    """RFC 7296 section 3.1."""

    initiator_spi: bytes
    responder_spi: bytes
    exchange: int
    flags: int
    message_id: int
    next_payload: int = PayloadType.NONE
    length: int = HEADER_SIZE
    version: int = VERSION

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) < HEADER_SIZE:
            raise WireError("IKE header", at=len(data), why=f"needs {HEADER_SIZE} octets")
        spi_i, spi_r, following, version, exchange, flags, message_id, length = _HEADER.unpack_from(data)
        if length != len(data):
            raise WireError("IKE header", at=24, why=f"says {length} octets, there are {len(data)}")
        if spi_i == NO_SPI:
            raise WireError("IKE header", at=0, why="the initiator's SPI is zero")
        return cls(spi_i, spi_r, exchange, flags, message_id, following, length, version)

    def written(self, next_payload: int, length: int) -> bytes:
        """The header in front of ``length`` octets in all, of which the first payload has this type."""
        return _HEADER.pack(
            self.initiator_spi,
            self.responder_spi,
            next_payload,
            self.version,
            self.exchange,
            self.flags,
            self.message_id,
            length,
        )

    @property
    def is_response(self) -> bool:
        return bool(self.flags & Flag.RESPONSE)

    @property
    def from_initiator(self) -> bool:
        """Of the IKE SA, not of the exchange."""
        return bool(self.flags & Flag.INITIATOR)

    @property
    def name(self) -> str:
        """Of the exchange, for people."""
        known = self.exchange in Exchange._value2member_map_
        return Exchange(self.exchange).name if known else f"exchange {self.exchange}"


@dataclass(frozen=True, slots=True)
class Message:
    """A header and payloads, in clear or decrypted."""

    header: Header
    payloads: tuple[Payload, ...] = field(default=())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """A message that is not encrypted, or its payloads up to the encrypted one, which is left out."""
        header = Header.parse(data)
        return cls(header, tuple(parse_payloads(header.next_payload, data, HEADER_SIZE)))

    def __bytes__(self) -> bytes:
        following, body = write_payloads(self.payloads)
        return self.header.written(following, HEADER_SIZE + len(body)) + body

    def all(self, kind: type[_PayloadT]) -> Iterator[_PayloadT]:
        """The payloads of one class."""
        return (payload for payload in self.payloads if isinstance(payload, kind))

    def one(self, kind: type[_PayloadT]) -> _PayloadT | None:
        """The only payload of a class, or None. Raises `WireError`: there are several."""
        found = list(self.all(kind))
        if len(found) > 1:
            raise WireError(self.header.name, at=0, why=f"has {len(found)} {kind.__name__}")
        return found[0] if found else None

    def needed(self, kind: type[_PayloadT]) -> _PayloadT:
        """The only payload of a class. Raises `WireError`: there is none, or several."""
        found = self.one(kind)
        if found is None:
            raise WireError(self.header.name, at=0, why=f"has no {kind.__name__}")
        return found

    def identity(self, kind: PayloadType) -> Identity | None:
        """What IDi or IDr says."""
        return next((each.identity for each in self.all(IdentificationPayload) if each.type == kind), None)

    def selectors(self, kind: PayloadType) -> TrafficSelectorPayload:
        """TSi or TSr. Raises `WireError`: it is not there."""
        for each in self.all(TrafficSelectorPayload):
            if each.type == kind:
                return each
        raise WireError(self.header.name, at=0, why=f"has no {kind.name}")

    def notification(self, kind: Notification) -> NotifyPayload | None:
        """The first notification of a type."""
        return next((each for each in self.all(NotifyPayload) if each.notification == kind), None)

    @property
    def error(self) -> NotifyPayload | None:
        """The first notification that is an error."""
        return next((each for each in self.all(NotifyPayload) if each.is_error), None)


def parse_payloads(following: int, data: bytes, at: int = 0) -> Iterator[Payload]:
    """The payloads from ``at`` on, up to an encrypted one, which is left out. Raises `WireError` on the way."""
    count = 0
    while following != PayloadType.NONE:
        if len(data) < at + GENERIC_SIZE or count == MOST_PAYLOADS:
            raise WireError("payload", at=at, why="cut off, or too many")
        after, reserved, length = _GENERIC.unpack_from(data, at)
        if length < GENERIC_SIZE or at + length > len(data):
            raise WireError("payload", at=at + 2, why=f"length {length} does not fit")
        if following in (PayloadType.SK, PayloadType.SKF):
            return
        yield _parsed(following, bool(reserved & 0x80), data[at + GENERIC_SIZE : at + length])
        following, at, count = after, at + length, count + 1
    if at != len(data):
        raise WireError("payload", at=at, why="octets behind the last payload")


def _parsed(kind: int, critical: bool, body: bytes) -> Payload:
    match kind:
        case PayloadType.SA:
            return SaPayload.parse(body)
        case PayloadType.KE:
            return KeyExchangePayload.parse(body)
        case PayloadType.IDI | PayloadType.IDR:
            return IdentificationPayload(kind, Identity.parse(body))
        case PayloadType.CERT | PayloadType.CERTREQ:
            if not body:
                raise WireError("CERT", at=0, why="is empty")
            return CertificatePayload(kind, body[0], body[1:])
        case PayloadType.AUTH:
            return AuthPayload.parse(body)
        case PayloadType.NONCE:
            return NoncePayload.parse(body)
        case PayloadType.NOTIFY:
            return NotifyPayload.parse(body)
        case PayloadType.DELETE:
            return DeletePayload.parse(body)
        case PayloadType.VENDOR_ID:
            return VendorIdPayload.parse(body)
        case PayloadType.TSI | PayloadType.TSR:
            return TrafficSelectorPayload.parse(kind, body)
        case PayloadType.CP:
            return ConfigurationPayload.parse(body)
    return UnknownPayload(kind, critical, body)


def write_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """The type of the first payload and all of them in a row."""
    following: int = PayloadType.NONE
    out = b""
    for payload in reversed(tuple(payloads)):
        body = payload.body()
        critical = 0x80 if isinstance(payload, UnknownPayload) and payload.critical else 0
        out = _GENERIC.pack(following, critical, GENERIC_SIZE + len(body)) + body + out
        following = payload.type
    return following, out


def generic_header(following: int, length: int) -> bytes:
    """In front of a payload of ``length`` octets, this header included."""
    return _GENERIC.pack(following, 0, length)
