"""From the operator's `add-terminal` to any program on the home address of an ordinary user who walks about."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mobility.client import HostClient, MobilityError, wait_ready
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BROADBAND, WIFI, Plan
from tests.interop.names import name_server
from tests.ordinary import OrdinaryUser, ordinary_user

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "files.home.example"
PORT = 8080
SIZE = 200_000
PACE = 0.02
"Seconds between two pieces of the long file."


PINGS = 150
PING = f"""
import socket, sys, time
asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
asking.connect((sys.argv[1], 0))
asking.settimeout(0.04)
answered, began = set(), time.monotonic()
for number in range({PINGS} + 75):
    if number < {PINGS}:
        asking.send(bytes((128, 0, 0, 0, 0, 0)) + number.to_bytes(2) + bytes(160))
    while (left := began + 0.04 * (number + 1) - time.monotonic()) > 0:
        asking.settimeout(left)
        try:
            answer = asking.recv(2000)
        except TimeoutError:
            break
        answered.add(int.from_bytes(answer[6:8]))
    if number == 0:
        print(0, flush=True)
    if len(answered) == {PINGS}:
        break
print(*sorted(answered - {{0}}), sep=chr(10))
"""
"Echo requests, 25 a second; tells the numbers of those that were answered."


@dataclass(slots=True)
class Road:
    """A home agent as its operator runs it, and an ordinary user's laptop."""

    network: TestNetwork
    user: OrdinaryUser
    agent: Path
    terminal: subprocess.Popen[bytes]
    asked: list[str]
    "Who asked the name server."

    @property
    def plan(self) -> Plan:
        return self.network.plan

    def run(self, *command: str, text: str | None = None, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """By the user, on the laptop."""
        place = self.plan.namespace("laptop")
        return self.user.run(*command, network=place, text=text, timeout=timeout)

    def operator(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.network.run("ha", [sys.executable, "-m", "mobility", *arguments, "--config", str(self.agent)])

    def status(self) -> dict[str, object]:
        answer = json.loads(self.run("mobility", "status", "--json").stdout)
        assert isinstance(answer, dict)
        return answer

    def place(self) -> str:
        """The link in use, once the home agent knows it; empty before."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            node = self.status()["node"]
            assert isinstance(node, dict)
            mobile = node["mobile_node"]
            if mobile["registration"]["state"] == "bound" and not mobile["handover_under_way"]:
                return str(mobile["movement"]["present"]["link"])
        return ""

    def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.run("mobility", "status").stdout
            time.sleep(0.1)


def start_terminal(network: TestNetwork, user: OrdinaryUser) -> subprocess.Popen[bytes]:
    command = user.command("mobility", "mn", network=network.plan.namespace("laptop"))
    with (network.directory / "terminal.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=user.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_ready(user.runtime, timeout=20)
    return process


@pytest.fixture(scope="module")
def road() -> Iterator[Road]:
    with TestNetwork("test-programs") as network, ordinary_user() as user, contextlib.ExitStack() as stack:
        plan = network.plan
        network.move(plan.visited_a.name, WIFI)
        folder = network.directory / "agent"
        folder.mkdir(mode=0o700)
        agent = folder / "ha.toml"
        agent.touch(mode=0o600)
        agent.write_text(
            f'[node]\nrole = "ha"\nruntime = "{folder}/run"\nstate = "{folder}/state"\n'
            f'[home_agent]\naddress = "{plan.home_agent}/64"\ninterface = "eth0"\n'
            f'udp = ["{plan.home_agent4}"]\nipv4_pool = "{plan.pool4}"\n'
        )
        with (folder / "log").open("wb") as log:
            network.popen(
                "ha", [sys.executable, "-m", "mobility", "ha", "--config", str(agent)],
                name="mobility-ha", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_ready(folder / "run", timeout=20)
        serve = [sys.executable, str(write_server(folder)), str(plan.proxy), str(PORT)]
        network.popen("proxy", serve, name="files", start_new_session=True)
        asked = stack.enter_context(name_server(plan, {f"{NAME}.": {"AAAA": str(plan.proxy), "A": str(plan.proxy4)}}))

        made = network.run("ha", [
            sys.executable, "-m", "mobility", "add-terminal", "laptop", "--config", str(agent), "--uri",
            "--dns", str(plan.proxy), "--home-agent4", str(plan.home_agent4),
        ])  # fmt: skip
        assert made.returncode == 0, made.stderr
        reloaded = network.run("ha", [sys.executable, "-m", "mobility", "reload", "--config", str(agent)])
        assert reloaded.stdout.startswith("added 2001:db8:1:"), reloaded.stderr
        imported = user.run("mobility", "import", text=made.stdout)
        assert imported.returncode == 0, imported.stderr
        terminal = start_terminal(network, user)
        try:
            yield (made_road := Road(network, user, agent, terminal, asked))
        finally:
            made_road.terminal.terminate()
            made_road.terminal.wait(20)


def write_server(folder: Path) -> Path:
    """Serves, on IPv6 and IPv4, a short page, and a long file slowly."""
    path = folder / "serve.py"
    path.write_text(
        "import http.server, socket, sys, time\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "        if self.path == '/who':\n"
        "            self.wfile.write(self.client_address[0].removeprefix('::ffff:').encode())\n"
        "            return\n"
        f"        for at in range(0, {SIZE}, 1000):\n"
        "            self.wfile.write(b'%06d' % at + b'.' * 994)\n"
        f"            time.sleep({PACE})\n"
        "class Server(http.server.ThreadingHTTPServer):\n"
        "    address_family = socket.AF_INET6\n"
        "Server(('::', int(sys.argv[2])), Handler).serve_forever()\n"
    )
    return path


def test_the_laptop_is_fit_and_the_terminal_away(road: Road) -> None:
    check = road.run("mobility", "check")
    assert check.returncode == 0
    assert f"home agent: {road.plan.home_agent} UDP port 4191: there is a way" in check.stdout
    assert f"home agent: {road.plan.home_agent4} UDP port 4191: no route" in check.stdout  # visited-a is IPv6 alone
    assert "access wlan0: default route for IPv6" in check.stdout
    road.until(lambda: road.place() == "wlan0/udp6")
    shown = road.run("mobility", "status").stdout
    assert "place      wlan0/udp6" in shown
    agent = road.operator("status").stdout
    assert " serves: 1 terminal, 1 away\n" in agent
    assert "  laptop 2001:db8:1:" in agent


def test_a_program_speaks_with_the_home_address_over_both_versions_of_ip(road: Road) -> None:
    road.until(lambda: road.place() != "")
    node = road.status()["node"]
    assert isinstance(node, dict)
    home = node["mobile_node"]["home_address"]
    done = road.run("mobility", "exec", "--", "curl", "-sS", "-6", "-m", "10", f"http://{NAME}:{PORT}/who")
    assert (done.stdout, done.stderr) == (home, "")
    assert set(road.asked) == {home}
    done = road.run("mobility", "exec", "--", "curl", "-sS", "-4", "-m", "10", f"http://{NAME}:{PORT}/who")
    assert (done.stdout in map(str, road.plan.pool4), done.stderr) == (True, "")
    assert done.stdout == node["mobile_node"]["home_address4"]


def test_a_download_goes_on_into_an_ipv4_hotspot_and_back(road: Road) -> None:
    road.until(lambda: road.place() == "wlan0/udp6")
    command = road.user.command("mobility", "exec", "--", "curl", "-sS", "-m", "60", f"http://{NAME}:{PORT}/long",
                                network=road.plan.namespace("laptop"))  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=road.user.home) as download:
        assert download.stdout is not None
        first = download.stdout.read(10_000)
        road.network.move("hotspot", BROADBAND)
        road.network.unplug(WIFI)
        road.until(lambda: road.place() == "wwan0/udp4")
        road.network.move("visited-b", WIFI)
        road.until(lambda: road.place() == "wlan0/udp6")
        rest = download.stdout.read()
    assert download.returncode == 0
    assert first + rest == b"".join(b"%06d" % at + b"." * 994 for at in range(0, SIZE, 1000))
    shown = road.run("mobility", "status").stdout
    assert "wlan0/udp6 -> wwan0/udp4" in shown
    assert "wwan0/udp4 -> wlan0/udp6" in shown


def test_keys_that_nobody_typed_are_renewed_and_moved_and_no_packet_is_lost(road: Road) -> None:
    road.until(lambda: road.place() == "wlan0/udp6")
    (before,) = ike_sas(road)
    command = road.user.command("mobility", "exec", "--", "python", "-c", PING, str(road.plan.proxy),
                                network=road.plan.namespace("laptop"))  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=road.user.home, text=True) as ping:
        assert ping.stdout is not None
        assert ping.stdout.readline() == "0\n"
        assert road.run("mobility", "ike", "rekey").returncode == 0
        road.network.move("hotspot", BROADBAND)
        road.until(lambda: "wwan0/udp4" in road.status()["links"])  # type: ignore[operator]
        assert road.run("mobility", "command", "move", "wwan0/udp4").returncode == 0
        road.until(lambda: road.place() == "wwan0/udp4")
        assert road.run("mobility", "ike", "rekey").returncode == 0
        assert road.run("mobility", "command", "roam").returncode == 0
        said = ping.stdout.read()
    assert said.splitlines() == [str(number) for number in range(1, PINGS)]
    (after,) = ike_sas(road)
    assert (after["ike"], after["suite"]) == (before["ike"], before["suite"])
    assert "AES_GCM_16" in str(after["suite"])
    spis = [{child["name"]: child["inbound_spi"] for child in row["children"]} for row in (before, after)]
    assert spis[0].keys() == spis[1].keys() == {"signalling", "tunnel"}
    assert not set(spis[0].values()) & set(spis[1].values())
    road.network.unplug(BROADBAND)
    road.until(lambda: road.place() == "wlan0/udp6")


def ike_sas(road: Road) -> list[dict[str, Any]]:
    node = road.status()["node"]
    assert isinstance(node, dict)
    return list(node["ike"])


def test_a_program_outlives_the_holder_of_the_host_os(road: Road) -> None:
    road.until(lambda: road.place() != "")
    host = HostClient(road.user.runtime / "host.sock")
    home = host.address()
    ask = f"while read line; do curl -sS -m 10 http://[{road.plan.proxy}]:{PORT}/who; echo; done"
    command = road.user.command("mobility", "exec", "sh", "-c", ask, network=road.plan.namespace("laptop"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=road.user.home) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for _ in range(3):
            program.stdin.write(b"now\n")
            program.stdin.flush()
            assert program.stdout.readline().decode().strip() == home
            holder = host.information()["pid"]
            assert isinstance(holder, int)
            os.kill(holder, signal.SIGKILL)
            road.until(partial(replaced, host, holder))
            road.until(lambda: road.place() != "")
    assert program.returncode == 0


def replaced(host: HostClient, pid: int) -> bool:
    try:
        return host.information()["pid"] != pid
    except MobilityError:
        return False


def test_a_terminal_that_is_removed_is_served_no_more(road: Road) -> None:
    road.until(lambda: road.place() != "")
    removed = road.operator("remove-terminal", "laptop")
    assert removed.returncode == 0, removed.stderr
    assert road.operator("reload").stdout.startswith("removed 2001:db8:1:")
    assert " serves: 0 terminals, 0 away\n" in road.operator("status").stdout
    done = road.run("mobility", "exec", "--", "curl", "-sS", "-6", "-m", "2", f"http://[{road.plan.proxy}]:{PORT}/who")
    assert done.returncode != 0
