"""A Kamailio on the loopback device, without root: for all tests of a session, each with phones of its own on it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from roamphone_pytest import needs
from roamphone_pytest.ports import HOSTS, free_port
from roamphone_pytest.recorder import Recorder
from roamphone_pytest.stage import Stage
from sip_test_env import kamailio
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.kamailio import DigestAlgorithm
from softphone.config import Account
from softphone.media.keying import SrtpMode
from softphone.phone import Softphone
from softphone.sip.transport import Transport

DOMAIN = "home.test"
USERS = ("alice", "bob", "carol", "dave")
STARTS_WITHIN = 15.0
"Seconds."


@dataclass(frozen=True, slots=True)
class SipServer:
    """A running Kamailio: registrar and proxy of `DOMAIN` on ::1 and 127.0.0.1; UDP, TCP, and TLS."""

    directory: Path
    sip_port: int
    "Of UDP and TCP."
    sips_port: int
    users: tuple[str, ...] = USERS

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that vouches for the server."""
        return self.directory / "ca.pem"

    @staticmethod
    def password(user: str) -> str:
        return f"secret-{user}"

    def account(
        self, user: str, transport: Transport = Transport.UDP, host: str = "::1", password: str = "", **settings: Any
    ) -> Account:
        """Of a user (empty password: the right one); SRTP is mandatory unless ``settings`` say otherwise."""
        port = self.sips_port if transport is Transport.TLS else self.sip_port
        address = f"[{host}]" if ":" in host else host
        return Account(**{
            "user": user, "domain": DOMAIN, "password": password or self.password(user),
            "outbound_proxy": f"sip:{address}:{port};transport={transport}", "transport": transport,
            "local_host": host, "ca_file": self.ca_file, "srtp": SrtpMode.MANDATORY, **settings,
        })  # fmt: skip

    def rpc(self, *command: str) -> str:
        """What Kamailio answers to a command of ``kamcmd``. Raises `EnvironmentFailure`."""
        done = subprocess.run(
            ["kamcmd", "-s", f"unix:{self.directory}/ctl", *command],
            capture_output=True, text=True, timeout=10, check=False, env=kamailio.environment(),
        )  # fmt: skip
        if done.returncode:
            raise EnvironmentFailure(f"kamcmd {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def forget(self) -> None:
        """Nobody is registered any more."""
        known = self.rpc("ul.dump", "brief")
        for line in known.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "AoR":
                self.rpc("ul.rm", "location", value.strip())


class SipProxy(Stage):
    """One test's view of a `SipServer`."""

    def __init__(self, server: SipServer, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.server = server

    @property
    def domain(self) -> str:
        return DOMAIN

    def phone(
        self, user: str, transport: Transport = Transport.UDP, host: str = "::1", password: str = "", **settings: Any
    ) -> Softphone:
        """See `SipServer.account`."""
        return self.recorder.phone(self.server.account(user, transport, host, password, **settings))


@contextmanager
def running_server(
    digest: DigestAlgorithm = "MD5", users: Iterable[str] = USERS, port: int | None = None
) -> Iterator[SipServer]:
    """``port``: of SIP, the next is that of TLS; None: two that are free.

    Raises `needs.Missing`, `EnvironmentFailure`.
    """
    needs.require(needs.SERVER)
    users = tuple(users)
    # Not below pytest's directories: the path of a Unix socket has room for 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="sip-server-"))
    try:
        port = free_port(neighbours=1) if port is None else port
        settings = kamailio.ProxySettings(
            DOMAIN, tuple(map(ip_address, HOSTS)), {user: SipServer.password(user) for user in users},
            port, port + 1, digest,
        )  # fmt: skip
        command = kamailio.command(kamailio.write(settings, directory))
        server = SipServer(directory, port, port + 1, users)
        with (directory / "log").open("wb") as log:
            # It goes when we go, however that happens.
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=kamailio.environment(),
            )  # fmt: skip
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(server: SipServer, process: subprocess.Popen[bytes]) -> None:
    """Until TLS answers: it is the last to be there."""
    deadline = time.monotonic() + STARTS_WITHIN
    context = ssl.create_default_context(cafile=str(server.ca_file)) if server.ca_file.exists() else None
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("::1", server.sips_port), timeout=2) as stream:
                if context is not None:
                    context.wrap_socket(stream, server_hostname="::1").close()
                return
        except OSError:
            time.sleep(0.02)
    said = (server.directory / "log").read_text(errors="replace")[-1500:]
    raise EnvironmentFailure(f"Kamailio did not start (status {process.poll()}); the end of its log:\n{said}")
