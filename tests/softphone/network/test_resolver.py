"""Names through sockets of somebody else's making: a name server in this process that behaves as told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

import softphone.network.resolver
from softphone.network.resolver import Resolver
from softphone.sip.location import Naptr, Srv

NAME = "phone.example"
ADDRESS = "2001:db8::7"

Behaviour = Callable[[dns.message.Message, int], list[bytes]]
"What is sent in answer to the n-th query (from 1)."


def answer(query: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "AAAA", ADDRESS))
    return response


def right(query: dns.message.Message, number: int) -> list[bytes]:
    return [answer(query).to_wire()]


class Server(asyncio.DatagramProtocol):
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked = 0
        self.by_stream = 0
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)  # asyncio's own is not derived from it

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self.transport is not None
        self.asked += 1
        for packet in self.behaviour(dns.message.from_wire(data), self.asked):
            self.transport.sendto(packet, address)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.by_stream += 1
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        packet = answer(dns.message.from_wire(query)).to_wire()
        writer.write(len(packet).to_bytes(2, "big") + packet)
        await writer.drain()
        writer.close()


class Made:
    """Counts the sockets that were made, and knows whether all are closed."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, kind: socket.SocketKind, family: socket.AddressFamily) -> socket.socket:
        made = socket.socket(family, kind)
        made.setblocking(False)
        self.sockets.append(made)
        return made


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[tuple[Server, Resolver, Made]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Server(behaviour), local_addr=("::1", 0))
    port = transport.get_extra_info("sockname")[1]
    streams = await asyncio.start_server(server.stream, "::1", port)
    made = Made()
    try:
        yield server, Resolver(["::1"], made, port=port), made
        assert all(one.fileno() == -1 for one in made.sockets)
    finally:
        streams.close()
        transport.close()


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(work)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softphone.network.resolver, "ATTEMPT_SECONDS", 0.1)
    monkeypatch.setattr(softphone.network.resolver, "SECONDS", 1.0)
    monkeypatch.setattr(softphone.network.resolver, "OPTIONAL_SECONDS", 0.3)


def test_a_name_has_an_address() -> None:
    async def work() -> None:
        async with serving(right) as (server, resolver, made):
            assert await resolver.addresses(NAME, 6) == [ADDRESS]
            assert (server.asked, server.by_stream, len(made.sockets)) == (1, 0, 1)

    run(work())


def test_a_query_that_a_handover_swallows_is_repeated() -> None:
    async def work() -> None:
        async with serving(lambda query, number: right(query, number) if number > 2 else []) as (server, resolver, _):
            assert await resolver.addresses(NAME, 6) == [ADDRESS]
            assert server.asked == 3

    run(work())


def test_an_answer_that_is_too_long_is_fetched_by_tcp() -> None:
    def truncated(query: dns.message.Message, number: int) -> list[bytes]:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.TC
        return [response.to_wire()]

    async def work() -> None:
        async with serving(truncated) as (server, resolver, _):
            assert await resolver.addresses(NAME, 6) == [ADDRESS]
            assert server.by_stream == 1

    run(work())


def test_rubbish_and_answers_to_something_else_are_passed_over() -> None:
    def liar(query: dns.message.Message, number: int) -> list[bytes]:
        other = answer(dns.message.make_query("other.example", "AAAA"))
        other.id = query.id
        stale = answer(query)
        stale.id ^= 1
        return [
            b"",
            b"\xff" * 30,
            other.to_wire(),
            stale.to_wire(),
            answer(query).to_wire()[:-3],
            *right(query, number),
        ]

    async def work() -> None:
        async with serving(liar) as (server, resolver, _):
            assert await resolver.addresses(NAME, 6) == [ADDRESS]
            assert server.asked == 1

    run(work())


def refusing(code: dns.rcode.Rcode) -> Behaviour:
    def behaviour(query: dns.message.Message, number: int) -> list[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return [response.to_wire()]

    return behaviour


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (refusing(dns.rcode.NXDOMAIN), "does not know phone.example"),
        (refusing(dns.rcode.NOERROR), "has no AAAA record"),
        (refusing(dns.rcode.SERVFAIL), r"no answer about phone.example from ::1 \(host_os.dns\)"),
        (lambda query, number: [], r"no answer about phone.example from ::1 \(host_os.dns\)"),
    ],
)
def test_names_without_an_address_say_why(behaviour: Behaviour, why: str) -> None:
    async def work() -> None:
        async with serving(behaviour) as (_, resolver, _made):
            with pytest.raises(socket.gaierror, match=why):
                await resolver.addresses(NAME, 6)

    run(work())


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "." * 3, ".".join(["label"] * 60), "\ud800.example", ""])
def test_names_that_are_none(name: str) -> None:
    async def work() -> None:
        async with serving(refusing(dns.rcode.NXDOMAIN)) as (_, resolver, _made):
            with pytest.raises((OSError, UnicodeError)):
                await resolver.addresses(name, 6)

    run(work())


def test_a_host_os_that_makes_no_sockets() -> None:
    def refuse(kind: socket.SocketKind, family: socket.AddressFamily) -> socket.socket:
        raise OSError(24, "too many")

    async def work() -> None:
        with pytest.raises(OSError, match="no answer about"):
            await Resolver(["::1"], refuse).addresses(NAME, 6)

    run(work())


def telling(*records: tuple[str, str, str]) -> Behaviour:
    def behaviour(query: dns.message.Message, number: int) -> list[bytes]:
        response = dns.message.make_response(query)
        for name, kind, text in records:
            if (query.question[0].name, query.question[0].rdtype) == (
                dns.name.from_text(name),
                dns.rdatatype.from_text(kind),
            ):
                response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
        return [response.to_wire()]

    return behaviour


def test_services_and_servers_are_read() -> None:
    async def work() -> None:
        behaviour = telling(
            (f"{NAME}.", "NAPTR", f'10 20 "s" "SIPS+D2T" "" _sips._tcp.{NAME}.'),
            (f"_sips._tcp.{NAME}.", "SRV", "1 2 5061 one.example."),
        )
        async with serving(behaviour) as (_, resolver, _made):
            assert await resolver.naptr(NAME) == [Naptr(10, 20, "s", "SIPS+D2T", f"_sips._tcp.{NAME}")]
            assert await resolver.srv(f"_sips._tcp.{NAME}") == [Srv(1, 2, 5061, "one.example")]
            assert await resolver.srv(f"_sip._udp.{NAME}") == []

    run(work())


def test_a_name_server_that_is_silent_about_services_is_not_waited_for_long() -> None:
    async def work() -> None:
        async with serving(lambda query, number: []) as (_, resolver, _made):
            with pytest.raises(socket.gaierror, match="no answer about"):
                await asyncio.wait_for(resolver.naptr(NAME), 0.9)

    run(work())
