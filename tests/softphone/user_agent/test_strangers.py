"""Floods and scanners: bounded, calls in progress undisturbed, and silence for whoever is not our proxy."""

from __future__ import annotations

import asyncio

import pytest

from softphone.calls.call import CallState
from softphone.errors import ConfigError
from softphone.phone import Softphone
from softphone.sip.transaction_layer import MAX_SERVER_TRANSACTIONS
from tests.softphone.peers import Peer, accepted, with_peer
from tests.softphone.support import FakeMedia, Registrar, account, simulate
from tests.softphone.test_endpoint import OPTIONS, Station
from tests.softphone.user_agent.test_registration import phone

GARBLED = OPTIONS.replace(b"From: <", b"From: ")


def test_a_call_can_be_renewed_and_ended_in_the_middle_of_a_flood() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, _ = await accepted(peer, bob)
        await peer.ack(dialog, bob)
        await call.answered(5)
        flow = peer.endpoint.connections.udp_flow("::1", bob.port)
        for number in range(MAX_SERVER_TRANSACTIONS + 100):
            invite = peer.invite(("Call-ID", f"flood{number}"), ("Via", f"SIP/2.0/UDP [::1]:9;branch=z9hG4bK{number}"))
            flow.send(bytes(invite))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.5)
        assert bob.counters["server-transactions-full"] >= 100
        assert (await peer.final(dialog.request("OPTIONS"), bob)).status == 200
        assert (await peer.final(dialog.request("BYE"), bob)).status == 200
        assert call.state is CallState.ENDED
        assert len(bob.endpoint.layer.transactions) <= MAX_SERVER_TRANSACTIONS + 2

    with_peer(test)


@pytest.mark.parametrize("ignored", [True, False])
def test_scanners_hear_nothing_where_that_is_wanted(ignored: bool) -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        async with phone(registrar, ignore_strangers=ignored) as alice:
            await alice.registered(5)
            alice._running()._proxies.clear()  # the registrar is on the same host as everything here
            trace: list[bytes] = []
            alice.endpoint._trace = lambda traced: trace.append(traced.data) if traced.sent else None
            async with Station() as scanner:
                flow = scanner.connections.udp_flow("::1", alice.port)
                for data in (OPTIONS, GARBLED, OPTIONS.replace(b"OPTIONS", b"INVITE")):
                    flow.send(data % (b";rport", b""))
                await asyncio.sleep(1)
            assert bool(trace) is not ignored
            assert alice.counters["stranger-ignored"] == (2 if ignored else 0)
            assert not alice.calls
            assert any(not key.client for key in alice.endpoint.layer.transactions) is not ignored
        await registrar.endpoint.close()

    simulate(work)


def test_our_own_proxy_is_no_stranger() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        async with phone(registrar, ignore_strangers=True) as alice:
            await alice.registered(5)
            async with Station() as proxy:  # the same host
                assert (
                    await proxy.options(alice.endpoint.contact("alice", proxy.connections.udp_flow("::1", 9)))
                ).status
            assert alice.counters["stranger-ignored"] == 0
        await registrar.endpoint.close()

    simulate(work)


def test_nobody_is_a_stranger_to_a_phone_that_knows_nobody() -> None:
    with pytest.raises(ConfigError, match="everybody is a stranger"):
        account(ignore_strangers=True)
