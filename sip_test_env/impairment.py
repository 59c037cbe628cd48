"""A wire that delays, loses, doubles and reorders frames: two packet sockets and a queue, in user space.

    python -m sip_test_env.impairment INTERFACE INTERFACE SOCKET [SEED]

What arrives on one interface leaves by the other. Takes orders as JSON by a Unix socket, from any number of clients one
after the other (`Wire` is the other end), until it is ended. Kernels often lack netem; this needs nothing but packet
sockets. The delay counts from the kernel's timestamp of a frame's arrival, so a process that is woken late is not late
for it.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from mobility.net.loop import prefer_this_process, settle_memory
from sip_test_env.errors import EnvironmentFailure

_ETH_P_ALL = 0x0003
_ETHERNET = 14
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_TIMESTAMP = struct.Struct("qq")
_BUFFER = 1 << 22
"Octets that wait in the kernel while this process does not run."
_ORDER = 1 << 14
"Octets of an order, or of an answer."
_PATIENCE = 5.0
"Seconds."
_OLDEST = 0.1
"Seconds. A timestamp further back means that the wall clock was set, not that the frame is old."


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a wire does to the frames of one direction. The default is a perfect wire."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    "Up to this much is added to the delay, evenly distributed; no frame overtakes another because of it."
    loss: float = 0.0
    "Share of frames, 0 to 1."
    duplicate: float = 0.0
    "Share of frames that arrive twice."
    reorder: float = 0.0
    "Share of frames that come `reorder_ms` later than they should, and are overtaken."
    reorder_ms: float = 5.0
    rate: float = 0.0
    "Bits per second; 0: no limit."
    queue: int = 65_536
    "Octets that may wait for the rate; what does not find room is lost."
    mtu: int = 0
    "Octets of IP packet; larger ones are lost without a word (a path MTU black hole). 0: no limit."

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share: between 0 and 1, not {getattr(self, name)}")
        for name in ("delay_ms", "jitter_ms", "reorder_ms", "rate", "queue", "mtu"):
            if not 0 <= getattr(self, name):
                raise ValueError(f"{name} must not be negative")

    def __str__(self) -> str:
        """What is not perfect about it."""
        bad = (field for field in fields(self) if getattr(self, field.name) != field.default)
        return ", ".join(f"{field.name} {getattr(self, field.name):g}" for field in bad) or "perfect"


class Direction:
    """Decides when the frames of one direction leave. Owns no clock and no dice."""

    def __init__(self, impairment: Impairment, random: Random) -> None:
        self.impairment = impairment
        self.frames = 0
        self.lost = 0
        self._random = random
        self._last = float("-inf")
        self._free = float("-inf")
        "When the frames before have passed the limit of the rate."

    def departures(self, size: int, at: float) -> list[float]:
        """When a frame of ``size`` octets that came at ``at`` (seconds) leaves: never, once, or twice."""
        impairment, random = self.impairment, self._random
        self.frames += 1
        if (impairment.mtu and size - _ETHERNET > impairment.mtu) or random.random() < impairment.loss:
            self.lost += 1
            return []
        if impairment.rate:
            begin = max(self._free, at)
            if (begin - at) * impairment.rate / 8 + size > impairment.queue:
                self.lost += 1
                return []
            at = self._free = begin + size * 8 / impairment.rate
        times = []
        for _ in range(2 if random.random() < impairment.duplicate else 1):
            due = at + (impairment.delay_ms + random.random() * impairment.jitter_ms) / 1000
            if random.random() < impairment.reorder:
                times.append(due + impairment.reorder_ms / 1000)
            else:
                self._last = max(self._last, due)
                times.append(self._last)
        return times


class Bridge:
    """The process: two packet sockets, a heap of frames with the time at which they leave."""

    def __init__(self, names: tuple[str, str], control: Path, seed: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(control))
        self._listener.listen()
        self._clients: list[socket.socket] = []
        self._sockets = (_open(names[0]), _open(names[1]))
        self._directions = (Direction(Impairment(), Random(seed)), Direction(Impairment(), Random(seed + 1)))
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._numbers = count()

    def run(self) -> None:
        """Until the process is ended."""
        first, second = self._sockets
        waiting = self._waiting
        while True:
            left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            wanted = [first, second, self._listener, *self._clients]
            ready = select.select(wanted, [], [], left)[0]  # epoll waits whole milliseconds
            for index, opened in enumerate(self._sockets):
                if opened in ready:
                    self._take(index)
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, index, frame = heapq.heappop(waiting)
                with suppress(OSError):  # the link is down, or its queue full: lost, as on any wire
                    self._sockets[1 - index].send(frame)
            if self._listener in ready:
                self._clients.append(self._listener.accept()[0])
            for client in [client for client in self._clients if client in ready]:
                if not self._obey(client):
                    self._clients.remove(client)
                    client.close()

    def _take(self, index: int) -> None:
        opened, direction = self._sockets[index], self._directions[index]
        for _ in range(64):
            try:
                frame, ancillary, _, _ = opened.recvmsg(65_600, 64)
            except OSError:  # nothing more, or the link went down
                return
            age = 0.0
            for _, _, data in ancillary:
                seconds, nanoseconds = _TIMESTAMP.unpack_from(data)
                age = time.time() - seconds - nanoseconds / 1e9
            at = time.monotonic() - (age if 0 <= age < _OLDEST else 0.0)
            for due in direction.departures(len(frame), at):
                heapq.heappush(self._waiting, (due, next(self._numbers), index, frame))

    def _obey(self, client: socket.socket) -> bool:
        try:
            order = client.recv(_ORDER)
            if not order:
                return False
            for direction, values in zip(self._directions, json.loads(order), strict=True):
                if values is not None:
                    direction.impairment = Impairment(**values)
            answer = [{"frames": direction.frames, "lost": direction.lost} for direction in self._directions]
            client.send(json.dumps(answer).encode())
        except OSError:
            return False
        return True


def _open(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    opened.bind((name, _ETH_P_ALL))
    return opened


class Wire:
    """Steers the process. ``control``: the path of its socket."""

    def __init__(self, control: Path) -> None:
        """Waits for the process to come up. Raises `EnvironmentFailure`: it does not."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._socket.connect(str(control))
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    self._socket.close()
                    raise EnvironmentFailure(f"the impaired wire does not answer at {control}: {error}") from error
            time.sleep(0.005)
        self._order([None, None])  # it answers when its sockets are open

    def impair(self, forth: Impairment | None, back: Impairment | None) -> None:
        """Changes what happens to frames from now on, one way and the other; None: as before."""
        self._order([None if value is None else asdict(value) for value in (forth, back)])

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """``frames`` that came and how many were ``lost`` of them, forth and back."""
        forth, back = self._order([None, None])
        return forth, back

    def close(self) -> None:
        """The process goes on."""
        self._socket.close()

    def _order(self, values: list[dict[str, Any] | None]) -> list[dict[str, int]]:
        """Raises `EnvironmentFailure` when the process is not there any more."""
        try:
            self._socket.send(json.dumps(values).encode())
            said = self._socket.recv(_ORDER)
        except OSError as error:
            raise EnvironmentFailure(f"the impaired wire has gone: {error}") from error
        if not said:
            raise EnvironmentFailure("the impaired wire has gone")
        answer: list[dict[str, int]] = json.loads(said)
        return answer


def _prefer_before_others() -> None:
    """A wire does not wait for a processor: before the data planes, which are preferred as well."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(20))
    except OSError:
        prefer_this_process()


def main() -> None:
    first, second, control, *seed = sys.argv[1:]
    bridge = Bridge((first, second), Path(control), int(seed[0]) if seed else 0)
    _prefer_before_others()
    settle_memory()
    bridge.run()


if __name__ == "__main__":
    main()
