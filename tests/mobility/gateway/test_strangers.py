"""What people who are not our terminal can say to a gateway, and what a strange gateway can say to a terminal."""

from __future__ import annotations

import ssl

import h2.config
import h2.connection
import h2.events
import pytest

from mobility.gateway import server
from mobility.gateway.carrier import HANDSHAKE_TIME, MOST_RESETS, MOST_UNREAD
from mobility.gateway.causes import Cause
from mobility.gateway.contexts import client_context, server_context
from mobility.gateway.ends import RECEIVED, REFUSED, RESUME, TUNNEL
from mobility.gateway.outputs import Close, Connect, Deliver, Output, SessionLost, Transmit, TunnelBroken
from mobility.gateway.secure import SecureLink
from mobility.gateway.server import MOST_HANDSHAKES, GatewayServer
from mobility.gateway.session import GatewaySession, State
from mobility.gateway.settings import Allowed
from mobility.outputs import Event
from tests.mobility.gateway.world import NAME, SERVER, Files, access, configuration

TOKEN = "t" * 43


class Stranger:
    """Speaks TLS and HTTP/2 with a gateway, as it likes."""

    def __init__(self, files: Files, gateway: GatewayServer, connection: int = 1, now: float = 0.0) -> None:
        self.gateway, self.connection, self.now = gateway, connection, now
        self.link = SecureLink(client_context(access(files)), server_name=NAME)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.outputs: list[Output] = gateway.accepted(connection, f"stranger-{connection}", now)
        self.heard: list[h2.events.Event] = []
        self.reads = True
        self.h2.initiate_connection()
        self.link.start()
        while not self.link.established:
            self.exchange()
        self.flush()

    def exchange(self) -> None:
        out = self.link.outgoing()
        if out:
            self.take(self.gateway.received(self.connection, out, self.now))

    def flush(self) -> None:
        self.link.send(self.h2.data_to_send())
        self.exchange()

    def take(self, outputs: list[Output]) -> None:
        self.outputs += outputs
        for output in outputs:
            if isinstance(output, Transmit) and self.reads and output.connection == self.connection:
                plain = self.link.receive(output.data)
                if plain:
                    self.heard += self.h2.receive_data(plain)
                self.gateway.written(self.connection, len(output.data), self.now)
            elif isinstance(output, Connect):
                self.take(self.gateway.connected(output.number, self.now))

    def ask(self, headers: dict[str, str]) -> dict[str, str]:
        """One request; the answer's fields, empty: none came."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, list(headers.items()))
        self.flush()
        found = [event for event in self.heard if isinstance(event, h2.events.ResponseReceived)]
        return {str(name): str(value) for name, value in found[-1].headers or ()} if found else {}

    def lost(self) -> Cause | None:
        found = [output.cause for output in self.outputs if isinstance(output, SessionLost)]
        return found[0] if found else None


def connect(authority: str, **fields: str) -> dict[str, str]:
    return {":method": "CONNECT", ":authority": authority} | {
        name.replace("_", "-"): value for name, value in fields.items()
    }


@pytest.fixture
def gateway(files: Files) -> GatewayServer:
    settings = configuration(files)
    return GatewayServer(settings, server_context(settings))


def test_any_client_of_http2_may_use_connect(files: Files, gateway: GatewayServer) -> None:
    """Without our header fields: the standard alone (RFC 9113 section 8.5)."""
    stranger = Stranger(files, gateway)
    answer = stranger.ask(connect(f"{SERVER.upper()}:5061"))
    assert answer == {":status": "200"}
    stranger.h2.send_data(1, b"hello")
    stranger.flush()
    assert Deliver(1, b"hello") in stranger.outputs
    stranger.take(gateway.passed_on(1, 5, 0.0))
    stranger.take(gateway.put(1, b"welcome", 0.0))
    assert [event.data for event in stranger.heard if isinstance(event, h2.events.DataReceived)] == [b"welcome"]
    stranger.take(gateway.received(1, b"", 0.0))
    assert gateway.tunnels == {}, "nobody could resume it"


@pytest.mark.parametrize(
    "authority",
    ["", ":", ":5061", f"{SERVER}", f"{SERVER}:", f"{SERVER}:0", f"{SERVER}:65536", f"{SERVER}:-1", f"{SERVER}:5061x",
     "[::1:5061", "::1:5061", "[]:5061", "a b:5061", f"{'x' * 300}:5061", "[sip]:5061", f"{SERVER}:٥٠٦١"],
)  # fmt: skip
def test_a_malformed_destination_is_refused_by_name(files: Files, gateway: GatewayServer, authority: str) -> None:
    stranger = Stranger(files, gateway)
    answer = stranger.ask(connect(authority))
    if not answer:  # HTTP/2 itself forbids it
        assert stranger.lost() is Cause.PROTOCOL_VIOLATED
        return
    assert answer[":status"] == "400"
    assert answer[REFUSED].startswith(Cause.REQUEST_MALFORMED)
    assert gateway.counters[f"refused-{Cause.REQUEST_MALFORMED}"] == 1
    assert gateway.tunnels == {}


@pytest.mark.parametrize(
    ("fields", "status", "cause"),
    [
        ({TUNNEL: "short"}, "400", Cause.REQUEST_MALFORMED),
        ({TUNNEL: "t" * 65}, "400", Cause.REQUEST_MALFORMED),
        ({TUNNEL: TOKEN, RECEIVED: "-1"}, "400", Cause.REQUEST_MALFORMED),
        ({TUNNEL: TOKEN, RECEIVED: "9" * 30}, "400", Cause.REQUEST_MALFORMED),
        ({TUNNEL: TOKEN, RESUME: "?1"}, "410", Cause.TUNNEL_UNKNOWN),
    ],
)
def test_malformed_fields_are_refused_by_name(
    files: Files, gateway: GatewayServer, fields: dict[str, str], status: str, cause: Cause
) -> None:
    answer = Stranger(files, gateway).ask({**connect(f"{SERVER}:5061"), **fields})
    assert (answer[":status"], answer[REFUSED].split()[0]) == (status, cause)


def test_octets_that_cannot_be_missing_end_the_tunnel(files: Files, gateway: GatewayServer) -> None:
    first = Stranger(files, gateway)
    first.ask(connect(f"{SERVER}:5061", roam_tunnel=TOKEN))
    second = Stranger(files, gateway, 2)
    answer = second.ask(connect(f"{SERVER}:5061", roam_tunnel=TOKEN, roam_resume="?1", roam_received="77"))
    assert answer[":status"] == "410"
    assert gateway.tunnels == {}


def test_a_token_is_for_one_destination(files: Files) -> None:
    settings = configuration(files, allowed=(Allowed(SERVER, (5061,)), Allowed("other.example", (443,))))
    gateway = GatewayServer(settings, server_context(settings))
    stranger = Stranger(files, gateway)
    stranger.ask(connect(f"{SERVER}:5061", roam_tunnel=TOKEN))
    answer = stranger.ask(connect("other.example:443", roam_tunnel=TOKEN))
    assert answer[":status"] == "410"
    assert len(gateway.tunnels) == 1


def test_other_methods_are_refused(files: Files, gateway: GatewayServer) -> None:
    stranger = Stranger(files, gateway)
    answer = stranger.ask({":method": "GET", ":authority": SERVER, ":scheme": "https", ":path": "/"})
    assert answer[":status"] == "405"
    assert stranger.ask(connect(f"{SERVER}:5061"))[":status"] == "200"


def test_half_open_handshakes_are_few_and_short(files: Files, gateway: GatewayServer) -> None:
    good = Stranger(files, gateway, 1000)
    outputs: list[Output] = []
    for number in range(MOST_HANDSHAKES + 10):
        outputs += gateway.accepted(number, "flood", number * 0.001)
    closed = [output.connection for output in outputs if isinstance(output, Close)]
    assert closed == list(range(10)), "the oldest go"
    assert sum(not carrier.established for carrier in gateway.carriers.values()) == MOST_HANDSHAKES
    assert gateway.timer is not None
    assert gateway.timer <= HANDSHAKE_TIME + 0.1
    gateway.wake(HANDSHAKE_TIME + 1)
    assert [carrier.established for carrier in gateway.carriers.values()] == [True]
    assert good.ask(connect(f"{SERVER}:5061"))[":status"] == "200"
    assert gateway.counters[f"lost-{Cause.HANDSHAKE_TIMEOUT}"] == MOST_HANDSHAKES + 10


def test_a_handshake_without_a_word_of_http2_is_half_open_too(files: Files, gateway: GatewayServer) -> None:
    link = SecureLink(client_context(access(files)), server_name=NAME)
    gateway.accepted(1, "silent", 0.0)
    link.start()
    for _ in range(3):
        for output in gateway.received(1, link.outgoing(), 0.0):
            if isinstance(output, Transmit):
                link.receive(output.data)
    assert link.established
    gateway.wake(HANDSHAKE_TIME + 1)
    assert gateway.carriers == {}


def test_sessions_are_bounded(files: Files) -> None:
    settings = configuration(files, sessions=3)
    gateway = GatewayServer(settings, server_context(settings))
    for number in range(3):
        Stranger(files, gateway, number)
    outputs = gateway.accepted(3, "one too many", 0.0)
    assert outputs[0] == Close(3)
    assert isinstance(outputs[1], SessionLost)
    assert outputs[1].cause is Cause.TOO_MANY_SESSIONS


def test_tunnels_of_all_are_bounded_and_those_that_wait_make_room(
    files: Files, gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_TUNNELS", 3)
    first = Stranger(files, gateway, 1)
    for number in range(2):
        first.ask(connect(f"{SERVER}:5061", roam_tunnel=str(number) * 43))
    first.take(gateway.received(1, b"", 1.0))
    second = Stranger(files, gateway, 2, 2.0)
    answers = [second.ask(connect(f"{SERVER}:5061"))[":status"] for _ in range(4)]
    assert answers == ["200", "200", "200", "503"]


def test_what_is_not_tls_is_closed(files: Files, gateway: GatewayServer) -> None:
    gateway.accepted(1, "scanner", 0.0)
    outputs = gateway.received(1, b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n", 0.0)
    assert Close(1) in outputs
    assert [output.cause for output in outputs if isinstance(output, SessionLost)] == [Cause.TLS_FAILED]


def test_tls_without_http2_is_closed(files: Files, gateway: GatewayServer) -> None:
    context = ssl.create_default_context(cafile=files.ca)
    link = SecureLink(context, server_name=NAME)
    gateway.accepted(1, "browser", 0.0)
    link.start()
    outputs: list[Output] = []
    for _ in range(3):
        for output in gateway.received(1, link.outgoing(), 0.0):
            outputs.append(output)
            if isinstance(output, Transmit):
                link.receive(output.data)
    assert [output.cause for output in outputs if isinstance(output, SessionLost)] == [Cause.NOT_HTTP2]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200, bytes(3) + b"\x63\x00" + bytes(4)])
def test_tls_with_something_else_in_it_is_closed(files: Files, gateway: GatewayServer, garbage: bytes) -> None:
    stranger = Stranger(files, gateway)
    for octet in garbage + b"\xff" * 64:  # the smallest records that there are
        stranger.link.send(bytes([octet]))
        stranger.exchange()
    assert stranger.lost() is Cause.PROTOCOL_VIOLATED
    assert gateway.carriers == {}


def test_a_tampered_record_ends_the_session(files: Files, gateway: GatewayServer) -> None:
    stranger = Stranger(files, gateway)
    stranger.link.send(b"x" * 100)
    record = bytearray(stranger.link.outgoing())
    record[-1] ^= 1
    stranger.outputs += gateway.received(1, bytes(record), 0.0)
    assert stranger.lost() is Cause.TLS_FAILED


def test_who_opens_and_resets_without_end_is_left(files: Files, gateway: GatewayServer) -> None:
    stranger = Stranger(files, gateway)
    for _ in range(int(MOST_RESETS) + 2):
        if stranger.lost() is not None:
            break
        number = stranger.h2.get_next_available_stream_id()
        stranger.h2.send_headers(number, list(connect(f"{SERVER}:5061").items()))
        stranger.h2.reset_stream(number)
        stranger.flush()
    assert stranger.lost() is Cause.PROTOCOL_VIOLATED
    assert gateway.tunnels == {}


def test_who_asks_and_does_not_read_the_answers_is_left(files: Files, gateway: GatewayServer) -> None:
    stranger = Stranger(files, gateway)
    stranger.reads = False
    for number in range(100_000):
        stranger.h2.ping(number.to_bytes(8, "big"))
        if number % 500 == 0:
            stranger.flush()
        if stranger.lost() is not None:
            break
    assert stranger.lost() is Cause.NOT_READ
    sent = sum(len(output.data) for output in stranger.outputs if isinstance(output, Transmit))
    assert sent < 2 * MOST_UNREAD


def test_a_gateway_of_another_kind(files: Files) -> None:
    """It knows CONNECT and none of our fields: tunnels work, and break with their session."""
    settings = access(files)
    terminal = GatewaySession(settings, client_context(settings), lambda octets: bytes(octets))
    other = SecureLink(server_context(configuration(files)))
    foreign = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    events: list[Event] = []
    delivered = bytearray()
    requests: list[int] = []

    def exchange(outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Transmit(_, data):
                    was = other.established
                    plain = other.receive(data)
                    if other.established and not was:
                        foreign.initiate_connection()
                    for event in foreign.receive_data(plain) if plain else ():
                        if isinstance(event, h2.events.RequestReceived):
                            requests.append(event.stream_id)
                        if isinstance(event, h2.events.DataReceived) and event.data:
                            foreign.send_data(event.stream_id, event.data.upper())
                    reply()
                case Connect(number):
                    exchange(terminal.connected(number, 0.0))
                case Deliver(_, data):
                    delivered.extend(data)
                case Event():
                    events.append(output)

    def reply() -> None:
        if other.established:
            data = foreign.data_to_send()
            if data:
                other.send(data)
        out = other.outgoing()
        if out:
            exchange(terminal.received(1, out, 0.0))

    exchange(terminal.start(0.0))
    assert terminal.state is State.OPEN
    number, outputs = terminal.open(SERVER, 5061, 0.0)
    exchange(outputs)
    foreign.send_headers(requests[0], [(":status", "200")])
    reply()
    exchange(terminal.put(number, b"hello", 0.0))
    assert delivered == b"HELLO"
    refused, outputs = terminal.open(SERVER, 5061, 0.0)
    exchange(outputs)
    foreign.send_headers(requests[1], [(":status", "407"), ("proxy-authenticate", "Basic")], end_stream=True)
    reply()
    assert refused not in terminal.tunnels
    exchange(terminal.received(1, b"", 1.0))
    broken = [(event.cause, event.why) for event in events if isinstance(event, TunnelBroken)]
    assert broken == [
        (Cause.TUNNEL_REFUSED, "the gateway answers with HTTP status 407"),
        (Cause.CUT_OFF, "the session was lost, and this one cannot be resumed"),
    ]
