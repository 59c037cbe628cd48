"""TLS inside TLS with foreign programs: tshark reads the demo's call; stunnel and HAProxy are gateways."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mobility.client import ControlClient
from mobility.gateway.process import SOCKET
from sip_test_env.capture import dissect
from sip_test_env.extensions.gateway import ADDRESS, GATEWAY, NODE
from sip_test_env.gateway_node import NAME, GatewayNode
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.movements import bound
from sip_test_env.network import TestNetwork
from sip_test_env.plan import Plan
from tests.interop.judges import no_complaints
from tests.interop.test_demo import demo

pytestmark = [pytest.mark.root, pytest.mark.interop]

PLAN = Plan("test-gateway-demo")


@pytest.mark.alone
def test_a_call_through_tls_in_tls_that_moves(tmp_path: Path) -> None:
    capture = tmp_path / "call.pcapng"
    calling = ("--network", "gateway", "--seconds", "9", "--handovers", "2", "--capture", str(capture))
    status, report, said = demo(*calling, instance=PLAN.instance)
    assert (status, report["ok"]) == (0, True), said
    assert (report["network"], report["sip"]["transport"]) == ("gateway", "tls")
    assert [(move["from"], move["to"]) for move in report["handovers"]] == [
        ("visited-a", "visited-b"),
        ("visited-b", "visited-a"),
    ]
    keys = capture.with_name(capture.name + ".tls_keys")
    no_complaints(capture, capture.with_name(capture.name + ".esp_sa"), tls_keys=keys)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    _inner_session(_outer_session(capture, keys), keys, tmp_path)


def _outer_session(capture: Path, keys: Path) -> list[tuple[str, bytes]]:
    """709 in Fig. 39, as tshark reads it; returns what its only tunnel carried, with the direction."""
    from_the_care_of_address = dissect(
        capture, None, ["ipv6.src", "tls.handshake.type"], f"tls.handshake.type == 1 && ipv6.dst == {ADDRESS}"
    )
    prefixes = [row[0].split(":")[2] for row in from_the_care_of_address]
    assert prefixes == ["a", "b", "a"], "a session from each network"
    fields = [
        "tcp.stream",
        "http2.headers.method",
        "http2.headers.authority",
        "http2.header.name",
        "http2.header.value",
    ]
    asked = dissect(capture, None, fields, "http2.headers.method", tls_keys=keys)
    assert [row[1:3] for row in asked] == [["CONNECT", f"{PLAN.sip_domain}:{PLAN.sips_port}"]] * 3
    assert ["roam-resume" in row[3] for row in asked] == [False, True, True]
    answered = dissect(capture, None, ["http2.header.value"], "http2.headers.status", tls_keys=keys)
    assert [row[0].split(",")[0] for row in answered] == ["200"] * 3
    carried: list[tuple[str, bytes]] = []
    for request, answer in zip(asked, answered, strict=True):
        # What the other end had not received when the connection broke was sent again in the next one.
        _keep(carried, "I", int(request[4].split(",")[-1]))
        _keep(carried, "O", int(answer[0].split(",")[-1]))
        carried += _data(capture, keys, request[0])
    assert not any(b"SIP/2.0" in octets for _, octets in carried), "the gateway sees ciphertext"
    return carried


def _data(capture: Path, keys: Path, stream: str) -> list[tuple[str, bytes]]:
    """What DATA frames of the first HTTP/2 stream in a TCP stream carried: by the terminal (O) and to it (I)."""
    done = subprocess.run(
        ["tshark", "-n", "-q", "-r", str(capture), "-o", f"tls.keylog_file:{keys}", "-z",
         f"follow,http2,raw,{stream},1"],
        check=True, capture_output=True, text=True, env={"HOME": str(keys.parent), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    found = []
    for line in done.stdout.splitlines():
        digits = line.strip()
        if not re.fullmatch("([0-9a-f]{2}){10,}", digits):
            continue
        frame = bytes.fromhex(digits)
        if int.from_bytes(frame[:3], "big") == len(frame) - 9 and frame[3] == 0:  # DATA (RFC 9113 section 6.1)
            found.append(("I" if line.startswith("\t") else "O", frame[9:]))
    return found


def _keep(carried: list[tuple[str, bytes]], way: str, octets: int) -> None:
    """Takes away what came after so many octets of one direction."""
    for at, (direction, data) in enumerate(carried):
        if direction == way:
            carried[at] = way, data[: max(0, octets)]
            octets -= len(data)
    assert octets <= 0, "nobody has received what was not sent"


def _inner_session(carried: list[tuple[str, bytes]], keys: Path, directory: Path) -> None:
    """711 in Fig. 39: what the outer session carried is a TLS session again, with SIP in it."""
    text, capture = directory / "inner.txt", directory / "inner.pcap"
    text.write_text("".join(f"{way} 0000 {data.hex(' ')}\n" for way, data in carried if data))
    subprocess.run(
        ["text2pcap", "-q", "-D", "-T", f"{PLAN.sips_port},40000", str(text), str(capture)],
        check=True, capture_output=True,
    )  # fmt: skip
    hellos = dissect(capture, None, ["tls.handshake.extensions_server_name"], "tls.handshake.type == 1", tls_keys=keys)
    assert hellos == [[PLAN.sip_domain]], "one session, through both movements"
    methods = {row[0] for row in dissect(capture, None, ["sip.Method"], "sip.Method", tls_keys=keys)}
    assert methods >= {"REGISTER", "INVITE", "ACK", "BYE"}


@contextmanager
def terminator(network: TestNetwork, command: list[str], log: Path) -> Iterator[None]:
    """A foreign program in the node of the gateway."""
    with log.open("wb") as out:
        process = network.popen(NODE, command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(5)


def test_stunnel_and_haproxy_in_place_of_our_gateway(tmp_path: Path) -> None:
    with TestNetwork("test-terminators", extension=GATEWAY) as network:
        nodes, gateway, plan = MobilityNodes(network, "esp"), GatewayNode(network), network.plan
        folder = gateway.directory
        pem = folder / "both.pem"
        pem.write_bytes((folder / "server.pem").read_bytes() + (folder / "server.key").read_bytes())
        (folder / "stunnel.conf").write_text(
            f"foreground = yes\npid =\nsessionCacheSize = 100\n[sip]\naccept = {ADDRESS}:4433\n"
            f"connect = {plan.proxy}:{plan.sips_port}\ncert = {pem}\nTIMEOUTclose = 1\n"
        )
        (folder / "haproxy.cfg").write_text(
            "global\n  stats timeout 5s\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            f"frontend outer\n  bind [{ADDRESS}]:4434 ssl crt {pem}\n"
            f"  use_backend sip if {{ ssl_fc_sni {NAME} }}\n"
            f"backend sip\n  server one [{plan.proxy}]:{plan.sips_port}\n"
        )
        raw = (
            "[[gateway]]\nname = \"{name}\"\nserver = \"[{address}]:{port}\"\nserver_name = \"{server}\"\n"
            "protocol = \"raw\"\nca_file = \"{ca}\"\n"
            "[[gateway.destination]]\nhost = \"{host}\"\nports = [{sips}]\naddress = \"{local}\"\n"
        )  # fmt: skip
        with nodes.configurations["mn"].open("a") as file:
            for name, port, host in (("stunnel", 4433, "a.test"), ("haproxy", 4434, "b.test")):
                local = "100:0:0:1::a" if name == "stunnel" else "100:0:0:1::b"
                file.write("\n" + raw.format(name=name, address=ADDRESS, port=port, server=NAME, ca=gateway.ca_file,
                                             host=host, sips=plan.sips_port, local=local))  # fmt: skip
        with (
            terminator(network, ["stunnel4", str(folder / "stunnel.conf")], tmp_path / "stunnel.log"),
            terminator(network, ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], tmp_path / "haproxy.log"),
        ):
            nodes.start()
            try:
                asyncio.run(bound(nodes.runtime("mn") / "control.sock"))
                for host in ("a.test", "b.test"):
                    for _ in range(2):
                        done = subprocess.run(
                            [sys.executable, "-m", "mobility", "exec", "--runtime", str(nodes.runtime("mn")), "--",
                             "openssl", "s_client", "-connect", f"{host}:{plan.sips_port}", "-servername",
                             plan.sip_domain, "-verify_hostname", plan.sip_domain, "-verify_return_error",
                             "-CAfile", str(network.ca_file)],
                            capture_output=True, text=True, timeout=20, check=False, input="",
                        )  # fmt: skip
                        assert done.returncode == 0, done.stderr + done.stdout
                        assert "Verification: OK" in done.stdout
                events = asyncio.run(_recent(nodes.runtime("mn") / SOCKET))
            finally:
                nodes.stop()
        for name in ("stunnel", "haproxy"):
            opened = [event for event in events if event["event"] == "SessionOpened" and event["gateway"] == name]
            assert [event["resumed"] for event in opened] == [False, True], name


async def _recent(path: Path) -> list[dict[str, Any]]:
    async with ControlClient(path) as client:
        return await client.recent()
