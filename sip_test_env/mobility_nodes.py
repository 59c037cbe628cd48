"""The mobility processes of the test network: home agent, correspondent and terminal, with keys made for the run."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobility.client import MobilityError, wait_ready
from mobility.ipsec.algorithms import Algorithm
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BROADBAND, INTERFACE, WIFI
from sip_test_env.users import OrdinaryUser

TUNNELS = ("plain", "esp-mobile", "esp")
ROLES = ("ha", "cn", "mn")
APPLICATIONS = ("keys", "token", "calls")
"How terminal and correspondent come to the keys of their own IPsec: in the files, negotiated, negotiated for calls."


@dataclass(frozen=True, slots=True)
class Terminal:
    """How the terminal is run. The default: by root in ``mn``, with Mobile IPv6 itself on its one interface."""

    node: str = "mn"
    "Or ``laptop``: then the home agent listens for datagrams, and is told to the terminal."
    interfaces: tuple[str, ...] = (INTERFACE,)
    access: str = "native"
    overlap: float = 0.5
    "Seconds; 0: break before make."
    keepalive: float = 20.0
    user: OrdinaryUser | None = None
    "Who runs it; None: root."

    @classmethod
    def laptop(cls, user: OrdinaryUser | None = None, *, overlap: float = 0.5, keepalive: float = 20.0) -> Terminal:
        """As people have it: Wi-Fi and mobile broadband, what is there is used, by datagrams."""
        return cls("laptop", (WIFI, BROADBAND), "udp", overlap, keepalive, user)


class Keyring:
    """Associations with fresh keys, as lines of TOML: one text for both ends of each."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    def association(self, spi: int) -> str:
        encryption = secrets.token_hex(self._algorithm.key_lengths[0])
        authentication = secrets.token_hex(self._algorithm.authentication_key_length)
        return (
            f'{{ spi = {spi:#x}, algorithm = "{self._algorithm.value}", '
            f'encryption = "{encryption}", authentication = "{authentication}" }}'
        )

    def pair(self, use: str, peer: object, outbound: str, inbound: str, name: str | None = None) -> str:
        # The keys are made for this run and thrown away with it.
        return (
            f'[[association]]\nname = "{name or use}"\nuse = "{use}"\npeer = "{peer}"\nkeys = "session"\n'
            f"outbound = {outbound}\ninbound = {inbound}\n\n"
        )


def negotiated_with(peer: object, token: str, algorithm: Algorithm, use: str = "mobile") -> str:
    """In place of associations: they are negotiated with a peer that has the same token."""
    return f'[[ike]]\nuse = "{use}"\npeer = "{peer}"\ntoken = "{token}"\nalgorithm = "{algorithm.value}"\n\n'


def write_configurations(
    network: TestNetwork,
    tunnel: str,
    algorithm: Algorithm,
    terminal: Terminal,
    *,
    negotiate: bool = False,
    application: str = "keys",
) -> dict[str, Path]:
    """A configuration file (mode 0600) for each role; returns role -> path. ``tunnel``: one of `TUNNELS`,
    ``application``: one of `APPLICATIONS`.

    ``negotiate``: terminal and home agent have a token and make their keys themselves.
    """
    plan = network.plan
    ring = Keyring(algorithm)
    to_ha, to_mn = ring.association(0x1001), ring.association(0x1002)
    up, down = ring.association(0x2001), ring.association(0x2002)
    to_cn, from_cn = ring.association(0x3001), ring.association(0x3002)

    def head(role: str) -> str:
        folder = runtime_of(network, role, terminal)
        return f'[node]\nrole = "{role}"\nruntime = "{folder}"\nstate = "{folder / "state"}"\n\n'

    shared_token = secrets.token_hex(32)

    def audio(peer: object, outbound: str, inbound: str) -> str:
        if application == "calls":
            return ""
        if application == "token":
            return f'[[ike]]\nuse = "application"\npeer = "{peer}"\ntoken = "{shared_token}"\n\n'
        return (
            ring.pair("application", peer, outbound, inbound)
            + f'[[policy]]\nname = "audio"\nremote = "{peer}/128"\naction = "protect"\nassociation = "application"\n'
        )

    host_os = '[host_os]\nnamespace = "{}"\n\n'
    by_datagrams = terminal.node == "laptop"
    texts = {
        "ha": head("ha")
        + f'[home_agent]\naddress = "{plan.home_agent}/64"\ninterface = "{INTERFACE}"\n'
        + (f'udp = ["{plan.home_agent4}"]\n\n' if by_datagrams else "\n")
        + f'[[home_agent.terminal]]\nhome_address = "{plan.home_address}"\ntunnel = "{tunnel}"\n\n',
        "mn": head("mn")
        + f'[mobile_node]\nhome_address = "{plan.home_address}/64"\nhome_agent = "{plan.home_agent}"\n'
        + f'interfaces = {list(terminal.interfaces)}\naccess = "{terminal.access}"\ntunnel = "{tunnel}"\n'
        + f"overlap = {terminal.overlap}\nkeepalive = {terminal.keepalive}\n"
        + (f'home_agent4 = "{plan.home_agent4}"\n\n' if by_datagrams else "\n")
        + (host_os.format(host_namespace(network, "mn")) if terminal.user is None else "")
        + audio(plan.cn, to_cn, from_cn),
        "cn": head("cn")
        + f'[correspondent]\naddress = "{plan.cn}/64"\ninterface = "{INTERFACE}"\n\n'
        + host_os.format(host_namespace(network, "cn"))
        + audio(plan.home_address, from_cn, to_cn),
    }
    protected = "home-test" if tunnel == "plain" else "tunnel"
    token = secrets.token_hex(32)
    for role, peer, ours in (
        ("ha", plan.home_address, ((to_mn, to_ha), (down, up))),
        ("mn", plan.home_agent, ((to_ha, to_mn), (up, down))),
    ):
        if negotiate:
            texts[role] += negotiated_with(peer, token, algorithm)
        else:
            texts[role] += ring.pair("signalling", peer, *ours[0]) + ring.pair(protected, peer, *ours[1])
    paths = {}
    for role, text in texts.items():
        folder = runtime_of(network, role, terminal)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths[role] = folder / f"{role}.toml"
        paths[role].touch(mode=0o600)
        paths[role].write_text(text)
        if role == "mn" and terminal.user is not None:
            terminal.user.own(paths[role])
    return paths


def runtime_of(network: TestNetwork, role: str, terminal: Terminal) -> Path:
    """Directory with configuration, sockets and log of a role."""
    if role == "mn" and terminal.user is not None:
        return terminal.user.folder("mobility")
    return network.directory / "mobility" / role


def host_namespace(network: TestNetwork, role: str) -> str:
    """Name of the network namespace in which the programs of the terminal or the correspondent run."""
    return f"{network.plan.namespace(role)}-host"


class MobilityNodes:
    """The three mobility processes of an instance. They end with the network."""

    def __init__(
        self,
        network: TestNetwork,
        tunnel: str,
        algorithm: Algorithm = Algorithm.AES_GCM_16,
        *,
        terminal: Terminal | None = None,
        negotiate: bool = False,
        application: str = "keys",
    ) -> None:
        """``algorithm``: of all associations. Their keys are made for this run, or ``negotiate``: those between
        terminal and home agent are negotiated. ``application``: one of `APPLICATIONS`.
        """
        if tunnel not in TUNNELS:
            raise ValueError(f"no tunnel form {tunnel!r}; choose one of {', '.join(TUNNELS)}")
        if application not in APPLICATIONS:
            raise ValueError(f"no such keys {application!r}; choose one of {', '.join(APPLICATIONS)}")
        self.network = network
        self.tunnel = tunnel
        self.negotiate = negotiate
        self.application = application
        self.terminal = Terminal() if terminal is None else terminal
        self.configurations = write_configurations(
            network, tunnel, algorithm, self.terminal, negotiate=negotiate, application=application
        )
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    def runtime(self, role: str) -> Path:
        """Directory with ``control.sock`` and ``host.sock`` of a role."""
        return runtime_of(self.network, role, self.terminal)

    def log(self, role: str) -> Path:
        return self.runtime(role) / "log"

    def start(self, *roles: str) -> None:
        """Starts the named roles, or all; returns when they serve requests. Raises `EnvironmentFailure`."""
        for role in roles or ROLES:
            command = [sys.executable, "-m", "mobility", role, "--config", str(self.configurations[role])]
            node, environment = role, None
            if role == "mn":
                node, user = self.terminal.node, self.terminal.user
                if user is not None:
                    command = user.command(self.network.plan.namespace(node), command)
                    environment = user.environment()
            with self.log(role).open("ab") as log:
                self.processes[role] = self.network.popen(
                    node,
                    command,
                    name=f"mobility-{role}",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment,
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

    def esp_sa(self, path: Path) -> list[Path]:
        """Writes the table with which Wireshark decrypts both ESP layers (mode 0600); returns what it has written.

        Where keys are negotiated, FILE.ikev2_decryption_table beside FILE.esp_sa is for what the IKE SAs say that there
        are at present.
        """
        for table in (path, _of_ike(path)):
            table.unlink(missing_ok=True)
        # The terminal has a share in every association.
        self.add_keys(path, self.configurations["mn"], self.runtime("mn"))
        return [table for table in (path, _of_ike(path)) if table.exists()]

    def add_keys(self, path: Path, configuration: Path, runtime: Path) -> None:
        """Adds to such a table what one more node knows, which runs. Raises `EnvironmentFailure`."""
        _append(path, _mobility("esp-sa", "--config", str(configuration)))
        if not self.negotiate and self.application == "keys":
            return
        own = runtime / "keys"
        _mobility("ike", "keys", str(own), "--runtime", str(runtime))
        for suffix, table in ((".esp_sa", path), (_OF_IKE, _of_ike(path))):
            written = own.with_name(own.name + suffix)
            _append(table, written.read_text())
            written.unlink()


_OF_IKE = ".ikev2_decryption_table"


def _of_ike(table: Path) -> Path:
    return table.with_name(table.name.removesuffix(".esp_sa") + _OF_IKE)


def _append(table: Path, text: str) -> None:
    table.touch(mode=0o600)
    with table.open("a") as file:
        file.write(text)


def _mobility(*words: str) -> str:
    """What a command says. Raises `EnvironmentFailure`."""
    done = subprocess.run(
        [sys.executable, "-m", "mobility", *words], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise EnvironmentFailure(f"mobility {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout
