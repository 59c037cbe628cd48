"""Negotiated keys for people and for Wireshark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import wrpcap

from mobility.commands.view import WIDTH, negotiated, overview
from mobility.ipsec.ike.proposals import ike_offer
from mobility.ipsec.ike.settings import Settings
from mobility.negotiated_tables import ESP_TABLE, IKE_TABLE, Negotiates, tables
from tests.mobility.ipsec.ike.world import World
from tests.mobility.test_negotiated_keys import KEYS
from tests.mobility.whole import Network


def test_status_tells_with_whom_and_which() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    for node, other in ((network.terminal, "2001:db8:1::a"), (network.agent, "2001:db8:1::100")):
        status = {"node": node.snapshot(network.world.now)}
        (line, *_) = [each for each in overview(status) if "IKE with" in each]
        assert f"IKE with {other}" in line
        whole = negotiated(status)
        text = " ".join(" ".join(whole).split())
        assert "AES_GCM_16-256/HMAC_SHA2_256/X25519/ML_KEM_768" in text
        assert "signalling: aes-gcm-16, transport mode, installed" in text
        assert "tunnel: aes-gcm-16, tunnel mode, installed" in text
        assert f"signalling with {other}: " in text
        assert "received, 0 replayed, 0 not authentic" in text
        assert max(map(len, whole)) <= WIDTH
        assert isinstance(node, Negotiates)
    made = tables(network.terminal.negotiations())
    theirs = tables(network.agent.negotiations())
    assert all(sorted(made[each].splitlines()) == sorted(theirs[each].splitlines()) for each in (IKE_TABLE, ESP_TABLE))
    assert len(made[IKE_TABLE].splitlines()) == 1
    assert len(made[ESP_TABLE].splitlines()) == 2 + 4  # the tunnel may go through datagrams of IPv4
    assert negotiated({"node": {}}) == []


def test_an_attempt_that_failed_is_told_with_its_reason() -> None:
    event = {"event": "IkeFailed", "time": 0.0, "peer": "ha", "reason": "AUTHENTICATION_FAILED: why"}
    lines = overview({"node": {"mobile_node": {"home_address": "2001:db8::1"}}}, [event])
    assert "no keys with ha: AUTHENTICATION_FAILED: why" in " ".join(" ".join(lines).split())


@pytest.mark.interop
@pytest.mark.parametrize("aead", [True, False])
def test_tshark_reads_what_ike_has_said(tmp_path: Path, aead: bool) -> None:
    world = World(settings=Settings(proposals=ike_offer(aead=aead, cbc=not aead)))
    world.begin()
    world.run(1.0)
    frames = [
        IPv6(src=str(send.local.address), dst=str(send.remote.address))
        / UDP(sport=send.local.port, dport=send.remote.port)
        / send.data
        for send in world.wire
    ]
    capture = tmp_path / "ike.pcap"
    wrpcap(str(capture), frames, linktype=101)
    table = tables([world.phone.ike])[IKE_TABLE].strip()
    done = subprocess.run(
        ["tshark", "-n", "-r", str(capture), "-o", f"uat:ikev2_decryption_table:{table}", "-T", "fields",
         "-e", "isakmp.exchangetype", "-e", "isakmp.id.data.user_fqdn", "-e", "isakmp.id.data.fqdn",
         "-e", "_ws.malformed"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["34", "34", "35", "35"]
    assert rows[2][1:3] == ["laptop@example.org", "ha.example.org"]
    assert rows[3][2] == "ha.example.org"
    assert not any(row[3] for row in rows)
