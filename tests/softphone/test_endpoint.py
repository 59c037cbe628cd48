"""The endpoint and its transports: garbage, TLS, keepalive, large requests, response routing, limits."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import warnings
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import softphone.sip.connections
from softphone.errors import ConfigError, TransportError
from softphone.media.session import MediaStatistics
from softphone.network.sockets import DirectSockets, connect
from softphone.phone import Softphone
from softphone.sip.connections import IDLE_SECONDS
from softphone.sip.endpoint import Endpoint, ServerTransaction, Traced
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Request, Response, parse_message
from softphone.sip.tls import TlsSettings
from softphone.sip.transport import KEEPALIVE, PONG_WAIT, SILENT_PEER, Address, Target, Transport
from softphone.sip.uri import SipUri
from tests.softphone.certificates import make_certificate
from tests.softphone.support import FakeMedia, FixedNames, account, counting, simulate


class Station(Endpoint):
    """An endpoint that answers everything with 200 and remembers what came."""

    def __init__(self, host: str = "::1", tls: TlsSettings | None = None) -> None:
        self.seen: list[ServerTransaction] = []
        self.trace: list[Traced] = []
        super().__init__(
            DirectSockets(), host, tls=tls, random=counting(), on_request=self.answer, on_ack=lambda ack: None,
            trace=self.trace.append,
        )  # fmt: skip

    def answer(self, transaction: ServerTransaction) -> None:
        self.seen.append(transaction)
        transaction.respond(200)

    async def __aenter__(self) -> Station:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def options(self, uri: SipUri, size: int = 0) -> Response:
        lines = [
            ("From", "<sip:a@example.org>;tag=1"),
            ("To", "<sip:b@example.org>"),
            ("Call-ID", self.new_tag()),
            ("CSeq", "1 OPTIONS"),
            ("Subject", "x" * size),
        ]
        flow = await self.flow((await self.locate(uri, Transport.UDP))[0])
        request = Request(method="OPTIONS", uri=uri, headers=Headers.of(*lines))
        return await (await self.request(request, flow)).final()

    def uri(self, transport: str = "udp") -> SipUri:
        return SipUri(self.host, "b", self.listener_port(Transport(transport)), (("transport", transport),))


OPTIONS = (
    b"OPTIONS sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::99]:7;branch=z9hG4bKx%s\r\n"
    b"From: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.org>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n%s\r\n"
)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_asks_and_answers(host: str, transport: str) -> None:
    async def work() -> None:
        async with Station(host) as a, Station(host) as b:
            assert (await a.options(b.uri(transport))).status == 200
            via = b.seen[0].request.via
            assert (via.host, via.port, via.received, via.transport) == (host, a.port, host, transport.upper())
            assert (await a.options(b.uri(transport))).status == 200
            assert len(a.connections.open) == len(b.connections.open) == (transport == "tcp")
            assert not a.counters
            assert not b.counters

    simulate(work)


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (b"\0\1\2garbage", "message-malformed"),
        (b"\r\n\r\n", "keepalive"),
        (b"\0", "keepalive"),
        (b"SIP/2.0 200 OK\r\n\r\n", "message-malformed"),
        (
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP [::9];branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
            b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "response-not-ours",
        ),
        (
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP [::1];branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
            b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "response-stray",
        ),
    ],
)
def test_garbage_is_counted_and_leaves_no_state(data: bytes, counter: str) -> None:
    async def work() -> None:
        async with Station() as b:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.sendto(data, ("::1", b.port))
                await asyncio.sleep(0.1)
            assert dict(b.counters) == {counter: 1}
            assert not b.seen
            assert not b.layer.transactions

    simulate(work)


def test_random_datagrams_and_streams_raise_nothing() -> None:
    async def work() -> None:
        dice = random.Random(1)
        whole = OPTIONS % (b"", b"")
        loop = asyncio.get_running_loop()
        async with Station() as b:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                for _ in range(300):
                    data = bytearray(whole)
                    for _ in range(dice.randint(1, 8)):
                        data[dice.randrange(len(data))] = dice.randrange(256)
                    sock.sendto(data[: dice.randint(1, len(data))], ("::1", b.port))
                    await asyncio.sleep(0)
            for _ in range(20):
                stream = await DirectSockets().tcp("::1")
                await connect(stream, "::1", b.port, 5)
                with stream:
                    await loop.sock_sendall(stream, dice.randbytes(100) + b"\r\n\r\n")
                    await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert b.counters["message-malformed"] > 200
            assert b.counters["stream-unframed"] == 20
            assert not b.connections.open

    simulate(work)


def test_a_malformed_request_gets_a_precise_400() -> None:
    async def work() -> None:
        async with Station() as b:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("::1", b.port))
                await loop.sock_sendall(sock, OPTIONS % (b";rport", b"Contact: <sip:x\r\n"))
                response = parse_message(await loop.sock_recv(sock, 9000))
            assert response.start_line() == "SIP/2.0 400 Bad Request (Contact at 0: the angle bracket is not closed)"
            assert response.via.rport is not None
            assert not b.layer.transactions

    simulate(work)


@pytest.mark.parametrize("rport", [True, False])
def test_responses_go_to_the_source_port_only_if_asked(rport: bool) -> None:
    async def work() -> None:
        async with Station() as b:
            loop = asyncio.get_running_loop()
            with (
                socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as source,
                socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as named,
            ):
                for sock in (source, named):
                    sock.setblocking(False)
                    sock.bind(("::1", 0))
                request = OPTIONS.replace(b"]:7", b"]:%d" % named.getsockname()[1])
                source.sendto(request % (b";rport" if rport else b"", b""), ("::1", b.port))
                data = await loop.sock_recv(source if rport else named, 9000)
                expected = source.getsockname()[1] if rport else None
            via = parse_message(data).via
            assert (via.received, via.rport) == ("::1", expected)

    simulate(work)


def test_the_zone_of_a_link_local_source_stays_here() -> None:
    async def work() -> None:
        async with Station() as b:
            data = OPTIONS % (b";rport", b"")
            b.received(data, b.connections.udp_flow("fe80::1%lo", 7))
            assert (b.seen[0].request.via.received, b.seen[0].request.via.rport) == ("fe80::1", 7)

    simulate(work)


def test_large_requests_move_to_tcp() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            assert (await a.options(b.uri(), 1500)).status == 200
            assert b.seen[0].request.via.transport == "TCP"

    simulate(work)


def test_large_requests_stay_on_udp_where_there_is_no_tcp() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            b.connections.servers[Transport.TCP][0].close()
            for _ in range(2):
                assert (await a.options(SipUri("::1", None, b.port), 1500)).status == 200
            assert b.seen[0].request.via.transport == "UDP"
            assert a.counters == {"no-tcp-for-large-request": 1}

    simulate(work)


def test_a_lost_connection_ends_its_transactions() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:

            def break_off(transaction: ServerTransaction) -> None:
                for connection in b.connections.open:
                    connection.abort()

            b._on_request = break_off
            response = await a.options(b.uri("tcp"))
            assert (response.status, a.connections.open) == (503, set())

    simulate(work)


def test_a_response_finds_its_way_when_its_connection_is_gone() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            asked: asyncio.Queue[ServerTransaction] = asyncio.Queue()
            b._on_request = asked.put_nowait
            asking = asyncio.create_task(a.options(b.uri("tcp")))
            transaction = await asked.get()
            [connection] = b.connections.open
            connection.abort()
            await asking
            transaction.respond(200)
            await asyncio.sleep(0.1)
            assert [t.data[:11] for t in a.trace if not t.sent] == [b"SIP/2.0 200"]
            assert [c.peer.port for c in b.connections.open] == [a.port]

    simulate(work)


def test_pings_are_answered_and_a_peer_that_stops_is_given_up() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            flow = await a.flow(Target(Transport.TCP, (await a.locate(b.uri(), Transport.TCP))[0].address, "::1"))
            await a.options(b.uri("tcp"))
            await asyncio.sleep(KEEPALIVE + 2)
            assert not flow.closed
            [theirs] = b.connections.open
            theirs.data_received = lambda data: None  # type: ignore[method-assign]
            theirs._wire.pause_reading()  # type: ignore[union-attr]
            await asyncio.sleep(KEEPALIVE - 3)
            assert not flow.closed
            await asyncio.sleep(PONG_WAIT + 2)
            assert not a.connections.open
            assert a.counters["connection-dead"] == 1

    simulate(work)


def test_a_silent_visitor_is_shown_out() -> None:
    async def work() -> None:
        async with Station() as b:
            stream = await DirectSockets().tcp("::1")
            await connect(stream, "::1", b.port, 5)
            with stream:
                await asyncio.sleep(SILENT_PEER + 1)
                assert not b.connections.open
                assert b.counters == {"connection-silent": 1}

    simulate(work)


def test_many_connections_are_bounded_and_the_idle_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softphone.sip.connections, "MAX_CONNECTIONS", 3)

    async def work() -> None:
        async with Station() as b, AsyncExitStack() as stack:

            async def visit() -> Response | None:
                visitor = await stack.enter_async_context(Station())
                response = await visitor.options(b.uri("tcp"))
                return response if response.status == 200 else None

            for _ in range(3):
                assert await visit()
                await asyncio.sleep(1)
            assert not await visit()
            assert b.counters == {"connections-full": 1}
            await asyncio.sleep(IDLE_SECONDS)
            assert not await visit()  # pings are signs of life, too
            for connection in b.connections.open:
                connection.last_heard -= IDLE_SECONDS
            assert await visit()
            assert len(b.connections.open) == 3
            assert b.counters["connection-idle"] == 1

    simulate(work)


# TLS; its handshakes take real time


def settings(directory: Path, *names: str, ca: bool = True) -> TlsSettings:
    made = make_certificate(directory, names)
    return TlsSettings(made.ca if ca else None, made.certificate, made.key)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_tls_verifies_name_and_issuer(tmp_path: Path, host: str) -> None:
    async def work() -> None:
        tls = settings(tmp_path / "good", "sip.example.org", host)

        async with Station(host, tls) as b, Station(host, tls) as a, Station(host) as stranger:
            names = FixedNames(addresses={"sip.example.org": [host], "other.example.org": [host]})
            a.locator.names = stranger.locator.names = lambda: names
            port = b.listener_port(Transport.TLS)
            assert (await a.options(SipUri(host, None, port, scheme="sips"))).status == 200
            assert (await a.options(SipUri("sip.example.org", None, port, scheme="sips"))).status == 200
            with pytest.raises(TransportError, match=r"certificate of other\.example\.org"):
                await a.options(SipUri("other.example.org", None, port, scheme="sips"))
            with pytest.raises(TransportError, match="check ca_file"):
                await stranger.options(SipUri(host, None, port, scheme="sips"))
            with pytest.raises(TransportError, match="no tls connection"):
                await a.options(SipUri(host, None, b.listener_port(Transport.TCP), scheme="sips"))

    asyncio.run(work())


def test_a_sips_uri_never_goes_without_tls() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            uri = SipUri("::1", "b", b.port, scheme="sips")
            with pytest.raises(TransportError, match="demands TLS and udp at once"):
                await a.locate(SipUri("::1", "b", b.port, (("transport", "udp"),), scheme="sips"), Transport.UDP)
            for transport in (Transport.UDP, Transport.TCP):
                flow = await a.flow(Target(transport, Address("::1", b.port), "::1"))
                request = Request(method="OPTIONS", uri=uri)
                with pytest.raises(TransportError, match=f"demands TLS, but its way leads over {transport}"):
                    await a.request(request, flow)
                with pytest.raises(TransportError, match="demands TLS"):
                    a.send_ack(request, flow)
            assert not b.seen

    simulate(work)


def test_clients_prove_themselves_where_that_is_wanted(tmp_path: Path) -> None:
    """And then their connection is used for what goes to them (RFC 5923)."""

    async def work() -> None:
        wanting = replace(settings(tmp_path / "good", "::1"), verify_clients=True)
        nameless = TlsSettings(wanting.ca_file)
        stranger = replace(settings(tmp_path / "other", "::1"), ca_file=wanting.ca_file)
        async with Station(tls=wanting) as b, Station(tls=wanting) as a:
            assert (await a.options(b.uri("tls"))).status == 200
            [connection] = b.connections.open
            assert (await b.options(a.uri("tls"))).status == 200
            assert b.connections.open == {connection}
            assert len(a.connections.open) == 1
            for tls in (nameless, stranger):
                async with Station(tls=tls) as c:
                    try:
                        response = await c.options(b.uri("tls"))
                    except TransportError:
                        continue  # refused in the handshake, or with TLS 1.3 right after it
                    assert response.status == 503
            assert len(b.seen) == 1

    asyncio.run(work())


def test_a_connection_is_not_used_for_an_alias_that_its_peer_does_not_prove(tmp_path: Path) -> None:
    async def work() -> None:
        wanting = replace(settings(tmp_path / "good", "::1"), verify_clients=True)
        made = make_certificate(tmp_path / "other", ["elsewhere.example.org"], signer=tmp_path / "good")
        async with Station(tls=wanting) as b:
            async with Station(tls=TlsSettings(wanting.ca_file, made.certificate, made.key)) as a:
                assert (await a.options(b.uri("tls"))).status == 200
                [connection] = b.connections.open
                assert connection.alias is None

    asyncio.run(work())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_1])
def test_tls_versions(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async def work() -> None:
        async with Station(tls=settings(tmp_path, "::1")) as b:
            context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            if version is ssl.TLSVersion.TLSv1_1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that it is old is the point
                    context.minimum_version = context.maximum_version = version
                context.set_ciphers("DEFAULT:@SECLEVEL=0")
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asyncio.open_connection("::1", b.listener_port(Transport.TLS), ssl=context)
                return
            context.minimum_version = context.maximum_version = version
            _, writer = await asyncio.open_connection("::1", b.listener_port(Transport.TLS), ssl=context)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
            writer.close()
            await writer.wait_closed()

    asyncio.run(work())


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CA file"):
        TlsSettings(tmp_path / "none.pem").client()
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match="private key"):
        TlsSettings(None, tmp_path / "bad.pem", tmp_path / "bad.pem").server()


@pytest.mark.parametrize("callee_has_certificate", [True, False])
def test_a_call_over_tls(tmp_path: Path, callee_has_certificate: bool) -> None:
    """Also from a caller without certificate: then the callee uses the caller's connection for its BYE."""

    async def work() -> None:
        made = make_certificate(tmp_path, ["::1"])
        server = {"certificate": made.certificate, "private_key": made.key}
        common = {"ca_file": made.ca, "transport": Transport.TLS}
        alice_settings = common | (server if callee_has_certificate else {})
        alice = Softphone(account("alice", **alice_settings), media=FakeMedia.factory([]))
        bob = Softphone(account("bob", **common, **server), media=FakeMedia.factory([]))
        async with bob, alice:
            call = await alice.dial(f"sips:bob@[::1]:{bob.endpoint.listener_port(Transport.TLS)}")
            incoming = await anext(bob.incoming())
            await incoming.answer()
            await call.answered(5)
            await incoming.answered(5)
            await incoming.hangup()
            await call.ended(5)
            assert not alice.counters
            assert not bob.counters

    asyncio.run(work())


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_call_with_real_audio(host: str) -> None:
    async def work() -> None:
        async with (
            Softphone(account("bob", local_host=host, srtp="mandatory")) as bob,
            Softphone(account("alice", local_host=host, srtp="mandatory")) as alice,
        ):
            address = f"[{host}]" if ":" in host else host
            call = await alice.dial(f"sip:bob@{address}:{bob.port}")
            incoming = await anext(bob.incoming())
            await incoming.ring()
            await incoming.answer()
            await call.answered(5)
            await incoming.answered(5)
            async with asyncio.timeout(5):
                while True:
                    a, b = call.statistics(), incoming.statistics()
                    assert isinstance(a, MediaStatistics)
                    assert isinstance(b, MediaStatistics)
                    if a.received > 5 and b.received > 5:
                        break
                    await asyncio.sleep(0.02)
            await call.hangup()
            await incoming.ended(5)
            assert a.srtp_suite
            assert f" {host}\r\n" in call.remote_sdp
            final = call.statistics()
            assert isinstance(final, MediaStatistics)
            assert final.lost == 0

    asyncio.run(work())


@pytest.mark.parametrize("chosen", [True, False])
def test_a_port_that_is_taken_for_tcp(chosen: bool) -> None:
    """Any port: another one. A chosen one: TCP has to go elsewhere."""

    class Taken(DirectSockets):
        refused = 0

        async def listen(self, host: str, port: int) -> socket.socket:
            if port and self.refused < 2:
                self.refused += 1
                raise TransportError("taken")
            return await super().listen(host, port)

    async def work() -> None:
        async with Station() as before:
            port = before.port
        sockets = Taken()
        endpoint = Endpoint(
            sockets, "::1", port if chosen else 0, on_request=lambda transaction: None, on_ack=lambda ack: None
        )
        await endpoint.start()
        assert sockets.refused == (1 if chosen else 2)
        assert (endpoint.listener_port(Transport.TCP) == endpoint.port) is not chosen
        await endpoint.close()

    simulate(work)


def test_contact_names_the_listener_or_the_connection() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            flow = await a.flow((await a.locate(b.uri("tcp"), Transport.TCP))[0])
            assert str(NameAddr(a.contact("a", flow))) == f"<sip:a@[::1]:{a.port};transport=tcp>"
            a.connections.servers.pop(Transport.TCP)[0].close()
            assert a.contact("a", flow).port == flow.local.port != a.port

    simulate(work)
