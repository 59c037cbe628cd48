"""A home agent on a rented server, with real processes: the provider routes a /56 to it, and there is no home link."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from mobility.client import wait_ready
from mobility.net import namespace
from sip_test_env.links import nft
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork
from tests.mobility.running import Nodes, mobility

from .net.networks import run
from .store.support import RedisServer

pytestmark = [pytest.mark.root, pytest.mark.interop]

PREFIX = "2001:db8:77::/56"
SERVER = "2001:db8:1::5"
"The server's own address in the network of its provider, to which the prefix is routed."
UNUSED = "2001:db8:77::dead"
OF_THE_SERVER = "2001:db8:77::5"
"In the prefix, and the server's kernel has it."
TUN = "roam6"
ECHO_REPLY, UNREACHABLE, ADDRESS_UNREACHABLE = 129, 1, 3


class Rented:
    """The test network, but the machine of the home agent is somewhere, with a prefix that is routed to it."""

    def __init__(self, stack: ExitStack) -> None:
        self.network = stack.enter_context(TestNetwork(f"rnet-{os.getpid()}"))
        plan = self.plan = self.network.plan
        self.server = plan.namespace("ha")
        with namespace.inside(self.server):
            for setting, value in (("eth0/disable_ipv6", 0), ("all/forwarding", 0)):
                Path(f"/proc/sys/net/ipv6/conf/{setting}").write_text(str(value))
        # As many providers do it: the interface has an address of the routed prefix, with the length of that.
        for command in (
            f"addr add {SERVER}/64 dev eth0 nodad",
            f"addr add {OF_THE_SERVER}/64 dev eth0 nodad",
            f"-6 route add default via {plan.home.router_address}",
        ):
            run("ip", "-n", self.server, *command.split())
        run("ip", "-n", plan.namespace("home-router"), *f"-6 route add {PREFIX} via {SERVER}".split())
        run("ip", "-n", plan.namespace("core"), *f"-6 route add {PREFIX} via {plan.home.backbone[2]}".split())
        self.processes = MobilityNodes(self.network, "esp")
        for role, path in self.processes.configurations.items():
            text = path.read_text().replace("2001:db8:1:", "2001:db8:77:")
            if role == "ha":
                text = text.replace('interface = "eth0"\n', f'home_link = "routed"\nprefixes = ["{PREFIX}"]\n')
            path.write_text(text)
        with namespace.inside(plan.namespace("proxy")):
            self.stranger = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6))
        stack.callback(self.processes.stop)

    def check(self) -> tuple[int, dict[str, tuple[str, str]]]:
        """Exit status of `mobility check`, and state and remedy of each subject."""
        with namespace.inside(self.server):
            done = mobility("check", "--config", str(self.processes.configurations["ha"]), "--json")
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {each["subject"]: (each["state"], each["text"] + each["remedy"]) for each in found}

    def ping(self, address: str | IPv6Address, seconds: float = 5.0) -> tuple[int, int, str]:
        """Type, code and source of what a stranger's echo request is answered with."""
        mark = os.urandom(8)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.stranger.sendto(bytes((128, 0, 0, 0, 1, 2, 3, 4)) + mark, (str(address), 0))
            until = min(end, time.monotonic() + 0.2)
            while select.select([self.stranger], [], [], max(0.0, until - time.monotonic()))[0]:
                answer, source = self.stranger.recvfrom(2000)
                if mark in answer and answer[0] != 128:
                    return answer[0], answer[1], source[0]
        raise AssertionError(f"nothing answers at {address}")

    def routes(self) -> str:
        return run("ip", "-n", self.server, "-6", "route")


def test_a_home_agent_on_a_rented_server() -> None:
    with ExitStack() as stack:
        rented = Rented(stack)
        _what_is_missing_is_told(rented)
        rented.network.move("visited-a")
        rented.processes.start()
        nodes = Nodes(rented.processes)
        stack.callback(nodes.close)
        nodes.round_trip(10)
        _packets_find_their_way(rented, nodes)

        # Another network, then a data plane that dies, then all of the home agent.
        rented.network.move("visited-b")
        nodes.round_trip(5)
        os.kill(nodes.pid("ha"), signal.SIGKILL)
        nodes.round_trip(5)
        server = rented.processes.processes.pop("ha")
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        rented.processes.start("ha")
        nodes.round_trip(5)

        # Whoever takes the device down takes the routes with it: both are made anew, and so is a route alone.
        run("ip", "-n", rented.server, "link", "set", TUN, "down")
        nodes.round_trip(5)
        run("ip", "-n", rented.server, "link", "del", TUN)
        nodes.round_trip(5)
        run("ip", "-n", rented.server, "-6", "route", "flush", "dev", TUN)
        nodes.round_trip(5)

        rented.processes.stop("ha")
        assert TUN not in rented.routes()
        assert TUN not in run("ip", "-n", rented.server, "link")


def _what_is_missing_is_told(rented: Rented) -> None:
    home = str(rented.plan.home_address).replace(":1:", ":77:")
    run("ip", "-n", rented.server, "addr", "add", home, "dev", "lo")
    with namespace.inside(rented.server):
        nft("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }")
    status, found = rented.check()
    assert status == 1
    assert found["forwarding"][0] == found["address"][0] == "missing"
    assert found["firewall"][0] == "limited"
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in found["forwarding"][1]
    assert f"ip address del {home}/128 dev lo" in found["address"][1]
    assert f"nft insert rule inet filter forward iifname {TUN} accept" in found["firewall"][1]
    run("ip", "-n", rented.server, "addr", "del", f"{home}/128", "dev", "lo")
    with namespace.inside(rented.server):
        nft("delete table inet filter")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    status, found = rented.check()
    assert (status, found["routed prefix"][0]) == (0, "ok"), found


def _packets_find_their_way(rented: Rented, nodes: Nodes) -> None:
    home, agent = (
        str(address).replace(":1:", ":77:") for address in (rented.plan.home_address, rented.plan.home_agent)
    )
    assert rented.ping(home) == (ECHO_REPLY, 0, home)
    assert rented.ping(agent) == (ECHO_REPLY, 0, agent)
    assert rented.ping(OF_THE_SERVER) == (ECHO_REPLY, 0, OF_THE_SERVER)
    assert rented.ping(UNUSED) == (UNREACHABLE, ADDRESS_UNREACHABLE, agent)
    with namespace.inside(rented.server), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as program:
        program.bind((OF_THE_SERVER, 9))
        program.settimeout(5)
        nodes.mn.sendto(b"to the server itself", (OF_THE_SERVER, 9))
        data, sender = program.recvfrom(100)
        assert (data, sender[0]) == (b"to the server itself", home)
        program.sendto(b"and back", sender)
        nodes.mn.settimeout(5)
        while data != b"and back":  # what is left of a round trip comes first
            data = nodes.mn.recv(100)
        nodes.mn.settimeout(None)
    assert rented.ping("2001:db8:77:5::1") == (UNREACHABLE, 0, agent)
    assert f"{PREFIX} dev {TUN} proto static metric 1" in rented.routes()


def test_routes_are_where_the_home_agent_serves(tmp_path: Path) -> None:
    """Two as one: what announces routes of the kernel to others follows the one that serves."""
    with ExitStack() as stack:
        redis = RedisServer(tmp_path)
        stack.callback(redis.stop)
        server = f"rnet-{os.getpid()}-two"
        run("ip", "netns", "add", server)
        stack.callback(run, "ip", "netns", "del", server)
        agents = {}
        for name in ("roam-a", "roam-b"):
            folder = tmp_path / name
            folder.mkdir(mode=0o700)
            (folder / "ha.toml").write_text(
                f'[node]\nrole = "ha"\nruntime = "{folder}"\nstate = "{folder}/state"\n'
                f'[home_agent]\nhome_link = "routed"\naddress = "2001:db8:77::a/64"\ninterface = "{name}"\n'
                f'[store]\nkind = "redis"\nurl = "{redis.url}"\n'
            )
            command = [sys.executable, "-m", "mobility", "ha", "--config", str(folder / "ha.toml")]
            with namespace.inside(server), (folder / "log").open("wb") as log:
                agents[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            stack.callback(agents[name].wait)
            stack.callback(agents[name].terminate)
        for name in agents:
            wait_ready(tmp_path / name, timeout=15)

        def routed(seconds: float = 5.0, but: str = "") -> str:
            """The device that has the route, once it is not ``but``."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                found = re.findall(r"2001:db8:77::/64 dev (\S+)", run("ip", "-n", server, "-6", "route"))
                assert len(found) <= 1
                if found and found[0] != but:
                    return str(found[0])
                time.sleep(0.02)
            raise AssertionError("nobody has the route")

        first = routed()
        os.killpg(agents[first].pid, signal.SIGKILL)
        second = routed(but=first)
        assert {first, second} == set(agents)
