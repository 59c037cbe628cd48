"""The report for people, and the gate."""

from __future__ import annotations

from pathlib import Path

from bench import report


def figures(us_out: float) -> dict[str, object]:
    return {
        "data_plane": {
            "us_out": us_out,
            "us_out_range": [55.0, 61.5],
            "scapy_us_out": 1000.0,
            "machine": {"processor": "a slow one"},
        },
        "handover": {
            "make_before_break": {"lost": 0},
            "break_before_make": [{"delay_ms": 10.0, "gaps_ms": [1.5] * 20}],
        },
    }


def test_ratios_are_held() -> None:
    assert report.failures(figures(50.0)) == []
    (failure,) = report.failures(figures(51.0))
    assert "scapy" in failure
    assert "0.05 at most" in failure


def test_what_was_not_measured_fails_nothing() -> None:
    assert report.failures({}) == []


def test_the_report_explains_and_lists(tmp_path: Path) -> None:
    (tmp_path / "handover.png").touch()
    report.write(figures(60.0), tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "| data_plane" not in text
    assert "| us_out | 60.0 (55.0 to 61.5) |" in text
    assert "us_out_range" not in text
    assert "0.06 **(too much)** | 0.05 |" in text
    assert "processor: a slow one" in text
    assert "| break_before_make.0.gaps_ms | 20 values, 1.5 to 1.5 |" in text
    assert "silent when it changes networks" in text  # the section's own words
    assert "![handover](handover.png)" in text
