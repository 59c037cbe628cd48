"""The mobility processes of the test network: home agent, correspondent and terminal, with keys made for the run."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobility.client import MobilityError, wait_ready
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.network import TestNetwork
from sip_test_env.plan import INTERFACE

TUNNELS = ("plain", "esp-mobile", "esp")
ALGORITHM = "aes-cbc-hmac-sha2-256-128"
ROLES = {"ha": "ha", "cn": "cn", "mn": "mn"}
"Role -> node of the test network."


@dataclass(frozen=True, slots=True)
class _Association:
    """One direction, with fresh keys."""

    spi: int
    encryption: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    authentication: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def toml(self) -> str:
        return (
            f'{{ spi = {self.spi:#x}, algorithm = "{ALGORITHM}", '
            f'encryption = "{self.encryption}", authentication = "{self.authentication}" }}'
        )


def _pair(use: str, peer: object, outbound: _Association, inbound: _Association) -> str:
    return (
        f'[[association]]\nname = "{use}"\nuse = "{use}"\npeer = "{peer}"\n'
        f"outbound = {outbound.toml()}\ninbound = {inbound.toml()}\n\n"
    )


def write_configurations(network: TestNetwork, tunnel: str) -> dict[str, Path]:
    """A configuration file (mode 0600) for each role; returns role -> path. ``tunnel``: one of `TUNNELS`."""
    plan = network.plan
    to_ha, to_mn = _Association(0x1001), _Association(0x1002)
    up, down = _Association(0x2001), _Association(0x2002)
    to_cn, from_cn = _Association(0x3001), _Association(0x3002)

    def head(role: str) -> str:
        folder = network.directory / "mobility" / role
        return f'[node]\nrole = "{role}"\nruntime = "{folder}"\nstate = "{folder / "state"}"\n\n'

    def audio(peer: object, outbound: _Association, inbound: _Association) -> str:
        return (
            _pair("application", peer, outbound, inbound)
            + f'[[policy]]\nname = "audio"\nremote = "{peer}/128"\naction = "protect"\nassociation = "application"\n'
        )

    host_os = '[host_os]\nnamespace = "{}"\n\n'
    texts = {
        "ha": head("ha")
        + f'[home_agent]\naddress = "{plan.home_agent}/64"\ninterface = "{INTERFACE}"\n\n'
        + f'[[home_agent.terminal]]\nhome_address = "{plan.home_address}"\ntunnel = "{tunnel}"\n\n'
        + _pair("signalling", plan.home_address, to_mn, to_ha),
        "mn": head("mn")
        + f'[mobile_node]\nhome_address = "{plan.home_address}/64"\nhome_agent = "{plan.home_agent}"\n'
        + f'interfaces = ["{INTERFACE}"]\ntunnel = "{tunnel}"\n\n'
        + host_os.format(host_namespace(network, "mn"))
        + _pair("signalling", plan.home_agent, to_ha, to_mn)
        + audio(plan.cn, to_cn, from_cn),
        "cn": head("cn")
        + f'[correspondent]\naddress = "{plan.cn}/64"\ninterface = "{INTERFACE}"\n\n'
        + host_os.format(host_namespace(network, "cn"))
        + audio(plan.home_address, from_cn, to_cn),
    }
    if tunnel != "plain":
        texts["ha"] += _pair("tunnel", plan.home_address, down, up)
        texts["mn"] += _pair("tunnel", plan.home_agent, up, down)
    paths = {}
    for role, text in texts.items():
        folder = network.directory / "mobility" / role
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths[role] = folder / f"{role}.toml"
        paths[role].touch(mode=0o600)
        paths[role].write_text(text)
    return paths


def host_namespace(network: TestNetwork, role: str) -> str:
    """Name of the network namespace in which the programs of the terminal or the correspondent run."""
    return f"{network.plan.namespace(role)}-host"


class MobilityNodes:
    """The three mobility processes of an instance. They end with the network."""

    def __init__(self, network: TestNetwork, tunnel: str) -> None:
        if tunnel not in TUNNELS:
            raise ValueError(f"no tunnel form {tunnel!r}; choose one of {', '.join(TUNNELS)}")
        self.network = network
        self.tunnel = tunnel
        self.configurations = write_configurations(network, tunnel)
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    def runtime(self, role: str) -> Path:
        """Directory with ``control.sock`` and ``host.sock`` of a role."""
        return self.network.directory / "mobility" / role

    def log(self, role: str) -> Path:
        return self.runtime(role) / "log"

    def start(self, *roles: str) -> None:
        """Starts the named roles, or all; returns when they serve requests. Raises `EnvironmentFailure`."""
        for role in roles or ROLES:
            with self.log(role).open("ab") as log:
                self.processes[role] = self.network.popen(
                    ROLES[role],
                    [sys.executable, "-m", "mobility", role, "--config", str(self.configurations[role])],
                    name=f"mobility-{role}",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        for role in roles or ROLES:
            try:
                wait_ready(self.runtime(role), timeout=15)
            except MobilityError as error:
                said = self.log(role).read_text(errors="replace")[-2000:]
                raise EnvironmentFailure(f"mobility {role} did not start: {error}\n{said}") from error

    def stop(self, *roles: str) -> None:
        """Ends the named roles, or all, politely, after five seconds by force."""
        chosen = [self.processes.pop(role) for role in roles or ROLES if role in self.processes]
        for process in chosen:
            process.terminate()
        deadline = time.monotonic() + 5
        for process in chosen:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def esp_sa(self, path: Path) -> None:
        """Writes the table with which Wireshark decrypts both ESP layers (mode 0600)."""
        done = subprocess.run(  # the terminal has a share in every association
            [sys.executable, "-m", "mobility", "esp-sa", "--config", str(self.configurations["mn"])],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EnvironmentFailure(f"mobility esp-sa failed: {done.stderr.strip()}")
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(done.stdout)
