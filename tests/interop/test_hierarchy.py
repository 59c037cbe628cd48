"""A call in the domain of a MAP, on network namespaces, read by tshark alone (Figs. 31 and 32)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sip_test_env.capture import dissect
from sip_test_env.extensions.hmip import DOMAIN, MAP
from tests.interop.judges import no_complaints, scapy_reads
from tests.interop.test_demo import PLAN, demo

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]

HOME = "ipv6:esp:ipv6:esp:udp:rtp"
"""The home agent's tunnel with the application's ESP in it."""


@pytest.mark.parametrize(
    ("kind", "tunnel", "keys", "up", "down"),
    [
        (1, "esp", [], f"ipv6:esp:{HOME}", f"ipv6:esp:{HOME}"),
        (2, "plain", ["--static-keys"], HOME, f"ipv6:{HOME}"),
    ],
)
def test_a_call_that_moves_within_the_domain(
    kind: int, tunnel: str, keys: list[str], up: str, down: str, tmp_path: Path
) -> None:
    capture = tmp_path / "call.pcapng"
    status, report, said = demo(
        "--network", "hmip", *keys, "--map-type", str(kind), "--map-tunnel", tunnel,
        "--seconds", "10", "--handovers", "3", "--capture", str(capture),
    )  # fmt: skip
    assert (status, report["ok"]) == (0, True), said
    assert report["network"] == "hmip"
    names = [link.name for link in DOMAIN]
    assert [(item["from"], item["to"]) for item in report["handovers"]] == [
        (names[0], names[1]), (names[1], names[2]), (names[2], names[0]),
    ]  # fmt: skip
    assert [audio["lost"] for audio in report["audio"].values()] == [0, 0]
    assert "heard 0 binding updates" in report["facts"][0]
    table = capture.with_name(capture.name + ".esp_sa")
    _check_speech(capture, table, up, down)
    _check_signalling(capture, table, kind)
    no_complaints(capture, table)
    assert scapy_reads(capture, table)["MIP6MH_BU"] >= 4, "at home once, and at the MAP from each access router"


def _check_speech(capture: Path, table: Path, up: str, down: str) -> None:
    """Both ways, by the layers that the type and the form of the tunnel ask for, through all three access routers."""
    rows = dissect(capture, table, ["frame.protocols", "ipv6.src", "ipv6.dst"], "rtp && !rtcp && !icmpv6")
    seen: Counter[tuple[str, str]] = Counter()
    for protocols, source, destination in rows:
        inward = destination.split(",")[-1] == str(PLAN.home_address)
        assert protocols == f"eth:ethertype:{down if inward else up}"
        sources, destinations = source.split(","), destination.split(",")
        through_map = (down if inward else up) != HOME
        anchors = sources if inward else destinations
        assert (anchors[0] == str(MAP)) is through_map
        assert str(PLAN.home_agent) in anchors
        outside = destinations[0] if inward else sources[0]
        seen["in" if inward else "out", outside[:12]] += 1
    assert len([key for key in seen if key[0] == "in"]) == len(DOMAIN)
    assert min(seen.values()) > 50


def _check_signalling(capture: Path, table: Path, kind: int) -> None:
    options = dissect(
        capture, table, ["icmpv6.opt.map.global_address", "icmpv6.opt.map.distance"], "icmpv6.type == 134"
    )
    assert {tuple(row) for row in options} == {(str(MAP), "2")}
    local = dissect(capture, table, ["mip6.bu.a_flag", "mip6.bu.h_flag"], "mip6.bu.m_flag == 1")
    assert len(local) >= 4, "one for each access router at least, under ESP"
    home = dissect(capture, table, ["ipv6.src"], "mip6.bu.h_flag == 1")
    assert len(home) >= 1
    assert {row[0].split(",")[-1].startswith("2001:db8:9:") for row in home} == {True}, "from the RCoA"
    assert all((row[0].count(",") == 1) is (kind == 1) for row in home), "in the tunnel to the MAP with type 1 only"
