"""The demo as a user runs it, in all forms of the tunnel; its capture read by tshark alone."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from mobility.links import MOBILITY_PORT
from sip_test_env.capture import dissect
from sip_test_env.plan import Plan
from tests.interop.judges import no_complaints, scapy_reads

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]

PLAN = Plan("test-demo")
LAYERS = {
    "plain": "ipv6:ipv6:esp:udp:rtp",
    "esp-mobile": "ipv6:esp:ipv6:ipv6:esp:udp:rtp",
    "esp": "ipv6:esp:ipv6:esp:udp:rtp",
}
VISITED = (PLAN.visited_a.prefix, PLAN.visited_b.prefix)


def demo(*arguments: str, instance: str = PLAN.instance) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON object, and what was said on the way.

    A machine that does something else for an instant makes the listener stretch what he plays, though no packet is
    lost or late. It must not happen twice.
    """
    status, report, said = _once(instance, *arguments)
    failed = re.findall(r"^FAILED: (.*)$", said, re.MULTILINE)
    if failed and all("PESQ" in each for each in failed):
        return _once(instance, *arguments)
    return status, report, said


def _once(instance: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "softphone.cli", "demo", "--json", "--instance", instance, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


@pytest.mark.parametrize("tunnel", LAYERS)
def test_a_call_that_moves(tunnel: str, tmp_path: Path) -> None:
    capture = tmp_path / "call.pcapng"
    status, report, said = demo("--tunnel", tunnel, "--seconds", "9", "--capture", str(capture))
    assert (status, report["ok"]) == (0, True), said
    assert report["tunnel"] == tunnel
    assert report["sip"] == {
        "registered": True,
        "transport": "udp",
        "sdp_connection": str(PLAN.home_address),
        "home_address": str(PLAN.home_address),
    }
    for audio in report["audio"].values():
        assert audio["sent"] > 400
        assert audio["received"] == audio["sent"] - audio["lost"]
        assert audio["pesq"] >= audio["pesq_codec"] - 0.15
        assert audio["pesq_codec"] > 2.5
    (handover,) = report["handovers"]
    assert (handover["from"], handover["to"]) == ("visited-a", "visited-b")
    assert handover["binding_ms"] > 0
    assert all(gap >= 20 for gap in handover["gap_ms"].values())
    assert report["capture"] == str(capture)
    table = capture.with_name(capture.name + ".esp_sa")
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    _check_keys(report, table)
    _check_audio(capture, table, tunnel)
    _check_sip(capture, table)
    no_complaints(capture, table)
    messages = scapy_reads(capture, table)
    assert messages >= Counter({"MIP6MH_BU": 2, "MIP6MH_BA": 2}), "updates and acknowledgements, under ESP"


def test_an_ordinary_user_walks_from_wifi_to_a_hotspot_and_back(tmp_path: Path) -> None:
    capture = tmp_path / "call.pcapng"
    calling = ("--ike", "--unprivileged", "--seconds", "9", "--handovers", "2", "--capture", str(capture))
    status, report, said = demo(*calling)
    assert (status, report["ok"]) == (0, True), said
    assert "no administrator" in said
    assert [(item["from"], item["to"]) for item in report["handovers"]] == [
        ("visited-a", "hotspot"),
        ("hotspot", "visited-b"),
    ]
    assert [audio["lost"] for audio in report["audio"].values()] == [0, 0]
    # tshark takes a datagram that begins with an IPv6 header for ESP, as the kernel does. The capture is taken where
    # the home agent is, and sees packets in the tunnel and out of it, so numbers of ESP repeat.
    in_udp = ["-d", f"udp.port=={MOBILITY_PORT},udpencap", "-o", "esp.do_esp_sequence_analysis:FALSE"]
    table = capture.with_name(capture.name + ".esp_sa")
    no_complaints(capture, table, options=in_udp, keyless=range(0x60000000, 0x70000000))
    tunnelled = dissect(capture, table, ["frame.protocols"], "udpencap && rtp", options=in_udp)
    assert len(tunnelled) > 300


def _check_keys(report: dict[str, Any], table: Path) -> None:
    """All of them were negotiated, and nothing between the two ends of the call was in clear."""
    with_agent, for_call, seen = report["facts"]
    assert with_agent.startswith("Keys            terminal and home agent, by their token: ")
    assert for_call.startswith(
        "Keys            terminal and correspondent, for the call, by the fingerprints in its SDP: "
    )
    assert "aes-gcm-16 (transport)" in for_call
    assert re.fullmatch(r".* \d{3,} packets under ESP, [4-9] of IKE, none in clear", seen), seen
    spis = {int(row.split(",")[3].strip('"'), 16) for row in table.read_text().splitlines() if row.startswith('"')}
    assert len(spis) >= 6
    assert min(spis) > 0xFFFF, "no association of a configuration file"
    assert table.with_name(table.name.replace(".esp_sa", ".ikev2_decryption_table")).read_text().count("\n") == 2


def _check_audio(capture: Path, table: Path, tunnel: str) -> None:
    """Care-of address and home agent outside, the correspondent and the home address inside; both ways, both links."""
    rows = dissect(capture, table, ["frame.protocols", "ipv6.src", "ipv6.dst", "rtp.p_type"], "rtp && !rtcp && !icmpv6")
    assert {row[0] for row in rows} == {f"eth:ethertype:{LAYERS[tunnel]}"}
    assert {row[3] for row in rows} == {"96"}
    seen: Counter[tuple[str, str]] = Counter()
    mn, cn, agent = str(PLAN.home_address), str(PLAN.cn), str(PLAN.home_agent)
    for _, source, destination, _ in rows:
        *outer_source, inner_source = source.split(",")
        *outer_destination, inner_destination = destination.split(",")
        inward = inner_destination == mn
        assert {inner_source, inner_destination} == {mn, cn}
        care_of = set(outer_destination if inward else outer_source)
        assert set(outer_source if inward else outer_destination) == {agent}
        (address,) = care_of
        seen["in" if inward else "out", str(_network_of(address))] += 1
    assert set(seen) == {(way, str(network)) for way in ("in", "out") for network in VISITED}
    assert min(seen.values()) > 100


def _network_of(address: str) -> IPv6Network:
    (network,) = [network for network in VISITED if IPv6Address(address) in network]
    return network


def _check_sip(capture: Path, table: Path) -> None:
    """No care-of address in any SIP message or session description."""
    fields = ["sip.Method", "sip.Status-Code", "sdp.connection_info.address", "sip.msg_hdr", "sdp.owner"]
    rows = dissect(capture, table, fields, "sip")
    methods = Counter(row[0] for row in rows if row[0])
    assert methods["REGISTER"] >= 2, "without credentials and with them"
    assert methods["INVITE"] >= 1
    assert methods["ACK"] >= 1
    assert methods["BYE"] >= 1
    named = {address for row in rows for address in row[2].split(",") if address}
    assert named == {str(PLAN.home_address), str(PLAN.cn)}, "of the audio, and of the end of IKE"
    for prefix in ("2001:db8:a:", "2001:db8:b:"):
        assert not any(prefix in field for row in rows for field in row)


def test_without_the_option_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, report, said = demo("--seconds", "4", "--handovers", "0", "--transport", "tls", "--codec", "G722")
    assert (status, report["ok"]) == (0, True), said
    assert report["sip"]["transport"] == "tls"
    assert report["handovers"] == []
    assert list(tmp_path.iterdir()) == []
