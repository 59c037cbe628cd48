"""The container's entry point writes the configuration that the namespaces use, and starts Kamailio on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from sip_test_env import container, kamailio

CONTAINERS = Path(container.__file__).parent / "containers"
GOOD = {"SIP_ADDRESSES": "::1, 127.0.0.1", "SIP_USERS": "6001:one, 6002:two"}


def compose_environment() -> dict[str, str]:
    """The environment block of compose.yaml."""
    block = (CONTAINERS / "compose.yaml").read_text().split("environment:\n")[1].split("    volumes:")[0]
    return dict(re.findall(r'^ +(SIP_\w+): "?([^"\n]+)"?$', block, re.MULTILINE))


def test_settings_from_the_environment() -> None:
    settings = container.settings({**GOOD, "SIP_DIGEST": "SHA-256"})
    assert settings.addresses == (ip_address("::1"), ip_address("127.0.0.1"))
    assert settings.passwords == {"6001": "one", "6002": "two"}
    assert (settings.domain, settings.digest) == ("roamphone.test", "SHA-256")


def test_settings_of_compose_are_the_namespaces_own() -> None:
    settings = container.settings(compose_environment())
    assert [str(address) for address in settings.addresses] == ["2001:db8:8::8", "198.51.100.8"]
    assert set(settings.passwords) == {"6001", "6002", "6003", "6004"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"SIP_ADDRESSES": ""}, "SIP_ADDRESSES"),
        ({"SIP_ADDRESSES": "nonsense"}, "nonsense"),
        ({"SIP_USERS": ""}, "SIP_USERS"),
        ({"SIP_USERS": "6001"}, "use letters"),
        ({"SIP_USERS": '6001:a"b'}, "use letters"),
        ({"SIP_DIGEST": "SHA-512"}, "SHA-512"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        container.settings({**GOOD, **change})


def copied(target: Path) -> list[str]:
    """Lays out the files that the Containerfile copies, as it does; returns their names."""
    text = (CONTAINERS / "Containerfile").read_text().replace("\\\n", " ")
    *sources, destination = next(line for line in text.splitlines() if line.startswith("COPY")).split()[1:]
    (target / destination).mkdir()
    for source in sources:
        shutil.copy(CONTAINERS.parent.parent / source, target / destination)
    return sources


@pytest.mark.interop
def test_the_copied_files_are_enough_and_kamailio_answers(tmp_path: Path) -> None:
    """The entry point on nothing but the copied files, listening on loopback, with ports of its own."""
    assert "sip_test_env/kamailio.cfg" in copied(tmp_path)
    code = (
        "import dataclasses, os, pathlib, sys\n"
        "from sip_test_env import container, kamailio\n"
        "settings = dataclasses.replace(container.settings(os.environ), sip_port=25060, sips_port=25061)\n"
        "command = kamailio.command(kamailio.write(settings, pathlib.Path(sys.argv[1])))\n"
        "os.execvp(command[0], command)\n"
    )
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin", **GOOD}
    with (
        open(tmp_path / "log", "wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "state"],
            cwd=tmp_path,
            env=environment,
            stderr=log,
            stdout=log,
            start_new_session=True,
        ) as proxy,
    ):
        try:
            assert b"SIP/2.0 200" in ask(proxy), (tmp_path / "log").read_text()
        finally:
            # A Kamailio that is told to end while it still starts its processes takes a minute for it.
            os.killpg(proxy.pid, signal.SIGKILL)
    assert "BEGIN CERTIFICATE" in (tmp_path / "state" / "ca.pem").read_text()
    assert kamailio.TEMPLATE.read_text() == (tmp_path / "state" / "kamailio.cfg").read_text()


def ask(proxy: subprocess.Popen[bytes]) -> bytes:
    """OPTIONS until there is an answer, or Kamailio has given up."""
    request = (
        "OPTIONS sip:roamphone.test SIP/2.0\r\nVia: SIP/2.0/UDP [::1];branch=z9hG4bKprobe;rport\r\n"
        "From: <sip:a@b.invalid>;tag=1\r\nTo: <sip:roamphone.test>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
    )
    deadline = time.monotonic() + 10
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect(("::1", 25060))
        while time.monotonic() < deadline and proxy.poll() is None:
            try:
                probe.send(request.encode())
                return probe.recv(4096)
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.02)
    return b""
