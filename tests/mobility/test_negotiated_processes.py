"""Terminal and home agent as they are started by users, with a token in place of keys, on the test network."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from mobility.client import ControlClient
from tests.mobility.running import Nodes, mobility, running
from tests.mobility.test_trace import tshark

pytestmark = [pytest.mark.root, pytest.mark.interop]


def ike_sas(nodes: Nodes, role: str) -> list[dict[str, object]]:
    node = nodes.status(role)["node"]
    assert isinstance(node, dict)
    rows = node["ike"]
    assert isinstance(rows, list)
    return rows


def test_a_life_with_keys_that_nobody_typed(tmp_path: Path) -> None:
    with running(f"ikenet-{os.getpid()}", negotiate=True) as nodes:
        _life(nodes, tmp_path)


def _life(nodes: Nodes, directory: Path) -> None:
    network = nodes.nodes.network
    at = {role: ("--runtime", str(nodes.nodes.runtime(role))) for role in ("mn", "ha", "cn")}
    shown = {role: mobility("ike", "status", *at[role]) for role in ("mn", "ha")}
    for each in shown.values():
        assert each.returncode == 0
        assert "established" in each.stdout
        assert "ML_KEM_768" in each.stdout
    assert mobility("ike", "status", *at["cn"]).returncode == 1

    # A rekey, and a handover after it, in mid conversation.
    capture = directory / "capture.pcapng"
    (before,) = ike_sas(nodes, "mn")
    assert mobility("ike", "rekey", *at["mn"]).returncode == 0
    assert nodes.round_trip(2) < 2
    network.move("visited-b")
    nodes.round_trip(10)
    (after,) = ike_sas(nodes, "mn")
    assert (before["ike"], before["suite"]) == (after["ike"], after["suite"])
    assert before["local"] != after["local"]
    assert ike_sas(nodes, "ha")[0]["remote"] == after["local"]
    assert before["children"] != after["children"]

    # Both tables of keys, for the eyes of one user; tshark reads with them what went over the wire.
    request = mobility("ike", "keys", str(directory / "mn"), *at["mn"])
    assert request.returncode == 0
    profile = directory / "config" / "wireshark"
    profile.mkdir(parents=True)
    for table in ("esp_sa", "ikev2_decryption_table"):
        file = directory / f"mn.{table}"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (profile / table).write_bytes(file.read_bytes())
    _trace(nodes, str(capture))
    nodes.round_trip(2)
    _trace(nodes, None)
    options = ("-o", "esp.enable_encryption_decode:TRUE", "-Y", "ipv6.nxt == 50", "-e", "esp.spi", "-e", "ipv6.dst")
    rows = tshark(capture, *options, home=directory)
    spis = set(re.findall(r"0x[0-9a-f]{8}", (directory / "mn.esp_sa").read_text()))
    inner = [row for row in rows if row[0].split(",")[0] in spis and str(network.plan.cn) in row[1]]
    assert inner, rows

    # No secret is shown, and the file has one only.
    token = re.findall(r'token = "([0-9a-f]+)"', nodes.nodes.configurations["mn"].read_text())
    assert len(token) == 1
    for role in ("mn", "ha"):
        assert token[0] not in str(nodes.status(role)) + nodes.nodes.log(role).read_text()

    # A data plane that dies has no keys any more; either end's is replaced by new ones.
    for role in ("mn", "ha"):
        pid = nodes.pid(role)
        os.kill(pid, signal.SIGKILL)
        nodes.round_trip(15)
        assert nodes.pid(role) != pid
    assert len(ike_sas(nodes, "mn")) == 1
    assert ike_sas(nodes, "mn")[0]["ike"] != after["ike"]


def _trace(nodes: Nodes, path: str | None) -> None:
    async def trace() -> None:
        async with ControlClient(nodes.nodes.runtime("mn") / "control.sock") as control:
            await control.trace(capture=path)

    asyncio.run(trace())
