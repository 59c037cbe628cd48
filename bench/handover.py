"""Section ``handover``: how long the terminal is silent when it changes networks.

``make_before_break``: the laptop of an ordinary user changes back and forth between Wi-Fi (IPv6) and a hotspot (IPv4,
NAT, a slow wire), which both work, while 50 packets a second flow each way: how many were ``lost``, and how many came
twice (``duplicates``), as programs in the host OS see it. ``proof_ms``: from the decision to the home agent's answer
through the new place.

``break_before_make``: one interface whose cable is moved back and forth between the visited links while packets flow
every 2 ms both ways, with ``delay_ms`` of round trip to the home agent (an impaired wire at the home agent). The gap of
a move is the longest time without a packet at a receiver, the longer one of both directions. ``gap_raw_*`` is that;
``gap_*`` is what is left of it without the interval between two packets and the time for which the cable was out
(``move_ms``). ``binding_ms``: from the cut to the home agent's acknowledgement; ``noticed_ms``: from the terminal's
noticing the loss to packets flowing again; ``update_ms``: from its binding update to that; ``lost``: packets, both
directions. ``undelayed``: the same without injected delay; ``by_udp``: the same with the laptop of an ordinary user,
whose kernel makes the addresses, moved between two Wi-Fi networks.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise

from bench.laboratory import Laboratory, laboratory
from bench.statistics import percentile
from bench.stream import TwoWays
from mobility.client import ControlClient
from sip_test_env.cables import Move
from sip_test_env.impairment import Impairment
from sip_test_env.mobility_nodes import Terminal
from sip_test_env.plan import BROADBAND, INTERFACE, WIFI
from sip_test_env.report import Stream
from sip_test_env.users import OrdinaryUser

DELAYS_MS = (10.0, 50.0, 150.0)
"Round trips to the home agent."
BY_UDP_MS = 50.0
"The same for ``by_udp``."
MOVES = 40
INTERVAL = 0.002
HANDOVERS = 100
SPEECH = 0.02
"Seconds between two packets of speech."
PACE = 1.0
"Seconds between two handovers that overlap: longer than the overlap."
HOTSPOT = Impairment(delay_ms=20.0, jitter_ms=8.0)


def measure() -> dict[str, object]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, object]:
    async with laboratory("bench-handover") as lab:
        undelayed = await _moves(lab, 0.0)
        delayed = [await _moves(lab, delay) for delay in DELAYS_MS]
    with OrdinaryUser() as user:
        plugged = {WIFI: "visited-a", BROADBAND: "hotspot"}
        async with laboratory("bench-overlap", terminal=Terminal.laptop(user), plugged=plugged) as lab:
            beside = await _changes(lab)
            lab.network.unplug(BROADBAND)
            await asyncio.sleep(1.0)
            by_udp = await _moves(lab, BY_UDP_MS, WIFI)
    return {"make_before_break": beside, "break_before_make": delayed, "undelayed": undelayed, "by_udp": by_udp}


async def _changes(lab: Laboratory) -> dict[str, object]:
    """Handovers between two places that both work."""
    lab.network.impair("hotspot", HOTSPOT)
    proofs: list[float] = []
    async with ControlClient(lab.nodes.runtime("mn") / "control.sock") as control:
        with TwoWays.between(lab.nodes, SPEECH) as packets:
            await asyncio.sleep(1.0)
            for number in range(HANDOVERS):
                begin = time.monotonic()
                await control.command(f"move {(BROADBAND, WIFI)[number % 2]}")
                _, finished = await lab.movements.after(begin, "HandoverFinished")
                if not finished["make_before_break"]:
                    raise RuntimeError(f"the terminal broke before it made: {finished}")
                proofs.append(float(finished["since_noticed_ms"]))
                await asyncio.sleep(begin + PACE - time.monotonic())
            streams = await asyncio.to_thread(packets.stop)
    return {
        "handovers": len(proofs),
        "lost": sum(stream.lost() for stream in streams.values()),
        "duplicates": sum(stream.duplicates() for stream in streams.values()),
        "packets": sum(len(stream.sent) for stream in streams.values()),
        "longest_gap_ms": {
            name: round(max(later - earlier for (earlier, _), (later, _) in pairwise(stream.arrived)) * 1000, 2)
            for name, stream in streams.items()
        },
        "proof_ms": _two(proofs),
        "interval_ms": SPEECH * 1000,
    }


@dataclass(frozen=True, slots=True)
class Gap:
    """Of one move, in milliseconds."""

    raw: float
    net: float

    @classmethod
    def of(cls, move: Move, bound: float, streams: dict[str, Stream]) -> Gap:
        raw = max(stream.gap_ms(move.cut - 0.05, bound + 0.3) for stream in streams.values())
        return cls(raw, max(0.0, raw - (INTERVAL + move.restored - move.cut) * 1000))


async def _moves(lab: Laboratory, delay_ms: float, interface: str = INTERFACE) -> dict[str, object]:
    """Moves at one round trip to the home agent."""
    lab.network.impair("ha", Impairment(delay_ms=delay_ms / 2))
    await asyncio.sleep(0.5 + delay_ms / 100)
    seen = len(lab.movements.seen)
    moves = []
    with TwoWays.between(lab.nodes, INTERVAL) as packets:
        await asyncio.sleep(0.5 + delay_ms / 500)
        for number in range(MOVES):
            move = lab.network.move("visited-b" if number % 2 == 0 else "visited-a", interface)
            moves.append((move, await lab.movements.bound_after(move.cut)))
            await asyncio.sleep(0.4 + delay_ms / 250)
        streams = await asyncio.to_thread(packets.stop)
    finished = [event for _, event in lab.movements.seen[seen:] if event["event"] == "HandoverFinished"]
    gaps = [Gap.of(move, bound, streams) for move, bound in moves]
    begin, end = moves[0][0].cut - 0.1, moves[-1][1] + 0.2
    return {
        "delay_ms": delay_ms,
        "gap_p50_ms": round(percentile([gap.net for gap in gaps], 0.5), 2),
        "gap_p95_ms": round(percentile([gap.net for gap in gaps], 0.95), 2),
        "gap_raw_p50_ms": round(percentile([gap.raw for gap in gaps], 0.5), 2),
        "gap_raw_p95_ms": round(percentile([gap.raw for gap in gaps], 0.95), 2),
        "handovers": len(moves),
        "move_ms": _two([(move.restored - move.cut) * 1000 for move, _ in moves]),
        "binding_ms": _two([(bound - move.cut) * 1000 for move, bound in moves]),
        "noticed_ms": _two([event["since_noticed_ms"] for event in finished]),
        "update_ms": _two([event["since_update_ms"] for event in finished]),
        "lost": sum(stream.lost(begin, end) for stream in streams.values()),
        "interval_ms": INTERVAL * 1000,
        "gaps_ms": [round(gap.net, 2) for gap in gaps],
    }


def _two(samples: list[float]) -> dict[str, float]:
    return {"p50": round(percentile(samples, 0.5), 2), "p95": round(percentile(samples, 0.95), 2)}
