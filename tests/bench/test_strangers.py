"""WireGuard and OpenVPN carry packets and roam in the section that measures beside them (ours has its own tests)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bench import strangers

pytestmark = [pytest.mark.root, pytest.mark.interop]


def test_both_carry_packets_and_roam(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOVES", 1), ("SECONDS", 1.0), ("LOAD_SECONDS", 1.0), ("PAUSE", 2.0)):
        monkeypatch.setattr(strangers, name, value)
    monkeypatch.delitem(strangers.SETTINGS, "ours")
    figures = cast(dict[str, Any], strangers.measure())
    for name in ("wireguard", "openvpn"):
        assert figures[name]["lost"] == 0
        assert 0 < figures[name]["delay_ms"]["to_cn"]["p50"] < 100
        assert figures[name]["us_per_packet"] > 0
        roaming = figures[name]["roaming"]
        assert roaming["handovers"] == 1
        assert roaming["packets"] - roaming["lost"] > 300  # it came back from the move
