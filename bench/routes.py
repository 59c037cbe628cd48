"""Section ``routes``: what the detour through the home agent costs, and what is on the wire in every form.

``delay``: numbered packets of speech every 20 ms both ways between programs in the host OS, through the tunnel (ESP),
and then directly, on command, in one go: one-way ``p50`` and ``p95`` in milliseconds by direction, ``lost`` in all, and
``overtaken``: packets of the tunnel that came after one that was sent later, directly. ``optimized_ms``: from the
command to the correspondent's acknowledgement, return routability included. ``octets``: of the IP packets seen on the
terminal's cable; the application's ESP is inside both.

- ``detour``: only the wire of the home agent is long, 20 ms each way, and the tunnel passes it twice.
- ``triangle``: 40 ms each way at the terminal besides, so that the ways, tunnelled and direct, are as long as between
  three places of which each is 40 ms from both others (the wire of the correspondent cannot be made longer).

``octets``: see `bench.octets`; ``translation``: what a packet of a program that only speaks IPv4 costs beside.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate

from bench import octets
from bench.laboratory import Laboratory, laboratory
from bench.statistics import percentile
from bench.stream import TwoWays
from bench.tap import drain, open_tap
from mobility.client import ControlClient
from sip_test_env import namespace
from sip_test_env.impairment import Impairment
from sip_test_env.report import Stream

WIRES: Mapping[str, Mapping[str, float]] = {
    "detour": {"ha": 20.0},
    "triangle": {"ha": 20.0, "visited-a": 40.0},
}
"Where -> milliseconds each way; the others are next to each other."
SPEECH = 0.02
"Seconds between two packets."
SECONDS = 15.0
"Of each way."
SETTLING = 0.5
"Seconds left out at the beginning and around the change."
_ETHERNET = 14


def measure() -> dict[str, object]:
    return {
        "delay": asyncio.run(_delays()),
        "octets": octets.measure(),
        "translation": octets.translation(),
    }


async def _delays() -> dict[str, object]:
    async with laboratory("bench-routes", route_optimization="asked") as lab:
        return {name: await _both_ways(lab, wires) for name, wires in WIRES.items()}


async def _both_ways(lab: Laboratory, wires: Mapping[str, float]) -> dict[str, object]:
    correspondent = lab.network.plan.cn
    for where, delay in wires.items():
        lab.network.impair(where, Impairment(delay_ms=delay))
    await asyncio.sleep(1.0)
    async with ControlClient(lab.nodes.runtime("mn") / "control.sock") as control:
        with (
            namespace.run_in(lab.network.plan.namespace("links"), open_tap) as wire,
            TwoWays.between(lab.nodes, SPEECH, octets.SPEECH) as packets,
        ):
            await asyncio.sleep(SETTLING)
            began = time.monotonic()
            drain(wire)
            await asyncio.sleep(SECONDS)
            seen = {"tunnel": _usual(wire)}
            commanded = time.monotonic()
            await control.command(f"optimize {correspondent}")
            optimized, _ = await lab.movements.after(commanded, "RouteOptimized")
            await asyncio.sleep(SETTLING)
            direct = time.monotonic()
            drain(wire)
            await asyncio.sleep(SECONDS)
            seen["direct"] = _usual(wire)
            ended = time.monotonic()
            streams = await asyncio.to_thread(packets.stop)
        if given_up := [event for at, event in lab.movements.seen if at > optimized and event["event"] == "RouteEnded"]:
            raise RuntimeError(f"the direct way was given up while packets flowed: {given_up[0].get('why')}")
        await control.command(f"tunnel {correspondent}")
    return {
        "wires_ms": dict(wires),
        "tunnel": {name: _delay(stream, began, commanded) for name, stream in streams.items()},
        "direct": {name: _delay(stream, direct, ended) for name, stream in streams.items()},
        "octets": seen,
        "optimized_ms": round((optimized - commanded) * 1000, 1),
        "packets": sum(len(stream.sent) for stream in streams.values()),
        "lost": sum(stream.lost() for stream in streams.values()),
        "overtaken": sum(_overtaken([number for _, number in stream.arrived]) for stream in streams.values()),
    }


def _usual(wire: socket.socket) -> int:
    """Octets of the IP packet that most frames carried that were seen since the last look."""
    lengths = [length for _, length, _ in drain(wire)]
    return max(set(lengths), key=lengths.count) - _ETHERNET


def _overtaken(numbers: Sequence[int]) -> int:
    """How many came after one that was sent later; ``numbers``: in order of arrival."""
    return sum(number < latest for number, latest in zip(numbers, accumulate(numbers, max), strict=True))


def _delay(stream: Stream, begin: float, end: float) -> dict[str, float]:
    """One-way, in milliseconds, of the packets sent in [begin, end)."""
    arrived = {number: at for at, number in reversed(stream.arrived)}
    found = [(arrived[n] - at) * 1000 for at, n in stream.sent if begin <= at < end and n in arrived]
    return {"p50": round(percentile(found, 0.5), 2), "p95": round(percentile(found, 0.95), 2)}
