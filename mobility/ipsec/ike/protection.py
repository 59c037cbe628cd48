"""The encrypted payload (RFC 7296 section 3.14, RFC 5282, RFC 7634): sealing and opening, in one direction."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest, digest
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from mobility.discards import Discard, Reason
from mobility.ipsec.ike.message import GENERIC_SIZE, Header, generic_header
from mobility.ipsec.ike.numbers import HEADER_SIZE, Encr, PayloadType
from mobility.ipsec.ike.proposals import Suite

_FRAGMENT = Struct("!HH")
_COUNTER = Struct("!Q")
ICV = 16


class Protection:
    """Keys of one direction of an IKE SA. Nonces of AEAD are counted, so no two messages have the same one."""

    __slots__ = ("_aead", "_authentication", "_block", "_encryption", "_random", "_salt", "_sent", "iv_size")

    def __init__(self, suite: Suite, encryption: bytes, authentication: bytes, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._authentication = authentication
        self._salt = encryption[-4:] if suite.aead else b""
        self._encryption = encryption[:-4] if suite.aead else encryption
        self._aead: AESGCM | ChaCha20Poly1305 | None = None
        if suite.aead:
            aes = suite.encr is Encr.AES_GCM_16
            self._aead = AESGCM(self._encryption) if aes else ChaCha20Poly1305(self._encryption)
        self._sent = 0
        self.iv_size = 8 if suite.aead else 16
        self._block = 1 if suite.aead else 16

    def room(self, size: int, *, fragment: bool) -> int:
        """How many octets of payloads fit into a message of ``size``."""
        room = size - HEADER_SIZE - GENERIC_SIZE - (4 if fragment else 0) - self.iv_size - ICV
        return room - room % self._block - 1

    def seal(self, header: Header, following: int, content: bytes, part: tuple[int, int] | None = None) -> bytes:
        """A whole message around the payloads ``content``; ``part``: it is fragment N of M (RFC 7383)."""
        padding = -(len(content) + 1) % self._block
        plain = content + bytes(padding) + bytes((padding,))
        numbers = b"" if part is None else _FRAGMENT.pack(*part)
        length = GENERIC_SIZE + len(numbers) + self.iv_size + len(plain) + ICV
        kind = PayloadType.SK if part is None else PayloadType.SKF
        front = header.written(kind, HEADER_SIZE + length) + generic_header(following, length) + numbers
        if self._aead is not None:
            self._sent += 1
            iv = _COUNTER.pack(self._sent)
            return front + iv + self._aead.encrypt(self._salt + iv, plain, front)
        iv = self._random(16)
        encryptor = Cipher(AES(self._encryption), modes.CBC(iv)).encryptor()
        sealed = front + iv + encryptor.update(plain) + encryptor.finalize()
        return sealed + digest(self._authentication, sealed, "sha256")[:ICV]

    def open(self, data: bytes, at: int, *, fragment: bool) -> bytes:
        """The payloads in the message ``data``, whose encrypted payload begins at ``at`` and is the last one.

        Raises `Discard`: IKE_MALFORMED, AUTHENTICATION_FAILED.
        """
        start = at + GENERIC_SIZE + (4 if fragment else 0)
        if len(data) < start + self.iv_size + self._block + ICV:
            raise Discard(Reason.IKE_MALFORMED, f"{len(data)} octets are too few for an encrypted payload")
        iv, sealed = data[start : start + self.iv_size], data[start + self.iv_size :]
        if self._aead is not None:
            try:
                plain = self._aead.decrypt(self._salt + iv, sealed, data[:start])
            except InvalidTag:
                raise Discard(Reason.AUTHENTICATION_FAILED, "IKE message") from None
        else:
            if not compare_digest(digest(self._authentication, data[:-ICV], "sha256")[:ICV], data[-ICV:]):
                raise Discard(Reason.AUTHENTICATION_FAILED, "IKE message")
            body = sealed[:-ICV]
            if len(body) % 16:
                raise Discard(Reason.IKE_MALFORMED, "partial block")
            decryptor = Cipher(AES(self._encryption), modes.CBC(iv)).decryptor()
            plain = decryptor.update(body) + decryptor.finalize()
        if plain[-1] >= len(plain):
            raise Discard(Reason.IKE_MALFORMED, "more padding than content")
        return plain[: len(plain) - 1 - plain[-1]]


def fragment_numbers(data: bytes, at: int) -> tuple[int, int]:
    """Fragment number and total of an SKF payload at ``at``. Raises `Discard` IKE_MALFORMED."""
    if len(data) < at + GENERIC_SIZE + 4:
        raise Discard(Reason.IKE_MALFORMED, "fragment cut off")
    number, total = _FRAGMENT.unpack_from(data, at + GENERIC_SIZE)
    if not 1 <= number <= total <= MOST_FRAGMENTS:
        raise Discard(Reason.IKE_MALFORMED, f"fragment {number} of {total}")
    return number, total


MOST_FRAGMENTS = 64
