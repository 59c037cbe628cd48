"""The payloads of IKEv2 messages (RFC 7296 section 3), bytes <-> frozen values; `message` puts them in a row.

Each class has the ``type`` that the header before it names, ``parse(body)`` and ``body()``; the body is what follows
the generic payload header. All `parse` raise `WireError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import ClassVar, Protocol, Self

from mobility.ipsec.ike.numbers import (
    Attribute,
    AuthMethod,
    ConfigurationType,
    IdType,
    Notification,
    PayloadType,
)
from mobility.ipsec.ike.numbers import Protocol as SecurityProtocol
from mobility.wire.errors import WireError

_WORD = Struct("!H")
_TWO_WORDS = Struct("!HH")
_NOTIFY = Struct("!BBH")
X509_SIGNATURE = 4
"Certificate encoding: X.509 certificate - signature (RFC 7296 section 3.6)."


class Payload(Protocol):
    """What can stand in a message."""

    @property
    def type(self) -> int:
        """Of `PayloadType`, or one that nobody here knows."""

    def body(self) -> bytes:
        """What follows the generic payload header."""


def _need(what: str, data: bytes, size: int) -> None:
    if len(data) < size:
        raise WireError(what, at=len(data), why=f"needs {size} octets")


@dataclass(frozen=True, slots=True)
class UnknownPayload:
    """Of a type that is not known here; ignored unless it is critical (RFC 7296 section 2.5)."""

    type: int
    critical: bool
    data: bytes

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class KeyExchangePayload:
    """RFC 7296 section 3.4."""

    type: ClassVar[int] = PayloadType.KE
    group: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("KE", body, 4)
        return cls(_WORD.unpack_from(body)[0], body[4:])

    def body(self) -> bytes:
        return _TWO_WORDS.pack(self.group, 0) + self.data


@dataclass(frozen=True, slots=True)
class Identity:
    """What ID payloads say (RFC 7296 section 3.5): who somebody is, not where."""

    kind: int
    data: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """From a configuration: an IP address, ``user@domain``, or a domain name. Raises `ValueError` for nothing."""
        if not text or text != text.strip() or not text.isascii():
            raise ValueError(f"{text!r} is no identity: write a domain name, user@domain or an IP address")
        try:
            address = ip_address(text)
        except ValueError:
            return cls(IdType.RFC822_ADDR if "@" in text else IdType.FQDN, text.encode())
        return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("ID", body, 4)
        kind, data = body[0], body[4:]
        if kind in (IdType.IPV4_ADDR, IdType.IPV6_ADDR) and len(data) != (4 if kind == IdType.IPV4_ADDR else 16):
            raise WireError("ID", at=4, why=f"{len(data)} octets of address")
        return cls(kind, data)

    def body(self) -> bytes:
        """Also what AUTH covers (RestOfIDPayload, RFC 7296 section 2.15)."""
        return bytes((self.kind, 0, 0, 0)) + self.data

    def __str__(self) -> str:
        match self.kind:
            case IdType.IPV4_ADDR:
                return str(IPv4Address(self.data))
            case IdType.IPV6_ADDR:
                return str(IPv6Address(self.data))
            case IdType.FQDN | IdType.RFC822_ADDR:
                return self.data.decode("ascii", "backslashreplace")
        return f"{self.kind}:{self.data.hex()}"


@dataclass(frozen=True, slots=True)
class IdentificationPayload:
    """IDi or IDr (RFC 7296 section 3.5)."""

    type: int
    identity: Identity

    def body(self) -> bytes:
        return self.identity.body()


@dataclass(frozen=True, slots=True)
class CertificatePayload:
    """CERT or CERTREQ (RFC 7296 sections 3.6, 3.7)."""

    type: int
    encoding: int
    data: bytes
    "CERT: the certificate in DER. CERTREQ: SHA-1 hashes of the public keys of trusted authorities."

    def body(self) -> bytes:
        return bytes((self.encoding,)) + self.data


@dataclass(frozen=True, slots=True)
class AuthPayload:
    """RFC 7296 section 3.8."""

    type: ClassVar[int] = PayloadType.AUTH
    method: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("AUTH", body, 4)
        return cls(body[0], body[4:])

    def body(self) -> bytes:
        return bytes((self.method, 0, 0, 0)) + self.data

    def describe(self) -> str:
        """The method, for people."""
        known = self.method in AuthMethod._value2member_map_
        return AuthMethod(self.method).name if known else f"method {self.method}"


@dataclass(frozen=True, slots=True)
class NoncePayload:
    """RFC 7296 section 3.9."""

    type: ClassVar[int] = PayloadType.NONCE
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        if not 16 <= len(body) <= 256:
            raise WireError("nonce", at=0, why=f"has {len(body)} octets, may have 16 to 256")
        return cls(body)

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class NotifyPayload:
    """RFC 7296 section 3.10."""

    type: ClassVar[int] = PayloadType.NOTIFY
    notification: int
    data: bytes = b""
    protocol: int = SecurityProtocol.NONE
    spi: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("notify", body, 4)
        protocol, size, notification = _NOTIFY.unpack_from(body)
        _need("notify", body, 4 + size)
        return cls(notification, body[4 + size :], protocol, body[4 : 4 + size])

    def body(self) -> bytes:
        return _NOTIFY.pack(self.protocol, len(self.spi), self.notification) + self.spi + self.data

    @property
    def is_error(self) -> bool:
        return self.notification < Notification.INITIAL_CONTACT


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """RFC 7296 section 3.11."""

    type: ClassVar[int] = PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...] = ()
    "None for the IKE SA itself."

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("delete", body, 4)
        protocol, size, number = _NOTIFY.unpack_from(body)
        if len(body) != 4 + size * number or (number and not size):
            raise WireError("delete", at=4, why=f"{len(body) - 4} octets are not {number} SPIs of {size}")
        return cls(protocol, tuple(body[at : at + size] for at in range(4, len(body), size or 1)))

    def body(self) -> bytes:
        size = len(self.spis[0]) if self.spis else 0
        return _NOTIFY.pack(self.protocol, size, len(self.spis)) + b"".join(self.spis)


@dataclass(frozen=True, slots=True)
class VendorIdPayload:
    """RFC 7296 section 3.12; means nothing here."""

    type: ClassVar[int] = PayloadType.VENDOR_ID
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(body)

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class ConfigurationPayload:
    """RFC 7296 section 3.15."""

    type: ClassVar[int] = PayloadType.CP
    kind: int
    attributes: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        _need("CP", body, 4)
        attributes = []
        at = 4
        while at < len(body):
            _need("CP", body, at + 4)
            kind, length = _TWO_WORDS.unpack_from(body, at)
            _need("CP", body, at + 4 + length)
            attributes.append((kind & 0x7FFF, body[at + 4 : at + 4 + length]))
            at += 4 + length
        return cls(body[0], tuple(attributes))

    def body(self) -> bytes:
        rows = (_TWO_WORDS.pack(kind, len(value)) + value for kind, value in self.attributes)
        return bytes((self.kind, 0, 0, 0)) + b"".join(rows)

    @classmethod
    def request(cls) -> Self:
        """For a home address (RFC 5026 section 5.2)."""
        return cls(ConfigurationType.REQUEST, ((Attribute.INTERNAL_IP6_ADDRESS, b""),))

    @classmethod
    def reply(cls, address: IPv6Address, prefix_length: int) -> Self:
        value = address.packed + bytes((prefix_length,))
        return cls(ConfigurationType.REPLY, ((Attribute.INTERNAL_IP6_ADDRESS, value),))

    @property
    def address(self) -> IPv6Address | None:
        """The IPv6 address that was assigned, or is wished for; None: there is none, or any will do."""
        for kind, value in self.attributes:
            if kind == Attribute.INTERNAL_IP6_ADDRESS and len(value) == 17:
                return IPv6Address(value[:16])
        return None
