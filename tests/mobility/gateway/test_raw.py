"""One TLS connection for each connection of a program: what a terminal does where the gateway is any terminator."""

from __future__ import annotations

import ssl
from ipaddress import IPv6Address

import pytest

from mobility.gateway.causes import Cause
from mobility.gateway.contexts import client_context
from mobility.gateway.outputs import (
    Break,
    Close,
    Connect,
    Deliver,
    Finish,
    Listen,
    Output,
    Room,
    SessionOpened,
    Transmit,
    TunnelBroken,
    TunnelClosed,
)
from mobility.gateway.raw import TIME_TO_CONNECT, RawSession
from mobility.gateway.secure import SecureLink, SecureLinkError
from mobility.gateway.session import MOST_TUNNELS
from mobility.gateway.settings import Destination, Protocol
from mobility.gateway.tunnel import WINDOW
from tests.mobility.gateway.world import NAME, Files, access

FIRST = Destination("sip.inner.example", (5061,), IPv6Address("100:0:0:1::1"))
SECOND = Destination("web.inner.example", (443,), IPv6Address("100:0:0:1::2"), 8443, "another.example")


class Terminators:
    """A terminator for each connection, in lock step with the engine; ``plain`` is what they were told."""

    def __init__(self, files: Files, *certificates: str) -> None:
        self.contexts = []
        for name in certificates or ("good",):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*files.pairs[name])
            self.contexts.append(context)
        settings = access(files, protocol=Protocol.RAW, destinations=(FIRST, SECOND))
        self.engine = RawSession(settings, client_context(settings))
        self.links: dict[int, SecureLink] = {}
        self.plain: dict[int, bytes] = {}
        self.connects: list[Connect] = []
        self.rest: list[Output] = []
        self.reads = True
        self.refused: dict[int, Cause] = {}

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Connect(number):
                    self.connects.append(output)
                    self.links[number] = SecureLink(self.contexts[(number - 1) % len(self.contexts)])
                    self.plain[number] = b""
                    self.take(self.engine.connected(number, 0.0))
                case Transmit(number, data):
                    if self.reads and number not in self.refused:
                        try:
                            self.plain[number] += self.links[number].receive(data)
                        except SecureLinkError as error:
                            self.refused[number] = error.cause
                            continue
                        self.take(self.engine.written(number, len(data), 0.0))
                        self.flush(number)
                case _:
                    self.rest.append(output)

    def flush(self, number: int) -> None:
        out = self.links[number].outgoing()
        if out:
            self.take(self.engine.received(number, out, 0.0))

    def say(self, number: int, data: bytes) -> None:
        self.links[number].send(data)
        self.flush(number)


def test_each_connection_has_its_own_and_the_session_is_resumed(files: Files) -> None:
    world = Terminators(files)
    for text in (b"one", b"two"):
        number, outputs = world.engine.open(FIRST.host, 5061, 0.0)
        world.take(outputs)
        world.take(world.engine.put(number, text, 0.0))
        assert world.plain[number] == text
        world.say(number, text.upper())
        assert Deliver(number, text.upper()) in world.rest
        world.take(world.engine.finish(number, 0.0))
        assert world.links[number].ended
        world.links[number].close()
        world.flush(number)
        assert Finish(number) in world.rest
        assert Close(number) in world.rest
    assert [output.resumed for output in world.rest if isinstance(output, SessionOpened)] == [False, True]
    assert [(event.sent, event.received) for event in world.rest if isinstance(event, TunnelClosed)] == [(3, 3)] * 2


def test_port_and_name_say_where_it_leads(files: Files) -> None:
    world = Terminators(files, "good", "elsewhere")
    asked: list[str | None] = []
    for context in world.contexts:
        context.sni_callback = lambda _tls, name, _context: asked.append(name)
    for destination in (FIRST, SECOND):
        _, outputs = world.engine.open(destination.host, destination.ports[0], 0.0)
        world.take(outputs)
    assert [output.port for output in world.connects] == [443, 8443]
    assert asked == [NAME, "another.example"]
    assert [output for output in world.rest if isinstance(output, TunnelBroken)] == []


def test_what_the_program_says_first_waits_for_tls(files: Files) -> None:
    world = Terminators(files)
    number, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    assert world.engine.put(number, b"early", 0.0) == []
    assert world.engine.finish(number, 0.0) == []
    world.take(outputs)
    assert world.plain[number] == b"early"
    assert world.links[number].ended


@pytest.mark.parametrize(
    ("certificate", "cause"), [("untrusted", Cause.CERTIFICATE_UNTRUSTED), ("elsewhere", Cause.NAME_MISMATCH)]
)
def test_a_terminator_that_proves_nothing_gets_nothing(files: Files, certificate: str, cause: Cause) -> None:
    world = Terminators(files, certificate)
    number, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    world.engine.put(number, b"secret", 0.0)
    world.take(outputs)
    assert number in world.refused, "the terminator was told"
    assert world.plain[number] == b""
    assert Break(number) in world.rest
    assert [event.cause for event in world.rest if isinstance(event, TunnelBroken)] == [cause]
    assert str(cause) in str(world.engine.snapshot(0.0)["because"])


def test_failures_are_told_and_break_one_connection(files: Files) -> None:
    world = Terminators(files)
    number, _ = world.engine.open(FIRST.host, 5061, 0.0)
    world.rest += world.engine.failed(number, "Connection refused", 0.0)
    cut, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    world.take(outputs)
    world.rest += world.engine.received(cut, b"", 0.0)
    slow, _ = world.engine.open(FIRST.host, 5061, 0.0)
    assert world.engine.timer == TIME_TO_CONNECT
    world.rest += world.engine.wake(TIME_TO_CONNECT)
    reset, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    world.take(outputs)
    world.rest += world.engine.broken(reset, 0.0)
    assert [output.tunnel for output in world.rest if isinstance(output, Break)] == [number, cut, slow, reset]
    assert [event.cause for event in world.rest if isinstance(event, TunnelBroken)] == [
        Cause.UNREACHABLE,
        Cause.CUT_OFF,
        Cause.HANDSHAKE_TIMEOUT,
        Cause.PROGRAM_BROKEN,
    ]
    assert world.engine.connected(number, 0.0) == [Close(number)], "too late"


def test_nobody_is_made_to_keep_more_than_a_window(files: Files) -> None:
    world = Terminators(files)
    number, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    world.take(outputs)
    world.reads = False
    while world.engine.room(number):
        world.take(world.engine.put(number, b"x" * min(world.engine.room(number), 16_384), 0.0))
    assert world.engine.room(number) == 0
    assert Room(number) in world.engine.written(number, WINDOW // 2, 0.0)
    world.reads = True
    while world.engine.appetite(number):
        world.say(number, b"y" * 16_384)
    assert sum(len(output.data) for output in world.rest if isinstance(output, Deliver)) < WINDOW + 20_000
    assert world.engine.passed_on(number, WINDOW // 2, 0.0) == [Listen(number)]


def test_a_flood_of_programs_is_bounded(files: Files) -> None:
    world = Terminators(files)
    for _ in range(MOST_TUNNELS):
        world.engine.open(FIRST.host, 5061, 0.0)
    number, outputs = world.engine.open(FIRST.host, 5061, 0.0)
    assert Break(number) in outputs
    assert [output.cause for output in outputs if isinstance(output, TunnelBroken)] == [Cause.TOO_MANY_TUNNELS]
    broken = world.engine.close(0.0)
    assert sum(isinstance(output, Break) for output in broken) == MOST_TUNNELS
