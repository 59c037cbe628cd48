"""Terminal and gateway, engine against engine: the outer session, tunnels in it, and what goes wrong with both."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from mobility.gateway.causes import Cause
from mobility.gateway.ends import LINGER
from mobility.gateway.outputs import SessionLost, SessionOpened, TunnelBroken, TunnelClosed, TunnelOpened
from mobility.gateway.session import LONGEST_PAUSE, MOST_TUNNELS, WAIT, State
from mobility.gateway.settings import Allowed, ClientCertificate, Via
from mobility.gateway.tunnel import WINDOW
from tests.mobility.gateway.world import SERVER, Files, World, access, configuration

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def test_what_a_program_says_comes_back(files: Files) -> None:
    world = World(files)
    world.start()
    (opened,) = world.seen("terminal", SessionOpened)
    assert (opened.gateway, opened.tls, opened.resumed) == ("office", "TLSv1.3", False)
    assert world.seen("gateway", SessionOpened)[0].address == "2001:db8::100"
    number = world.open()
    world.say(number, b"REGISTER sip:inner.example SIP/2.0\r\n")
    world.run(1.0)
    assert world.programs[number].received == b"REGISTER sip:inner.example SIP/2.0\r\n"
    world.end(number)
    world.run(1.0)
    assert world.programs[number].finished
    assert [(event.sent, event.received) for event in world.seen("terminal", TunnelClosed)] == [(36, 36)]
    assert [event.destination for event in world.seen("gateway", TunnelOpened)] == [f"{SERVER}:5061"]
    world.run(LINGER + 1)
    assert world.terminal.tunnels == {}
    assert world.gateway is not None
    assert world.gateway.tunnels == {}


def test_more_than_a_window_goes_through_and_many_share_a_session(files: Files) -> None:
    world = World(files)
    world.start()
    numbers = [world.open() for _ in range(5)]
    sent = {number: bytes([number]) * (3 * WINDOW + number) for number in numbers}
    for number, data in sent.items():
        world.say(number, data)
        world.end(number)
    world.run(10.0)
    assert {number: bytes(world.programs[number].received) for number in numbers} == sent
    assert all(world.programs[number].finished for number in numbers)
    assert world.connects == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_of_tls_and_resumption_by_ticket(files: Files, version: str) -> None:
    world = World(files)
    assert world.gateway is not None
    world.gateway.context.maximum_version = VERSIONS[version]
    world.start()
    world._do("terminal", world.terminal.moved(world.now))
    world.run(1.0)
    opened = world.seen("terminal", SessionOpened)
    assert [(event.tls, event.resumed) for event in opened] == [(version, False), (version, True)]
    assert world.gateway.counters["sessions-resumed"] == 1


@pytest.mark.parametrize("told", [True, False], ids=["reset", "silence"])
def test_a_lost_connection_costs_no_octet(files: Files, told: bool) -> None:
    """Whatever was under way in both directions is sent again, once, on the next connection."""
    world = World(files)
    world.start()
    number = world.open()
    data = bytes(range(256)) * 8192
    world.say(number, data)
    world.end(number)
    for _ in range(8):
        world.run(0.035)
        before = world._pairs.copy()
        world.cut()
        if told:
            for ours, theirs in before.items():
                world._wire.append((world.now, "terminal", ours, None))
                world._wire.append((world.now, "gateway", theirs, None))
        world.run(1.0 if told else 40.0)
    world.run(30.0)
    assert world.programs[number].finished
    assert bytes(world.programs[number].received) == data
    assert bytes(world.destinations[1].received) == data
    assert world.seen("terminal", TunnelBroken) == []
    assert world.seen("terminal", SessionLost)


def test_a_terminal_that_moves_makes_its_session_anew_beside_the_old_one(files: Files) -> None:
    world = World(files)
    world.start()
    number = world.open()
    world.run(1.0)
    world.say(number, b"x" * WINDOW)
    world.run(0.011)
    world._do("terminal", world.terminal.moved(world.now))
    assert world.terminal.state is State.OPEN, "until the new one stands"
    world.run(2.0)
    assert world.programs[number].received == b"x" * WINDOW
    assert world.seen("terminal", SessionOpened)[1].tunnels == 1
    assert world.seen("terminal", SessionLost) == []
    assert [event.cause for event in world.seen("gateway", SessionLost)] == [Cause.CLOSED]


def test_over_the_home_address_a_movement_changes_nothing(files: Files) -> None:
    world = World(files, access_=access(files, via=Via.HOME))
    world.start()
    world._do("terminal", world.terminal.moved(world.now))
    world.run(2.0)
    assert world.connects == 1
    snapshot = world.terminal.snapshot(world.now)
    assert snapshot["round_trip_ms"] == pytest.approx(20.0), "it looked whether the way is still there"


def test_a_dead_path_is_noticed_by_the_missing_answer(files: Files) -> None:
    world = World(files)
    world.start()
    world.run(100.0)
    assert world.seen("terminal", SessionLost) == []
    world.carries = False
    world.run(30.0)
    assert world.seen("terminal", SessionLost)[0].cause is Cause.SILENT
    world.carries = True
    world.run(LONGEST_PAUSE)
    assert world.terminal.state is State.OPEN


def test_a_gateway_that_is_away_is_tried_ever_more_rarely(files: Files) -> None:
    world = World(files)
    world.reachable = False
    world.start()
    world.run(600.0)
    pauses = [event.retry_in for event in world.seen("terminal", SessionLost)]
    assert {event.cause for event in world.seen("terminal", SessionLost)} == {Cause.UNREACHABLE}
    assert pauses[0] <= 0.2
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in pauses[9:])
    assert len(pauses) < 60
    assert "unreachable: Connection refused" in str(world.terminal.snapshot(world.now)["because"])
    world.reachable = True
    world.run(LONGEST_PAUSE)
    assert world.terminal.state is State.OPEN
    world._do("terminal", world.terminal.moved(world.now))


def test_a_gateway_that_was_restarted_knows_no_tunnel_any_more(files: Files) -> None:
    world = World(files)
    world.start()
    number = world.open()
    world.run(1.0)
    world.say(number, b"hello")
    world.kill_gateway()
    world.run(0.5)
    assert not world.programs[number].broken
    world.start_gateway()
    world.run(5.0)
    assert world.programs[number].broken
    assert [event.cause for event in world.seen("terminal", TunnelBroken)] == [Cause.TUNNEL_UNKNOWN]
    again = world.open()
    world.say(again, b"again")
    world.run(1.0)
    assert world.programs[again].received == b"again"


def test_programs_wait_for_a_session_and_not_for_ever(files: Files) -> None:
    world = World(files)
    world.reachable = False
    world.start()
    early, late = world.open(), world.open()
    world.say(early, b"early")
    world.end(late)
    world.run(3.0)
    world.reachable = True
    world.run(4.0)
    assert world.programs[early].received == b"early"
    assert world.programs[late].finished
    world.kill_gateway()
    never = world.open()
    world.run(WAIT + 1)
    assert world.programs[never].broken
    assert [event.cause for event in world.seen("terminal", TunnelBroken)] == [Cause.GAVE_UP]


def test_tunnels_wait_as_long_as_is_configured_at_both_ends(files: Files) -> None:
    world = World(files)
    world.start()
    number = world.open()
    world.run(1.0)
    world.reachable = world.carries = False
    world.run(150.0)
    assert world.programs[number].broken
    assert world.destinations[1].broken
    for end in ("terminal", "gateway"):
        assert [event.cause for event in world.seen(end, TunnelBroken)] == [Cause.GAVE_UP]


@pytest.mark.parametrize(
    ("certificate", "cause"),
    [
        ("expired", Cause.CERTIFICATE_EXPIRED),
        ("early", Cause.CERTIFICATE_NOT_YET_VALID),
        ("elsewhere", Cause.NAME_MISMATCH),
        ("untrusted", Cause.CERTIFICATE_UNTRUSTED),
    ],
)
def test_a_gateway_that_proves_nothing_gets_nothing(files: Files, certificate: str, cause: Cause) -> None:
    world = World(files, configuration_=configuration(files, certificate=certificate))
    world.start()
    number = world.open()
    world.run(20.0)
    assert {event.cause for event in world.seen("terminal", SessionLost)} == {cause}
    assert world.seen("terminal", SessionOpened) == []
    assert world.programs[number].broken
    assert world.destinations == {}
    if cause is Cause.NAME_MISMATCH:
        assert "gateway.example" in world.seen("terminal", SessionLost)[0].why
    assert {event.cause for event in world.seen("gateway", SessionLost)} <= {
        Cause.CERTIFICATE_REFUSED,
        Cause.TLS_FAILED,
    }


def _with_client(files: Files, name: str) -> dict[str, object]:
    certificate, key = files.pairs[name]
    return {"certificate": certificate, "private_key": key}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", [None, "client-untrusted"])
def test_a_terminal_that_proves_nothing_is_refused(files: Files, shown: str | None, version: str) -> None:
    wanted = configuration(files, client_certificate=ClientCertificate.REQUIRED, client_ca=files.ca)
    world = World(files, configuration_=wanted, access_=access(files, **(_with_client(files, shown) if shown else {})))
    assert world.gateway is not None
    world.gateway.context.maximum_version = VERSIONS[version]
    world.start()
    world.run(5.0)
    assert world.seen("terminal", SessionOpened) == []
    lost = world.seen("terminal", SessionLost)[0]
    if shown is None and version == "TLSv1.3":
        assert lost.cause is Cause.CLIENT_CERTIFICATE_MISSING
    else:
        assert lost.cause in (Cause.CERTIFICATE_REFUSED, Cause.TLS_FAILED)
    cause = Cause.CERTIFICATE_UNTRUSTED if shown else Cause.CLIENT_CERTIFICATE_MISSING
    assert world.seen("gateway", SessionLost)[0].cause is cause


def test_destinations_can_depend_on_who_asks(files: Files) -> None:
    rows = (Allowed(SERVER, (5061,), ("laptop.example",)), Allowed("other.example", (443,), ("desk.example",)))
    wanted = configuration(files, client_certificate=ClientCertificate.OPTIONAL, client_ca=files.ca, allowed=rows)
    world = World(files, configuration_=wanted, access_=access(files, **_with_client(files, "client")))
    world.start()
    assert world.seen("gateway", SessionOpened)[0].gateway == "laptop.example"
    mine, others = world.open(), world.open("other.example", 443)
    world.say(mine, b"mine")
    world.run(1.0)
    assert world.programs[mine].received == b"mine"
    assert world.programs[others].broken
    anonymous = World(files, configuration_=wanted)
    anonymous.start()
    number = anonymous.open()
    anonymous.run(1.0)
    assert anonymous.programs[number].broken


@pytest.mark.parametrize(("host", "port"), [(SERVER, 22), ("other.inner.example", 5061), ("2001:db8::1", 5061)])
def test_what_is_not_allowed_is_refused_by_name_at_both_ends(files: Files, host: str, port: int) -> None:
    world = World(files)
    world.start()
    number = world.open(host, port)
    world.run(1.0)
    assert world.programs[number].broken
    assert world.destinations == {}
    for end in ("terminal", "gateway"):
        (event,) = world.seen(end, TunnelBroken)
        assert event.cause is Cause.DESTINATION_REFUSED
        assert str(port) in event.destination
    assert world.gateway is not None
    assert world.gateway.counters[f"refused-{Cause.DESTINATION_REFUSED}"] == 1
    assert world.terminal.state is State.OPEN, "the others go on"


def test_an_inner_server_that_is_down_is_told_in_its_own_words(files: Files) -> None:
    world = World(files)
    world.start()
    world.refuses = "Connection refused"
    number = world.open()
    world.run(1.0)
    assert world.programs[number].broken
    for end in ("terminal", "gateway"):
        (event,) = world.seen(end, TunnelBroken)
        assert (event.cause, event.why) == (Cause.DESTINATION_UNREACHABLE, "Connection refused")


def test_a_reset_on_one_side_is_one_on_the_other(files: Files) -> None:
    world = World(files)
    world.start()
    assert world.gateway is not None
    by_program, by_destination = world.open(), world.open()
    world.run(1.0)
    world._do("terminal", world.terminal.broken(by_program, world.now))
    world._do("gateway", world.gateway.broken(2, world.now))
    world.run(1.0)
    assert world.destinations[1].broken
    assert world.programs[by_destination].broken
    assert [event.cause for event in world.seen("gateway", TunnelBroken)] == [
        Cause.DESTINATION_BROKEN,
        Cause.PROGRAM_BROKEN,
    ]
    assert world.terminal.tunnels == {} == world.gateway.tunnels


def _stopped(world: World, end: str) -> None:
    (world.programs if end == "terminal" else world.destinations)[1].reads = False


@pytest.mark.parametrize("end", ["terminal", "gateway"])
def test_who_does_not_read_stops_only_its_own_tunnel(files: Files, end: str) -> None:
    world = World(files)
    world.start()
    assert world.gateway is not None
    stopped = world.open()
    world.run(1.0)
    _stopped(world, end)
    data = b"z" * (8 * WINDOW)
    world.say(stopped, data)
    world.run(5.0)
    engines: list[Callable[[], int]] = [
        lambda: sum(len(tunnel.kept) for tunnel in world.terminal.tunnels.values()),
        lambda: sum(len(tunnel.kept) for tunnel in world.gateway.tunnels.values()) if world.gateway else 0,
    ]
    assert max(kept() for kept in engines) <= WINDOW
    other = world.open()
    world.say(other, b"other")
    world.run(1.0)
    assert world.programs[other].received == b"other"
    world.read(end, 1)
    if end == "gateway":
        world.answer(1, bytes(world.destinations[1].received))
    world.run(5.0)
    assert len(world.destinations[1].received) == len(data)


def test_too_many_tunnels_are_refused_at_once(files: Files) -> None:
    world = World(files, configuration_=configuration(files, tunnels=3))
    world.start()
    numbers = [world.open() for _ in range(5)]
    world.run(1.0)
    assert [world.programs[number].broken for number in numbers] == [False, False, False, True, True]
    assert {event.cause for event in world.seen("terminal", TunnelBroken)} == {Cause.TOO_MANY_TUNNELS}
    world.end(numbers[0])
    world.run(1.0)
    again = world.open()
    world.run(1.0)
    assert not world.programs[again].broken
    offline = World(files)
    offline.reachable = False
    offline.start()
    many = [offline.open() for _ in range(MOST_TUNNELS + 1)]
    assert [offline.programs[number].broken for number in many] == [False] * MOST_TUNNELS + [True]


def test_both_ends_stop_in_an_orderly_way(files: Files) -> None:
    world = World(files)
    world.start()
    number = world.open()
    world.run(1.0)
    assert world.gateway is not None
    world._do("gateway", world.gateway.close(world.now))
    world.run(0.1)
    assert world.programs[number].broken
    assert world.seen("terminal", SessionLost)[0].cause is Cause.CLOSED
    world.run(2.0)
    again = world.open()
    world.run(1.0)
    world._do("terminal", world.terminal.close(world.now))
    world.run(1.0)
    assert world.destinations[2].broken
    assert not world.programs[again].received
    assert world.terminal.timer is None


def test_who_has_another_certificate_cannot_take_a_tunnel_over(files: Files) -> None:
    """The token alone is not enough where the terminal has shown a certificate."""
    wanted = configuration(files, client_certificate=ClientCertificate.OPTIONAL, client_ca=files.ca)
    world = World(files, configuration_=wanted, access_=access(files, **_with_client(files, "client")))
    world.start()
    number = world.open()
    world.run(1.0)
    thief = World(files, configuration_=wanted)
    thief.gateway = world.gateway
    thief._accepted = 100
    thief.start()
    stolen = thief.open()  # the same dice, so the same token
    assert thief.terminal.tunnels[stolen].token == world.terminal.tunnels[number].token
    thief.run(1.0)
    assert [event.cause for event in thief.seen("terminal", TunnelBroken)] == [Cause.TUNNEL_UNKNOWN]
    world.say(number, b"still mine")
    world.run(1.0)
    assert world.programs[number].received == b"still mine"
