"""Security associations: ESP sealed and opened (RFC 4303, without extended sequence numbers)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
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
from mobility.ipsec.replay import MASK as WINDOW_MASK
from mobility.ipsec.replay import SIZE as WINDOW_SIZE
from mobility.ipsec.replay import ReplayWindow

RESERVED_SPIS = range(256)
"Never on the wire (RFC 4303 section 2.1)."
LAST_SEQUENCE = 0xFFFFFFFF
RESERVATION = 1024
"Outbound numbers that are set aside in `SequenceState` at once: a restart skips at most so many."


class Mode(Enum):
    """RFC 4301 section 3.2."""

    TRANSPORT = "transport"
    TUNNEL = "tunnel"


class SequenceState:
    """16 octets that outlive the process: no number is used twice, no replay accepted after a restart.

    The first eight (written by `OutboundSA`) hold the last outbound number set aside; the others (by `InboundSA`) the
    highest number received. The owner hands in memory, for example a slice of a mapped file; none given: private
    memory. New keys need a new, zeroed state. Numbers are in the machine's byte order: the file stays on it.
    """

    SIZE = 16

    __slots__ = ("cells",)

    def __init__(self, memory: memoryview | None = None) -> None:
        """Raises `ValueError` unless ``memory`` is 16 writable octets."""
        view = memoryview(bytearray(self.SIZE)) if memory is None else memory
        if view.nbytes != self.SIZE or view.readonly:
            raise ValueError(f"sequence state needs {self.SIZE} writable octets, got {view.nbytes}")
        self.cells: memoryview[int] = view.cast("B").cast("Q")

    @property
    def outbound(self) -> int:
        """The last outbound number that was set aside."""
        return self.cells[0]

    @property
    def inbound(self) -> int:
        """The highest number received."""
        return self.cells[1]

    def reserve(self, last: int) -> int:
        """Sets outbound numbers after ``last`` aside; returns the last of them.

        Raises `Discard` when there is none to be had.
        """
        if last >= LAST_SEQUENCE:
            raise Discard(Reason.SEQUENCE_EXHAUSTED, "needs new keys")
        self.cells[0] = min(last + RESERVATION, LAST_SEQUENCE)
        return self.cells[0]


class OutboundSA:
    """Seals payloads into ESP. Not for two senders: its sequence number is its nonce."""

    __slots__ = (
        "_authentication",
        "_encrypt",
        "_encryption",
        "_first",
        "_random",
        "_reserved",
        "_salt",
        "_state",
        "_trailers",
        "algorithm",
        "mode",
        "octets",
        "sequence",
        "spi",
    )

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
        check_spi(spi)
        _check_is_for_esp(algorithm)
        algorithm.check(keys)
        if algorithm.aead and not fresh_keys:
            raise KeyingError(
                f"{algorithm.value} with static keys is unsafe: a repeated nonce gives the key away (RFC 4106"
                f" section 9). Use {Algorithm.AES_CBC_HMAC_SHA2_256_128.value} for keys from a configuration"
            )
        self.spi = spi
        self.algorithm = algorithm
        self.mode = mode
        self.octets = 0
        "Payload octets sealed."
        self._random = random
        self._encryption = keys.encryption
        self._authentication = keys.authentication
        self._salt = keys.encryption[-4:]
        self._encrypt = _aead(algorithm, keys).encrypt if algorithm.aead else None
        self._trailers = _trailers(algorithm.block)
        self._state = SequenceState() if state is None else state
        self.sequence = self._first = self._reserved = min(self._state.outbound, LAST_SEQUENCE)
        "Of the last packet sealed; 0 before the first."

    @property
    def packets(self) -> int:
        """Packets sealed by this object."""
        return self.sequence - self._first

    def resume(self) -> None:
        """Goes on after the last number that its state has as set aside: somebody else has used those before."""
        packets = self.packets
        self.sequence = self._reserved = min(self._state.outbound, LAST_SEQUENCE)
        self._first = self.sequence - packets

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

    def _reserve(self) -> None:
        try:
            self._reserved = self._state.reserve(self._reserved)
        except Discard as discard:
            raise Discard(discard.reason, f"outbound SPI {self.spi:#010x}: {discard.detail}") from None

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {
            "direction": "out",
            "spi": f"{self.spi:#010x}",
            "algorithm": self.algorithm.value,
            "mode": self.mode.value,
            "sequence": self.sequence,
            "packets": self.packets,
            "octets": self.octets,
        }

    def __repr__(self) -> str:
        return f"OutboundSA(spi={self.spi:#010x}, {self.algorithm.value}, {self.mode.value})"


class InboundSA(ReplayWindow):
    """Opens ESP: replay check, authentication, decryption, then and only then the window moves."""

    __slots__ = (
        "_authentication",
        "_cells",
        "_decrypt",
        "_encryption",
        "_minimum",
        "_salt",
        "algorithm",
        "failed",
        "mode",
        "octets",
        "packets",
        "replayed",
        "spi",
    )

    def __init__(
        self, spi: int, algorithm: Algorithm, keys: Keys, mode: Mode, *, state: SequenceState | None = None
    ) -> None:
        """Raises `KeyingError`: SPI or key lengths."""
        check_spi(spi)
        _check_is_for_esp(algorithm)
        algorithm.check(keys)
        self._cells = (SequenceState() if state is None else state).cells
        super().__init__(top=min(self._cells[1], LAST_SEQUENCE))
        self.spi = spi
        self.algorithm = algorithm
        self.mode = mode
        self.packets = 0
        "Packets opened by this object."
        self.octets = 0
        "Payload octets opened."
        self.replayed = 0
        self.failed = 0
        "Packets whose integrity check value did not match."
        self._encryption = keys.encryption
        self._authentication = keys.authentication
        self._salt = keys.encryption[-4:]
        self._decrypt = _aead(algorithm, keys).decrypt if algorithm.aead else None
        self._minimum = 8 + algorithm.iv_length + algorithm.block + algorithm.icv_length

    def resume(self) -> None:
        """Goes on with the highest number of its state: somebody else has received what is up to there."""
        if self._cells[1] > self.top:
            super().__init__(top=min(self._cells[1], LAST_SEQUENCE))

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

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {
            "direction": "in",
            "spi": f"{self.spi:#010x}",
            "algorithm": self.algorithm.value,
            "mode": self.mode.value,
            "sequence": self.top,
            "packets": self.packets,
            "octets": self.octets,
            "replayed": self.replayed,
            "failed": self.failed,
        }

    def __repr__(self) -> str:
        return f"InboundSA(spi={self.spi:#010x}, {self.algorithm.value}, {self.mode.value})"


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


def check_spi(spi: int) -> None:
    """Raises `KeyingError` unless the SPI may be on the wire."""
    if spi in RESERVED_SPIS or not 0 <= spi <= 0xFFFFFFFF:
        raise KeyingError(f"SPI {spi} is reserved or too large: choose one from 256 to 4294967295")
