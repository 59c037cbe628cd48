"""Every picture is drawn from what sections return, and says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.plot import PICTURES
from bench.statistics import measured

WAY = {"p50": 0.3, "p99": 0.6}
LATENCY = {"latency_ms": {"p50": 0.2, "p95": 0.4, "p99": 0.6, "longest": 8.0}}
CHANGES = {"changes": 8, "lost": 98, "interval_ms": 20.0, "gap_p50_ms": 150.0, "gaps_ms": [140.0, 150.0, 160.0]}
ROAMING = {"handovers": 12, "lost": 0, "interval_ms": 5.0, "gap_p50_ms": 51.0, "gaps_ms": [50.0, 51.0, 52.0]}
STRANGER = {**measured("us_per_packet", [80.0, 90.0], 1), "delay_ms": {"to_mn": WAY, "to_cn": WAY}, "roaming": ROAMING}
FORM = {"application_esp": {"out": 268}, "without": {"out": 232}}
REPORT: dict[str, Any] = {
    "handover": {
        "break_before_make": [{"delay_ms": 10.0, "gap_p95_ms": 14.0, "gaps_ms": [11.0, 12.0, 14.0]}],
        "make_before_break": {
            "handovers": 100, "lost": 0, "duplicates": 0, "packets": 10_000, "interval_ms": 20.0,
            "longest_gap_ms": {"to_mn": 49.0, "to_cn": 48.0},
        },
    },
    "data_plane": {
        name: value
        for key in ("us_out", "us_in", "scapy_us_out", "scapy_us_in")
        for name, value in measured(key, [6.0, 7.0, 9.0], 1).items()
    },
    "strangers": {"ours": STRANGER, "wireguard": STRANGER, "openvpn": STRANGER},
    "reinvite": {
        "round_trip_ms": 50.0,
        **dict.fromkeys(("break_before_make", "unregistered", "make_before_break", "baresip"), CHANGES),
    },
    "routes": {"octets": {"packet": {"ipv6": 156}, "on_the_wire": {"esp native": FORM, "esp udp4": FORM}}},
    "phone": {
        "at_the_same_time": {"opus": {"concurrent_calls": 48}, "pjsua2, PCMA": {"concurrent_calls": 148}},
        "set_up_and_torn_down": {"with media": {"calls_per_second": 384}},
    },
    "home_agent": {
        "terminals": 1000, "calls": 100, "lost": 0, "packets_per_second": 10_000, "processor_percent": 50.0,
        "registration": {"per_second": 2300.0}, "refresh": {"per_second": 3700.0},
        "talk": {"out": LATENCY, "in": LATENCY},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_drawn(name: str, tmp_path: Path) -> None:
    PICTURES[name].draw(REPORT, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    for needed in (name, *PICTURES[name].beside):
        rest = {section: figures for section, figures in REPORT.items() if section != needed}
        with pytest.raises(KeyError, match=needed):
            PICTURES[name].draw(rest, tmp_path / "picture.png")
