"""Two phones at a real Kamailio on loopback: registration and calls over UDP, TCP and TLS, IPv6 and IPv4."""

from __future__ import annotations

import asyncio

import pytest

from roamphone_pytest.recorder import Recorder
from roamphone_pytest.server import DOMAIN, SipProxy, running_server
from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.config import Consent
from softphone.errors import CallRejected, RegistrationError
from softphone.events import EndedBy
from softphone.media.session import MediaStatistics
from softphone.sip.transport import Transport
from tests.interop.loopback import answered

pytestmark = pytest.mark.interop


TRANSPORTS = [Transport.UDP, Transport.TCP, Transport.TLS]


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_right_and_wrong_password(sip_proxy: SipProxy, transport: Transport, host: str) -> None:
    async with sip_proxy.phone("alice", transport, host) as alice:
        await alice.registered(5)
        assert not alice.counters
    async with sip_proxy.phone("alice", transport, host, "wrong") as impostor:
        with pytest.raises(RegistrationError, match="401"):
            await impostor.registered(5)


def test_sha256(sip_recorder: Recorder) -> None:
    async def work(sip_proxy: SipProxy) -> None:
        async with sip_proxy.registered("alice", "bob") as (alice, bob):
            await sip_proxy.connect(alice, bob)

    with running_server("SHA-256") as server:
        asyncio.run(work(SipProxy(server, sip_recorder)))


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("caller_ends", [True, False])
async def test_a_call(sip_proxy: SipProxy, transport: Transport, host: str, caller_ends: bool) -> None:
    async with sip_proxy.registered("alice", "bob", transport=transport, host=host) as (alice, bob):
        call, incoming = await sip_proxy.connect(alice, bob)
        async with asyncio.timeout(5):
            while True:
                a, b = call.statistics(), incoming.statistics()
                assert isinstance(a, MediaStatistics)
                assert isinstance(b, MediaStatistics)
                if min(a.received, b.received) > 3:
                    break
                await asyncio.sleep(0.02)
        assert a.srtp_suite
        assert isinstance(call, DialogCall)
        assert f" {host}\r\n" in call.remote_sdp
        ends, hears = (call, incoming) if caller_ends else (incoming, call)
        await ends.hangup()
        assert (await hears.ended(5)).by is EndedBy.REMOTE
        assert not {name: n for name, n in (alice.counters + bob.counters).items() if name != "response-stray"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_cancel_and_busy(sip_proxy: SipProxy, transport: Transport) -> None:
    async with sip_proxy.registered("alice", "bob", transport=transport) as (alice, bob):
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


async def test_nobody_there_and_nobody_registered(sip_proxy: SipProxy) -> None:
    async with sip_proxy.registered("alice") as (alice,):
        for target, status in (("nobody", 404), ("bob", 480)):
            call = await alice.dial(target)
            with pytest.raises(CallRejected, match=str(status)):
                await call.answered(5)
            assert call.state is CallState.ENDED


async def test_transports_mixed(sip_proxy: SipProxy) -> None:
    async with sip_proxy.phone("alice", Transport.TLS) as alice, sip_proxy.phone("bob", Transport.UDP) as bob:
        await alice.registered(5)
        await bob.registered(5)
        call, incoming = await sip_proxy.connect(bob, alice)
        await incoming.hangup()
        assert (await call.ended(5)).by is EndedBy.REMOTE


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TLS])
async def test_hold_and_both_kinds_of_transfer(sip_proxy: SipProxy, transport: Transport) -> None:
    settings = {"transport": transport, "transfers": Consent.ACCEPT}
    async with sip_proxy.registered("alice", "bob", "carol", **settings) as (alice, bob, carol):
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
