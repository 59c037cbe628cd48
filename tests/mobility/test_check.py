"""``mobility check``: true about this machine, readable, and with an exit status to build on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.cli import main
from mobility.commands.check import WIDTH, shown
from mobility.enrolment import Wishes, enrol
from mobility.examination import Finding, State, able
from mobility.net import namespace
from tests.ordinary import OrdinaryUser, ordinary_user

from .net.networks import OURS, PEER, Cable, cable
from .test_enrolment import HA, agent_with

AGENT = "2001:db8:1::a"
TERMINAL = enrol(agent_with(HA), Wishes("alice")).terminal_file


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as made:
        yield made


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


class Answer:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.stderr == ""
        self.status = done.returncode
        self.able: bool
        answer = json.loads(done.stdout)
        self.able, self.findings = answer["able"], answer["findings"]

    def of(self, subject: str) -> dict[str, str]:
        found = [finding for finding in self.findings if finding["subject"] == subject]
        assert len(found) == 1, found
        return dict(found[0])

    def state(self, subject: str) -> str:
        return self.of(subject)["state"]


def check(user: OrdinaryUser, network: str, configuration: str | None = None, **environment: str) -> Answer:
    arguments = ["--json"]
    if configuration is not None:
        arguments += ["--config", str(user.write("mn.toml", configuration))]
    return Answer(user.run("mobility", "check", *arguments, network=network, timeout=30.0, text=None, **environment))


@pytest.mark.root
def test_an_ordinary_user_on_an_ordinary_machine(user: OrdinaryUser, wire: Cable) -> None:
    answer = check(user, wire.ours)
    assert (answer.status, answer.able) == (0, True)
    assert [
        answer.state(one) for one in ("Python", "kernel", "clock", "namespaces", "TUN device", "mobility exec")
    ] == ["ok"] * 6
    assert "as an ordinary user" in answer.of("namespaces")["text"]
    assert answer.state("configuration") == answer.state("CAP_NET_RAW") == answer.state("access") == "limited"
    assert "no network at the moment" in answer.of("access")["text"]
    text = user.run("mobility", "check", network=wire.ours)
    assert text.returncode == 0
    assert text.stdout.endswith("\nA terminal can run here.\n")
    assert "limited  CAP_NET_RAW: " in text.stdout


@pytest.mark.root
def test_access_is_shown_with_addresses_and_routes(user: OrdinaryUser, wire: Cable) -> None:
    for arguments in ("addr add 192.0.2.9/24 dev eth0", "route add default via 192.0.2.1 metric 7"):
        wire.ip(arguments)
    found = check(user, wire.ours).of("access eth0")
    assert found["state"] == "ok"
    assert "default route for IPv4 (metric 7); 192.0.2.9/24" in found["text"]


@pytest.mark.root
def test_what_is_missing_decides(user: OrdinaryUser, wire: Cable) -> None:
    closed = user.home / "closed"
    os.mknod(closed, 0o20600, os.makedev(10, 200))
    answer = check(user, wire.ours, ROAMPHONE_TUN_DEVICE=str(closed))
    assert (answer.status, answer.able) == (1, False)
    assert f"chmod 0666 {closed}" in answer.of("TUN device")["remedy"]
    assert "cannot run here" in user.run("mobility", "check", network=wire.ours, ROAMPHONE_TUN_DEVICE="/no").stdout
    without = (
        "import os\nfrom pathlib import Path\nfrom mobility.net import namespace\n"
        "namespace.unshare_user_and_network()\nPath('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "os.execvp('mobility', ['mobility', 'check', '--json'])\n"
    )
    answer = Answer(user.run("python", "-c", without))
    assert answer.status == 1
    assert answer.of("namespaces")["state"] == "missing"
    assert "sysctl -w user.max_user_namespaces" in answer.of("namespaces")["remedy"]
    assert answer.state("TUN device") == "ok"  # told all the same


@pytest.mark.root
def test_a_terminal_that_cannot_start_says_the_same(user: OrdinaryUser, wire: Cable) -> None:
    configuration = str(user.write("mn.toml", TERMINAL))
    done = user.run(
        "mobility", "mn", "--config", configuration, network=wire.ours, ROAMPHONE_TUN_DEVICE="/nonexistent/tun"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no TUN device /nonexistent/tun\nAs root: modprobe tun\n" in done.stderr
    assert "direct mode" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_packet_sockets_without_root(user: OrdinaryUser, wire: Cable) -> None:
    """One capability is enough for Mobile IPv6 itself, as `check` advises."""
    native = TERMINAL.replace("[mobile_node]", '[mobile_node]\ninterfaces = ["eth0"]\naccess = "native"')
    configuration = str(user.write("native.toml", native))
    command = user.command(
        "mobility", "check", "--json", "--config", configuration, network=wire.ours, capabilities=["net_raw"]
    )
    answer = Answer(subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
    assert answer.status == 0
    assert [answer.state(one) for one in ("CAP_NET_RAW", "interface eth0", "namespaces", "TUN device")] == ["ok"] * 4
    assert "as an ordinary user" in answer.of("namespaces")["text"]


@pytest.mark.root
def test_configurations_that_cannot_be_used(user: OrdinaryUser, wire: Cable) -> None:
    answer = check(user, wire.ours, TERMINAL.replace("home_agent =", "home_agnt ="))
    assert (answer.status, answer.state("configuration")) == (1, "missing")
    open_to_all = user.write("open.toml", TERMINAL, 0o644)
    open_to_all.chmod(0o644)
    done = user.run("mobility", "check", "--config", str(open_to_all), network=wire.ours)
    assert done.returncode == 1
    assert "chmod 600" in done.stdout
    native = TERMINAL.replace("[mobile_node]", '[mobile_node]\ninterfaces = ["eth0"]\naccess = "native"')
    answer = check(user, wire.ours, native)
    assert (answer.status, answer.state("CAP_NET_RAW"), answer.state("interface eth0")) == (1, "missing", "missing")
    elsewhere = TERMINAL.replace('role = "mn"', 'role = "mn"\nstate = "/usr/share/roamphone"')
    assert check(user, wire.ours, elsewhere).state("directories") == "missing"


@pytest.mark.root
def test_the_way_to_the_home_agent(user: OrdinaryUser, wire: Cable) -> None:
    """The peer's kernel answers for the home agent; the other end gets an address of the kernel's for this test."""
    answer = check(user, wire.ours, TERMINAL)
    agents = [finding for finding in answer.findings if finding["subject"] == "home agent"]
    assert "no route" in agents[0]["text"]
    assert "networks with IPv4 alone" in agents[1]["text"]
    with namespace.inside(wire.ours):
        Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("0")
    wire.ip(f"addr add {OURS}/64 dev eth0 nodad")
    wire.ip(f"route add {AGENT} via {PEER}")
    wire.ip(f"addr add {AGENT}/128 dev lo nodad", wire.peer)
    configuration = TERMINAL + ""
    refused = check(user, wire.ours, configuration)
    assert "nobody listens there" in next(one for one in refused.findings if one["subject"] == "home agent")["text"]
    assert refused.status == 0  # it may listen tomorrow
    with namespace.inside(wire.peer):
        agent = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with agent:
        agent.bind((AGENT, 4191))
        agent.settimeout(5)
        heard = check(user, wire.ours, configuration)
        assert "there is a way" in next(one for one in heard.findings if one["subject"] == "home agent")["text"]
        assert [agent.recv(100) for _ in range(2)] == [b"\xff", b"\xff"]


@pytest.mark.root
def test_a_home_agent_s_machine(tmp_path: Path, wire: Cable, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ha.toml"
    state = f'[node]\nrole = "ha"\nruntime = "{tmp_path}/run"\nstate = "{tmp_path}/state"'
    path.write_text(HA.replace('[node]\nrole = "ha"', state) + 'udp = ["192.0.2.9"]\n')
    with namespace.inside(wire.ours):
        assert main(["check", "--config", str(path)]) == 1
        said = capsys.readouterr().out
        assert "missing  udp 192.0.2.9: cannot be listened at" in said
        assert "TUN" not in said
        wire.ip("addr add 192.0.2.9/24 dev eth0")
        assert main(["check", "--config", str(path)]) == 0
        assert capsys.readouterr().out.endswith("\nA home agent can run here.\n")


def test_text_is_80_columns_wide_but_commands_stay_whole() -> None:
    command = "As root: " + "sysctl -w something=1 " * 6
    finding = Finding("thing", State.LIMITED, "word " * 40, f"{'advice ' * 30}\n{command}\n    indented")
    lines = shown(finding).splitlines()
    assert lines[0].startswith("limited  thing: word")
    assert [line for line in lines if len(line) > WIDTH] == [f"         {command}"]
    assert lines[-1] == "             indented"
    assert shown(Finding("thing", State.OK, "fine", "not needed")) == "ok       thing: fine"


def test_limits_are_no_obstacles() -> None:
    fine, limited, missing = (Finding("x", state, "") for state in State)
    assert able([fine, limited])
    assert not able([fine, missing, limited])
