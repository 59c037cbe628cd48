"""When a server fails, the next one is asked (RFC 3263 section 4.3)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from softphone.errors import CallRejected, TransportError
from softphone.phone import Softphone
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.location import Srv
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri
from tests.softphone.support import FakeMedia, FixedNames, account, counting, simulate
from tests.softphone.test_endpoint import Station


def servers(*ports: int, transport: str = "udp") -> FixedNames:
    records = [Srv(number, 0, port, "server.example.org") for number, port in enumerate(ports)]
    return FixedNames(srv={f"_sip._{transport}.example.org": records}, addresses={"server.example.org": ["::1"]})


def phone(names: FixedNames, **settings: Any) -> Softphone:
    return Softphone(account(**settings), media=FakeMedia.factory([]), random=counting(), names=lambda: names)


@pytest.mark.parametrize("failure", ["silent", "503", "refused"])
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_the_next_server_is_asked(failure: str, method: str) -> None:
    async def work() -> None:
        async with Station() as first, Station() as second:
            transport = "tcp" if failure == "refused" else "udp"
            ports = [first.port, second.port]
            if failure == "silent":
                first._on_request = lambda transaction: None
            elif failure == "503":
                first._on_request = lambda transaction: transaction.respond(503)  # type: ignore[assignment]
            else:
                first.connections.servers[Transport.TCP][0].close()
            second._on_request = lambda transaction: transaction.respond(404)  # type: ignore[assignment]
            names = servers(*ports, transport=transport)
            async with phone(names) as alice:
                for number in (1, 2):
                    begun = asyncio.get_running_loop().time()
                    if method == "INVITE":
                        call = await alice.dial("sip:bob@example.org")
                        with pytest.raises(CallRejected, match="404"):
                            await call.answered(60)
                    else:
                        agent = alice._running()
                        uri = SipUri("example.org", "bob")
                        to = agent.identity("t")
                        response = await agent.complete(
                            lambda: agent.initial("OPTIONS", uri, replace(to, parameters=()), to, "c", number)  # noqa: B023
                        )
                        assert response.status == 404
                    elapsed = asyncio.get_running_loop().time() - begun
                # the one that failed is not waited for again
                assert elapsed < 1
                assert alice.counters["target-failed"] == 1

    simulate(work)


def test_when_all_fail_the_last_outcome_is_told() -> None:
    async def work() -> None:
        async with Station() as first, Station() as second:
            for station in (first, second):
                station._on_request = lambda transaction: transaction.respond(503)  # type: ignore[assignment]
            async with phone(servers(first.port, second.port)) as alice:
                call = await alice.dial("sip:bob@example.org")
                with pytest.raises(CallRejected, match="503"):
                    await call.answered(60)

    simulate(work)


def test_a_server_that_rang_is_not_left() -> None:
    async def work() -> None:
        async with Station() as first, Station() as second:

            def ring_and_fail(transaction: ServerTransaction) -> None:
                transaction.respond(180)
                transaction.respond(503)

            first._on_request = ring_and_fail
            async with phone(servers(first.port, second.port)) as alice:
                call = await alice.dial("sip:bob@example.org")
                with pytest.raises(CallRejected, match="503"):
                    await call.answered(60)
            assert not second.seen

    simulate(work)


def test_a_call_that_was_given_up_does_not_go_to_the_next_server() -> None:
    async def work() -> None:
        async with Station() as first, Station() as second:
            first._on_request = lambda transaction: None
            async with phone(servers(first.port, second.port)) as alice:
                call = await alice.dial("sip:bob@example.org")
                await asyncio.sleep(1)
                await call.hangup()
                await asyncio.sleep(60)
            assert not second.seen

    simulate(work)


def test_a_dead_dns_is_told_and_a_registration_waits_for_it() -> None:
    async def work() -> None:
        names = FixedNames()
        names.dead = True
        async with Station() as server, phone(names, register=True) as alice:
            with pytest.raises(TransportError, match="check it and the resolver"):
                await alice.dial("sip:bob@example.org")
            names.records["SRV"]["_sip._udp.example.org"] = [Srv(0, 0, server.port, "server.example.org")]
            names.records["A"]["server.example.org"] = ["::1"]
            names.dead = False
            await alice.registered(5)

    simulate(work)


def test_what_the_dns_said_is_remembered_for_a_while() -> None:
    async def work() -> None:
        async with Station() as server:
            names = servers(server.port)
            server.locator.names = lambda: names
            for pause in (0, 10, 40):
                await asyncio.sleep(pause)
                await server.locate(SipUri("example.org", "bob"), Transport.UDP)
            assert names.asked.count(("NAPTR", "example.org")) == 2

    simulate(work)
