"""Section ``handover``: how long the terminal is silent when it changes networks.

``break_before_make``: one interface whose cable is moved back and forth between the visited links while packets flow
every 2 ms both ways, with ``delay_ms`` of round trip to the home agent (an impaired wire at the home agent). The gap of
a move is the longest time without a packet at a receiver, the longer one of both directions. ``gap_raw_*`` is that;
``gap_*`` is what is left of it without the interval between two packets and the time for which the cable was out
(``move_ms``). ``binding_ms``: from the cut to the home agent's acknowledgement; ``noticed_ms``: from the terminal's
noticing the loss to packets flowing again; ``update_ms``: from its binding update to that; ``lost``: packets, both
directions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.laboratory import Laboratory, laboratory
from bench.statistics import percentile
from bench.stream import TwoWays
from sip_test_env.cables import Move
from sip_test_env.impairment import Impairment
from sip_test_env.report import Stream

DELAYS_MS = (10.0, 50.0, 150.0)
"Round trips to the home agent."
MOVES = 40
INTERVAL = 0.002


def measure() -> dict[str, object]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, object]:
    async with laboratory("bench-handover") as lab:
        undelayed = await _moves(lab, 0.0)
        delayed = [await _moves(lab, delay) for delay in DELAYS_MS]
    return {"break_before_make": delayed, "undelayed": undelayed}


@dataclass(frozen=True, slots=True)
class Gap:
    """Of one move, in milliseconds."""

    raw: float
    net: float

    @classmethod
    def of(cls, move: Move, bound: float, streams: dict[str, Stream]) -> Gap:
        raw = max(stream.gap_ms(move.cut - 0.05, bound + 0.3) for stream in streams.values())
        return cls(raw, max(0.0, raw - (INTERVAL + move.restored - move.cut) * 1000))


async def _moves(lab: Laboratory, delay_ms: float) -> dict[str, object]:
    """Moves at one round trip to the home agent."""
    lab.network.impair("ha", Impairment(delay_ms=delay_ms / 2))
    await asyncio.sleep(0.5 + delay_ms / 100)
    seen = len(lab.movements.seen)
    moves = []
    with TwoWays(lab.nodes, INTERVAL) as packets:
        await asyncio.sleep(0.5 + delay_ms / 500)
        for number in range(MOVES):
            move = lab.network.move("visited-b" if number % 2 == 0 else "visited-a")
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
