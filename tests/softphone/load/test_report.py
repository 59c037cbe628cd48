"""Sums over records, and the page."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from softphone.load.pacing import Offer
from softphone.load.page import distribution, page, plot, ticks
from softphone.load.records import CallRecord, Outcome, Role
from softphone.load.report import Report, percentile
from softphone.load.scenario import Expectations


def made(expected: Expectations | None = None) -> Report:
    report = Report("<evening>", Offer(2, 4, 10.0, 100), 2, expected or Expectations(), seconds=6.0)
    for n in range(8):
        report.add(CallRecord(
            Role.CALLER, Outcome.ANSWERED, n / 2, n / 2 + 2, 200, "", 0.1 * (n + 1), 0.2 * (n + 1),
            received=99, lost=1, late=0, mos=3 + n / 10,
        ))  # fmt: skip
        report.add(CallRecord(Role.ANSWERER, Outcome.ANSWERED, n / 2, n / 2 + 2, 200, received=100, mos=4.0,
                              digits=n > 0))  # fmt: skip
    report.add(CallRecord(Role.CALLER, Outcome.REFUSED, 4.0, 4.1, 486, "Busy Here"))
    report.add(CallRecord(Role.CALLER, Outcome.TIMEOUT, 4.5, 6.0, 0, "not answered within 1.5 s"))
    report.add(CallRecord(Role.CALLER, Outcome.INTERRUPTED, 5.9, 6.0))
    return report


def test_sums() -> None:
    values = made().as_json()
    assert json.loads(json.dumps(values)) == values
    assert values["calls"] == {
        "begun": 11, "answered": 8, "refused": 1, "failed": 0, "timeout": 1, "interrupted": 1, "dropped": 0,
        "held_back": 0,
    }  # fmt: skip
    assert values["answer_seizure_ratio"] == 0.8
    assert values["post_dial_delay"]["p50"] == pytest.approx(0.4)
    assert values["post_dial_delay"]["p95"] == values["post_dial_delay"]["greatest"] == pytest.approx(0.8)
    assert values["mos"]["callers"]["p05"] == 3.0
    assert values["mos"]["all"]["count"] == 16
    assert values["loss"] == {"packets": 1600, "lost": 8, "late": 0, "share": 0.005}
    assert values["failures"] == {"486 Busy Here": 1, "not answered within 1.5 s": 1}
    assert values["digits"] == 0.875
    course = values["over_time"]
    assert [part["begun"] for part in course] == [2, 2, 2, 2, 2, 1, 0]
    assert [part["failed"] for part in course] == [0, 0, 0, 0, 2, 0, 0]
    assert [part["at_once"] for part in course] == [2, 4, 4, 4, 4, 3, 2]
    assert sum(part["answered"] for part in course) == 8


def test_expectations() -> None:
    report = made(Expectations(answered=0.8, post_dial_delay_p95=0.7, mos_p05=3.0, loss=0.005, digits=0.9))
    assert {one.what: one.holds for one in report.judgements()} == {
        "answered": True, "post_dial_delay_p95": False, "mos_p05": True, "loss": True, "digits": False,
    }  # fmt: skip
    assert not report.ok
    assert "post_dial_delay_p95 at most 0.7: 0.8, FAILS" in report.as_text()
    assert made(Expectations(answered=0.8)).ok


def test_what_could_not_be_judged_does_not_hold() -> None:
    report = Report("nothing", Offer(None, 1, 1.0, 1), 1, Expectations(answered=0.0, mos_p05=1.0))
    assert not report.ok
    assert report.as_json()["over_time"] == []
    assert "nothing to judge, FAILS" in report.as_text()
    assert "nothing to show" in page(report)
    report = made()
    report.troubles.append("a process has died")
    assert not report.ok


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = page(made(Expectations(answered=0.9)))
    assert "&lt;evening&gt;" in text
    assert "not everything held" in text
    assert text.count("<svg") == 4
    assert "http" not in text
    assert "<script" not in text
    for begin in text.split("<svg")[1:]:
        drawing = ElementTree.fromstring("<svg" + begin[: begin.index("</svg>") + 6])
        lines = [each.get("d", "") for each in drawing.iter("path") if each.get("fill") == "none"]
        assert lines
        assert all("nan" not in line and line.startswith("M") for line in lines)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.05) == percentile([3.0], 0.99) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 37) == [0, 10, 20, 30]
    assert ticks(3.02, 4.38) == [3.5, 4.0]
    assert len(ticks(0, 123456)) <= 7


def test_distributions_are_short_and_end_at_one() -> None:
    points = distribution([float(n) for n in range(10_000)])
    assert len(points) < 210
    assert points[-1] == (9999.0, 1.0)
    assert distribution([]) == []
    assert plot({"one": [(1.0, 1.0)]}, "s", "calls")
