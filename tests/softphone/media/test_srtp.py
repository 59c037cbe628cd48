"""SRTP and its keys, against pylibsrtp directly."""

from __future__ import annotations

import struct

import pylibsrtp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.drops import Drop
from softphone.media.srtp import (
    AES_128_GCM,
    AES_256_GCM,
    AES_CM_32,
    AES_CM_80,
    CryptoError,
    CryptoLine,
    MediaDropped,
    Protector,
    Suite,
    Unprotector,
    offered_suites,
    supported,
)
from tests.softphone.media.support import seeded

SUITES = [AES_CM_80, AES_CM_32, AES_128_GCM, AES_256_GCM]
KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"  # the example of RFC 4568 section 9.1


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"speech" * 10) -> bytes:
    return struct.pack("!BBHLL", 0x80, 96, sequence & 0xFFFF, sequence * 960 & 0xFFFFFFFF, ssrc) + payload


def rtcp(ssrc: int = 7) -> bytes:
    return struct.pack("!BBHLL", 0x81, 201, 7, ssrc, 8) + bytes(24 - 4)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_packets_pass_and_other_implementations_open_them(suite: Suite) -> None:
    line = CryptoLine.create(1, suite, seeded(1))
    sender, receiver = Protector(line), Unprotector(CryptoLine.parse(str(line)))
    foreign = pylibsrtp.Session(
        pylibsrtp.Policy(key=line.key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=suite.profile)
    )
    for sequence in (1, 2, 3):
        sealed = sender.rtp(rtp(sequence))
        assert b"speech" not in sealed
        assert receiver.rtp(sealed) == foreign.unprotect(sealed) == rtp(sequence)
    sealed = sender.rtcp(rtcp())
    assert receiver.rtcp(sealed) == foreign.unprotect_rtcp(sealed) == rtcp()


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_replayed_and_changed_packets_are_dropped_and_change_nothing(suite: Suite) -> None:
    line = CryptoLine.create(1, suite, seeded(1))
    sender, receiver = Protector(line), Unprotector(line)
    first, second = sender.rtp(rtp(1)), sender.rtp(rtp(2))
    assert receiver.rtp(first) == rtp(1)
    for at in range(len(second)):
        changed = second[:at] + bytes([second[at] ^ 1]) + second[at + 1 :]
        with pytest.raises(MediaDropped) as caught:
            receiver.rtp(changed)
        assert caught.value.drop in (Drop.SRTP_AUTHENTICATION, Drop.SRTP_FAILED, Drop.SRTP_REPLAYED)
        if at >= 12:
            assert caught.value.drop is Drop.SRTP_AUTHENTICATION
    assert receiver.rtp(second) == rtp(2)
    for packet in (first, second):
        with pytest.raises(MediaDropped) as caught:
            receiver.rtp(packet)
        assert caught.value.drop is Drop.SRTP_REPLAYED


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_truncated_packets_are_dropped(suite: Suite) -> None:
    line = CryptoLine.create(1, suite, seeded(1))
    sender, receiver = Protector(line), Unprotector(line)
    media, control = sender.rtp(rtp(1)), sender.rtcp(rtcp())
    for end in range(len(media)):
        with pytest.raises(MediaDropped):
            receiver.rtp(media[:end])
    for end in range(len(control)):
        with pytest.raises(MediaDropped):
            receiver.rtcp(control[:end])
    with pytest.raises(MediaDropped):
        receiver.rtp(bytes(4000))
    assert receiver.rtp(media) == rtp(1)
    assert receiver.rtcp(control) == rtcp()


@given(st.binary(max_size=1600))
def test_random_bytes_are_dropped(data: bytes) -> None:
    receiver = Unprotector(CryptoLine.create(1, AES_CM_80, seeded(1)))
    for take in (receiver.rtp, receiver.rtcp):
        with pytest.raises(MediaDropped):
            take(data)


def test_a_burst_after_a_long_handover_is_no_replay() -> None:
    line = CryptoLine.create(1, AES_128_GCM, seeded(1))
    sender, receiver = Protector(line), Unprotector(line)
    sealed = [sender.rtp(rtp(n)) for n in range(1, 900)]
    assert receiver.rtp(sealed[-1]) == rtp(899)
    assert receiver.rtp(sealed[0]) == rtp(1)


def test_the_sequence_number_wraps() -> None:
    line = CryptoLine.create(1, AES_128_GCM, seeded(1))
    sender, receiver = Protector(line), Unprotector(line)
    for n in range(0xFFFD, 0x10004):
        assert receiver.rtp(sender.rtp(rtp(n))) == rtp(n)


def test_a_packet_too_long_to_send_is_dropped() -> None:
    sender = Protector(CryptoLine.create(1, AES_128_GCM, seeded(1)))
    with pytest.raises(MediaDropped):
        sender.rtp(rtp(1, payload=bytes(2000)))


def test_a_crypto_line_is_read() -> None:
    line = CryptoLine.parse(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20 WSH=64")
    assert (line.tag, line.suite, len(line.key)) == (1, AES_CM_80, 30)
    assert str(line) == f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"
    assert CryptoLine.parse(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576") == line


def test_padding_of_the_key_may_be_missing() -> None:
    line = CryptoLine.create(3, AES_128_GCM, seeded(2))
    assert str(line).endswith("=")
    assert CryptoLine.parse(str(line).rstrip("=")) == line


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a tag, a suite and a key"),
        ("1 AES_CM_128_HMAC_SHA1_80", "a tag, a suite and a key"),
        (f"x AES_CM_128_HMAC_SHA1_80 inline:{KEY}", "the tag"),
        (f"1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", "the tag"),
        (f"1 F8_128_HMAC_SHA1_80 inline:{KEY}", "not supported"),
        (f"1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}", "not inline"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4", "master key identifiers"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^x", "lifetime"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}", "several keys"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-4]}", "27 bytes instead of 30"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:*" + KEY[1:], "not base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP", "session parameter"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1", "session parameter"),
    ],
)
def test_crypto_lines_that_cannot_be_used(text: str, why: str) -> None:
    with pytest.raises(CryptoError, match=why) as caught:
        CryptoLine.parse(text)
    assert KEY[:8] not in str(caught.value)


@given(st.text())
def test_any_text_is_a_crypto_line_or_an_error(text: str) -> None:
    for candidate in (
        text,
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{text}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{text}",
    ):
        try:
            line = CryptoLine.parse(candidate)
        except CryptoError:
            continue
        assert CryptoLine.parse(str(line)) == line


def test_no_key_is_shown() -> None:
    line = CryptoLine.parse(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
    for shown in (repr(line), repr(Protector(line)), repr(Unprotector(line)), repr([line])):
        assert KEY[:8] not in shown
        assert repr(line.key)[2:10] not in shown
        assert line.key.hex()[:8] not in shown


def test_keys_come_from_the_randomness_that_is_given() -> None:
    assert CryptoLine.create(1, AES_CM_80, seeded(5)).key == seeded(5)(30)
    assert CryptoLine.create(1, AES_CM_80, lambda n: b"\x05" * n).key == b"\x05" * 30


def test_what_is_offered_is_what_libsrtp_can_do() -> None:
    assert all(supported(suite) for suite in offered_suites())
    assert AES_CM_80 in offered_suites()
    assert AES_CM_32 not in offered_suites()
    # A profile that libsrtp does not have stands for one that it was built without.
    assert not supported(Suite("NOT_THERE", 30, 0))
