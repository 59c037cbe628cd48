"""RTP numbering, checking and counting, and RTCP (RFC 3550)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.drops import Drop
from softphone.media.rtp import MAX_DROPOUT, Reception, Reports, Transmission, is_rtcp, parse_rtp
from softphone.media.srtp import MediaDropped
from tests.softphone.media.support import seeded


def packet(sequence: int, ssrc: int = 9, timestamp: int | None = None) -> RtpPacket:
    return RtpPacket(
        payload_type=0,
        sequence_number=sequence & 0xFFFF,
        timestamp=(sequence * 160 if timestamp is None else timestamp) & 0xFFFFFFFF,
        ssrc=ssrc,
        payload=b"x",
    )


def outcome(call: Callable[[], object]) -> Drop | None:
    """Why the call dropped its packet; None: it did not."""
    try:
        call()
    except MediaDropped as exc:
        return exc.drop
    return None


def feed(reception: Reception, *sequences: int, ssrc: int = 9) -> list[int | Drop]:
    """Packets on time; the extended sequence numbers, or why they were dropped."""
    results: list[int | Drop] = []
    for sequence in sequences:
        try:
            results.append(reception.receive(packet(sequence, ssrc), sequence * 0.020)[0])
        except MediaDropped as exc:
            results.append(exc.drop)
    return results


def test_sent_packets_are_numbered_without_gaps() -> None:
    sender = Transmission(seeded(1), 48_000)
    sent = [RtpPacket.parse(sender.next(96, b"abc", 960, 1.0, marker=n == 0)) for n in range(3)]
    assert [p.sequence_number for p in sent] == [sent[0].sequence_number + n for n in range(3)]
    assert [(p.timestamp - sent[0].timestamp) & 0xFFFFFFFF for p in sent] == [0, 960, 1920]
    assert {p.ssrc for p in sent} == {sender.ssrc}
    assert [p.marker for p in sent] == [1, 0, 0]
    assert (sender.packets, sender.octets) == (3, 9)
    assert sent[0].sequence_number < 0x8000


def test_skipped_time_shows_in_the_timestamp_only() -> None:
    sender = Transmission(lambda n: b"\xff" * n, 8_000)
    first = RtpPacket.parse(sender.next(0, b"", 160, 1.0))
    sender.skip(1600)
    second = RtpPacket.parse(sender.next(0, b"", 160, 1.2))
    assert second.sequence_number == (first.sequence_number + 1) & 0xFFFF
    assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 1760
    assert sender.timestamp_at(1.3) == (second.timestamp + 800) & 0xFFFFFFFF


def test_loss_reordering_and_duplicates() -> None:
    reception = Reception(8_000)
    assert feed(reception, 1, 2, 4, 3, 3, 7, 4) == [1, 2, 4, 3, Drop.DUPLICATE, 7, Drop.DUPLICATE]
    assert (reception.received, reception.lost, reception.duplicates) == (5, 2, 2)
    assert feed(reception, 5, 6) == [5, 6]
    assert reception.lost == 0


def test_packets_before_the_first_one_count() -> None:
    reception = Reception(8_000)
    assert feed(reception, 11, 10, 12) == [11, 10, 12]
    assert (reception.received, reception.lost) == (3, 0)


def test_the_sequence_is_extended_over_its_end() -> None:
    reception = Reception(8_000)
    assert feed(reception, 65534, 65535, 65537, 65536) == [65534, 65535, 65537, 65536]
    assert reception.lost == 0


def test_a_stranger_is_believed_only_with_two_packets_in_sequence() -> None:
    reception = Reception(8_000)
    feed(reception, 1, 2)
    assert feed(reception, 100, ssrc=5) == [Drop.UNEXPECTED_SSRC]
    assert feed(reception, 3) == [3]
    assert feed(reception, 300, 500, ssrc=5) == [Drop.UNEXPECTED_SSRC] * 2
    assert (reception.ssrc, reception.lost) == (9, 0)
    assert feed(reception, 501, 502, ssrc=5) == [501, 502]
    assert (reception.ssrc, reception.received, reception.lost) == (5, 5, 0)


def test_a_jump_is_believed_only_with_two_packets_in_sequence() -> None:
    reception = Reception(8_000)
    feed(reception, 1, 2)
    far = 2 + MAX_DROPOUT + 1
    assert feed(reception, far) == [Drop.SEQUENCE_JUMP]
    assert feed(reception, 3) == [3]
    assert feed(reception, far, far + 1) == [Drop.SEQUENCE_JUMP, far + 1]
    assert reception.lost == 0


def test_jitter_is_that_of_rfc_3550() -> None:
    reception = Reception(8_000)
    expected = 0.0
    for n in range(100):
        reception.receive(packet(n), n * 0.020 + (0.004 if n % 2 else 0.0))
        if n:
            expected += (32 - expected) / 16
    assert reception.jitter == pytest.approx(expected)


def test_jitter_survives_a_wrap_of_timestamps() -> None:
    reception = Reception(8_000)
    for n in range(10):
        reception.receive(packet(n, timestamp=(1 << 32) - 800 + 160 * n), n * 0.020)
    assert reception.jitter == pytest.approx(0, abs=0.01)


@given(st.binary(max_size=200))
def test_random_bytes_are_dropped_or_packets(data: bytes) -> None:
    for candidate in (data, b"\x80\x00" + data, b"\xb0\x00" + data):
        assert outcome(partial(parse_rtp, candidate)) in (None, Drop.MALFORMED_RTP)


def test_truncated_headers_are_dropped() -> None:
    # Version 2, padding, extension of one word, two contributing sources, padding of four bytes.
    whole = struct.pack("!BBHLLLLHHL", 0xB2, 0, 1, 2, 3, 4, 5, 0xBEDE, 1, 0x10AA0000) + b"sound" + b"\0\0\0\4"
    assert parse_rtp(whole).payload == b"sound"
    for end in range(28):
        with pytest.raises(MediaDropped) as caught:
            parse_rtp(whole[:end])
        assert caught.value.drop is Drop.MALFORMED_RTP


# -- RTCP -----------------------------------------------------------------------------------------------------------


def ends() -> tuple[Transmission, Reception, Reports]:
    return Transmission(seeded(1), 8_000), Reception(8_000), Reports(seeded(2), "name", 1000.0)


def test_reports_go_both_ways_and_give_loss_and_round_trip() -> None:
    sender, own_reception, reports = ends()
    peer_sender, peer_reception, peer_reports = (
        Transmission(seeded(7), 8_000),
        Reception(8_000),
        Reports(seeded(8), "peer", 5000.0),
    )
    for n in range(10):
        data = sender.next(0, b"x", 160, n * 0.02)
        if n not in (3, 4):
            peer_reception.receive(RtpPacket.parse(data), n * 0.02 + 0.05)
    report = reports.make(1.0, sender, own_reception)
    assert [type(p) for p in RtcpPacket.parse(report)] == [RtcpSrPacket, RtcpSdesPacket]
    peer_reports.receive(report, 1.05, peer_sender, peer_reception)
    reply = peer_reports.make(3.0, peer_sender, peer_reception)
    (block,) = RtcpPacket.parse(reply)[0].reports  # type: ignore[union-attr]
    assert isinstance(RtcpPacket.parse(reply)[0], RtcpRrPacket)
    assert (block.packets_lost, block.fraction_lost) == (2, 2 * 256 // 10)
    reports.receive(reply, 3.05, sender, own_reception)
    assert reports.remote_lost == 2
    assert reports.round_trip == pytest.approx(0.100, abs=0.001)


def test_bye_is_believed_from_the_source_only() -> None:
    sender, reception, reports = ends()
    feed(reception, 1, 2)
    stranger = Transmission(seeded(3), 8_000)
    reports.receive(Reports(seeded(4), "x", 0).make(1, stranger, Reception(8_000), bye=True), 1, sender, reception)
    assert not reports.left
    stranger.ssrc = 9
    bye = Reports(seeded(4), "x", 0).make(1, stranger, Reception(8_000), bye=True)
    assert isinstance(RtcpPacket.parse(bye)[-1], RtcpByePacket)
    reports.receive(bye, 1, sender, reception)
    assert reports.left


def test_intervals_are_random_around_five_seconds() -> None:
    sender, reception, reports = ends()
    reports.start(100.0)
    assert reports.due is not None
    assert 1.0 <= reports.due - 100.0 <= 3.1
    intervals = []
    for n in range(200):
        reports.make(float(n), sender, reception)
        intervals.append(reports.due - n)
    assert min(intervals) >= 2.5 / 1.21828 - 0.01
    assert max(intervals) <= 7.5 / 1.21828 + 0.01
    assert max(intervals) - min(intervals) > 2


def test_truncated_and_damaged_reports_change_nothing() -> None:
    sender, reception, reports = ends()
    feed(reception, 1, 2)
    peer = Transmission(seeded(3), 8_000)
    peer.next(0, b"x", 160, 0.0)
    whole = Reports(seeded(4), "x", 0).make(1, peer, reception)
    for end in range(len(whole)):
        if end in (len(bytes(RtcpPacket.parse(whole)[0])),):
            continue  # the report alone is a valid packet
        with pytest.raises(MediaDropped) as caught:
            reports.receive(whole[:end], 1.0, sender, reception)
        assert caught.value.drop is Drop.MALFORMED_RTCP
    assert reports.round_trip is None


@given(st.binary(max_size=120), st.integers(0, 31), st.sampled_from([200, 201]))
def test_random_reports_are_dropped_or_read(data: bytes, count: int, kind: int) -> None:
    sender, reception, reports = ends()
    padded = data + bytes(-len(data) % 4)
    header = struct.pack("!BBH", 0x80 | count, kind, len(padded) // 4)
    receiver_report = struct.pack("!BBHL", 0x80, 201, 1, 5)
    for candidate in (data, header + padded, receiver_report + data, receiver_report + header + padded):
        read = partial(reports.receive, candidate, 1.0, sender, reception)
        assert outcome(read) in (None, Drop.MALFORMED_RTCP)


def test_rtp_and_rtcp_are_told_apart() -> None:
    sender, reception, reports = ends()
    assert is_rtcp(reports.make(1.0, sender, reception))
    assert not is_rtcp(sender.next(96, b"", 160, 1.0, marker=True))
    assert not is_rtcp(b"\x80")
