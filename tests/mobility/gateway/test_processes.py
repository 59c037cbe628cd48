"""Terminal and gateway as processes: unmodified programs reach a server that nothing else leads to (Fig. 38)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mobility.client import ControlClient, HostClient
from mobility.gateway.process import SOCKET
from mobility.net import namespace
from sip_test_env.extensions.gateway import ADDRESS, GATEWAY, NODE, PORT
from sip_test_env.gateway_node import GatewayNode
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.movements import bound
from sip_test_env.network import TestNetwork

pytestmark = [pytest.mark.root, pytest.mark.interop]

FORBIDDEN, DOWN = ("web.roamphone.test", 443), ("down.roamphone.test", 5062)
"The gateway does not allow the one; nobody listens at the other."


@dataclass
class Enterprise:
    """The network with its processes; the terminal's gateway is used over the home address."""

    network: TestNetwork
    nodes: MobilityNodes
    gateway: GatewayNode

    def ask(self, operation: str, *, gateway: bool = False) -> Any:
        path = self.gateway.runtime / "control.sock" if gateway else self.nodes.runtime("mn") / SOCKET

        async def talk() -> Any:
            async with ControlClient(path) as client:
                return await client.request(operation)

        return asyncio.run(talk())

    def session(self) -> dict[str, Any]:
        (session,) = self.ask("status")["gateways"]
        return dict(session)

    def broken(self, *, gateway: bool = False) -> list[tuple[str, str]]:
        """Destinations and causes."""
        events = [event for event in self.ask("recent", gateway=gateway) if event["event"] == "TunnelBroken"]
        return [(event["destination"], event["cause"]) for event in events]

    def connect(self, name: str, port: int) -> socket.socket:
        """As a program in the host OS does, with the address that the host OS has for the name."""
        host = HostClient(self.nodes.runtime("mn") / "host.sock")
        hosts = host.information()["hosts"]
        assert isinstance(hosts, dict)
        sock = host.socket("stream")
        sock.settimeout(10)
        try:
            sock.connect((hosts[name], port))
        except OSError:  # a reset may come before this returns
            sock.close()
            raise
        return sock

    def tls(self) -> ssl.SSLSocket:
        """A program's own session with the proxy (711 in Fig. 39): its certificate and name verified."""
        plan = self.network.plan
        context = ssl.create_default_context(cafile=self.network.ca_file)
        return context.wrap_socket(self.connect(plan.sip_domain, plan.sips_port), server_hostname=plan.sip_domain)

    def program(self, *command: str, timeout: float = 20.0, text: str = "") -> subprocess.CompletedProcess[str]:
        """Any program, by `mobility exec`."""
        return subprocess.run(
            [sys.executable, "-m", "mobility", "exec", "--runtime", str(self.nodes.runtime("mn")), "--", *command],
            capture_output=True, text=True, timeout=timeout, check=False, input=text,
        )  # fmt: skip


@pytest.fixture(scope="module")
def enterprise() -> Iterator[Enterprise]:
    with TestNetwork("test-gateway", extension=GATEWAY) as network:
        nodes = MobilityNodes(network, "esp")
        plan = network.plan
        allow = "".join(
            f'[[gateway.allow]]\nhost = "{host}"\naddress = "{plan.proxy}"\nports = [{port}]\n'
            for host, port in ((plan.sip_domain, plan.sips_port), DOWN)
        )
        gateway = GatewayNode(
            network,
            extra='client_certificate = "required"\nclient_ca = "ca.pem"',
            allow=allow + '[metrics]\nlisten = "[::1]:9464"\n',
        )
        pair = f'certificate = "{gateway.directory}/client.pem"\nprivate_key = "{gateway.directory}/client.key"'
        hosts = [(plan.sip_domain, plan.sips_port), FORBIDDEN, DOWN]
        with nodes.configurations["mn"].open("a") as file:
            file.write(gateway.access("home", extra=pair, hosts=hosts))
        try:
            gateway.start()
            nodes.start()
            asyncio.run(bound(nodes.runtime("mn") / "control.sock"))
            made = Enterprise(network, nodes, gateway)
            eventually(lambda: made.session()["state"] == "open")
            yield made
        finally:
            nodes.stop()
            gateway.stop()


def eventually(what: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


OPTIONS = (
    "OPTIONS sip:roamphone.test SIP/2.0\r\nVia: SIP/2.0/TLS inside.invalid;branch=z9hG4bK{number}\r\n"
    "From: <sip:a@inside.invalid>;tag=1\r\nTo: <sip:roamphone.test>\r\nCall-ID: {number}\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
)


def talk(inner: ssl.SSLSocket, number: int) -> None:
    """One request to the proxy and its answer."""
    inner.sendall(OPTIONS.format(number=number).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = inner.recv(4096)
        assert part, "closed"
        answer += part
    assert answer.startswith(b"SIP/2.0 200")


def test_an_unmodified_program_connects_by_a_name_that_only_the_host_os_knows(enterprise: Enterprise) -> None:
    plan = enterprise.network.plan
    done = enterprise.program(
        "openssl", "s_client", "-connect", f"{plan.sip_domain}:{plan.sips_port}", "-servername", plan.sip_domain,
        "-verify_hostname", plan.sip_domain, "-verify_return_error", "-CAfile", str(enterprise.network.ca_file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Verification: OK" in done.stdout
    hosts = enterprise.program("cat", "/etc/hosts").stdout
    assert f"{plan.sip_domain}" in hosts
    assert "localhost" in hosts, "what was there before"


def test_nothing_but_the_gateway_leads_to_the_proxy(enterprise: Enterprise) -> None:
    plan = enterprise.network.plan
    host = HostClient(enterprise.nodes.runtime("mn") / "host.sock")
    with host.socket("stream") as directly:
        directly.settimeout(3)
        with pytest.raises(OSError):  # noqa: PT011 - refused by the filter in one way or another
            directly.connect((str(plan.proxy), plan.sips_port))


def test_two_certificates_two_sessions_and_both_go_on_while_the_terminal_moves(enterprise: Enterprise) -> None:
    sessions_before = len([event for event in enterprise.ask("recent") if event["event"] == "SessionOpened"])
    with enterprise.tls() as inner:
        talk(inner, 1)
        for number, link in enumerate(("visited-b", "visited-a"), start=2):
            enterprise.network.move(link)
            talk(inner, number)
        session = enterprise.session()
        assert session["tls"] == "TLSv1.3"
        assert [tunnel["state"] for tunnel in session["tunnels"]] == ["open"]
        at_gateway = enterprise.ask("status", gateway=True)["node"]["sessions"]
        assert [one["client"] for one in at_gateway] == ["laptop.roamphone.test"]
        assert at_gateway[0]["address"].startswith(f"[{enterprise.network.plan.home_address}]"), "no care-of address"
    opened = [event for event in enterprise.ask("recent") if event["event"] == "SessionOpened"]
    assert len(opened) == sessions_before, "the outer session is over the home address and outlives movements"


def test_refusals_are_named_at_both_ends_and_the_program_is_reset(enterprise: Enterprise) -> None:
    for (name, port), cause in ((FORBIDDEN, "destination-refused"), (DOWN, "destination-unreachable")):
        with pytest.raises(ConnectionResetError), enterprise.connect(name, port) as sock:
            assert sock.recv(1) == b"never"
        for gateway in (False, True):
            assert (f"{name}:{port}", cause) in enterprise.broken(gateway=gateway)
    why = [event["why"] for event in enterprise.ask("recent") if event["event"] == "TunnelBroken"]
    assert "Connection refused" in why
    assert enterprise.session()["state"] == "open"


def test_status_and_metrics_show_both_ends(enterprise: Enterprise) -> None:
    with enterprise.tls() as inner:
        talk(inner, 10)
        shown = subprocess.run(
            [sys.executable, "-m", "mobility", "status", "--runtime", str(enterprise.nodes.runtime("mn"))],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "gateway    enterprise" in shown
        assert "roamphone.test:5061" in shown
        there = subprocess.run(
            [sys.executable, "-m", "mobility", "status", "--runtime", str(enterprise.gateway.runtime)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "laptop.roamphone.test" in there
        with namespace.inside(enterprise.network.plan.namespace(NODE)):
            text = urllib.request.urlopen("http://[::1]:9464/metrics", timeout=5).read().decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["roamphone_gateway_sessions",] == 1
    assert samples["roamphone_gateway_tunnels", "open"] >= 1
    assert samples["roamphone_gateway_tunnels_total",] >= 1


def test_half_open_connections_do_not_keep_others_out(enterprise: Enterprise) -> None:
    with contextlib.ExitStack() as stack, enterprise.tls() as inner:
        with namespace.inside(enterprise.network.plan.namespace(NODE)):
            flood = [stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) for _ in range(150)]
            for number, one in enumerate(flood):
                one.connect((str(ADDRESS), PORT))
                one.send(b"\x16\x03\x01\x02\x00"[: number % 5 + 1])
        talk(inner, 20)
        states = [one["state"] for one in enterprise.ask("status", gateway=True)["node"]["sessions"]]
        assert states.count("open") == 1
        assert states.count("handshake") <= 64
    with enterprise.tls() as again:
        talk(again, 21)


def test_a_gateway_that_dies_is_back_and_programs_begin_anew(enterprise: Enterprise) -> None:
    plan = enterprise.network.plan
    with enterprise.connect(plan.sip_domain, plan.sips_port) as inner:
        eventually(lambda: [one["state"] for one in enterprise.session()["tunnels"]] == ["open"])
        os.kill(enterprise.ask("status", gateway=True)["process"]["pid"], signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            assert inner.recv(1) == b"never"
    eventually(lambda: enterprise.session()["state"] == "open")
    assert ("roamphone.test:5061", "tunnel-unknown") in enterprise.broken()
    with enterprise.tls() as again:
        talk(again, 32)
    assert enterprise.ask("status", gateway=True)["process"]["start"] == 2


def test_the_terminals_end_that_dies_is_back_and_no_packet_is_concerned(enterprise: Enterprise) -> None:
    async def data_plane() -> Any:
        async with ControlClient(enterprise.nodes.runtime("mn") / "control.sock") as client:
            return (await client.status())["process"]

    before = asyncio.run(data_plane())
    os.kill(enterprise.ask("status")["process"]["pid"], signal.SIGKILL)
    time.sleep(0.2)
    eventually(lambda: (enterprise.nodes.runtime("mn") / SOCKET).exists())

    def open_again() -> bool:
        with contextlib.suppress(OSError):
            status = enterprise.ask("status")
            return bool(status["process"]["start"] and status["gateways"][0]["state"] == "open")
        return False

    eventually(open_again)
    with enterprise.tls() as inner:
        talk(inner, 40)
    assert asyncio.run(data_plane()) == before
