"""Section ``hierarchy``: handovers within the domain of a MAP against handovers through the home agent.

The wire of the MAP takes 10 ms each way and that of the home agent 75 ms, so that the round trip is 20 ms to the MAP
and 150 ms to the home agent (``round_trip_ms``: as measured by the terminal's binding updates); data of the first way
pass the MAP's wire twice more. Two ways of being in the same domain are compared: registration type 1, where only the
MAP hears of a movement, and type 3, where the terminal tells its home agent as any mobile node does. Everything is
under the ESP of the tunnel to the home agent.

``break_before_make``: one interface whose cable is moved around the three access routers while packets flow every 2 ms
both ways. ``update_*``: from the terminal's binding update to packets flowing again, the part that signalling causes;
``gap_raw_*``: the longest time without a packet at a receiver, the longer one of both directions, with the time for
which the cable was out (``move_p50_ms``). ``make_before_break``: two interfaces that are both plugged in, preferred in
turn; ``proof_*``: from the decision to the answer through the new place; ``longest_gap_ms``: the longest time without a
packet. ``lost``: of ``packets``, both directions. ``ratio_*``: through the home agent to within the domain.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

from bench.handover import Gap
from bench.laboratory import Laboratory, laboratory
from bench.statistics import percentile
from bench.stream import TwoWays
from mobility.client import ControlClient
from sip_test_env.domain import Domain
from sip_test_env.extensions.hmip import ANCHOR, DOMAIN, HMIP
from sip_test_env.impairment import Impairment
from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BROADBAND, INTERFACE, WIFI

MAP_MS, HOME_MS = 10.0, 75.0
"Each way."
WAYS = {
    "through_map": (1, "MapBound", "RegionalHandover"),
    "through_home_agent": (3, "Bound", "HandoverFinished"),
}
"Registration type, and the events that say that the place is registered and that the handover is over."
MOVES = 30
INTERVAL = 0.002
CHANGES = 30
SPEECH = 0.02
PACE = 1.2
"Seconds between two movements."


def measure() -> dict[str, object]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, object]:
    broken, made = {}, {}
    for way, (kind, registered, finished) in WAYS.items():
        async with _domain(kind, {INTERFACE: DOMAIN[0].name}) as lab:
            broken[way] = await _moves(lab, registered, finished)
        laptop = Terminal("laptop", (WIFI, BROADBAND), "native")
        async with _domain(kind, {WIFI: DOMAIN[0].name, BROADBAND: DOMAIN[1].name}, laptop) as lab:
            made[way] = await _changes(lab, finished)
    return {
        "break_before_make": {**broken, "ratio_update_p50": _ratio(broken, "update_p50_ms")},
        "make_before_break": {**made, "ratio_proof_p50": _ratio(made, "proof_p50_ms")},
    }


def _ratio(ways: dict[str, dict[str, float]], figure: str) -> float:
    return round(ways["through_home_agent"][figure] / ways["through_map"][figure], 2)


def _domain(
    kind: int, plugged: dict[str, str], terminal: Terminal | None = None
) -> AbstractAsyncContextManager[Laboratory]:
    def prepare(network: TestNetwork, nodes: MobilityNodes) -> None:
        Domain(nodes, kind).start()
        network.impair(ANCHOR.name, Impairment(delay_ms=MAP_MS))
        network.impair("ha", Impairment(delay_ms=HOME_MS))

    return laboratory("bench-hierarchy", terminal=terminal, plugged=plugged, extension=HMIP, prepare=prepare)


async def _moves(lab: Laboratory, registered: str, finished: str) -> dict[str, float]:
    moves, trips = [], []
    with TwoWays.between(lab.nodes, INTERVAL) as packets:
        await asyncio.sleep(1.0)
        for number in range(MOVES):
            move = lab.network.move(DOMAIN[(number + 1) % len(DOMAIN)].name)
            at, said = await lab.movements.after(move.cut, registered)
            moves.append((move, at))
            trips.append(float(said["round_trip"]) * 1000)
            await asyncio.sleep(PACE)
        streams = await asyncio.to_thread(packets.stop)
    gaps = [Gap.of(move, at, streams) for move, at in moves]
    updates = [said["since_update_ms"] for _, said in lab.movements.seen if said["event"] == finished]
    begin, end = moves[0][0].cut - 0.1, moves[-1][1] + 0.5
    return {
        "handovers": len(moves),
        "round_trip_ms": round(percentile(trips, 0.5), 2),
        "update_p50_ms": round(percentile(updates, 0.5), 2),
        "update_p95_ms": round(percentile(updates, 0.95), 2),
        "gap_raw_p50_ms": round(percentile([gap.raw for gap in gaps], 0.5), 2),
        "gap_raw_p95_ms": round(percentile([gap.raw for gap in gaps], 0.95), 2),
        "move_p50_ms": round(percentile([(move.restored - move.cut) * 1000 for move, _ in moves], 0.5), 2),
        "lost": sum(stream.lost(begin, end) for stream in streams.values()),
        "packets": sum(len(stream.sent) for stream in streams.values()),
        "interval_ms": INTERVAL * 1000,
    }


async def _changes(lab: Laboratory, event: str) -> dict[str, float]:
    proofs: list[float] = []
    async with ControlClient(lab.nodes.runtime("mn") / "control.sock") as control:
        with TwoWays.between(lab.nodes, SPEECH) as packets:
            await asyncio.sleep(1.0)
            for number in range(CHANGES):
                began = time.monotonic()
                await control.command(f"move {(BROADBAND, WIFI)[number % 2]}")
                _, said = await lab.movements.after(began, event)
                if not said["make_before_break"]:
                    raise RuntimeError(f"the terminal broke before it made: {said}")
                proofs.append(float(said["since_noticed_ms"]))
                await asyncio.sleep(began + PACE - time.monotonic())
            streams = await asyncio.to_thread(packets.stop)
    arrivals = [[at for at, _ in stream.arrived] for stream in streams.values()]
    return {
        "handovers": len(proofs),
        "proof_p50_ms": round(percentile(proofs, 0.5), 2),
        "proof_p95_ms": round(percentile(proofs, 0.95), 2),
        "longest_gap_ms": round(max(b - a for times in arrivals for a, b in pairwise(times)) * 1000, 2),
        "lost": sum(stream.lost() for stream in streams.values()),
        "packets": sum(len(stream.sent) for stream in streams.values()),
        "interval_ms": SPEECH * 1000,
    }
