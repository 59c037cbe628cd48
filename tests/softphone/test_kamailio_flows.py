"""Phones at Kamailio as edge proxy and registrar behind it: outbound, Path, GRUU, STUN, WebSocket; restarts."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import softphone.user_agent.registration
from roamphone_pytest.stage import Stage
from sip_test_env import kamailio
from softphone.config import Account
from softphone.events import EndedBy, Registered, RegistrationFailed
from softphone.media.offer_answer import SrtpMode
from softphone.network.sockets import DirectSockets, connect
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.softphone.certificates import make_certificate
from tests.softphone.support import FakeMedia

pytestmark = pytest.mark.interop
TEMPLATE = Path(__file__).parent / "kamailio" / "flows.cfg"
EDGE, REGISTRAR = 25080, 25090


class Server:
    """One Kamailio; ``start`` and ``stop`` it as you like."""

    def __init__(self, directory: Path, port: int, *defines: str) -> None:
        made = make_certificate(directory, ["home.test", "::1"])
        made.certificate.rename(directory / "server.pem")
        made.key.rename(directory / "server.key")
        # clients have to show a certificate
        (directory / "tls.cfg").write_text(kamailio.tls_config(directory).replace("= no", "= yes"))
        (directory / "local.cfg").write_text(
            f'#!define TLS_CONFIG "{directory}/tls.cfg"\n#!define REGISTRAR "sip:[::1]:{REGISTRAR}"\n'
            f"listen=udp:[::1]:{port}\nlisten=tcp:[::1]:{port}\nlisten=tls:[::1]:{port + 1}\n"
        )
        self.directory = directory
        self.port = port
        self._config = shutil.copyfile(TEMPLATE, directory / "kamailio.cfg")
        self._defines = [f"-A{define}" for define in defines]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*kamailio.command(Path(self._config)), *self._defines], stdout=log, stderr=log
            )
        asyncio.run(self._listening())

    async def _listening(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            sock = await DirectSockets().tcp("::1")
            try:
                await connect(sock, "::1", self.port + 1, 1)
            except Exception:
                await asyncio.sleep(0.05)
                continue
            sock.close()
            return
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("flows")
    servers = [Server(directory / "edge", EDGE, "EDGE"), Server(directory / "registrar", REGISTRAR)]
    try:
        for server in servers:
            server.start()
        yield servers[0]
    finally:
        for server in servers:
            server.stop()


def phone(edge: Server, user: str, transport: Transport, *, certificate: bool = True, **settings: Any) -> Softphone:
    port = EDGE + transport.secure
    scheme = "sips" if transport is Transport.WSS else "sip"
    proxy = f"{scheme}:[::1]:{port};transport={'ws' if transport.websocket else transport}"
    account = Account(
        user=user, domain="home.test", outbound_proxy=proxy,
        transport=transport, local_host="::1", ca_file=edge.directory / "ca.pem", srtp=SrtpMode.OFF,
        certificate=edge.directory / "server.pem" if certificate else None,
        private_key=edge.directory / "server.key" if certificate else None, **settings,
    )  # fmt: skip
    return Softphone(account, media=FakeMedia.factory([]))


@pytest.mark.parametrize("transport", list(Transport))
def test_calls_both_ways_over_the_flows_of_the_registrations(edge: Server, transport: Transport) -> None:
    async def work() -> None:
        async with phone(edge, "alice", transport) as alice, phone(edge, "bob", transport) as bob:
            for one in (alice, bob):
                await one.registered(5)
                agent = one._running()
                assert agent.outbound
                assert [hop.sip_uri is not None and "ob" in dict(hop.sip_uri.parameters) for hop in agent.path] == [
                    True
                ]
            for caller, callee in ((alice, bob), (bob, alice)):
                call, incoming = await Stage.connect(caller, callee)
                await incoming.hangup()
                assert (await call.ended(5)).by is EndedBy.REMOTE
            for one in (alice, bob):
                assert len(one.endpoint.connections.open) == transport.reliable
                assert not one.counters

    asyncio.run(asyncio.wait_for(work(), 30))


def test_the_edge_wants_a_certificate(edge: Server) -> None:
    async def work() -> None:
        async with phone(edge, "alice", Transport.TLS, certificate=False) as alice:
            assert (await alice.events().wait_for(RegistrationFailed)).retry_in is not None

    asyncio.run(asyncio.wait_for(work(), 30))


def test_the_edge_answers_stun(edge: Server) -> None:
    async def work() -> None:
        async with phone(edge, "alice", Transport.UDP) as alice:
            await alice.registered(5)
            registration = alice._registration
            assert registration is not None
            assert registration._keeper is not None
            stun = registration._keeper._stun
            assert stun is not None
            for _ in range(100):
                if stun.mapped is not None:
                    break
                await asyncio.sleep(0.05)
            assert stun.mapped == ("::1", alice.port)

    asyncio.run(asyncio.wait_for(work(), 30))


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
def test_a_gruu_leads_to_the_phone_in_mid_call(edge: Server, transport: Transport) -> None:
    async def work() -> None:
        async with phone(edge, "alice", transport, gruu=True) as alice, phone(edge, "bob", transport) as bob:
            await alice.registered(5)
            await bob.registered(5)
            gruu = alice._running().gruu
            assert gruu is not None
            assert "gr" in dict(gruu.parameters)
            call, incoming = await Stage.connect(alice, bob)
            await incoming.hangup()
            assert (await call.ended(5)).by is EndedBy.REMOTE

    asyncio.run(asyncio.wait_for(work(), 30))


def test_the_edge_is_restarted_in_mid_call(edge: Server) -> None:
    async def work() -> None:
        async with phone(edge, "alice", Transport.UDP) as alice, phone(edge, "bob", Transport.UDP) as bob:
            await alice.registered(5)
            await bob.registered(5)
            call, incoming = await Stage.connect(alice, bob)
            await asyncio.to_thread(edge.stop)
            hanging_up = asyncio.create_task(call.hangup())
            await asyncio.to_thread(edge.start)
            assert (await incoming.ended(10)).by is EndedBy.REMOTE
            await hanging_up

    asyncio.run(asyncio.wait_for(work(), 30))


def test_a_connection_is_made_anew_after_a_restart(edge: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softphone.user_agent.registration, "FLOW_BACKOFF_FIRST", 0.5)  # of 60 s

    async def work() -> None:
        async with phone(edge, "alice", Transport.TCP) as alice, phone(edge, "bob", Transport.TCP) as bob:
            await alice.registered(5)
            await bob.registered(5)
            events = alice.events(), bob.events()
            await asyncio.to_thread(edge.stop)
            await asyncio.to_thread(edge.start)
            for listener in events:
                await listener.wait_for(Registered)
            call = await alice.dial("bob")
            incoming = await anext(bob.incoming())
            await incoming.reject()
            await call.ended(5)

    asyncio.run(asyncio.wait_for(work(), 30))
