"""Debian's linphone-daemon, account bob: commands on its standard input, answers and events on its output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from roamphone_pytest.ports import free_port
from roamphone_pytest.server import DOMAIN, SipServer
from softphone.sip.transport import Transport
from tests.interop.loopback import at_host

PROMPT = "daemon-linphone>"


class Linphone:
    """A running one. It answers by itself."""

    def __init__(self, orders: asyncio.StreamWriter, output: asyncio.StreamReader) -> None:
        self._orders, self._output = orders, output

    def do(self, *command: str) -> None:
        self._orders.write(" ".join(command).encode() + b"\n")

    async def next(self, name: str) -> str:
        """The value of the next line with this name. Raises TimeoutError, EOFError."""
        async with asyncio.timeout(10):
            while line := await self._output.readline():
                key, _, value = line.decode("utf-8", "replace").strip().removeprefix(PROMPT).partition(": ")
                if key == name:
                    return value
        raise EOFError("linphone-daemon has ended")

    async def until(self, name: str, value: str) -> None:
        """Raises TimeoutError, EOFError."""
        async with asyncio.timeout(10):
            while await self.next(name) != value:
                pass

    async def registered(self) -> None:
        """It has no event for that. Raises TimeoutError, EOFError."""
        async with asyncio.timeout(10):
            self.do("register-status ALL")
            while await self.next("State") != "LinphoneRegistrationOk":
                await asyncio.sleep(0.05)
                self.do("register-status ALL")


def write_linphone(folder: Path, server: SipServer, encryption: str, host: str, transport: Transport) -> Path:
    """Its home directory. Without these folders its core would never start, and say nothing of it."""
    home = folder / "linphone"
    (home / ".config/linphone").mkdir(parents=True)
    (home / ".local/share/linphone").mkdir(parents=True)
    (home / "certificates").mkdir()
    port = free_port()
    tls = transport is Transport.TLS
    here = at_host(host)
    route = f"sip:{here}:{server.sips_port if tls else server.sip_port};transport={transport}"
    (home / "linphonerc").write_text(
        f"[sip]\nsip_port={port}\nsip_tcp_port={port}\nsip_tls_port={free_port() if tls else 0}\nbind_address={host}\n"
        # It does not find numeric addresses in certificates.
        "verify_server_cn=0\n"
        f"guess_hostname=0\ncontact=sip:bob@{here}\nuse_ipv6={int(':' in host)}\nroot_ca={server.ca_file}\n"
        f"media_encryption={encryption}\nmedia_encryption_mandatory={int(encryption != 'none')}\ndefault_proxy=0\n"
        f"[misc]\nuser_certificates_path={home}/certificates\n"
        f"[proxy_0]\nreg_proxy=<{route}>\nreg_route=<{route};lr>\nreg_identity=sip:bob@{DOMAIN}\nreg_expires=300\n"
        "reg_sendregister=1\n"
        f"[auth_info_0]\nusername=bob\npasswd={server.password('bob')}\nrealm={DOMAIN}\ndomain={DOMAIN}\n"
        f"[rtp]\naudio_rtp_port={free_port()}\n"
        "[sound]\nuse_files=1\n"
    )
    return home


@asynccontextmanager
async def linphone(
    server: SipServer, folder: Path, *, encryption: str, host: str = "::1", transport: Transport = Transport.UDP
) -> AsyncIterator[Linphone]:
    """It has registered. ``encryption``: ``none``, ``srtp`` or ``dtls``."""
    home = write_linphone(folder, server, encryption, host, transport)
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        "linphone-daemon",
        "--auto-answer",
        "--disable-stats-events",
        "--config",
        str(home / "linphonerc"),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    try:
        assert program.stdin
        assert program.stdout
        made = Linphone(program.stdin, program.stdout)
        await made.registered()
        yield made
        made.do("quit")  # which takes its registration back
        await asyncio.wait_for(program.communicate(), 10)
    finally:
        if program.returncode is None:
            program.kill()
            await program.communicate()
