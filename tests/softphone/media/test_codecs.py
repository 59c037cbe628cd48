"""The four codecs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.codecs import CODECS, G722, OPUS, PCMA, PCMU, Codec, CodecError, Decoder, Encoder, codec_named
from tests.softphone.media.support import voice


def through(codec: Codec, seconds: float = 2.0) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    sound = voice(codec.sample_rate, seconds)
    encoder, decoder = Encoder(codec), Decoder(codec)
    payloads = [encoder.encode(frame) for frame in sound.reshape(-1, codec.frame)]
    return sound, np.concatenate([decoder.decode(p) for p in payloads]), payloads


@pytest.mark.parametrize(
    ("codec", "delay", "noise"), [(PCMU, 0.0, -30), (PCMA, 0.0, -30), (G722, 0.0014, -15), (OPUS, 0.0065, -3)], ids=str
)
def test_sound_passes(codec: Codec, delay: float, noise: float) -> None:
    sound, heard, _ = through(codec)
    assert heard.dtype == np.int16
    assert len(heard) == len(sound)
    best = 0.0
    for shift in range(round((delay + 0.001) * codec.sample_rate) + 1):
        a, b = sound[4000 : -shift or None].astype(float), heard[4000 + shift :].astype(float)
        a = a[: len(b)]
        best = min(best, float(10 * np.log10(np.mean((a - b[: len(a)]) ** 2) / np.mean(a**2))))
    assert best < noise


@pytest.mark.parametrize(("codec", "size"), [(PCMU, 160), (PCMA, 160), (G722, 160)], ids=str)
def test_payloads_have_the_size_of_the_standard(codec: Codec, size: int) -> None:
    assert {len(p) for p in through(codec, 0.2)[2]} == {size}


def test_g711_is_that_of_the_standard() -> None:
    # ITU-T G.711: the codes of silence and of the greatest values.
    for codec, silence, top in ((PCMU, 0xFF, 0x80), (PCMA, 0xD5, 0xAA)):
        encoder = Encoder(codec)
        assert encoder.encode(np.zeros(160, np.int16)) == bytes([silence]) * 160
        assert encoder.encode(np.full(160, 32_767, np.int16)) == bytes([top]) * 160


def test_opus_is_mono_wide_and_about_32_kbit() -> None:
    payloads = through(OPUS)[2]
    rate = sum(len(p) for p in payloads) * 8 / 2.0
    assert 20_000 < rate < 40_000
    # RFC 6716 section 3.1: the stereo flag is off, one frame of 20 ms a packet.
    assert all(not p[0] & 0x04 and not p[0] & 0x03 for p in payloads[10:])


def test_opus_conceals_by_itself() -> None:
    payloads = through(OPUS)[2]
    decoder = Decoder(OPUS)
    assert decoder.conceal() is None
    for payload in payloads[:40]:
        last = decoder.decode(payload)
    guess = decoder.conceal()
    assert guess is not None
    assert len(guess) == OPUS.frame
    assert np.abs(guess.astype(float)).mean() > 0.3 * np.abs(last.astype(float)).mean()
    assert abs(int(guess[0]) - int(last[-1])) < 2000


@pytest.mark.parametrize("codec", [G722, PCMA, PCMU], ids=str)
def test_the_others_do_not(codec: Codec) -> None:
    decoder = Decoder(codec)
    decoder.decode(through(codec, 0.2)[2][0])
    assert decoder.conceal() is None


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_wrong_sizes_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="samples at a time"):
        Encoder(codec).encode(np.zeros(codec.frame - 1, np.int16))
    with pytest.raises(CodecError):
        Decoder(codec).decode(b"")


@given(st.sampled_from(CODECS), st.lists(st.binary(max_size=300), max_size=5))
def test_any_payload_is_decoded_or_an_error(codec: Codec, payloads: list[bytes]) -> None:
    decoder = Decoder(codec)
    for payload in payloads:
        try:
            samples = decoder.decode(payload)
        except CodecError:
            continue
        assert samples.ndim == 1
        assert samples.dtype == np.int16
        assert len(samples) <= codec.sample_rate * 0.12 or codec is not OPUS


def test_codecs_have_names() -> None:
    assert codec_named("OPUS") is OPUS
    assert codec_named("g722") is G722
    with pytest.raises(ValueError, match="opus, G722, PCMA, PCMU"):
        codec_named("speex")
