"""libopus itself (RFC 6716, RFC 7587), by ctypes: what FFmpeg's wrappers of it leave out.

They can neither decode the forward error correction in a packet, nor change bit rate and expected loss of an encoder
that runs. The library is the one that PyAV brings along, else the system's; both are in the process or on the machine
anyway.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48_000
BIT_RATE = 32_000
LEAST_BIT_RATE, GREATEST_BIT_RATE = 12_000, 64_000
COMPLEXITY = 6
"Of 0..10. Measured on speech at 32 kbit/s: 3 gives PESQ 2.9, 6 gives 3.9, and 10 no more but 1.8 times the CPU time."
EXPECTED_LOSS = 5
"Per cent; decides how much forward error correction the encoder puts in."
DTX_LENGTH = 2
"Packets of at most so many bytes say that nothing is to be heard; they need not be sent (RFC 7587 section 3.1.3)."
_LONGEST = RATE * 120 // 1000
"Samples of the longest packet (RFC 6716 section 2.1.4)."
_GREATEST_PACKET = 1275
"Bytes of a frame (RFC 6716 section 3.2.1)."

_VOIP = 2048
_SET_BITRATE, _SET_MAX_BANDWIDTH, _SET_VBR, _SET_COMPLEXITY = 4002, 4004, 4006, 4010
_SET_INBAND_FEC, _SET_PACKET_LOSS, _SET_DTX = 4012, 4014, 4016
_BANDWIDTHS = ((8_000, 1101), (12_000, 1102), (16_000, 1103), (24_000, 1104))
"Sample rates and libopus's names for the bandwidths that they can carry (RFC 7587 section 3.1.1)."

Samples = NDArray[np.int16]


class OpusError(ValueError):
    """What libopus refused, or that there is no libopus."""


@cache
def _library() -> ctypes.CDLL:
    beside = sorted(Path(av.__file__).parent.with_name("av.libs").glob("libopus-*.so*"))
    for name in (*map(str, beside), "libopus.so.0"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        for function, result, arguments in (
            ("opus_encoder_create", pointer, [ctypes.c_int32, integer, integer, ctypes.POINTER(integer)]),
            ("opus_encoder_destroy", None, [pointer]),
            ("opus_encode", ctypes.c_int32, [pointer, pointer, integer, pointer, ctypes.c_int32]),
            ("opus_decoder_create", pointer, [ctypes.c_int32, integer, ctypes.POINTER(integer)]),
            ("opus_decoder_destroy", None, [pointer]),
            ("opus_decode", integer, [pointer, ctypes.c_char_p, ctypes.c_int32, pointer, integer, integer]),
            ("opus_strerror", ctypes.c_char_p, [integer]),
        ):
            entry = getattr(library, function)
            entry.restype, entry.argtypes = result, arguments
        return library
    raise OpusError("libopus is missing: install PyAV from its wheel, or the Debian package libopus0")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OpusError(f"{what}: {_library().opus_strerror(result).decode()}")
    return result


@dataclass(frozen=True, slots=True)
class OpusSettings:
    """What the other side's ``fmtp`` asks of an encoder (RFC 7587 section 6.1), and what we want of it."""

    fec: bool = True
    "``useinbandfec=1``: the other side makes use of forward error correction."
    dtx: bool = False
    "``usedtx=1`` and wanted here as well: nothing is sent in silence."
    constant: bool = False
    "``cbr=1``"
    rate: int = RATE
    "``maxplaybackrate``: samples a second beyond which the other side hears nothing."
    greatest_bit_rate: int = GREATEST_BIT_RATE
    "``maxaveragebitrate``"


class OpusEncoder:
    """Mono sound of 48 kHz to packets of 20 ms. Raises `OpusError`."""

    def __init__(self, settings: OpusSettings | None = None) -> None:
        self.settings = settings or OpusSettings()
        self._library = _library()
        error = ctypes.c_int()
        self._state = self._library.opus_encoder_create(RATE, 1, _VOIP, ctypes.byref(error))
        _checked(error.value, "no encoder")
        self._out = ctypes.create_string_buffer(_GREATEST_PACKET)
        self._control(_SET_COMPLEXITY, COMPLEXITY)
        self._control(_SET_INBAND_FEC, int(self.settings.fec))
        self._control(_SET_DTX, int(self.settings.dtx))
        self._control(_SET_VBR, int(not self.settings.constant))
        for rate, bandwidth in _BANDWIDTHS:
            if self.settings.rate <= rate:
                self._control(_SET_MAX_BANDWIDTH, bandwidth)
                break
        self.bit_rate = self.expected_loss = 0
        self.adapt(BIT_RATE, EXPECTED_LOSS)

    def adapt(self, bit_rate: int, expected_loss: int) -> None:
        """Bits a second, as far as the other side allows, and the loss in per cent to be ready for."""
        bit_rate = max(6_000, min(bit_rate, self.settings.greatest_bit_rate))
        if (bit_rate, expected_loss) != (self.bit_rate, self.expected_loss):
            self._control(_SET_BITRATE, bit_rate)
            self._control(_SET_PACKET_LOSS, expected_loss)
            self.bit_rate, self.expected_loss = bit_rate, expected_loss

    def encode(self, samples: Samples) -> bytes:
        sound = np.ascontiguousarray(samples, np.int16)
        size = self._library.opus_encode(self._state, sound.ctypes.data, len(sound), self._out, _GREATEST_PACKET)
        return self._out.raw[: _checked(size, "cannot encode")]

    def _control(self, request: int, value: int) -> None:
        result = self._library.opus_encoder_ctl(ctypes.c_void_p(self._state), request, ctypes.c_int32(value))
        _checked(result, f"request {request}")

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_encoder_destroy(self._state)
            self._state = None


class OpusDecoder:
    """Packets to mono sound of 48 kHz. Raises `OpusError`."""

    def __init__(self) -> None:
        self._library = _library()
        error = ctypes.c_int()
        self._state = self._library.opus_decoder_create(RATE, 1, ctypes.byref(error))
        _checked(error.value, "no decoder")
        self._out = np.empty(_LONGEST, np.int16)

    def decode(self, payload: bytes) -> Samples:
        """The sound of one packet."""
        return self._run(payload, _LONGEST, fec=False)

    def recover(self, following: bytes, count: int) -> Samples:
        """The ``count`` samples before a packet, from the forward error correction in it."""
        return self._run(following, count, fec=True)

    def conceal(self, count: int) -> Samples:
        """A guess, or comfort noise after packets that said there is nothing to hear."""
        return self._run(None, count, fec=False)

    def _run(self, payload: bytes | None, count: int, *, fec: bool) -> Samples:
        length = 0 if payload is None else len(payload)
        decoded = self._library.opus_decode(self._state, payload, length, self._out.ctypes.data, count, int(fec))
        return self._out[: _checked(decoded, "cannot decode")].copy()

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_decoder_destroy(self._state)
            self._state = None


def has_fec(payload: bytes) -> bool:
    """Whether a packet of one frame carries the packet before it once more (RFC 6716 sections 3.1, 4.2.3 and 4.2.4)."""
    if len(payload) <= DTX_LENGTH or payload[0] & 0x03 or payload[0] >> 3 >= 16:
        return False  # several frames, or CELT alone, which has none
    # A flag of voice activity for every 20 ms comes before the flag of the correction.
    config = payload[0] >> 3
    frames = (1, 1, 2, 3)[config & 3] if config < 12 else 1
    return bool(payload[1] >> (7 - frames) & 1)
