"""The home agent as a service: without root, spoken with by the service manager."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.mobility.net.networks import Cable, cable
from tests.ordinary import PROJECT, OrdinaryUser, ordinary_user

pytestmark = [pytest.mark.root, pytest.mark.interop]

UNIT = PROJECT / "packaging/systemd/roamphone-ha.service"
CONFIGURATION = """[node]
role = "ha"
[home_agent]
address = "2001:db8:77::1/64"
interface = "eth0"
[[home_agent.terminal]]
home_address = "2001:db8:77::100"
tunnel = "plain"
signalling = "none"
[log]
format = "json"
"""


@dataclass
class Service:
    """A home agent that runs as systemd would have it run."""

    user: OrdinaryUser
    process: subprocess.Popen[bytes]
    manager: socket.socket
    configuration: Path
    log: Path
    heard: list[str] = field(default_factory=list)

    def wait_for(self, word: str, seconds: float = 10.0) -> float:
        """Until the service manager is told this; returns how long it took."""
        began = time.monotonic()
        self.manager.settimeout(seconds)
        while True:
            said = self.manager.recv(4096).decode()
            self.heard.append(said)
            if word in said:
                return time.monotonic() - began

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def unit(key: str) -> str:
    """What stands in the unit file."""
    found = re.search(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def service(wire: Cable, user: OrdinaryUser, text: str) -> Iterator[Service]:
    configuration = user.write("ha.toml", text)
    log = user.home / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(user.home / "notify"))
        os.chmod(user.home / "notify", 0o777)
        command = user.command(
            "setpriv", "--no-new-privs", "python", "-m", "mobility", "ha", "--config", str(configuration),
            network=wire.ours,
            capabilities=[name.removeprefix("CAP_").lower() for name in unit("AmbientCapabilities").split()],
            NOTIFY_SOCKET=str(user.home / "notify"), WATCHDOG_USEC="1000000", XDG_STATE_HOME=str(user.home / "state"),
        )  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=user.home)
        made = Service(user, process, manager, configuration, log)
        try:
            made.wait_for("READY=1")
            yield made
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with cable() as wire, ordinary_user() as user, service(wire, user, CONFIGURATION) as made:
        yield made


def test_two_capabilities_are_enough(running: Service) -> None:
    for pid in running.children():
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{running.user.uid}\t" in status
        held = re.search(r"^CapEff:\t(\w+)$", status, re.MULTILINE)
        assert held is not None
        assert int(held[1], 16) == 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW
    assert (running.user.runtime.parent / "ha/control.sock").exists()
    assert (running.user.home / "state/roamphone/ha/bindings.sqlite").exists()


def test_the_manager_hears_that_it_lives(running: Service) -> None:
    running.wait_for("WATCHDOG=1")
    assert running.wait_for("WATCHDOG=1") < 1.0


def test_a_reload_is_told_and_so_is_one_that_cannot_be(running: Service) -> None:
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("RELOADING=1")
    running.wait_for("READY=1\nSTATUS=serving, configuration read anew")
    running.user.write("ha.toml", CONFIGURATION + "nonsense")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("RELOADING=1")
    running.wait_for("READY=1\nSTATUS=serving, the configuration that was to be read anew cannot be used")
    running.user.write("ha.toml", CONFIGURATION)


def test_a_data_plane_that_hangs_is_replaced_while_the_manager_is_content(running: Service) -> None:
    (hanging,) = running.children()
    os.kill(hanging, signal.SIGSTOP)
    took = running.wait_for("READY=1", 12.0)
    assert 3.0 < took < 10.0
    assert running.children() != [hanging]
    assert running.heard.count("WATCHDOG=1") > 5


def test_each_line_of_the_log_is_an_object(running: Service) -> None:
    lines = [line for line in running.log.read_text().splitlines() if not line.startswith("mobility ha: ready")]
    assert lines
    assert {"time", "level", "logger", "message"} <= set(json.loads(lines[-1]))
    assert any("hangs" in json.loads(line)["message"] for line in lines)


def test_the_units_are_correct_and_confine() -> None:
    """systemd itself judges: nothing unknown in it, and a low exposure."""
    text = UNIT.read_text().replace("/usr/bin/mobility", "/bin/true")
    with ordinary_user() as user:
        path = user.write("roamphone-ha.service", text)
        own = user.write(
            "roamphone-mn.service",
            (UNIT.parent / "user/roamphone-mn.service").read_text().replace("/usr/bin/mobility", "/bin/true"),
        )
        gateway = user.write(
            "roamphone-gateway.service",
            (UNIT.parent / "roamphone-gateway.service").read_text().replace("/usr/bin/mobility", "/bin/true"),
        )
        for arguments in (
            ["verify", "--man=no", str(path)],
            ["verify", "--man=no", str(gateway)],
            ["--user", "verify", "--man=no", str(own)],
        ):
            environment = {**os.environ, "XDG_RUNTIME_DIR": str(user.home)}
            done = subprocess.run(
                ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, env=environment
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        for judged_unit in (path, gateway):
            command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(judged_unit)]
            judged = subprocess.run(command, capture_output=True, text=True, check=False)
            assert judged.returncode == 0, judged.stdout


def test_it_stops_when_told(running: Service) -> None:
    running.process.terminate()
    running.wait_for("STOPPING=1")
    assert running.process.wait(10) == 0
