"""The loop, the data plane's care for a node that fails, and who is told what: no privilege needed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from mobility.discards import Reason
from mobility.net.data_plane import AFTER_FAILURE, DataPlane
from mobility.net.loop import WRITE, Loop, StopSignals
from mobility.outputs import Arrived, Deliver, Discarded, Output, Transmit

from .networks import Bridge, LinkSeen, Notes


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_handlers_are_called_until_unwatched(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    seen: list[int] = []
    loop.watch(ours, seen.append)
    theirs.send(b"x")
    loop.turn(1)
    loop.watch(ours, seen.append, WRITE)
    loop.turn(1)
    loop.unwatch(ours)
    loop.unwatch(ours)
    loop.turn(0)
    assert len(seen) == 2
    assert seen[1] & WRITE


def test_an_exception_is_counted_and_others_are_served(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    seen: list[bytes] = []

    def fail(_events: int) -> None:
        pairs[0][0].recv(1)
        raise ValueError("on purpose")

    loop.watch(pairs[0][0], fail)
    loop.watch(pairs[1][0], lambda _events: seen.append(pairs[1][0].recv(1)))
    for _, theirs in pairs:
        theirs.send(b"x")
    loop.turn(1)
    loop.turn(0)
    assert seen == [b"x"]
    assert loop.failures == {"ValueError": 1}
    assert "on purpose" in caplog.text
    for ends in pairs:
        for end in ends:
            end.close()


def test_a_handler_may_end_another_of_the_same_turn(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def end_the_other(number: int) -> None:
        called.append(number)
        loop.unwatch(pairs[1 - number][0])

    loop.watch(pairs[0][0], lambda _events: end_the_other(0))
    loop.watch(pairs[1][0], lambda _events: end_the_other(1))
    for _, theirs in pairs:
        theirs.send(b"x")
    loop.turn(1)
    assert len(called) == 1
    for ends in pairs:
        for end in ends:
            end.close()


def test_a_signal_stops_the_loop(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signals = StopSignals(loop)
    os.kill(os.getpid(), signal.SIGTERM)
    loop.turn(5)
    assert loop.stopping
    signals.close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_end_of_the_lifeline_stops_the_loop(loop: Loop) -> None:
    ours, theirs = os.pipe()
    signals = StopSignals(loop, ours)
    os.write(theirs, b"x")
    loop.turn(1)
    states = [loop.stopping]
    os.close(theirs)
    loop.turn(1)
    assert [*states, loop.stopping] == [False, True]
    signals.close()
    os.close(ours)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Broken(Bridge):
    """Fails whenever its time has come."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def handle_timer(self, now: float) -> list[Output]:
        self.calls += 1
        raise KeyError("on purpose")


def test_a_failing_timer_is_tried_again_later_and_not_at_once(loop: Loop) -> None:
    node, clock = Broken(), Clock()
    node.timer = 50.0
    plane = DataPlane(loop, node, {}, Notes(), clock=clock)
    for _ in range(5):
        plane.turn(0)
    assert node.calls == 1
    clock.now += AFTER_FAILURE
    plane.turn(0)
    assert node.calls == 2
    assert loop.failures == {"KeyError": 2}


def test_outputs_are_carried_out_counted_and_told(loop: Loop) -> None:
    notes = Notes()
    plane = DataPlane(loop, Bridge(), {}, notes)
    plane.carry_out(
        [
            Transmit(b"packet", b"\x02" * 6, "eth7"),
            Deliver(b"packet"),
            Arrived(b"packet", "eth0"),
            Discarded(Reason.REPLAYED, "here", "7"),
            LinkSeen("eth0", True),
        ]
    )
    assert plane.packets == {"lost-to-eth7": 1, "lost-to-host": 1, "unclaimed": 1}
    assert plane.discards == {"replayed": 1}
    assert notes.events == [LinkSeen("eth0", True)]
    assert notes.discards == [Discarded(Reason.REPLAYED, "here", "7")]
    assert plane.counters()["discards"] == {"replayed": 1}
