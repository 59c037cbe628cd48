"""Section ``handover``: how long the terminal is silent when it breaks with one network before it makes the next.

One interface whose cable is moved back and forth between the visited links while packets flow every 2 ms both ways.
``gap_ms``: the longest time without a packet at the receiver; ``binding_ms``: from the loss of the carrier to the home
agent's acknowledgement; ``move_ms``: how long the cable was out; ``round_trip_ms``: binding update to acknowledgement;
``lost``: packets of all handovers together, ``lost_elsewhere``: between them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack, suppress

from bench.laboratory import Laboratory, laboratory
from bench.statistics import percentile
from mobility.client import HostClient
from sip_test_env.report import Stream

HANDOVERS = 40
INTERVAL = 0.002
PORT = 7000


def measure() -> dict[str, object]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, object]:
    async with laboratory("bench-handover") as lab:
        return await _moves(lab)


class _Flow:
    """Numbered packets from one socket to another, both ends logged."""

    def __init__(self, sender: socket.socket, receiver: socket.socket, to: tuple[str, int]) -> None:
        self.stream = Stream([], [])
        self._sender, self._receiver, self._to = sender, receiver, to
        asyncio.get_running_loop().add_reader(receiver, self._read)

    def send(self) -> None:
        number = len(self.stream.sent)
        self.stream.sent.append((time.monotonic(), number & 0xFFFF))
        with suppress(BlockingIOError):  # counts as lost
            self._sender.sendto(number.to_bytes(4) + bytes(156), self._to)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data = self._receiver.recv(2048)
                self.stream.arrived.append((time.monotonic(), int.from_bytes(data[:4])))


async def _talk(flows: list[_Flow]) -> None:
    due = time.monotonic()
    while True:
        for flow in flows:
            flow.send()
        due += INTERVAL
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _moves(lab: Laboratory) -> dict[str, object]:
    plan = lab.network.plan
    mn, cn = ((str(address), PORT) for address in (plan.home_address, plan.cn))
    with ExitStack() as stack:
        at_mn = stack.enter_context(HostClient(lab.nodes.runtime("mn") / "host.sock").socket(bind=mn))
        at_cn = stack.enter_context(HostClient(lab.nodes.runtime("cn") / "host.sock").socket(bind=cn))
        flows = {"to_mn": _Flow(at_cn, at_mn, mn), "to_cn": _Flow(at_mn, at_cn, cn)}
        talking = asyncio.create_task(_talk(list(flows.values())))
        await asyncio.sleep(0.5)
        moves = []
        for number in range(HANDOVERS):
            move = lab.network.move("visited-b" if number % 2 == 0 else "visited-a")
            moves.append((move, await lab.movements.bound_after(move.cut)))
            await asyncio.sleep(0.4)
        talking.cancel()
        await asyncio.sleep(0.3)
        for sock in (at_mn, at_cn):
            asyncio.get_running_loop().remove_reader(sock)
    trips = [float(event["round_trip"]) * 1000 for _, event in lab.movements.seen if event["event"] == "Bound"]
    streams = {name: flow.stream for name, flow in flows.items()}
    windows = [(move.cut - 0.05, bound + 0.3) for move, bound in moves]
    elsewhere = {
        name: stream.lost(windows[0][0], windows[-1][1]) - sum(stream.lost(*window) for window in windows)
        for name, stream in streams.items()
    }
    return {
        "handovers": len(moves),
        "round_trip_ms": round(percentile(trips, 0.5), 2),
        "move_ms": _two([(move.restored - move.cut) * 1000 for move, _ in moves]),
        "binding_ms": _two([(bound - move.cut) * 1000 for move, bound in moves]),
        "gap_ms": {name: _two([stream.gap_ms(*window) for window in windows]) for name, stream in streams.items()},
        "lost": {name: sum(stream.lost(*window) for window in windows) for name, stream in streams.items()},
        "lost_elsewhere": elsewhere,
        "interval_ms": INTERVAL * 1000,
    }


def _two(samples: list[float] | list[int]) -> dict[str, float]:
    return {"p50": round(percentile(samples, 0.5), 2), "p95": round(percentile(samples, 0.95), 2)}
