"""The demo must not call a broken call good."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sip_test_env.report import Audio, Handover, Report, Stream


def stream(*, missing: set[int] = frozenset(), first: int = 65_500, count: int = 500) -> Stream:  # type: ignore[assignment]
    """Fifty packets a second from second 100 on, 5 ms on the way; sequence numbers wrap as they do in RTP."""
    sent = [(100 + index * 0.02, (first + index) & 0xFFFF) for index in range(count)]
    arrived = [(at + 0.005, first + index) for index, (at, _) in enumerate(sent) if index not in missing]
    return Stream(sent, arrived)


def report(**changes: object) -> Report:
    audio = Audio(sent=500, received=498, lost=2, late=0, pesq=2.9, pesq_codec=3.0)
    handover = Handover("visited-a", "visited-b", 104.0, 21.0, {"to_mn": 60, "to_cn": 40}, {"to_mn": 2, "to_cn": 2})
    good = Report(
        "esp",
        True,
        "udp",
        "2001:db8:1::100",
        "2001:db8:1::100",
        {"to_mn": audio, "to_cn": audio},
        [handover],
        1,
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def test_losses_are_found_across_the_wrap_of_sequence_numbers() -> None:
    assert stream().lost() == 0
    assert stream(missing={30, 36, 400}).lost() == 3
    assert stream(missing={30, 36, 400}).lost(begin=107, end=109) == 1


def test_the_gap_is_the_longest_silence_at_the_receiver() -> None:
    assert stream().gap_ms(103, 105) == pytest.approx(20, abs=0.01)
    assert stream(missing={200, 201, 202}).gap_ms(103, 105) == pytest.approx(80, abs=0.01)


def test_a_stream_that_never_comes_back_is_silent_until_the_end() -> None:
    assert stream(missing=set(range(200, 500))).gap_ms(103.9, 105) == pytest.approx(1015, abs=1)
    assert Stream([], []).gap_ms(1, 3) == 2000


def test_a_handover_takes_the_losses_around_its_cut() -> None:
    streams = {"to_mn": stream(missing={200, 201, 400}), "to_cn": stream()}
    handover = Handover.measure("visited-a", "visited-b", 104.0, 104.03, streams)
    assert handover.lost == {"to_mn": 2, "to_cn": 0}
    assert handover.binding_ms == pytest.approx(30)
    assert handover.gap_ms["to_mn"] == pytest.approx(60, abs=0.01)


def test_a_good_run_is_ok_and_prints_as_promised() -> None:
    assert report().failures() == []
    shown = json.loads(json.dumps(report().as_json()))
    assert shown["ok"] is True
    assert set(shown) == {"ok", "tunnel", "network", "sip", "audio", "handovers", "facts", "capture"}
    assert set(shown["sip"]) == {"registered", "transport", "sdp_connection", "home_address"}
    assert set(shown["audio"]["to_mn"]) == {"sent", "received", "lost", "late", "pesq", "pesq_codec"}
    assert set(shown["handovers"][0]) == {"from", "to", "binding_ms", "gap_ms", "lost"}
    assert "Everything held." in report().as_text()
    assert "nobody heard of it" in report(facts=["nobody heard of it"]).as_text()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"registered": False}, "register"),
        ({"sdp_connection": "2001:db8:a::1"}, "SDP"),
        ({"handovers": []}, "handovers"),
        ({"audio": {}}, "no audio"),
        ({"notes": ["the call was dropped"]}, "dropped"),
        (
            {"audio": {"to_mn": Audio(500, 497, 3, 0, 2.9, 3.0), "to_cn": Audio(500, 498, 2, 0, 2.9, 3.0)}},
            "outside",
        ),
        (
            {"audio": {"to_mn": Audio(500, 498, 2, 0, 2.8, 3.0), "to_cn": Audio(500, 498, 2, 0, 2.9, 3.0)}},
            "PESQ",
        ),
    ],
)
def test_whatever_does_not_hold_is_named(changes: dict[str, object], word: str) -> None:
    bad = report(**changes)
    assert not bad.ok
    assert any(word in failure for failure in bad.failures())
    assert f"FAILED: {bad.failures()[0]}" in bad.as_text()
