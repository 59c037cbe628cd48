"""Security associations: ESP sealed and opened (RFC 4303, without extended sequence numbers)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hmac import compare_digest
from hmac import digest as hmac_digest
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, KeyingError, Keys
from mobility.ipsec.association import LAST_SEQUENCE as LAST_SEQUENCE
from mobility.ipsec.association import RESERVATION as RESERVATION
from mobility.ipsec.association import InboundAssociation, OutboundAssociation
from mobility.ipsec.association import Mode as Mode
from mobility.ipsec.association import SequenceState as SequenceState
from mobility.ipsec.replay import MASK as WINDOW_MASK
from mobility.ipsec.replay import SIZE as WINDOW_SIZE


class OutboundSA(OutboundAssociation):
    """Seals payloads into ESP. Not for two senders: its sequence number is its nonce."""

    __slots__ = ("_authentication", "_encrypt", "_encryption", "_random", "_salt", "_trailers")

    def __init__(
        self,
        spi: int,
        algorithm: Algorithm,
        keys: Keys,
        mode: Mode,
        *,
        random: Callable[[int], bytes],
        state: SequenceState | None = None,
        fresh_keys: bool = False,
    ) -> None:
        """``fresh_keys``: the keys were made for this session and are not in any file.

        Raises `KeyingError`: SPI, key lengths, or an AEAD algorithm with keys that another run may use too.
        """
        super().__init__(spi, algorithm, mode, state)
        _check_is_for_esp(algorithm)
        algorithm.check(keys)
        if algorithm.aead and not fresh_keys:
            raise KeyingError(
                f"{algorithm.value} with static keys is unsafe: a repeated nonce gives the key away (RFC 4106"
                f" section 9). Use {Algorithm.AES_CBC_HMAC_SHA2_256_128.value} for keys from a configuration"
            )
        self._random = random
        self._encryption = keys.encryption
        self._authentication = keys.authentication
        self._salt = keys.encryption[-4:]
        self._encrypt = _aead(algorithm, keys).encrypt if algorithm.aead else None
        self._trailers = _trailers(algorithm.block)

    def seal(self, next_header: int, payload: bytes) -> bytes:
        """SPI, sequence number, IV, ciphertext and ICV. Raises `Discard` SEQUENCE_EXHAUSTED."""
        sequence = self.sequence + 1
        if sequence > self._reserved:
            self._reserve()
        self.sequence = sequence
        size = len(payload)
        self.octets += size
        encrypt = self._encrypt
        if encrypt is not None:
            # Salt and sequence number are the nonce, the number is sent as IV (RFC 4106 section 3.1).
            head = _HEAD_AND_IV(self.spi, sequence, sequence)
            body = payload + self._trailers[next_header][size & 3]
            return head + encrypt(self._salt + head[8:], body, head[:8])
        return self._seal_separately(sequence, next_header, payload)

    def _seal_separately(self, sequence: int, next_header: int, payload: bytes) -> bytes:
        algorithm = self.algorithm
        body = payload + self._trailers[next_header][len(payload) % algorithm.block]
        if algorithm is Algorithm.AES_CBC_HMAC_SHA2_256_128:
            iv = self._random(16)
            encryptor = Cipher(AES(self._encryption), modes.CBC(iv)).encryptor()
            body = iv + encryptor.update(body) + encryptor.finalize()
        sealed = _HEAD(self.spi, sequence) + body
        return sealed + hmac_digest(self._authentication, sealed, "sha256")[:16]


class InboundSA(InboundAssociation):
    """Opens ESP: replay check, authentication, decryption, then and only then the window moves."""

    __slots__ = ("_authentication", "_decrypt", "_encryption", "_minimum", "_salt")

    def __init__(
        self, spi: int, algorithm: Algorithm, keys: Keys, mode: Mode, *, state: SequenceState | None = None
    ) -> None:
        """Raises `KeyingError`: SPI or key lengths."""
        super().__init__(spi, algorithm, mode, state)
        _check_is_for_esp(algorithm)
        algorithm.check(keys)
        self._encryption = keys.encryption
        self._authentication = keys.authentication
        self._salt = keys.encryption[-4:]
        self._decrypt = _aead(algorithm, keys).decrypt if algorithm.aead else None
        self._minimum = 8 + algorithm.iv_length + algorithm.block + algorithm.icv_length

    @property
    def spis(self) -> tuple[int, ...]:
        """Those by which something may come."""
        return (self.spi,)

    @property
    def keys(self) -> Keys:
        """Its keys."""
        return Keys(self._encryption, self._authentication)

    def open(self, esp: bytes) -> tuple[int, bytes]:
        """Next header and payload of an ESP header with all that follows it.

        Raises `Discard`: ESP_MALFORMED, SA_UNKNOWN (another SPI), REPLAYED, AUTHENTICATION_FAILED.
        """
        if len(esp) < self._minimum:
            raise Discard(Reason.ESP_MALFORMED, f"{len(esp)} octets of ESP, needs {self._minimum}")
        spi, sequence = _UNPACK_HEAD(esp)
        if spi != self.spi:
            raise Discard(Reason.SA_UNKNOWN, f"SPI {spi:#010x} is not {self.spi:#010x}")
        # ReplayWindow.acceptable, by hand.
        ahead = sequence - self.top
        if ahead <= 0 and (ahead <= -WINDOW_SIZE or self.bitmap >> -ahead & 1):
            self.replayed += 1
            raise Discard(Reason.REPLAYED, f"SPI {spi:#010x} sequence {sequence}, top {self.top}")
        decrypt = self._decrypt
        if decrypt is not None:
            try:
                plain = decrypt(self._salt + esp[8:16], esp[16:], esp[:8])
            except InvalidTag:
                self.failed += 1
                raise Discard(Reason.AUTHENTICATION_FAILED, f"SPI {spi:#010x} sequence {sequence}") from None
        else:
            plain = self._open_separately(esp, sequence)
        # ReplayWindow.accept, by hand.
        if ahead > 0:
            self.bitmap = (self.bitmap << ahead | 1) & WINDOW_MASK if ahead < WINDOW_SIZE else 1
            self.top = self._cells[1] = sequence
        else:
            self.bitmap |= 1 << -ahead
        padding = plain[-2]
        end = len(plain) - 2 - padding
        if padding and (end < 0 or plain[end:-2] != _PADDINGS[padding]):
            raise Discard(Reason.ESP_MALFORMED, f"SPI {spi:#010x} sequence {sequence}: wrong padding")
        self.packets += 1
        self.octets += end
        return plain[-1], plain[:end]

    def _open_separately(self, esp: bytes, sequence: int) -> bytes:
        if not compare_digest(hmac_digest(self._authentication, esp[:-16], "sha256")[:16], esp[-16:]):
            self.failed += 1
            raise Discard(Reason.AUTHENTICATION_FAILED, f"SPI {self.spi:#010x} sequence {sequence}")
        if self.algorithm is not Algorithm.AES_CBC_HMAC_SHA2_256_128:
            return esp[8:-16]
        body = esp[24:-16]
        if len(body) % 16:
            raise Discard(Reason.ESP_MALFORMED, f"SPI {self.spi:#010x} sequence {sequence}: partial block")
        decryptor = Cipher(AES(self._encryption), modes.CBC(esp[8:24])).decryptor()
        return decryptor.update(body) + decryptor.finalize()


_HEAD = Struct("!II").pack
_HEAD_AND_IV = Struct("!IIQ").pack
_UNPACK_HEAD = Struct("!II").unpack_from
_PADDINGS = [bytes(range(1, length + 1)) for length in range(256)]


@cache
def _trailers(block: int) -> list[list[bytes]]:
    """Padding, pad length and next header, by next header and by payload length modulo the block size."""
    ends = [_PADDINGS[-(rest + 2) % block] + bytes((-(rest + 2) % block,)) for rest in range(block)]
    return [[end + bytes((next_header,)) for end in ends] for next_header in range(256)]


def _aead(algorithm: Algorithm, keys: Keys) -> AESGCM | ChaCha20Poly1305:
    key = keys.encryption[:-4]
    return AESGCM(key) if algorithm is Algorithm.AES_GCM_16 else ChaCha20Poly1305(key)


def _check_is_for_esp(algorithm: Algorithm) -> None:
    if algorithm.is_for_ah:
        raise KeyingError(f"{algorithm.value} is for AH: choose an algorithm of ESP")
