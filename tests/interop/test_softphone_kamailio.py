"""Two phones at a real Kamailio on loopback: registration and calls over UDP, TCP and TLS, IPv6 and IPv4."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from softphone.calls.call import CallState
from softphone.config import Consent
from softphone.errors import CallRejected, RegistrationError
from softphone.events import EndedBy
from softphone.media.session import MediaStatistics
from softphone.sip.transport import Transport
from tests.interop.loopback import DOMAIN, Proxy, answered, run_proxy

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from run_proxy(tmp_path_factory.mktemp("kamailio"), 25060, "MD5")


@pytest.fixture(scope="module")
def proxy_sha256(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from run_proxy(tmp_path_factory.mktemp("kamailio256"), 25070, "SHA-256")


TRANSPORTS = [Transport.UDP, Transport.TCP, Transport.TLS]


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_right_and_wrong_password(proxy: Proxy, transport: Transport, host: str) -> None:
    async def work() -> None:
        async with proxy.phone("alice", transport, host) as alice:
            await alice.registered(5)
            assert not alice.counters
        async with proxy.phone("alice", transport, host, "wrong") as impostor:
            with pytest.raises(RegistrationError, match="401"):
                await impostor.registered(5)

    asyncio.run(work())


def test_sha256(proxy_sha256: Proxy) -> None:
    async def work() -> None:
        async with proxy_sha256.phone("alice") as alice, proxy_sha256.phone("bob") as bob:
            await alice.registered(5)
            await bob.registered(5)
            call = await alice.dial("bob")
            incoming = await anext(bob.incoming())
            await incoming.answer()
            await call.answered(5)

    asyncio.run(work())


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("caller_ends", [True, False])
def test_a_call(proxy: Proxy, transport: Transport, host: str, caller_ends: bool) -> None:
    async def work() -> None:
        async with proxy.phone("alice", transport, host) as alice, proxy.phone("bob", transport, host) as bob:
            await alice.registered(5)
            await bob.registered(5)
            call = await alice.dial(f"sip:bob@{DOMAIN}")
            incoming = await anext(bob.incoming())
            await incoming.ring()
            await call.ringing(5)
            await incoming.answer()
            await call.answered(5)
            await incoming.answered(5)
            async with asyncio.timeout(5):
                while True:
                    a, b = call.statistics(), incoming.statistics()
                    assert isinstance(a, MediaStatistics)
                    assert isinstance(b, MediaStatistics)
                    if min(a.received, b.received) > 3:
                        break
                    await asyncio.sleep(0.02)
            assert a.srtp_suite
            assert f" {host}\r\n" in call.remote_sdp
            ends, hears = (call, incoming) if caller_ends else (incoming, call)
            await ends.hangup()
            assert (await hears.ended(5)).by is EndedBy.REMOTE
            assert not {name: n for name, n in (alice.counters + bob.counters).items() if name != "response-stray"}

    asyncio.run(work())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_cancel_and_busy(proxy: Proxy, transport: Transport) -> None:
    async def work() -> None:
        async with proxy.phone("alice", transport) as alice, proxy.phone("bob", transport) as bob:
            await alice.registered(5)
            await bob.registered(5)
            call = await alice.dial("bob")
            incoming = await anext(bob.incoming())
            await incoming.ring()
            await call.ringing(5)
            await call.hangup()
            assert (await incoming.ended(5)).status == (await call.ended(5)).status == 487

            call = await bob.dial("alice")
            incoming = await anext(alice.incoming())
            await incoming.reject(486)
            with pytest.raises(CallRejected, match="486"):
                await call.answered(5)

    asyncio.run(work())


def test_nobody_there_and_nobody_registered(proxy: Proxy) -> None:
    async def work() -> None:
        async with proxy.phone("alice") as alice:
            await alice.registered(5)
            for target, status in (("nobody", 404), ("bob", 480)):
                call = await alice.dial(target)
                with pytest.raises(CallRejected, match=str(status)):
                    await call.answered(5)
                assert call.state is CallState.ENDED

    asyncio.run(work())


def test_transports_mixed(proxy: Proxy) -> None:
    async def work() -> None:
        async with proxy.phone("alice", Transport.TLS) as alice, proxy.phone("bob", Transport.UDP) as bob:
            await alice.registered(5)
            await bob.registered(5)
            call = await bob.dial("alice")
            incoming = await anext(alice.incoming())
            await incoming.answer()
            await call.answered(5)
            await incoming.answered(5)
            await incoming.hangup()
            assert (await call.ended(5)).by is EndedBy.REMOTE

    asyncio.run(work())


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TLS])
def test_hold_and_both_kinds_of_transfer(proxy: Proxy, transport: Transport) -> None:
    async def work() -> None:
        async with (
            proxy.phone("alice", transport, transfers=Consent.ACCEPT) as alice,
            proxy.phone("bob", transport, transfers=Consent.ACCEPT) as bob,
            proxy.phone("carol", transport, transfers=Consent.ACCEPT) as carol,
        ):
            for phone in (alice, bob, carol):
                await phone.registered(5)
            call = await alice.dial("bob")
            at_bob = await answered(bob)
            await call.answered(5)
            await call.hold()
            assert at_bob.held
            consultation = await alice.dial("carol")
            at_carol = await answered(carol)
            await consultation.answered(5)
            await call.transfer_to(consultation)
            for gone in (call, at_bob, consultation, at_carol):
                await gone.ended(5)
            [b], [c] = bob.calls, carol.calls
            assert at_carol.replaced_by is c
            await b.answered(5)
            assert not b.held

            answering = asyncio.create_task(answered(alice))
            await c.transfer("alice")
            back = await answering
            assert str(back.remote.uri) == f"sip:bob@{DOMAIN}"
            await back.hangup()

    asyncio.run(asyncio.wait_for(work(), 30))
