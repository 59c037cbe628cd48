"""Numbered packets both ways between the terminal's programs and those of the correspondent, logged at both ends.

    python -m bench.stream MN_PLACE MN_ADDRESS CN_PLACE CN_ADDRESS INTERVAL SIZE

A place is the ``host.sock`` of a host OS, or the name of a network namespace.

A process of its own, with nothing in it but two sockets, so that measuring disturbs little. Arrivals are the kernel's
timestamps: what programs in the host OS would see, not when this one got to look. It says ``{}`` when it sends, and
its logs as JSON some time after its input has ended. `TwoWays` is the other end.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from types import TracebackType
from typing import Self

from mobility.client import HostClient
from mobility.net.loop import prefer_this_process, settle_memory
from sip_test_env import namespace
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.report import DIRECTIONS, Stream

PORT = 7000
LINGER = 0.5
"Seconds for which packets may arrive after the last was sent."
_SO_TIMESTAMPNS = 35
_TIMESTAMP = struct.Struct("qq")
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class End:
    """Where programs are."""

    place: str
    "``host.sock`` of a host OS, or the name of a network namespace."
    address: IPv6Address

    def socket(self) -> socket.socket:
        """For the packets; non-blocking. Raises OSError, MobilityError, EnvironmentFailure."""
        if "/" in self.place:
            return HostClient(self.place).socket(bind=(str(self.address), PORT))
        made = namespace.run_in(self.place, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        made.bind((str(self.address), PORT))
        made.setblocking(False)
        return made


class TwoWays:
    """The process, as a context manager; `stop` gives what it has seen."""

    def __init__(self, terminal: End, correspondent: End, interval: float, size: int = 160) -> None:
        """``interval``: seconds between two packets of one direction; ``size``: octets of UDP payload."""
        arguments = [text for end in (terminal, correspondent) for text in (end.place, str(end.address))]
        self._command = [sys.executable, "-m", "bench.stream", *arguments, str(interval), str(size)]
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def between(cls, nodes: MobilityNodes, interval: float, size: int = 160) -> Self:
        """Between the host OS of the terminal and that of the correspondent."""
        plan = nodes.network.plan
        ends = (("mn", plan.home_address), ("cn", plan.cn))
        terminal, correspondent = (End(str(nodes.runtime(role) / "host.sock"), address) for role, address in ends)
        return cls(terminal, correspondent, interval, size)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or not self._process.stdout.readline():
            self.__exit__(None, None, None)
            raise RuntimeError("the generator of packets did not start; it says why above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def stop(self) -> dict[str, Stream]:
        """Ends it; the logs by direction (`DIRECTIONS`). Raises RuntimeError if it is not there any more."""
        if self._process is None:
            raise RuntimeError("the generator of packets does not run")
        logs, _ = self._process.communicate()
        if not logs:
            raise RuntimeError("the generator of packets died")
        return {
            name: Stream([(at, number) for at, number in sent], [(at, number) for at, number in arrived])
            for name, (sent, arrived) in json.loads(logs).items()
        }


def _run(mn: socket.socket, cn: socket.socket, addresses: tuple[str, str], interval: float, size: int) -> None:
    sent: tuple[list[tuple[float, int]], ...] = ([], [])
    arrived: tuple[list[tuple[float, int]], ...] = ([], [])
    # per direction, to_mn and to_cn: sender, receiver, destination
    ways = ((cn, mn, (addresses[0], PORT)), (mn, cn, (addresses[1], PORT)))
    padding = bytes(max(0, size - 4))
    behind = time.time() - time.monotonic()
    poll = select.poll()
    for opened in (mn, cn):
        poll.register(opened, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    due, number, end = time.monotonic(), 0, float("inf")
    while (now := time.monotonic()) < end:
        if now >= due and end == float("inf"):
            for (sender, _, to), log in zip(ways, sent, strict=True):
                log.append((time.monotonic(), number))
                with suppress(OSError):  # the queue is full, or there is no way at the moment: lost
                    sender.sendto(number.to_bytes(4) + padding, to)
            number += 1
            due += interval
        left = min(due, end) - time.monotonic() if end == float("inf") else end - now
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, left * 1000))}
        for (_, receiver, _), log in zip(ways, arrived, strict=True):
            if receiver.fileno() in ready:
                _take(receiver, log, behind)
        if sys.stdin.fileno() in ready:
            poll.unregister(sys.stdin)
            end = time.monotonic() + LINGER
    json.dump({name: (sent[index], arrived[index]) for index, name in enumerate(DIRECTIONS)}, sys.stdout)


def _take(receiver: socket.socket, log: list[tuple[float, int]], behind: float) -> None:
    with suppress(BlockingIOError):
        while True:
            data, ancillary, _, _ = receiver.recvmsg(2048, 64)
            seconds, nanoseconds = _TIMESTAMP.unpack_from(ancillary[0][2])
            log.append((seconds + nanoseconds / 1e9 - behind, int.from_bytes(data[:4])))


def main() -> None:
    mn_place, mn_address, cn_place, cn_address, interval, size = sys.argv[1:]
    with (
        End(mn_place, IPv6Address(mn_address)).socket() as mn,
        End(cn_place, IPv6Address(cn_address)).socket() as cn,
    ):
        for opened in (mn, cn):
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sys.stdout.write("{}\n")
        sys.stdout.flush()
        prefer_this_process()
        settle_memory()
        _run(mn, cn, (mn_address, cn_address), float(interval), int(size))


if __name__ == "__main__":
    main()
