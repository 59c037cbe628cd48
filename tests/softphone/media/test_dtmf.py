"""Digits: telephone events (RFC 4733), tones, INFO bodies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.codecs import G722, OPUS, PCMU, Codec, Decoder, Encoder, Samples
from softphone.media.drops import Drop
from softphone.media.dtmf import (
    DIGITS,
    DigitMethod,
    DigitReceived,
    DigitReceiver,
    DigitSender,
    TelephoneEvent,
    info_body,
    parse_info,
)
from softphone.media.srtp import MediaDropped
from softphone.media.tones import ToneDetector, ToneSender
from tests.softphone.media.support import voice, words

Sent = tuple[bytes, int, bool, int]
"Payload, timestamp, marker, tick."


def sent(digits: str, ticks: int, seconds: float = 0.1) -> list[Sent]:
    sender = DigitSender()
    sender.add(digits, seconds)
    packets = []
    for tick in range(400):
        packet = sender.next(ticks)
        if packet is not None:
            packets.append((packet.payload, 1000 + (tick - packet.age) * ticks, packet.first, tick))
    assert not len(sender)
    return packets


def heard(packets: list[Sent], rate: int) -> list[DigitReceived]:
    receiver = DigitReceiver()
    found = []
    for payload, timestamp, _, tick in packets:
        found += receiver.receive(payload, timestamp, rate, tick * 0.02)
    return found + receiver.silent_since(10.0, rate)


def test_a_digit_on_the_wire() -> None:
    packets = sent("5", 160)
    events = [TelephoneEvent.parse(payload) for payload, *_ in packets]
    # Five packets while it lasts, the last of them ends it, and that one twice more (RFC 4733 section 2.5.1.4).
    assert [e.duration for e in events] == [160, 320, 480, 640, 800, 800, 800]
    assert [e.end for e in events] == [False] * 4 + [True] * 3
    assert {e.event for e in events} == {5}
    assert [marker for _, _, marker, _ in packets] == [True] + [False] * 6
    assert {timestamp for _, timestamp, _, _ in packets} == {1000}
    assert [tick for *_, tick in packets] == list(range(7))


@pytest.mark.parametrize(("ticks", "rate"), [(160, 8_000), (960, 48_000)])
def test_digits_arrive_once_each_in_order(ticks: int, rate: int) -> None:
    packets = sent(DIGITS + "##1", ticks)
    assert [d.digit for d in heard(packets, rate)] == list(DIGITS + "##1")
    assert {round(d.duration, 3) for d in heard(packets, rate)} == {0.1}
    begins = sorted({timestamp for _, timestamp, _, _ in packets})
    # 100 ms of digit and 60 ms of pause.
    assert {b - a for a, b in pairwise(begins)} == {8 * ticks}


@given(lost=st.sets(st.integers(0, 20)), swapped=st.sets(st.integers(0, 19)))
def test_losses_and_reordering_neither_lose_nor_double_a_digit(lost: set[int], swapped: set[int]) -> None:
    packets = sent("5*5", 160)
    assert len(packets) == 21
    whole = [set(range(n, n + 7)) <= lost for n in (0, 7, 14)]
    order = list(range(21))
    for n in swapped:
        if n % 7 != 6:
            order[n], order[n + 1] = order[n + 1], order[n]
    found = heard([packets[n] for n in order if n not in lost], 8_000)
    assert [d.digit for d in found] == [d for d, gone in zip("5*5", whole, strict=True) if not gone]


def test_a_digit_longer_than_16_bits_comes_in_segments() -> None:
    receiver = DigitReceiver()
    found = receiver.receive(bytes(TelephoneEvent(9, False, 10, 0xFFFF)), 0, 48_000, 1.4)
    found += receiver.receive(bytes(TelephoneEvent(9, False, 10, 9_000)), 0xFFFF, 48_000, 1.5)
    found += receiver.receive(bytes(TelephoneEvent(9, True, 10, 30_465)), 0xFFFF, 48_000, 2.0)
    assert [(d.digit, round(d.duration, 3)) for d in found] == [("9", 2.0)]


def test_what_is_no_digit_is_dropped_by_name() -> None:
    receiver = DigitReceiver()
    for payload, drop in ((b"\x05\x80", Drop.MALFORMED_EVENT), (b"\x20\x80\0\0", Drop.UNKNOWN_EVENT)):
        with pytest.raises(MediaDropped) as caught:
            receiver.receive(payload, 0, 8_000, 0.0)
        assert caught.value.drop is drop


@given(st.lists(st.tuples(st.binary(max_size=8), st.integers(0, 2**32 - 1)), max_size=20))
def test_nonsense_never_stops_the_receiver(packets: list[tuple[bytes, int]]) -> None:
    receiver = DigitReceiver()
    for payload, timestamp in packets:
        try:
            for digit in receiver.receive(payload, timestamp, 8_000, 0.0):
                assert digit.digit in DIGITS
        except MediaDropped:
            pass


def test_only_keys_of_the_keypad_are_sent() -> None:
    sender = DigitSender()
    for digits, seconds, why in (("12x", 0.1, "'X' is not on the keypad"), ("1", 3.0, "a digit lasts")):
        with pytest.raises(ValueError, match=why):
            sender.add(digits, seconds)
    with pytest.raises(ValueError, match="more than 256"):
        sender.add("1" * 300)
    assert sender.next(160) is None


# -- tones ------------------------------------------------------------------------------------------------------------


def detected(sound: Samples, rate: int) -> list[DigitReceived]:
    detector = ToneDetector(rate)
    frame = rate // 50
    whole = sound[: len(sound) // frame * frame].reshape(-1, frame)
    return [digit for block in whole for digit in detector.hear(block)]


def frames(digits: str, rate: int, seconds: float = 0.1) -> Samples:
    sender = ToneSender(rate)
    sender.add(digits, seconds)
    parts = []
    while (frame := sender.next()) is not None:
        parts.append(frame)
    return np.concatenate(parts)


@pytest.mark.parametrize("codec", [PCMU, G722, OPUS], ids=str)
def test_tones_are_found_behind_every_codec(codec: Codec) -> None:
    sound = frames(DIGITS + "00", codec.sample_rate)
    encoder, decoder = Encoder(codec), Decoder(codec)
    blocks = sound.reshape(-1, codec.frame)
    found = detected(np.concatenate([decoder.decode(encoder.encode(b)) for b in blocks]), codec.sample_rate)
    assert "".join(d.digit for d in found) == DIGITS + "00"
    assert all(d.method is DigitMethod.TONE and 0.06 <= d.duration <= 0.12 for d in found)


@pytest.mark.parametrize("shift", [0, 37, 80, 121])
@pytest.mark.parametrize("error", [-0.015, 0.0, 0.015])
def test_tones_that_begin_anywhere_and_are_out_of_tune(shift: int, error: float) -> None:
    sound = np.pad(frames("159D", 8_000), (shift, 320))
    stretched = np.interp(np.arange(0, len(sound) - 1, 1 + error), np.arange(len(sound)), sound).astype(np.int16)
    assert "".join(d.digit for d in detected(stretched, 8_000)) == "159D"


def test_speech_silence_and_single_tones_are_no_digits() -> None:
    t = np.arange(8_000) / 8_000
    single = np.asarray(8_000 * np.sin(2 * np.pi * 697 * t), np.int16)
    noise = np.random.default_rng(1).integers(-9_000, 9_000, 80_000).astype(np.int16)
    for sound in (voice(8_000, 10), words(8_000, 10), single, noise, np.zeros(8_000, np.int16)):
        assert detected(sound, 8_000) == []


# -- INFO -------------------------------------------------------------------------------------------------------------


def test_info_bodies() -> None:
    assert info_body("#", 0.16) == "Signal=#\r\nDuration=160\r\n"
    assert parse_info("application/dtmf-relay", info_body("#", 0.16)) == DigitReceived("#", 0.16, DigitMethod.INFO)
    assert parse_info("Application/DTMF-Relay; x=y", "duration = 250\nsignal = d\n").digit == "D"
    assert parse_info("application/dtmf-relay", "Signal=11\r\n") == DigitReceived("#", 0.1, DigitMethod.INFO)
    assert parse_info("application/dtmf", "7\r\n").digit == "7"
    for kind, body in (("text/plain", "1"), ("application/dtmf-relay", "Signal=\r\n"), ("application/dtmf", "12x")):
        with pytest.raises(ValueError, match=r"digit|keypad"):
            parse_info(kind, body)
    with pytest.raises(ValueError, match="one digit"):
        info_body("12")


@given(st.text(max_size=60))
def test_nonsense_in_info_is_a_value_error(body: str) -> None:
    try:
        assert parse_info("application/dtmf-relay", body).digit in DIGITS
    except ValueError:
        pass
