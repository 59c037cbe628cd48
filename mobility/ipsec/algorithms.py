"""The algorithms of ESP and AH that RFC 8221 asks for, and their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Self

AH_SIZE = 32
"Octets of AH: 12, an integrity check value of 16, and 4 because IPv6 wants multiples of 8 (RFC 4302 section 2.6)."


class KeyingError(ValueError):
    """Keys that do not fit the algorithm, or an unsafe combination; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key material of one security association. Its repr shows lengths only."""

    encryption: bytes = field(repr=False)
    "AEAD: the key followed by the four octets of salt. Empty for NULL."
    authentication: bytes = field(default=b"", repr=False)
    "Key of the separate integrity algorithm; empty for AEAD."

    def __repr__(self) -> str:
        return f"Keys(<{len(self.encryption)} octets>, <{len(self.authentication)} octets>)"


class Algorithm(Enum):
    """An encryption algorithm with its integrity algorithm; the value is its name in configurations."""

    AES_GCM_16 = "aes-gcm-16"
    "RFC 4106."
    CHACHA20_POLY1305 = "chacha20-poly1305"
    "RFC 7634."
    AES_CBC_HMAC_SHA2_256_128 = "aes-cbc-hmac-sha2-256-128"
    "RFC 3602, RFC 4868."
    NULL_HMAC_SHA2_256_128 = "null-hmac-sha2-256-128"
    "RFC 2410, RFC 4868."
    HMAC_SHA2_256_128 = "hmac-sha2-256-128"
    "RFC 4868; for AH (RFC 4302), as the others are for ESP."

    @classmethod
    def parse(cls, name: str) -> Self:
        """The algorithm called ``name``. Raises `KeyingError` that lists the names there are."""
        try:
            return cls(name.strip().lower())
        except ValueError:
            known = ", ".join(algorithm.value for algorithm in cls)
            raise KeyingError(f"unknown IPsec algorithm {name!r}: use one of {known}") from None

    @property
    def is_for_ah(self) -> bool:
        """Whether it only authenticates, in AH; all others are for ESP."""
        return self is Algorithm.HMAC_SHA2_256_128

    @property
    def aead(self) -> bool:
        """Whether one key serves both encryption and integrity, and a nonce must never come twice."""
        return self in (Algorithm.AES_GCM_16, Algorithm.CHACHA20_POLY1305)

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """Allowed lengths of `Keys.encryption` in octets, salt included."""
        return _KEY_LENGTHS[self]

    @property
    def authentication_key_length(self) -> int:
        """Length of `Keys.authentication` in octets."""
        return 0 if self.aead else 32

    @property
    def iv_length(self) -> int:
        """Octets of initialization vector in every packet."""
        return _IV_LENGTHS[self]

    @property
    def icv_length(self) -> int:
        """Octets of integrity check value in every packet."""
        return 16

    @property
    def block(self) -> int:
        """Payload, padding and trailer are a multiple of this many octets."""
        return 16 if self is Algorithm.AES_CBC_HMAC_SHA2_256_128 else 4

    def overhead(self, length: int) -> int:
        """How many octets ESP, or AH, adds to ``length`` octets of payload."""
        if self.is_for_ah:
            return AH_SIZE
        return 8 + self.iv_length + -(length + 2) % self.block + 2 + self.icv_length

    def room(self, length: int) -> int:
        """The largest payload, in octets, whose ESP, or AH, fits into ``length``."""
        if self.is_for_ah:
            return max(0, length - AH_SIZE)
        body = length - 8 - self.iv_length - self.icv_length
        return max(0, body - body % self.block - 2)

    def check(self, keys: Keys) -> None:
        """Raises `KeyingError` unless the keys have the right lengths."""
        size = len(keys.encryption)
        if size not in self.key_lengths:
            wanted = " or ".join(str(length) for length in self.key_lengths)
            salt = ", the last 4 of them salt" if self.aead else ""
            raise KeyingError(f"{self.value} needs an encryption key of {wanted} octets{salt}; this one has {size}")
        size = len(keys.authentication)
        if size != self.authentication_key_length:
            raise KeyingError(
                f"{self.value} needs an authentication key of {self.authentication_key_length} octets;"
                f" this one has {size}"
            )


_KEY_LENGTHS = {
    Algorithm.AES_GCM_16: (20, 28, 36),
    Algorithm.CHACHA20_POLY1305: (36,),
    Algorithm.AES_CBC_HMAC_SHA2_256_128: (16, 24, 32),
    Algorithm.NULL_HMAC_SHA2_256_128: (0,),
    Algorithm.HMAC_SHA2_256_128: (0,),
}
_IV_LENGTHS = {
    Algorithm.AES_GCM_16: 8,
    Algorithm.CHACHA20_POLY1305: 8,
    Algorithm.AES_CBC_HMAC_SHA2_256_128: 16,
    Algorithm.NULL_HMAC_SHA2_256_128: 0,
    Algorithm.HMAC_SHA2_256_128: 0,
}
