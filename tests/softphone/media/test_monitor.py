"""Quality and silence: E-model, bursts of loss, extended reports (RFC 3611), one-way sound, a peer that disappears."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.codecs import KNOWN
from softphone.media.emodel import BEST, IMPAIRMENTS, burst_ratio, mos_of, mouth_to_ear, r_factor
from softphone.media.monitor import AudioRestored, MediaTimeout, Monitor, MonitorEvent, OneWayAudio, Way
from softphone.media.rtp import PeerReport, Reception, Reports, Transmission, parse_rtp
from softphone.media.srtp import MediaDropped
from softphone.media.voip_metrics import LossBursts, VoipMetrics, extended_report, metrics_in
from tests.softphone.media.support import seeded

# -- E-model


def test_known_points_of_the_e_model() -> None:
    assert mos_of(BEST) == pytest.approx(4.41, abs=0.01)
    assert mos_of(50) == pytest.approx(2.58, abs=0.01)
    assert (mos_of(-5), mos_of(120)) == (1.0, 4.5)
    # G.711 with concealment, 5 % of random loss: Ie,eff = 95 * 5 / (5 + 25.1).
    assert r_factor("PCMU", 0.05, 1.0, 0.0) == pytest.approx(BEST - 15.78, abs=0.01)
    # 300 ms: 0.024 * 300 + 0.11 * (300 - 177.3).
    assert r_factor("PCMU", 0.0, 1.0, 0.3) == pytest.approx(BEST - 20.70, abs=0.01)
    assert r_factor("PCMU", 0.05, 3.0, 0.0) < r_factor("PCMU", 0.05, 1.0, 0.0)
    assert mouth_to_ear(0.1, 0.04) == pytest.approx(0.11)


def test_every_codec_can_be_judged() -> None:
    assert {codec.name for codec in KNOWN} == set(IMPAIRMENTS)


@given(st.floats(0, 1), st.floats(1, 20), st.floats(0, 2))
def test_worse_is_never_better(loss: float, ratio: float, delay: float) -> None:
    r = r_factor("opus", loss, ratio, delay)
    assert 0 <= r <= BEST
    assert r_factor("opus", min(1, loss + 0.05), ratio, delay) <= r
    assert r_factor("opus", loss, ratio, delay + 0.1) <= r
    assert 1 <= mos_of(r) <= 4.5


# -- bursts


def told(pattern: str) -> LossBursts:
    bursts = LossBursts()
    for packet in pattern:
        if packet == ".":
            bursts.played()
        else:
            bursts.missed()
    return bursts


def test_single_losses_are_a_gap() -> None:
    bursts = told(("." * 49 + "x") * 4 + "." * 40)
    burst, gap = bursts.densities()
    assert burst == 0
    assert gap == pytest.approx(0.02, abs=0.004)
    assert bursts.lengths() == (0.0, 240)
    assert burst_ratio(bursts.missing, bursts.runs, bursts.packets) == 1.0


def test_losses_close_together_are_a_burst() -> None:
    bursts = told("." * 100 + "xx.x..xxx" + "." * 100)
    density, gap = bursts.densities()
    assert density == pytest.approx(6 / 9, abs=0.12)
    assert gap == 0
    assert bursts.lengths()[0] == pytest.approx(9, abs=1)
    assert bursts.lengths()[1] == pytest.approx(200, abs=1)
    assert (bursts.missing, bursts.runs) == (6, 3)
    assert burst_ratio(6, 3, 209) > 1.9


@given(st.text(".x", max_size=300))
def test_shares_stay_shares(pattern: str) -> None:
    bursts = told(pattern)
    assert all(0 <= share <= 1 for share in bursts.densities())
    assert all(0 <= length <= max(1, len(pattern)) for length in bursts.lengths())
    assert bursts.runs <= bursts.missing <= bursts.packets == len(pattern)


# -- extended reports

METRICS = VoipMetrics(0x1234, 0.0625, 0.03125, 0.5, 0.015625, 120, 4000, 87, 61, 81, 4.3, 4.1, 41, 200)


def test_metrics_on_the_wire() -> None:
    packet = extended_report(0xAABBCCDD, METRICS)
    assert len(packet) == 44
    assert packet[:8] == bytes.fromhex("80cf000a aabbccdd")
    assert packet[8:20] == bytes.fromhex("07000008 00001234 10088004")
    assert metrics_in(packet) == [METRICS]
    assert metrics_in(bytes.fromhex("80c90001 00000001") + packet) == [METRICS]


@given(st.binary(max_size=120))
def test_any_compound_packet_is_read(data: bytes) -> None:
    metrics_in(data)
    metrics_in(b"\x80\xcf" + data)


@given(st.data())
def test_damaged_reports_are_dropped_by_name(data: st.DataObject) -> None:
    sender, receiver, reports = Transmission(seeded(1), 8_000), Reception(8_000), Reports(seeded(2), "x", 0.0)
    sender.next(0, bytes(160), 160, 0.0)
    packet = bytearray(reports.make(1.0, sender, receiver, metrics=METRICS, bye=True))
    for _ in range(data.draw(st.integers(1, 6))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MediaDropped):
        reports.receive(bytes(packet[: data.draw(st.integers(0, len(packet)))]), 1.0, sender, receiver)


@given(st.binary(max_size=200))
def test_any_packet_is_rtp_or_dropped_by_name(data: bytes) -> None:
    for packet in (data, b"\x80" + data, b"\x90" + data, b"\xbf" + data):
        with suppress(MediaDropped):
            parse_rtp(packet)


def test_reports_tell_both_sides_what_the_other_hears() -> None:
    ours, theirs = Transmission(seeded(1), 8_000), Transmission(seeded(2), 8_000)
    at_theirs = Reception(8_000)
    for n in range(10):
        packet = parse_rtp(ours.next(0, bytes(160), 160, 0.02 * n))
        if n != 5:
            at_theirs.receive(packet, 0.02 * n)
    sending, reading = Reports(seeded(3), "them", 0.0), Reports(seeded(4), "us", 0.0)
    metrics = replace(METRICS, ssrc=ours.ssrc)
    report = reading.receive(sending.make(1.0, theirs, at_theirs, metrics=metrics), 1.1, ours, Reception(8_000))
    assert report is not None
    assert report.highest == ours.sequence - 1
    assert report.fraction_lost == pytest.approx(0.1, abs=0.01)
    assert reading.metrics == metrics
    deaf = Reports(seeded(5), "them", 0.0).make(2.0, theirs, Reception(8_000))
    assert reading.receive(deaf, 2.1, ours, Reception(8_000)) == PeerReport(None)


# -- watching


def seconds(monitor: Monitor, begin: int, end: int, *, rtp: bool, receives: bool = True) -> list[MonitorEvent]:
    events = []
    for second in range(begin, end):
        if rtp:
            monitor.heard(float(second), sound=True)
        events += monitor.check(float(second), receives=receives, sends=True)
    return events


def test_silence_is_told_once_and_its_end() -> None:
    monitor = Monitor("opus", 0.0, 30.0)
    assert seconds(monitor, 0, 4, rtp=True) == []
    assert seconds(monitor, 4, 12, rtp=False) == [OneWayAudio(Way.INCOMING, 5.0)]
    assert seconds(monitor, 12, 20, rtp=True) == [AudioRestored(Way.INCOMING)]


def test_a_peer_that_does_not_hear_us_says_so() -> None:
    monitor = Monitor("opus", 0.0, 30.0)
    found: list[list[MonitorEvent]] = []
    for n, highest in enumerate([100, 350, 350, 350, 850]):
        now = 5.0 * n
        monitor.heard(now, sound=True)
        monitor.reported(PeerReport(highest), 250 * n + 100, now)
        found.append(monitor.check(now, receives=True, sends=True))
    assert found == [[], [], [], [OneWayAudio(Way.OUTGOING, 10.0)], [AudioRestored(Way.OUTGOING)]]
    nothing = Monitor("opus", 0.0, 30.0)
    for n in range(3):
        nothing.reported(PeerReport(None), 250 * (n + 1), 5.0 * n)
    assert [type(e) for e in nothing.check(1.0, receives=False, sends=True)] == [OneWayAudio]


def test_a_peer_that_disappeared_is_told_once() -> None:
    monitor = Monitor("opus", 0.0, 30.0)
    seconds(monitor, 0, 5, rtp=True)
    events = seconds(monitor, 5, 60, rtp=False)
    assert events == [OneWayAudio(Way.INCOMING, 5.0), MediaTimeout(30.0)]
    never = Monitor("opus", 0.0, None)
    assert MediaTimeout not in {type(e) for e in seconds(never, 0, 600, rtp=False)}


def test_hold_is_no_silence_unless_reports_stop() -> None:
    monitor = Monitor("opus", 0.0, 30.0)
    assert seconds(monitor, 0, 100, rtp=False, receives=False) == []
    for second in range(100, 200, 5):
        monitor.heard(float(second), sound=False)
        assert monitor.check(float(second), receives=False, sends=False) == []
    assert seconds(monitor, 200, 240, rtp=False, receives=False) == [MediaTimeout(30.0)]


def test_the_quality_of_every_second() -> None:
    monitor, bursts = Monitor("PCMU", 0.0, None), LossBursts()
    for second in range(3):
        for n in range(50):
            if second == 1 and n % 10 == 0:
                bursts.missed()
            else:
                bursts.played()
        assert monitor.measure(float(second), bursts, 0.002, 0.04, 0.05) is not None
    assert monitor.measure(3.0, bursts, 0.002, 0.04, 0.05) is None, "nothing was due"
    good, bad, again = monitor.history
    assert bad.loss == pytest.approx(0.1)
    assert bad.mos < good.mos - 0.5
    assert again.mos == pytest.approx(good.mos, abs=0.01)
    assert good.delay_ms == pytest.approx(85)
