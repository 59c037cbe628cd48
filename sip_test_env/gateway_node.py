"""The gateway of the enterprise as a process, and what a terminal's configuration says of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobility.client import MobilityError, wait_ready
from sip_test_env.certificates import Authority
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.extensions.gateway import ADDRESS, ADDRESS4, NODE, PORT
from sip_test_env.network import TestNetwork

NAME = "gw.roamphone.test"
"What its certificate says."


class GatewayNode:
    """``mobility gateway`` in the node ``gw``, with certificates made for this run. It ends with the network."""

    def __init__(self, network: TestNetwork, *, extra: str = "", allow: str | None = None) -> None:
        """``extra``: further lines of ``[gateway]``; ``allow``: its list, the proxy's TLS port by name if left out."""
        self._network = network
        plan = network.plan
        self.directory = network.directory / "gateway"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        authority = Authority("enterprise")
        self.ca_file = self.directory / "ca.pem"
        self.ca_file.write_bytes(authority.pem)
        write_pair(self.directory, "server", authority.server([NAME], [ADDRESS, ADDRESS4]))
        write_pair(self.directory, "client", authority.server(["laptop.roamphone.test"], [], client=True))
        if allow is None:
            allow = (
                f'[[gateway.allow]]\nhost = "{plan.sip_domain}"\naddress = "{plan.proxy}"\nports = [{plan.sips_port}]\n'
            )
        self.configuration = self.directory / "gateway.toml"
        self.configuration.write_text(
            f'[node]\nrole = "gateway"\nruntime = "{self.directory / "run"}"\n\n'
            f'[gateway]\nlisten = ["[::]:{PORT}", "0.0.0.0:{PORT}"]\n'
            f'certificate = "server.pem"\nprivate_key = "server.key"\n{extra}\n{allow}'
        )
        self.process: subprocess.Popen[Any] | None = None

    @property
    def runtime(self) -> Path:
        return self.directory / "run"

    def access(self, via: str, *, extra: str = "", hosts: Sequence[tuple[str, int]] | None = None) -> str:
        """A table for the terminal's configuration. ``hosts``: names and ports inside, the proxy's if left out."""
        plan = self._network.plan
        server = f"[{ADDRESS}]:{PORT}"
        lines = [
            "[[gateway]]", 'name = "enterprise"', f'server = "{server}"', f'server_name = "{NAME}"', f'via = "{via}"',
            f'ca_file = "{self.ca_file}"', extra,
        ]  # fmt: skip
        for host, port in [(plan.sip_domain, plan.sips_port)] if hosts is None else hosts:
            lines += ["[[gateway.destination]]", f'host = "{host}"', f"ports = [{port}]"]
        return "\n" + "\n".join(lines) + "\n"

    def start(self) -> None:
        """Returns when it serves. Raises `EnvironmentFailure`."""
        log = self.directory / "log"
        with log.open("ab") as out:
            self.process = self._network.popen(
                NODE,
                [sys.executable, "-m", "mobility", "gateway", "--config", str(self.configuration)],
                name="mobility-gateway",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait_ready(self.runtime, timeout=15)
        except MobilityError as error:
            said = log.read_text(errors="replace")[-2000:]
            raise EnvironmentFailure(f"mobility gateway did not start: {error}\n{said}") from error

    def stop(self) -> None:
        """Ends it politely, after five seconds by force."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_pair(directory: Path, name: str, pair: tuple[bytes, bytes]) -> None:
    """``NAME.key`` (mode 0600) and ``NAME.pem``."""
    key, certificate = pair
    secret = directory / f"{name}.key"
    secret.touch(mode=0o600)
    secret.write_bytes(key)
    (directory / f"{name}.pem").write_bytes(certificate)
