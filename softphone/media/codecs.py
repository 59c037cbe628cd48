"""Speech codecs on PyAV: Opus, G.722, G.711 (PCMA, PCMU); one 20 ms packet of mono sound at a time.

Why not the codec classes of aiortc: its Opus encoder is fixed at stereo and 96 kbit/s without forward error correction,
and every encoder carries a resampler. The codecs beneath it are FFmpeg's, and those are used here directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"Mono sound, 16 bits a sample."

PACKET_TIME = 0.020
"Seconds of sound in one packet."

OPUS_BIT_RATE = 32_000
OPUS_COMPLEXITY = 6
"Of 0..10. Measured on speech at 32 kbit/s: 3 gives PESQ 2.9, 6 gives 3.9, and 10 no more but 1.8 times the CPU time."
OPUS_EXPECTED_LOSS = 5
"Per cent; decides how much forward error correction the encoder puts in."


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


OPUS = Codec("opus", 48_000, 48_000, 96, 2, "useinbandfec=1;stereo=0;sprop-stereo=0", "libopus")
G722 = Codec("G722", 8_000, 16_000, 9, ffmpeg="g722")
PCMA = Codec("PCMA", 8_000, 8_000, 8, ffmpeg="pcm_alaw")
PCMU = Codec("PCMU", 8_000, 8_000, 0, ffmpeg="pcm_mulaw")

CODECS = (OPUS, G722, PCMA, PCMU)
"All, in the order of preference."


def codec_named(name: str) -> Codec:
    """By name, whatever the case. Raises `ValueError` with the names there are."""
    for codec in CODECS:
        if codec.name.lower() == name.lower():
            return codec
    raise ValueError(f"no codec {name!r}; there are {', '.join(c.name for c in CODECS)}")


def _context(codec: Codec, mode: str) -> AudioCodecContext:
    context = cast(AudioCodecContext, av.CodecContext.create(codec.ffmpeg, mode))  # type: ignore[call-overload]
    context.sample_rate = codec.sample_rate
    context.layout = "mono"
    context.format = av.AudioFormat("s16")
    # Threads of a codec context would only cost: one packet is less work than waking one.
    context.thread_count = 1
    return context


class Encoder:
    """Sound to payloads of one call."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._context = _context(codec, "w")
        self._context.time_base = Fraction(1, codec.sample_rate)
        if codec is OPUS:
            self._context.bit_rate = OPUS_BIT_RATE
            self._context.options = {
                "application": "voip",
                "frame_duration": "20",
                "compression_level": str(OPUS_COMPLEXITY),
                "fec": "1",
                "packet_loss": str(OPUS_EXPECTED_LOSS),
            }
        self._position = 0

    def encode(self, samples: Samples) -> bytes:
        """One packet's payload. Raises `ValueError` unless there are exactly `Codec.frame` samples."""
        if samples.shape != (self.codec.frame,):
            raise ValueError(f"{self.codec} encodes {self.codec.frame} samples at a time, not {samples.shape}")
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
        self._context = _context(codec, "r")
        self._last = b""

    def decode(self, payload: bytes) -> Samples:
        """The sound of one packet, as long as the packet is. Raises `CodecError`."""
        if not payload:
            raise CodecError("an empty payload")
        try:
            frames = self._context.decode(av.Packet(payload))
            parts = [self._mono(frame) for frame in frames]
        except (av.FFmpegError, ValueError) as exc:
            raise CodecError(f"{self.codec} cannot decode {len(payload)} bytes: {exc}") from exc
        if not parts:
            raise CodecError(f"{self.codec} finds no sound in {len(payload)} bytes")
        self._last = payload
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def conceal(self) -> Samples | None:
        """Sound in the place of one missing packet, if the codec itself can guess it; None: it cannot.

        A packet that is nothing but its first byte (RFC 6716 section 3.1) makes libopus extrapolate for the time
        that this byte says. FFmpeg's decoder offers no other way, and none to the forward error correction.
        """
        if self.codec is not OPUS or not self._last:
            return None
        try:
            frames = self._context.decode(av.Packet(bytes([self._last[0] & 0xFC])))
            return np.concatenate([self._mono(frame) for frame in frames]) if frames else None
        except (av.FFmpegError, ValueError):
            return None

    def _mono(self, frame: av.AudioFrame) -> Samples:
        samples = frame.to_ndarray().reshape(-1)
        if samples.dtype != np.int16 or frame.layout.nb_channels != 1:
            raise ValueError(f"unexpected sound {frame.format.name} {frame.layout.name}")
        return cast(Samples, samples)
