"""The mobility processes of a train: mobile routers beside those of the basic network, with keys made for the run."""

from __future__ import annotations

import secrets
import subprocess
import sys
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from mobility.client import MobilityError, wait_ready
from mobility.ipsec.algorithms import Algorithm
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.extensions.nemo import HOMES, INSIDE, OUTSIDE, ROUTERS
from sip_test_env.mobility_nodes import Keyring, MobilityNodes, negotiated_with

MODES = {"mr1": "implicit", "mr2": "explicit"}
"One of each."


class MobileRouters:
    """One `mobility router` for each network of `ROUTERS`. The home agent of ``nodes`` must not have been started yet:
    it learns of them by files in its directory of terminals.
    """

    def __init__(self, nodes: MobilityNodes, algorithm: Algorithm = Algorithm.AES_GCM_16) -> None:
        self.nodes = nodes
        self.network = nodes.network
        self.configurations: dict[str, Path] = {}
        self.processes: dict[str, subprocess.Popen[Any]] = {}
        for number, (name, prefix) in enumerate(ROUTERS.items(), 5):
            self._write(name, HOMES[name], prefix, algorithm, number << 12)

    def runtime(self, name: str) -> Path:
        """Directory with the sockets of a router."""
        return self.network.directory / "mobility" / name

    def start(self) -> None:
        """The outer one first; returns when both serve requests. Raises `EnvironmentFailure`."""
        for name, configuration in self.configurations.items():
            log = self.runtime(name) / "log"
            with log.open("ab") as told:
                self.processes[name] = self.network.popen(
                    name,
                    [sys.executable, "-m", "mobility", "router", "--config", str(configuration)],
                    name=f"mobility-{name}",
                    stdin=subprocess.DEVNULL,
                    stdout=told,
                    stderr=told,
                    start_new_session=True,
                )
            try:
                wait_ready(self.runtime(name), timeout=15)
            except MobilityError as error:
                said = log.read_text(errors="replace")[-2000:]
                raise EnvironmentFailure(f"mobility router {name} did not start: {error}\n{said}") from error

    def stop(self) -> None:
        """Ends both, politely; after five seconds by force."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def esp_sa(self, path: Path) -> None:
        """Adds the keys of both to a table of Wireshark's."""
        for name, configuration in self.configurations.items():
            self.nodes.add_keys(path, configuration, self.runtime(name))

    def _write(self, name: str, home: IPv6Address, prefix: IPv6Network, algorithm: Algorithm, spis: int) -> None:
        plan, tunnel = self.network.plan, self.nodes.tunnel
        folder = self.runtime(name)
        router = (
            f'[node]\nrole = "router"\nruntime = "{folder}"\nstate = "{folder / "state"}"\n\n'
            f'[mobile_node]\nhome_address = "{home}/64"\nhome_agent = "{plan.home_agent}"\n'
            f'interfaces = ["{OUTSIDE}"]\naccess = "native"\ntunnel = "{tunnel}"\n\n'
            f'[mobile_router]\nmode = "{MODES[name]}"\n\n'
            f'[[mobile_router.network]]\nprefix = "{prefix}"\ninterface = "{INSIDE}"\n\n'
        )
        agent = (
            f'[[home_agent.terminal]]\nname = "{name}"\nhome_address = "{home}"\ntunnel = "{tunnel}"\n'
            f'mobile_networks = ["{prefix}"]\n\n'
        )
        if self.nodes.negotiate:
            token = secrets.token_hex(32)
            router += negotiated_with(plan.home_agent, token, algorithm)
            agent += negotiated_with(home, token, algorithm)
        else:
            ring = Keyring(algorithm)
            kinds = {"signalling": spis + 1} if tunnel == "plain" else {"signalling": spis + 1, "tunnel": spis + 3}
            for kind, spi in kinds.items():
                up, down = ring.association(spi), ring.association(spi + 1)
                router += ring.pair(kind, plan.home_agent, up, down)
                agent += ring.pair(kind, home, down, up, name=f"{kind}-{name}")
        self.configurations[name] = _file(folder / "router.toml", router)
        terminals = self.nodes.configurations["ha"].with_suffix(".d")
        _file(terminals / f"{name}.toml", agent)


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(text)
    return path
