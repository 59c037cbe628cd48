"""Speech codecs: Opus (libopus), G.722 and G.711 (FFmpeg, by PyAV), L16; one 20 ms packet of mono sound at a time.

Why not the codec classes of aiortc: its Opus encoder is fixed at stereo and 96 kbit/s without forward error correction,
and every encoder carries a resampler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from softphone.media.opus import (
    DTX_LENGTH,
    OpusDecoder,
    OpusEncoder,
    OpusError,
    OpusSettings,
    has_fec,
)

Samples = NDArray[np.int16]
"Mono sound, 16 bits a sample."

PACKET_TIME = 0.020
"Seconds of sound in one packet."


class CodecError(ValueError):
    """A payload that its codec cannot decode."""


@dataclass(frozen=True, slots=True)
class Codec:
    """What SDP and RTP need to know about a codec."""

    name: str
    "Encoding name in SDP; matching ignores case."
    clock_rate: int
    "Of RTP timestamps. For G.722 it is 8000 although the sound has 16000 (RFC 3551 section 4.5.2)."
    sample_rate: int
    payload_type: int
    "The static one, or the dynamic one that we offer."
    channels: int = 1
    "As SDP says it: Opus is always /2 (RFC 7587 section 7)."
    parameters: str = ""
    "Value of ``fmtp``."
    ffmpeg: str = field(default="", repr=False)

    @property
    def frame(self) -> int:
        """Samples in a packet."""
        return round(self.sample_rate * PACKET_TIME)

    @property
    def ticks(self) -> int:
        """Units of the RTP clock in a packet."""
        return round(self.clock_rate * PACKET_TIME)

    def __str__(self) -> str:
        return self.name


OPUS = Codec("opus", 48_000, 48_000, 96, 2, "useinbandfec=1;stereo=0;sprop-stereo=0")
G722 = Codec("G722", 8_000, 16_000, 9, ffmpeg="g722")
PCMA = Codec("PCMA", 8_000, 8_000, 8, ffmpeg="pcm_alaw")
PCMU = Codec("PCMU", 8_000, 8_000, 0, ffmpeg="pcm_mulaw")

L16 = Codec("L16", 16_000, 16_000, 97, ffmpeg="pcm_s16be")

CODECS = (OPUS, G722, PCMA, PCMU)
"Those that are offered where nothing else is said, in the order of preference."
KNOWN = (*CODECS, L16)


def codec_named(name: str) -> Codec:
    """By name, whatever the case. Raises `ValueError` with the names there are."""
    for codec in KNOWN:
        if codec.name.lower() == name.lower():
            return codec
    raise ValueError(f"no codec {name!r}; there are {', '.join(c.name for c in KNOWN)}")


def _context(codec: Codec, mode: str) -> AudioCodecContext:
    context = cast(AudioCodecContext, av.CodecContext.create(codec.ffmpeg, mode))  # type: ignore[call-overload]
    context.sample_rate = codec.sample_rate
    context.layout = "mono"
    context.format = av.AudioFormat("s16")
    # Threads of a codec context would only cost: one packet is less work than waking one.
    context.thread_count = 1
    return context


class Encoder:
    """Sound to payloads of one call. ``opus``: what the other side asks of Opus."""

    def __init__(self, codec: Codec, opus: OpusSettings | None = None) -> None:
        self.codec = codec
        self.opus = OpusEncoder(opus) if codec is OPUS else None
        self._context: AudioCodecContext | None = None
        if codec is not OPUS:
            self._context = _context(codec, "w")
            self._context.time_base = Fraction(1, codec.sample_rate)
        self._position = 0

    def encode(self, samples: Samples) -> bytes:
        """One packet's payload. Raises `ValueError` unless there are exactly `Codec.frame` samples."""
        if samples.shape != (self.codec.frame,):
            raise ValueError(f"{self.codec} encodes {self.codec.frame} samples at a time, not {samples.shape}")
        if self._context is None:
            assert self.opus is not None
            return self.opus.encode(samples)
        frame = av.AudioFrame(format="s16", layout="mono", samples=self.codec.frame)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = self.codec.sample_rate
        frame.pts = self._position
        self._position += self.codec.frame
        packets = self._context.encode(frame)
        return b"".join(bytes(packet) for packet in packets)


class Decoder:
    """Payloads to sound."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._opus = OpusDecoder() if codec is OPUS else None
        self._context = _context(codec, "r") if codec is not OPUS else None
        self._last = b""

    @property
    def resting(self) -> bool:
        """The last packet said that there is nothing to hear until the next (Opus DTX)."""
        return self._opus is not None and 0 < len(self._last) <= DTX_LENGTH

    def decode(self, payload: bytes) -> Samples:
        """The sound of one packet, as long as the packet is. Raises `CodecError`."""
        if not payload:
            raise CodecError("an empty payload")
        try:
            if self._context is None:
                assert self._opus is not None
                samples = self._opus.decode(payload)
            else:
                parts = [self._mono(frame) for frame in self._context.decode(av.Packet(payload))]
                samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        except (av.FFmpegError, ValueError) as exc:
            raise CodecError(f"{self.codec} cannot decode {len(payload)} bytes: {exc}") from exc
        if not len(samples):
            raise CodecError(f"{self.codec} finds no sound in {len(payload)} bytes")
        self._last = payload
        return samples

    def conceal(self) -> Samples | None:
        """Sound in the place of one missing packet, if the codec itself can guess it; None: it cannot."""
        if self._opus is None or not self._last:
            return None
        return self._opus.conceal(self.codec.frame)

    def recover(self, following: bytes) -> Samples | None:
        """The packet before ``following`` from the forward error correction in it; None: it has none."""
        if self._opus is None or not has_fec(following):
            return None
        try:
            return self._opus.recover(following, self.codec.frame)
        except OpusError:
            return None

    def _mono(self, frame: av.AudioFrame) -> Samples:
        samples = frame.to_ndarray().reshape(-1)
        if samples.dtype != np.int16 or frame.layout.nb_channels != 1:
            raise ValueError(f"unexpected sound {frame.format.name} {frame.layout.name}")
        return cast(Samples, samples)
