"""libopus: forward error correction, adaptation, wishes of the other side (RFC 7587)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.adaptation import PROTECTED_BIT_RATE, RateControl
from softphone.media.codecs import OPUS, CodecError, Decoder, Encoder
from softphone.media.jitter import MediaPacket
from softphone.media.opus import BIT_RATE, EXPECTED_LOSS, LEAST_BIT_RATE, OpusDecoder, OpusSettings, has_fec
from tests.softphone.media.support import Line, words


def encoded(encoder: Encoder, seconds: float = 2.0) -> list[bytes]:
    sound = words(48_000, seconds)
    return [encoder.encode(f) for f in sound[: len(sound) // 960 * 960].reshape(-1, 960)]


def ready_for(loss: int, bit_rate: int = PROTECTED_BIT_RATE, settings: OpusSettings | None = None) -> Encoder:
    encoder = Encoder(OPUS, settings)
    assert encoder.opus is not None
    encoder.opus.adapt(bit_rate, loss)
    return encoder


def test_a_lost_packet_comes_back_out_of_the_next() -> None:
    packets = encoded(ready_for(15))
    assert sum(map(has_fec, packets)) > len(packets) / 2
    whole, lossy = Decoder(OPUS), Decoder(OPUS)
    compared = []
    for n, packet in enumerate(packets[:-1]):
        clean = whole.decode(packet)
        if n % 7 == 6 and has_fec(packets[n + 1]) and np.abs(clean).max() > 2_000:
            again = lossy.recover(packets[n + 1])
            assert again is not None
            compared.append(float(np.corrcoef(clean, again)[0, 1]))
        else:
            lossy.decode(packet)
    assert len(compared) > 5
    assert np.median(compared) > 0.8


def test_the_player_uses_it() -> None:
    packets = encoded(ready_for(15))
    line = Line(OPUS)
    lost = {n for n in range(10, 90, 8) if has_fec(packets[n + 1])}
    assert len(lost) > 5
    arrivals = [(0.02 * n, MediaPacket(n, n * 960, 96, p)) for n, p in enumerate(packets) if n not in lost]
    line.run(arrivals, 95)
    counters = line.player.counters
    assert counters.recovered >= (len(lost) - 1) * 960
    assert counters.concealed <= 2 * 960
    assert line.player.bursts.missing == 0, "what was recovered is not lost to the ear"


def test_without_the_other_sides_wish_there_is_no_correction() -> None:
    assert not any(map(has_fec, encoded(ready_for(20, settings=OpusSettings(fec=False)))))


def test_limits_of_the_other_side() -> None:
    def size(settings: OpusSettings) -> float:
        return float(np.mean([len(p) for p in encoded(ready_for(5, 48_000, settings))]))

    assert size(OpusSettings(greatest_bit_rate=16_000)) < 0.55 * size(OpusSettings())
    assert len({len(p) for p in encoded(ready_for(5, 32_000, OpusSettings(constant=True)))}) == 1
    # maxplaybackrate=8000: narrow band, which the first bits of a packet say (RFC 6716 section 3.1).
    assert {p[0] >> 3 for p in encoded(ready_for(5, settings=OpusSettings(rate=8_000)))} <= {0, 1, 2, 3, 16, 17, 18, 19}


@given(st.binary(max_size=300))
def test_any_payload_is_decoded_or_refused(payload: bytes) -> None:
    has_fec(payload)
    decoder = Decoder(OPUS)
    try:
        assert 0 < len(decoder.decode(payload)) <= 5_760
    except CodecError:
        pass
    decoder.recover(payload)


def test_decoders_are_independent_and_freed() -> None:
    one, other = OpusDecoder(), OpusDecoder()
    packets = encoded(Encoder(OPUS), 0.2)
    first = [one.decode(p) for p in packets]
    assert all((a == other.decode(p)).all() for a, p in zip(first, packets, strict=True))
    with pytest.raises(ValueError, match="cannot decode"):
        one.decode(b"\xff")
    del one
    other.decode(packets[0])


# -- adaptation -------------------------------------------------------------------------------------------------------


def test_loss_is_answered_with_correction_and_then_with_less() -> None:
    control = RateControl()
    assert (control.bit_rate, control.expected_loss) == (BIT_RATE, EXPECTED_LOSS)
    for _ in range(4):
        control.reported(0.05)
    assert control.bit_rate == PROTECTED_BIT_RATE
    assert control.expected_loss == 10
    control.reported(0.4)
    assert control.expected_loss == 30
    reduced = control.bit_rate
    assert reduced < PROTECTED_BIT_RATE
    for _ in range(12):
        control.reported(0.5)
    assert control.bit_rate == LEAST_BIT_RATE


def test_it_comes_back_slowly() -> None:
    control = RateControl()
    for _ in range(12):
        control.reported(0.5)
    rates = []
    for _ in range(40):
        control.reported(0.0)
        rates.append(control.bit_rate)
    assert rates[-1] == BIT_RATE
    assert control.expected_loss == EXPECTED_LOSS
    assert max(b - a for a, b in pairwise(rates)) <= 4_000


@given(st.lists(st.floats(0, 1), max_size=50), st.integers(6_000, 64_000))
def test_the_limits_hold_whatever_is_reported(losses: list[float], greatest: int) -> None:
    control = RateControl(greatest)
    for loss in losses:
        control.reported(loss)
        assert min(LEAST_BIT_RATE, greatest) <= control.bit_rate <= greatest
        assert EXPECTED_LOSS <= control.expected_loss <= 30
