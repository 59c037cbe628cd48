"""Debian's baresip: as a program that makes a call, and steered through its control socket; a tone for a microphone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roamphone_pytest.ports import free_port
from roamphone_pytest.server import DOMAIN, SipServer
from sip_test_env.network import Account
from softphone.sip.transport import Transport
from tests.interop.loopback import at_host

MODULES = ("g711", "srtp", "dtls_srtp", "ice", "ausine", "aufile")
"For calls on loopback."


def write_settings(folder: Path, modules: Iterable[str], config: str, account: str) -> Path:
    """Its directory of settings: what stands in ``config`` beside modules and sound, and in ``accounts``."""
    settings = folder / "baresip"
    settings.mkdir()
    (settings / "config").write_text(
        "module_path /usr/lib/baresip/modules\n"
        + "".join(f"module {name}.so\n" for name in modules)
        + "module_app account.so\nmodule_app menu.so\naudio_source ausine,440\naudio_player aufile,/dev/null\n"
        "ausrc_srate 48000\nauplay_srate 8000\nausrc_channels 2\nauplay_channels 1\n" + config
    )
    (settings / "accounts").write_text(f"{account}\n")
    (settings / "contacts").touch()
    return settings


def write_baresip(folder: Path, account: Account, more: str = "") -> Path:
    """Its directory of settings; ``more``: parameters of the account, each with a semicolon in front."""
    return write_settings(
        folder,
        ("g711", "srtp", "ausine", "aufile"),
        "",
        f"<sip:{account.user}@{account.domain};transport=udp>;auth_user={account.user};auth_pass={account.password}"
        f";mediaenc=srtp-mand;audio_codecs=PCMU/8000/1;regint=300{more}",
    )


class Baresip:
    """A running baresip, account bob, that is told what to do over its control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def close(self) -> None:
        self._writer.close()

    def do(self, command: str, parameters: str = "") -> None:
        order = json.dumps({"command": command, "params": parameters}).encode()
        self._writer.write(b"%d:%b," % (len(order), order))

    async def until(self, kind: str, parameter: str | None = None) -> dict[str, Any]:
        """The next event of this kind. Raises TimeoutError."""
        async with asyncio.timeout(10):
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                event: dict[str, Any] = json.loads((await self._reader.readexactly(length + 1))[:-1])
                if event.get("type") == kind and parameter in (None, event.get("param")):
                    return event


@asynccontextmanager
async def baresip(
    server: SipServer, folder: Path, account: str = "", *, host: str = "::1", transport: Transport = Transport.UDP,
    modules: Iterable[str] = MODULES, more: str = "",
) -> AsyncIterator[Baresip]:  # fmt: skip
    """It has registered. ``account``: parameters of it, each with a semicolon in front; ``more`` of ``config``."""
    control = free_port()
    here = at_host(host)
    port = server.sips_port if transport is Transport.TLS else server.sip_port
    settings = write_settings(
        folder,
        modules,
        f"module_app ctrl_tcp.so\nctrl_tcp_listen {here}:{control}\nsip_listen {here}:{free_port()}\n"
        f"net_interface {host}\nnet_af {'ipv6' if ':' in host else 'ipv4'}\nsip_cafile {server.ca_file}\n{more}",
        f"<sip:bob@{DOMAIN};transport={transport}>;auth_user=bob;auth_pass={server.password('bob')};regint=300"
        f';audio_codecs=PCMU/8000/1;outbound="sip:{here}:{port};transport={transport}"{account}',
    )
    with (folder / "log").open("wb") as log:
        program = await asyncio.create_subprocess_exec(
            "baresip", "-f", str(settings), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            made = Baresip(*await connected(host, control))
            try:
                # Its control socket may be there too late to tell.
                await says(folder / "log", "200 OK (kamailio)")
                yield made
            finally:
                made.close()
        finally:
            program.terminate()
            await asyncio.wait_for(program.wait(), 10)


async def says(log: Path, text: str) -> None:
    """Until this stands in its log. Raises TimeoutError."""
    async with asyncio.timeout(10):
        while not said(log, text):  # noqa: ASYNC110  it is another program's file
            await asyncio.sleep(0.05)


def said(log: Path, text: str) -> bool:
    return text in log.read_text("utf-8", "replace")


async def connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
