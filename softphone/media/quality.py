"""Speech quality after ITU-T P.862.2 (wide-band PESQ), for the demo and the tests.

The packages ``pesq`` and ``scipy`` belong to the extra ``demo``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from softphone.media.codecs import Codec, Decoder, Encoder, Samples
from softphone.media.files import read_sound

RATE = 16_000
"Wide-band PESQ is defined at this rate only."
PIECE = 12.0
"Seconds of speech that are judged at a time; PESQ's own alignment suffers in long recordings."
SHORTEST_PIECE = 3.0
_SILENT = 50.0
"Root mean square below which 20 ms count as silence around the speech (-56 dB)."
_PADDING = 0.2
"Seconds of silence that are left on both sides."


class QualityError(RuntimeError):
    """The quality cannot be measured, and why."""


def resample(samples: Samples, rate: int, target: int = RATE) -> Samples:
    """Another sample rate, with a filter of linear phase (unlike a stream's resampler: no delay)."""
    if rate == target:
        return samples
    divisor = int(np.gcd(rate, target))
    resample_poly = _function("scipy.signal", "resample_poly")
    changed = cast(NDArray[np.float64], resample_poly(samples.astype(np.float64), target // divisor, rate // divisor))
    return np.clip(np.rint(changed), -32768, 32767).astype(np.int16)


def pesq(reference: Samples, degraded: Samples, rate: int = RATE) -> float:
    """MOS-LQO of ``degraded``, 1.04 to 4.64. Both at ``rate``; ``degraded`` may begin earlier or later.

    Both lose the silence around their speech, are brought into line, and are cut at the same places into pieces of
    about `PIECE` seconds; the result is their mean weighted with their length. Raises `QualityError`.
    """
    score = _function("pesq", "pesq")
    clean, heard = _speech(resample(reference, rate), "reference"), _speech(resample(degraded, rate), "recording")
    heard = _aligned(clean, heard)
    pieces = max(1, round(len(clean) / (PIECE * RATE)))
    if len(clean) < SHORTEST_PIECE * RATE / 3:
        raise QualityError(f"only {len(clean) / RATE:.1f} s of speech; PESQ needs at least 1 s, better 8 s")
    bounds = _cuts(clean, pieces)
    total = 0.0
    for begin, end in pairwise(bounds):
        try:
            result = score(RATE, clean[begin:end], heard[begin:end], "wb")
        except Exception as exc:  # the package's errors have no common root of their own
            raise QualityError(f"PESQ failed: {exc}") from exc
        total += float(cast(float, result)) * (end - begin)
    return total / (bounds[-1] - bounds[0])


def pesq_of_codec(path: Path | str, codec: Codec) -> float:
    """The score of the codec alone: the same file encoded and decoded without a network. Raises `QualityError`."""
    reference, rate = read_sound(path)
    clean = resample(reference, rate)
    return pesq(clean, resample(through_codec(reference, rate, codec), codec.sample_rate))


def through_codec(samples: Samples, rate: int, codec: Codec) -> Samples:
    """Sound encoded and decoded; comes out at the rate of the codec."""
    sound = resample(samples, rate, codec.sample_rate)
    sound = np.pad(sound, (0, -len(sound) % codec.frame + codec.frame))
    encoder, decoder = Encoder(codec), Decoder(codec)
    return np.concatenate([decoder.decode(encoder.encode(frame)) for frame in sound.reshape(-1, codec.frame)])


def _levels(samples: Samples) -> NDArray[np.float64]:
    frame = RATE // 50
    cut = samples[: len(samples) // frame * frame].astype(np.float64).reshape(-1, frame)
    return cast(NDArray[np.float64], np.sqrt((cut * cut).mean(axis=1)))


def _speech(samples: Samples, what: str) -> Samples:
    """Without the silence at both ends, except for a little."""
    loud = np.flatnonzero(_levels(samples) > _SILENT)
    if not len(loud):
        raise QualityError(f"the {what} is silent")
    padding, frame = int(_PADDING * RATE), RATE // 50
    begin, end = int(loud[0]) * frame, (int(loud[-1]) + 1) * frame
    sound = samples[max(0, begin - padding) : end + padding]
    return np.pad(sound, (max(0, padding - begin), max(0, end + padding - len(samples))))


def _aligned(clean: Samples, heard: Samples) -> Samples:
    """``heard`` shifted to where it fits ``clean`` best (cross-correlation of envelopes) and cut to its length."""
    step = RATE // 1000
    a, b = (
        np.abs(s[: len(s) // step * step].astype(np.float64)).reshape(-1, step).mean(axis=1) for s in (clean, heard)
    )
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    shift = int(products.argmax())
    if shift > size // 2:
        shift -= size
    shift *= step
    heard = heard[shift:] if shift >= 0 else np.pad(heard, (-shift, 0))
    return heard[: len(clean)] if len(heard) >= len(clean) else np.pad(heard, (0, len(clean) - len(heard)))


def _cuts(clean: Samples, pieces: int) -> list[int]:
    """Where the pieces begin and end: each cut lies in the quietest 20 ms of a second around the even division."""
    levels, frame = _levels(clean), RATE // 50
    cuts = [0]
    for n in range(1, pieces):
        centre = n * len(levels) // pieces
        window = levels[centre - 25 : centre + 25]
        cuts.append((centre - 25 + int(window.argmin())) * frame)
    return [*cuts, len(clean)]


def _function(module: str, name: str) -> Callable[..., object]:
    try:
        return cast(Callable[..., object], getattr(import_module(module), name))
    except ImportError as exc:
        raise QualityError(
            f"measuring needs the package {module.split('.')[0]}: pip install 'roamphone[demo]'"
        ) from exc
