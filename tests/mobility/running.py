"""Home agent, mobile node and correspondent as processes on the test network, and a program at each end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from mobility.client import ControlClient, HostClient, MobilityError
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork


class Nodes:
    """The three roles, with a socket in the host OS of the mobile node and one in the correspondent's."""

    def __init__(self, nodes: MobilityNodes) -> None:
        self.nodes = nodes
        mn, cn = (HostClient(nodes.runtime(role) / "host.sock") for role in ("mn", "cn"))
        self.mn = mn.socket(bind=(mn.address(), 4000))
        self.cn = cn.socket(bind=(cn.address(), 4000))
        self.host_os = mn

    def status(self, role: str) -> dict[str, object]:
        async def ask() -> dict[str, object]:
            async with ControlClient(self.nodes.runtime(role) / "control.sock") as control:
                return await control.status()

        return asyncio.run(ask())

    def pid(self, role: str) -> int:
        process = self.status(role)["process"]
        assert isinstance(process, dict)
        return int(process["pid"])

    def registered(self) -> bool:
        with contextlib.suppress(MobilityError):
            node = self.status("mn")["node"]
            assert isinstance(node, dict)
            return bool(node["mobile_node"]["registration"]["state"] == "bound")
        return False

    def round_trip(self, seconds: float) -> float:
        """Seconds until a datagram has gone from the terminal to the correspondent and another back."""
        began = time.monotonic()
        mark = os.urandom(8)
        while time.monotonic() - began < seconds:
            with contextlib.suppress(OSError):
                self.mn.sendto(mark, self.cn.getsockname()[:2])
            if select.select([self.cn], [], [], 0.02)[0] and self.cn.recv(100) == mark:
                self.cn.sendto(mark, self.mn.getsockname()[:2])
            if select.select([self.mn], [], [], 0.02)[0] and self.mn.recv(100) == mark:
                return time.monotonic() - began
        raise AssertionError(f"nothing came back in {seconds} s")

    def close(self) -> None:
        self.mn.close()
        self.cn.close()


@contextlib.contextmanager
def running(
    instance: str, configure: Callable[[MobilityNodes], object] = lambda nodes: None, *, negotiate: bool = False
) -> Iterator[Nodes]:
    """All three, with the terminal abroad and bound. ``configure``: changes their configurations; ``negotiate``: the
    terminal has a token in place of keys."""
    with TestNetwork(instance) as network:
        network.move("visited-a")
        processes = MobilityNodes(network, "esp", negotiate=negotiate)
        configure(processes)
        try:
            processes.start()
            made = Nodes(processes)
            made.round_trip(10)
            yield made
            made.close()
        finally:
            processes.stop()


def mobility(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mobility", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
