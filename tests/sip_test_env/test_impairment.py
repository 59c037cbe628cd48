"""What a bad wire does to frames: decisions in unit tests, the process between two real interfaces in a namespace."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.impairment import Direction, Impairment, Wire

PERIOD = 0.001


def sent(impairment: Impairment, frames: int = 1000, size: int = 200) -> list[list[float]]:
    """Departures of frames that arrive every millisecond, relative to their arrival."""
    direction = Direction(impairment, Random(7))
    return [[due - number * PERIOD for due in direction.departures(size, number * PERIOD)] for number in range(frames)]


def test_a_perfect_wire_takes_no_time() -> None:
    assert sent(Impairment()) == [[0.0]] * 1000


def test_delay_and_jitter_keep_the_order() -> None:
    direction = Direction(Impairment(delay_ms=10, jitter_ms=4), Random(7))
    departures = [due for number in range(1000) for due in direction.departures(200, number * PERIOD)]
    assert departures == sorted(departures)
    delays = [due - number * PERIOD for number, due in enumerate(departures)]
    assert 0.010 <= min(delays) < 0.0105
    assert 0.0135 < max(delays) <= 0.014 + 1e-9


def test_losses_and_duplicates_come_as_often_as_said_and_are_the_same_with_the_same_seed() -> None:
    impairment = Impairment(loss=0.2, duplicate=0.1)
    departures = sent(impairment)
    assert 150 < departures.count([]) < 250
    assert 50 < sum(len(times) == 2 for times in departures) < 120
    assert departures == sent(impairment)


def test_reordered_frames_are_overtaken() -> None:
    direction = Direction(Impairment(delay_ms=1, reorder=0.05, reorder_ms=5), Random(7))
    departures = [due for number in range(1000) for due in direction.departures(200, number * PERIOD)]
    overtaken = sum(later < earlier for earlier, later in pairwise(departures))
    assert 30 < overtaken < 70


def test_a_rate_fills_the_queue_and_then_frames_are_lost() -> None:
    direction = Direction(Impairment(rate=800_000, queue=10_000), Random(7))  # half of what comes: 1.6 Mbit/s
    departures = [direction.departures(200, number * PERIOD) for number in range(1000)]
    passed = [due for times in departures for due in times]
    assert len(passed) == pytest.approx(550, abs=3)
    assert direction.lost == 1000 - len(passed)
    assert all(later - earlier >= 0.002 - 1e-9 for earlier, later in pairwise(passed))


def test_what_is_larger_than_the_mtu_disappears() -> None:
    direction = Direction(Impairment(mtu=1400), Random(7))
    assert direction.departures(1414, 0.0) == [0.0]
    assert direction.departures(1415, 0.0) == []


@pytest.mark.parametrize(
    "values", [{"loss": 1.5}, {"duplicate": -0.1}, {"reorder": 2.0}, {"delay_ms": -1.0}, {"rate": -1.0}, {"mtu": -1}]
)
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Impairment(**values)  # type: ignore[arg-type]


Ends = tuple[socket.socket, socket.socket, Wire, subprocess.Popen[bytes]]
FRAME = struct.Struct("!14sIq")
ADDRESSES = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5"  # an EtherType for experiments


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Ends]:
    """Two sockets and an impaired wire between them."""
    name = f"test-wire-{os.getpid()}"

    def lay() -> tuple[socket.socket, socket.socket]:
        ends = []
        for pair in (("end-a", "wire-a"), ("end-b", "wire-b")):
            for command in (
                ["link", "add", pair[0], "type", "veth", "peer", "name", pair[1]],
                *(["link", "set", end, "addrgenmode", "none", "up"] for end in pair),
            ):
                subprocess.run(["ip", *command], check=True)
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            opened.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
            opened.bind((pair[0], 0x88B5))
            opened.settimeout(1.0)
            ends.append(opened)
        return ends[0], ends[1]

    control = tmp_path / "wire.sock"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "sip_test_env.impairment", "wire-a", "wire-b", str(control), "5"],
            stdin=subprocess.DEVNULL,
        )

    namespace.create((name,))
    try:
        a, b = namespace.run_in(name, lay)
        with a, b:
            process = namespace.run_in(name, start)
            try:
                wire = Wire(control)
                yield a, b, wire, process
                wire.close()
            finally:
                process.kill()
                process.wait()
    finally:
        namespace.remove(name)


def stream(sender: socket.socket, receiver: socket.socket, frames: int, period: float) -> dict[int, list[float]]:
    """Sends numbered frames; returns per number how many seconds each copy took, by the receiver's kernel clock."""
    receiver.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    delays: dict[int, list[float]] = {}
    begin = time.monotonic()
    number, quiet_at = 0, float("inf")
    while (now := time.monotonic()) < quiet_at:
        while number < frames and begin + number * period <= now:
            sender.send(FRAME.pack(ADDRESSES, number, time.time_ns()) + bytes(174))
            number += 1
        if number == frames and quiet_at == float("inf"):
            quiet_at = now + 0.1
        left = (begin + number * period if number < frames else quiet_at) - time.monotonic()
        if select.select([receiver], [], [], max(0.0, left))[0]:
            data, ancillary, _, _ = receiver.recvmsg(2048, 64)
            _, sequence, sent_at = FRAME.unpack_from(data)
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            delays.setdefault(sequence, []).append((seconds * 10**9 + nanoseconds - sent_at) / 1e9)
    return delays


@pytest.mark.root
def test_the_delay_of_a_real_wire_is_precise(wire: Ends) -> None:
    a, b, control, _ = wire
    control.impair(Impairment(delay_ms=20), Impairment(delay_ms=5))
    for sender, receiver, delay in ((a, b, 0.020), (b, a, 0.005)):
        delays = sorted(times[0] for times in stream(sender, receiver, 500, 0.001).values())
        assert len(delays) == 500
        assert delays[0] >= delay
        assert delays[250] < delay + 0.001
    control.impair(Impairment(), None)
    quick = sorted(times[0] for times in stream(a, b, 100, 0.001).values())
    assert quick[50] < 0.002
    assert [counters["frames"] for counters in control.counters()] == [600, 500]


@pytest.mark.root
def test_a_real_wire_loses_and_doubles(wire: Ends) -> None:
    a, b, control, _ = wire
    control.impair(Impairment(loss=0.3, duplicate=0.2), None)
    delays = stream(a, b, 500, 0.0005)
    lost = control.counters()[0]["lost"]
    assert 100 < lost < 200
    assert len(delays) == 500 - lost
    assert sum(len(times) == 2 for times in delays.values()) > 30


@pytest.mark.root
def test_a_wire_whose_process_died_says_so(wire: Ends) -> None:
    _, _, control, process = wire
    process.kill()
    process.wait()
    with pytest.raises(EnvironmentFailure, match="has gone"):
        control.counters()
