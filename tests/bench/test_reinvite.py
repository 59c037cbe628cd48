"""PJSUA2 changes its address in a call, in the section that measures it; what counts as a packet that came."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from bench import reinvite, rtp_tap

RTP = struct.pack("!BBHII", 0x80, 8, 7, 160, 0x1234) + bytes(160)


def ipv4(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, bytes(4), bytes(4))
    return head + payload


def udp(payload: bytes) -> bytes:
    return ipv4(17, struct.pack("!HHHH", 4000, 4002, 8 + len(payload), 0) + payload)


def test_speech_is_rtp_and_nothing_else() -> None:
    assert rtp_tap.speech(udp(RTP)) == RTP[:12]
    report = struct.pack("!BBHI", 0x80, 200, 6, 0x1234) + bytes(20)
    for other in (udp(report), udp(b"REGISTER sip:roamphone.test"), udp(b""), ipv4(6, RTP), b""):
        assert rtp_tap.speech(other) is None


def test_a_packet_that_no_socket_took_is_named_by_the_kernels_answer() -> None:
    answer = ipv4(1, b"\x03\x03" + bytes(6) + udp(RTP))
    assert rtp_tap.refused(answer) == RTP[:12]
    assert rtp_tap.refused(ipv4(1, b"\x03\x01" + bytes(6) + udp(RTP))) is None
    assert rtp_tap.refused(answer[:30]) is None
    assert rtp_tap.refused(udp(RTP)) is None


@pytest.mark.root
@pytest.mark.interop
def test_pjsua2_follows_its_address_by_reinvite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reinvite, "CHANGES", 1)
    monkeypatch.setattr(reinvite, "PAUSE", 1.0)
    figures = cast(dict[str, Any], reinvite.measure())
    for name in ("break_before_make", "unregistered", "make_before_break", "baresip"):
        assert figures[name]["changes"] == 1
        assert figures[name]["packets"] > 100
        assert 0 < figures[name]["gap_p50_ms"] < 1500  # it comes back within the second and a half
