"""SRTP (RFC 3711, RFC 7714) on libsrtp, keyed by SDP security descriptions (RFC 4568)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Self

import pylibsrtp

from softphone.media.drops import Drop

Random = Callable[[int], bytes]
"Gives that many random bytes."


class CryptoError(ValueError):
    """A ``crypto`` attribute that cannot be used; the message never contains its key."""


class MediaDropped(Exception):
    """A packet that must not be used; ``drop`` says why."""

    def __init__(self, drop: Drop) -> None:
        super().__init__(str(drop))
        self.drop = drop


@dataclass(frozen=True, slots=True)
class Suite:
    """A crypto suite by its name in RFC 4568 or RFC 7714."""

    name: str
    key_length: int
    "Bytes of master key and master salt together, as they stand in the attribute."
    profile: int = field(repr=False)

    def __str__(self) -> str:
        return self.name


AES_CM_80 = Suite("AES_CM_128_HMAC_SHA1_80", 30, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
AES_CM_32 = Suite("AES_CM_128_HMAC_SHA1_32", 30, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32)
AES_128_GCM = Suite("AEAD_AES_128_GCM", 28, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
AES_256_GCM = Suite("AEAD_AES_256_GCM", 44, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM)

KNOWN = {suite.name: suite for suite in (AES_CM_80, AES_CM_32, AES_128_GCM, AES_256_GCM)}


@cache
def supported(suite: Suite) -> bool:
    """Whether the libsrtp that is installed here can do this suite (it may be built without GCM)."""
    try:
        session = _session(suite, bytes(suite.key_length), pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        session.protect(b"\x80" + bytes(11) + b"probe")
    except pylibsrtp.Error:
        return False
    return True


def offered_suites() -> tuple[Suite, ...]:
    """What we offer, best first. The 32-bit tag is accepted from others but not offered."""
    return tuple(suite for suite in (AES_128_GCM, AES_CM_80, AES_256_GCM) if supported(suite))


@dataclass(frozen=True, slots=True)
class CryptoLine:
    """The value of an ``a=crypto`` attribute (RFC 4568 section 4). Its repr hides the key."""

    tag: int
    suite: Suite
    key: bytes = field(repr=False)
    "Master key and master salt."

    @classmethod
    def create(cls, tag: int, suite: Suite, random: Random) -> Self:
        """With a fresh key."""
        return cls(tag, suite, random(suite.key_length))

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read an attribute's value.

        Raises `CryptoError` for what is malformed or cannot be used: unknown suites, several keys or a master key
        identifier, session parameters that change the protection (RFC 4568 section 6.3 says to treat such a line
        as not understood).
        """
        parts = value.split()
        if len(parts) < 3:
            raise CryptoError("a crypto attribute has a tag, a suite and a key")
        tag, name, keys, *parameters = parts
        if not (tag.isascii() and tag.isdigit() and len(tag) <= 9):
            raise CryptoError("the tag of a crypto attribute is a number of up to nine digits")
        suite = KNOWN.get(name.upper())
        if suite is None or not supported(suite):
            raise CryptoError(f"crypto suite {name[:40]!r} is not supported here")
        for parameter in parameters:
            # The hint of the replay window's size changes nothing for the sender and may be ignored.
            if not parameter.upper().startswith("WSH="):
                raise CryptoError(f"session parameter {parameter[:40]!r} is not supported")
        return cls(int(tag), suite, _key(keys, suite))

    def __str__(self) -> str:
        return f"{self.tag} {self.suite.name} inline:{base64.b64encode(self.key).decode()}"


def _key(text: str, suite: Suite) -> bytes:
    method, colon, info = text.partition(":")
    if method.lower() != "inline" or not colon:
        raise CryptoError("the key method of a crypto attribute is not inline")
    if ";" in info:
        raise CryptoError("several keys in one crypto attribute are not supported")
    encoded, *options = info.split("|")
    for option in options:
        if ":" in option:
            raise CryptoError("master key identifiers are not supported")
        _check_lifetime(option)
    try:
        # Some phones leave the padding away (RFC 4568 section 6.1 asks for it).
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise CryptoError("the key of a crypto attribute is not base64") from None
    if len(key) != suite.key_length:
        raise CryptoError(f"the key for {suite.name} has {len(key)} bytes instead of {suite.key_length}")
    return key


def _check_lifetime(option: str) -> None:
    """A lifetime is ``2^n`` or a number; how long a key is used is the sender's affair, so only its form matters."""
    number = option.removeprefix("2^")
    if not (number.isascii() and number.isdigit() and len(number) <= 20):
        raise CryptoError("the lifetime of a crypto attribute is not a number")


def _session(suite: Suite, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=suite.profile)
    policy.window_size = 1024  # a burst after a handover comes with reordering; 128 is three seconds of sound
    return pylibsrtp.Session(policy=policy)


class Protector:
    """Seals outgoing packets with our own key."""

    def __init__(self, line: CryptoLine) -> None:
        self.line = line
        self._session = _session(line.suite, line.key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)

    def rtp(self, packet: bytes) -> bytes:
        """Raises `MediaDropped`."""
        try:
            return bytes(self._session.protect(packet))
        except (pylibsrtp.Error, ValueError) as exc:
            raise MediaDropped(Drop.SRTP_FAILED) from exc

    def rtcp(self, packet: bytes) -> bytes:
        """Raises `MediaDropped`."""
        try:
            return bytes(self._session.protect_rtcp(packet))
        except (pylibsrtp.Error, ValueError) as exc:
            raise MediaDropped(Drop.SRTP_FAILED) from exc


class Unprotector:
    """Opens incoming packets with the other side's key."""

    def __init__(self, line: CryptoLine) -> None:
        self.line = line
        self._session = _session(line.suite, line.key, pylibsrtp.Policy.SSRC_ANY_INBOUND)

    def rtp(self, packet: bytes) -> bytes:
        """Raises `MediaDropped`."""
        try:
            return bytes(self._session.unprotect(packet))
        except (pylibsrtp.Error, ValueError) as exc:
            raise MediaDropped(_reason(exc)) from exc

    def rtcp(self, packet: bytes) -> bytes:
        """Raises `MediaDropped`."""
        try:
            return bytes(self._session.unprotect_rtcp(packet))
        except (pylibsrtp.Error, ValueError) as exc:
            raise MediaDropped(_reason(exc)) from exc


def _reason(error: Exception) -> Drop:
    text = str(error)
    if text.startswith("replay check failed"):
        return Drop.SRTP_REPLAYED
    # libsrtp reports a wrong GCM tag as a failure of the cipher.
    if text in ("authentication failure", "cipher failure"):
        return Drop.SRTP_AUTHENTICATION
    return Drop.SRTP_FAILED
