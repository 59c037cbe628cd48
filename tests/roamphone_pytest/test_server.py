"""What the server on loopback is started with, and how it ends."""

from __future__ import annotations

import socket
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from roamphone_pytest.ports import HOSTS, free_port
from sip_test_env import kamailio


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_is_free_at_both_addresses_for_udp_and_tcp(
    host: str, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, other = free_port(neighbours=1), free_port(neighbours=1)
    offered = iter([taken - 1, taken, other])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as busy:
        busy.bind((host, taken))
        monkeypatch.setattr(socket.socket, "getsockname", lambda _: (HOSTS[0], next(offered)))
        assert free_port(neighbours=1) == other


@pytest.mark.interop
def test_kamailio_that_is_ended_while_it_starts_ends_soon(tmp_path: Path) -> None:
    """Some of these miss a child that is forked after the signal."""
    started = []
    for number in range(6):
        port = free_port(neighbours=1)
        settings = kamailio.ProxySettings("home.test", tuple(map(ip_address, HOSTS)), {"a": "b"}, port, port + 1)
        command = kamailio.command(kamailio.write(settings, tmp_path / str(number)))
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, env=kamailio.environment()))
        time.sleep(0.03 + 0.01 * number)
        started[-1].terminate()
    for process in started:
        process.wait(20)
