"""One or two home agents as operators start them, on the home link of the test network, with the packets of a call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobility.client import ControlClient, HostClient, MobilityError, wait_ready
from mobility.net import namespace
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork

FIRST, SECOND = "ha", "ha2"
_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1
INTERVAL = 0.01
"Seconds between two packets of the call, each way."


@dataclass
class Call:
    """Numbered packets both ways, and what became of them."""

    sent: int = 0
    heard: dict[str, list[int]] = field(default_factory=lambda: {"up": [], "down": []})
    pauses: dict[str, float] = field(default_factory=lambda: {"up": 0.0, "down": 0.0})
    "The longest time without a packet, from the moment of the disturbance on."

    @property
    def longest_pause(self) -> float:
        return max(self.pauses.values())


class HomeAgents:
    """A terminal abroad and a correspondent, and home agents that can be disturbed."""

    def __init__(
        self, network: TestNetwork, extra: str = "", keys: str = "", *, second: bool = False, negotiate: bool = False
    ) -> None:
        """``extra``: tables for the configuration of the home agents; ``keys``: lines of [home_agent]; ``negotiate``:
        the terminal has a token in place of keys."""
        self.nodes = MobilityNodes(network, "esp", negotiate=negotiate)
        self.namespaces = {FIRST: network.plan.namespace("ha")}
        self.directories = {FIRST: self.nodes.runtime(FIRST)}
        self.configurations = {FIRST: self.nodes.configurations[FIRST]}
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        text = self.configurations[FIRST].read_text().replace("[home_agent]\n", f"[home_agent]\n{keys}\n") + extra
        self.configurations[FIRST].write_text(text)
        if second:
            self._add_second(network, text)

    def _add_second(self, network: TestNetwork, text: str) -> None:
        directory = self.directories[SECOND] = network.directory / "mobility" / SECOND
        directory.mkdir(mode=0o700)
        path = self.configurations[SECOND] = directory / "ha2.toml"
        path.touch(mode=0o600)
        path.write_text(text.replace(str(self.directories[FIRST]), str(directory)))
        plan = network.plan
        name = self.namespaces[SECOND] = f"{plan.namespace('ha')}-2"
        links = plan.namespace("links")
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "ha2", "netns", links)
        with namespace.inside(name):
            Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("1")
        ip("-n", links, "link", "set", "ha2", "master", plan.home.bridge, "up")
        for interface in ("lo", "eth0"):
            ip("-n", name, "link", "set", interface, "up")
        ip("-n", name, "address", "add", f"{plan.home_agent4 + 1}/{plan.home_network4.prefixlen}", "dev", "eth0")
        ip("-n", name, "route", "add", "default", "via", str(plan.home_router4))

    def start(self, *names: str) -> None:
        """Starts home agents; returns when they are ready."""
        for name in names:
            with (self.directories[name] / "log").open("ab") as log, namespace.inside(self.namespaces[name]):
                command = [sys.executable, "-m", "mobility", "ha", "--config", str(self.configurations[name])]
                self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for name in names:
            wait_ready(self.directories[name], timeout=15)

    def begin(self) -> None:
        """Starts terminal and correspondent, and opens their sockets."""
        self.nodes.start("mn", "cn")
        hosts = [HostClient(self.nodes.runtime(role) / "host.sock") for role in ("mn", "cn")]
        self.mn, self.cn = (host.socket(bind=(host.address(), 4000)) for host in hosts)
        self.call(until=lambda call: bool(call.heard["up"] and call.heard["down"]))

    def control(self, operation: str, name: str = FIRST) -> object:
        """Asks over the control socket. Raises MobilityError."""

        async def request() -> object:
            async with ControlClient(self.directory(name) / "control.sock") as control:
                return await control.request(operation)

        return asyncio.run(request())

    def ask(self, name: str, what: str) -> dict[str, Any]:
        """A part of the status."""
        status = self.control("status", name)
        assert isinstance(status, dict)
        part = status[what]
        assert isinstance(part, dict)
        return part

    def directory(self, name: str) -> Path:
        return self.directories.get(name) or self.nodes.runtime(name)

    def log(self, name: str) -> str:
        return (self.directory(name) / "log").read_text()

    def shared(self, name: str) -> dict[str, Any]:
        """How a home agent stands to the other."""
        shared = self.ask(name, "node")["shared"]
        assert isinstance(shared, dict)
        return shared

    def serving(self) -> list[str]:
        serving = []
        for name in self._processes:
            with contextlib.suppress(MobilityError):
                if self.shared(name)["standing"] in ("serving", "alone"):
                    serving.append(name)
        return serving

    def updates_sent(self) -> int:
        """The number of the terminal's last binding update: it does not change while nobody has to register."""
        registration = self.ask("mn", "node")["mobile_node"]["registration"]
        return int(registration["sequence"])

    def call(
        self,
        seconds: float = 20.0,
        *,
        until: Callable[[Call], bool] = lambda _call: False,
        disturb: Callable[[], object] | None = None,
    ) -> Call:
        """A call of so many seconds; after half a second of it ``disturb`` is called."""
        call = Call()
        while select.select([self.mn, self.cn], [], [], 0)[0]:  # what is left of an earlier call
            for ours in select.select([self.mn, self.cn], [], [], 0)[0]:
                ours.recv(100)
        began = time.monotonic()
        disturbed: float | None = None
        last = {"up": began, "down": began}
        while (now := time.monotonic()) - began < seconds and not until(call):
            if disturb is not None and disturbed is None and now - began > 0.5:
                disturb()
                disturbed = time.monotonic()
                last = dict.fromkeys(last, disturbed)
            call.sent += 1
            for ours, theirs in ((self.mn, self.cn), (self.cn, self.mn)):
                with contextlib.suppress(OSError):
                    ours.sendto(b"%d" % call.sent, theirs.getsockname()[:2])
            while (left := now + INTERVAL - time.monotonic()) > 0:
                for ours in select.select([self.mn, self.cn], [], [], left)[0]:
                    way = "up" if ours is self.cn else "down"
                    call.heard[way].append(int(ours.recv(100)))
                    heard = time.monotonic()
                    if disturbed is not None:
                        call.pauses[way] = max(call.pauses[way], heard - last[way])
                    last[way] = heard
        if disturbed is not None:
            ended = time.monotonic()
            call.pauses = {way: max(pause, ended - last[way]) for way, pause in call.pauses.items()}
        return call

    def data_plane(self, name: str) -> int:
        return int(self.ask(name, "process")["pid"])

    def try_data_plane(self, name: str) -> int | None:
        """None: it does not answer at the moment."""
        with contextlib.suppress(MobilityError):
            return self.data_plane(name)
        return None

    def kill(self, name: str) -> None:
        """As a machine that loses its power: supervisor and data plane are gone at once."""
        pid = self.data_plane(name)
        self._processes[name].kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._processes.pop(name).wait()

    def terminate(self, name: str) -> int:
        """As `systemctl stop`."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(10)

    def signal(self, name: str, number: int) -> None:
        self._processes[name].send_signal(number)

    def close(self) -> None:
        for ours in (getattr(self, "mn", None), getattr(self, "cn", None)):
            if isinstance(ours, socket.socket):
                ours.close()
        for process in self._processes.values():
            process.kill()
            process.wait()
        self.nodes.stop()
        if SECOND in self.namespaces:
            subprocess.run(["ip", "netns", "del", self.namespaces[SECOND]], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


class EspWatch:
    """All ESP packets that were sent on the home link: association, sequence number, and the packet."""

    def __init__(self, network: TestNetwork) -> None:
        with namespace.inside(network.plan.namespace("links")):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
            self._socket.bind((network.plan.home.bridge, 0x86DD))
            everything = struct.pack("iHH8s", socket.if_nametoindex(network.plan.home.bridge), _PROMISCUOUS, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, everything)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.setblocking(False)
        self.spis: dict[int, list[int]] = {}

    def sent(self, spi: int) -> list[int]:
        """The sequence numbers seen until now, each as often as it was sent."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self._socket.recv(2000)
                if len(frame) > 62 and frame[20] == 50:
                    number = int.from_bytes(frame[54:58], "big")
                    self.spis.setdefault(number, []).append(int.from_bytes(frame[58:62], "big"))
        return self.spis.get(spi, [])

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def home_agents(
    extra: str = "", keys: str = "", *, second: bool = False, negotiate: bool = False
) -> Iterator[tuple[HomeAgents, EspWatch]]:
    """The network with the terminal on a visited link, and the home agents (not started yet)."""
    with TestNetwork(f"opx-{os.getpid()}-{secrets.token_hex(2)}") as network:
        network.move("visited-a")
        made, watch = HomeAgents(network, extra, keys, second=second, negotiate=negotiate), EspWatch(network)
        try:
            yield made, watch
        finally:
            watch.close()
            made.close()
