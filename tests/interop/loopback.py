"""What tests on loopback share: a Kamailio, accounts at it, ports that are free."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from sip_test_env import kamailio
from softphone.calls.call import Call
from softphone.config import Account
from softphone.events import CallHold, Listener
from softphone.media.offer_answer import SrtpMode
from softphone.media.session import MediaStatistics
from softphone.network.sockets import DirectSockets, connect
from softphone.phone import Softphone
from softphone.sip.transport import Transport

DOMAIN = "home.test"
USERS = ("alice", "bob", "carol")


def free_port() -> int:
    """A port of ::1 that nobody has for UDP just now."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.bind(("::1", 0))
        port: int = udp.getsockname()[1]
    return port


@dataclass(frozen=True)
class Proxy:
    """A running Kamailio."""

    directory: Path
    sip_port: int
    sips_port: int

    def account(self, user: str, password: str, transport: Transport, host: str, **settings: Any) -> Account:
        port = self.sips_port if transport is Transport.TLS else self.sip_port
        address = f"[{host}]" if ":" in host else host
        return Account(
            user=user,
            domain=DOMAIN,
            password=password,
            outbound_proxy=f"sip:{address}:{port};transport={transport}",
            transport=transport,
            local_host=host,
            ca_file=self.directory / "ca.pem",
            **{"srtp": SrtpMode.MANDATORY, **settings},
        )

    def phone(
        self, user: str, transport: Transport = Transport.UDP, host: str = "::1", password: str = "", **settings: Any
    ) -> Softphone:
        return Softphone(self.account(user, password or f"secret-{user}", transport, host, **settings))


def run_proxy(directory: Path, sip_port: int, digest: Literal["MD5", "SHA-256"]) -> Iterator[Proxy]:
    settings = kamailio.ProxySettings(
        DOMAIN,
        (ip_address("::1"), ip_address("127.0.0.1")),
        {user: f"secret-{user}" for user in USERS},
        sip_port,
        sip_port + 1,
        digest,
    )
    command = kamailio.command(kamailio.write(settings, directory))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asyncio.run(wait_for_port(sip_port + 1, process))
            yield Proxy(directory, sip_port, sip_port + 1)
        finally:
            process.terminate()
            process.wait(10)


async def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        sock = await DirectSockets().tcp("::1")
        try:
            await connect(sock, "::1", port, 1)
        except Exception:
            await asyncio.sleep(0.05)
            continue
        sock.close()
        return
    raise RuntimeError(f"kamailio did not start: see its log; status {process.poll()}")


async def answered(phone: Softphone) -> Call:
    """The next call that comes in, answered."""
    async with asyncio.timeout(10):
        call = await anext(phone.incoming())
    await call.ring()
    await call.answer()
    await call.answered(5)
    return call


def statistics(call: Call) -> MediaStatistics:
    found = call.statistics()
    assert isinstance(found, MediaStatistics)
    return found


async def heard(call: Call) -> MediaStatistics:
    """Until sound has come, from now on. Raises TimeoutError."""
    before = statistics(call)
    async with asyncio.timeout(5):
        while True:
            now = statistics(call)
            if now.received > before.received + 5:
                return now
            await asyncio.sleep(0.02)


async def silent(call: Call) -> None:
    """Until none comes any more. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while True:
            before = statistics(call)
            await asyncio.sleep(0.2)
            if statistics(call).received == before.received:
                return


async def held(events: Listener) -> tuple[bool, bool]:
    """The next change of a hold: whether we hold the call now, and whether the other side does."""
    change = await events.wait_for(CallHold, 5)
    return change.local, change.remote
