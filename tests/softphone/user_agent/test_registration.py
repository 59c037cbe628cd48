"""Registration against a small registrar, in simulated time over loopback sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from softphone.errors import RegistrationError
from softphone.events import Event, Registered, RegistrationFailed, Unregistered
from softphone.phone import Softphone
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers
from softphone.sip.transport import Connection, Transport
from tests.softphone.support import FakeMedia, Registrar, account, counting, simulate


def phone(registrar: Registrar | None, password: str = "secret", uri: str = "", **settings: Any) -> Softphone:
    address = uri if registrar is None else registrar.uri
    return Softphone(
        account(register=True, registrar=address, password=password, **settings),
        media=FakeMedia.factory([]),
        random=counting(),
        jitter=lambda: 1.0,
    )


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256", "MD5-sess"])
def test_registers_with_digest_and_the_local_address(algorithm: str) -> None:
    async def work() -> None:
        registrar = await Registrar("secret", algorithm=algorithm).start()
        async with phone(registrar) as alice:
            await alice.registered(5)
            assert str(registrar.contacts[0].uri) == f"sip:alice@[::1]:{alice.port}"
        assert registrar.contacts == []
        await registrar.endpoint.close()
        assert [request.cseq.number for request in registrar.log] == [1, 2, 3]
        assert len({request.call_id for request in registrar.log}) == 1

    simulate(work)


def test_refreshes_before_expiry_with_the_credentials_it_has() -> None:
    async def work() -> None:
        registrar = await Registrar("secret", granted=100).start()
        async with phone(registrar) as alice:
            await alice.registered(5)
            await asyncio.sleep(74)
            assert len(registrar.log) == 2
            await asyncio.sleep(2)
            assert len(registrar.log) == 3
            await asyncio.sleep(75)
            assert len(registrar.log) == 4
        await registrar.endpoint.close()

    simulate(work)


def test_a_stale_nonce_is_followed() -> None:
    async def work() -> None:
        registrar = await Registrar("secret", granted=100).start()
        async with phone(registrar) as alice:
            await alice.registered(5)
            registrar.nonce += 1
            events = alice.events()
            assert await events.wait_for(Registered)
            assert len(registrar.log) == 4
        await registrar.endpoint.close()

    simulate(work)


def test_a_wrong_password_is_told_once_and_not_tried_again() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        async with phone(registrar, "wrong") as alice:
            events = alice.events()
            with pytest.raises(RegistrationError, match="401"):
                await alice.registered(5)
            assert await events.wait_for(RegistrationFailed) == RegistrationFailed(401, "Unauthorized", None)
            await asyncio.sleep(1000)
            assert len(registrar.log) == 2
        await registrar.endpoint.close()

    simulate(work)


def test_a_longer_time_is_asked_for_when_the_registrar_wants_it() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        registrar.least = 600
        async with phone(registrar, expires=60) as alice:
            events = alice.events()
            await alice.registered(5)
            registered = await events.wait_for(Registered)
            assert registered.expires == 600
        await registrar.endpoint.close()

    simulate(work)


def test_a_registrar_that_always_wants_more_is_asked_again_later() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        answer = registrar.endpoint._on_request

        def greedy(transaction: ServerTransaction) -> None:
            registrar.least = (transaction.request.number("Expires") or 0) + 1
            answer(transaction)

        registrar.endpoint._on_request = greedy
        async with phone(registrar) as alice:
            failed = await alice.events().wait_for(RegistrationFailed, 5)
            assert (failed.status, failed.retry_in) == (423, 1)
            assert len(registrar.log) == 4
        await registrar.endpoint.close()

    simulate(work)


def test_a_registration_too_large_for_a_datagram_keeps_its_datagram_flow() -> None:
    async def work() -> None:
        registrar = await Registrar("secret", granted=100).start()
        async with phone(registrar, display_name="x" * 1300) as alice:
            await alice.registered(5)
            assert registrar.log[-1].via.transport == "TCP"
            flow = alice._running().flow
            assert flow is not None
            assert flow.transport is Transport.UDP
            for connection in list(registrar.endpoint.connections.open):
                connection.abort()
            await asyncio.sleep(10)
            assert len(registrar.log) == 2
        await registrar.endpoint.close()

    simulate(work)


def test_a_registrar_that_hangs_up_after_every_answer_is_not_asked_without_end() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        answer = registrar.endpoint._on_request

        def hang_up(transaction: ServerTransaction) -> None:
            answer(transaction)
            if registrar.contacts:
                assert isinstance(transaction.flow, Connection)
                transaction.flow.close()

        registrar.endpoint._on_request = hang_up
        async with phone(None, uri=registrar.uri + ";transport=tcp") as alice:
            await alice.registered(5)
            await asyncio.sleep(100)
            # the challenge, twice at once, then after 1, 2, 4, 8, 16, 32 seconds
            assert len(registrar.log) == 9
        await registrar.endpoint.close()

    simulate(work)


def test_a_registrar_that_is_down_is_tried_with_growing_pauses_until_it_is_back() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        port = registrar.endpoint.port
        await registrar.endpoint.close()
        async with phone(None, uri=f"sip:[::1]:{port};transport=tcp") as alice:
            events = alice.events()
            pauses = []
            for _ in range(8):
                failed = await events.wait_for(RegistrationFailed)
                pauses.append(failed.retry_in)
            assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
            registrar = await Registrar("secret").start(port=port)
            await alice.registered(61)
            assert await events.wait_for(Registered)
        await registrar.endpoint.close()

    simulate(work)


def test_silence_over_udp_counts_as_failure_after_32_seconds() -> None:
    async def work() -> None:
        async with phone(None, uri="sip:[::1]:9") as alice:
            events = alice.events()
            began = asyncio.get_running_loop().time()
            failed = await events.wait_for(RegistrationFailed)
            assert asyncio.get_running_loop().time() - began == pytest.approx(32)
            assert (failed.status, failed.retry_in) == (408, 1)

    simulate(work)


def test_retry_after_is_respected() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        registrar.answer_with = 503
        async with phone(registrar) as alice:
            events = alice.events()
            failed = await events.wait_for(RegistrationFailed)
            assert failed.retry_in == 1
            registrar.answer_with = None
            await alice.registered(5)
        await registrar.endpoint.close()

    simulate(work)


def test_path_and_service_route_are_kept_and_used() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        registrar.extra = Headers.of(("Service-Route", "<sip:[::1]:9;lr>"), ("Path", "<sip:edge;lr>"))
        async with phone(registrar) as alice:
            await alice.registered(5)
            call = await alice.dial("bob")
            agent = alice._running()
            assert [str(hop) for hop in agent.path] == ["<sip:edge;lr>"]
            assert [str(hop) for hop in agent.preloaded_route()] == ["<sip:[::1]:9;lr>"]
            assert call.state.value == "calling"
        await registrar.endpoint.close()

    simulate(work)


def test_a_broken_connection_leads_to_a_new_registration_at_once() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        address = f"{registrar.uri};transport=tcp"
        async with phone(None, uri=address) as alice:
            await alice.registered(5)
            events = alice.events()
            began = asyncio.get_running_loop().time()
            for connection in list(registrar.endpoint.connections.open):
                connection.abort()
            assert await events.wait_for(Registered)
            assert asyncio.get_running_loop().time() - began < 1
        await registrar.endpoint.close()

    simulate(work)


def test_unregistering_is_told() -> None:
    async def work() -> list[Event]:
        registrar = await Registrar("secret").start()
        alice = phone(registrar)
        async with alice:
            events = alice.events()
            await alice.registered(5)
        seen = [event async for event in events]
        await registrar.endpoint.close()
        return seen

    assert [type(event) for event in simulate(work)] == [Registered, Unregistered]
