"""Pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ALLOWANCE_MS = 10.0
"What a handover may take beyond one round trip to the home agent."


def handover(figures: dict[str, Any], path: Path) -> None:
    """One dot a move, by the round trip to the home agent; the bars are what a move may take."""
    rounds = figures["break_before_make"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for place, measured in enumerate(rounds):
        gaps = measured["gaps_ms"]
        spread = [place + 0.3 * (2 * number / max(1, len(gaps) - 1) - 1) for number in range(len(gaps))]
        axes.plot(spread, gaps, ".", color="tab:blue", alpha=0.6)
        axes.hlines(measured["delay_ms"] + ALLOWANCE_MS, place - 0.4, place + 0.4, "tab:red")
        axes.hlines(measured["gap_p95_ms"], place - 0.4, place + 0.4, "tab:green", "dashed")
    axes.set_xticks(range(len(rounds)), [f"{measured['delay_ms']:g} ms" for measured in rounds])
    axes.set_xlabel("round trip to the home agent")
    axes.set_ylabel("silence at the receiver, ms")
    axes.set_ylim(bottom=0)
    axes.legend(["one move", f"round trip + {ALLOWANCE_MS:g} ms", "95th percentile"])
    beside = figures["make_before_break"]
    figure.suptitle(
        "One interface moved from link to link (break before make)\n"
        f"With two interfaces (make before break): {beside['handovers']} handovers, {beside['lost']} of "
        f"{beside['packets']} packets lost, {beside['duplicates']} twice",
        fontsize="medium",
    )
    figure.savefig(path, dpi=120)
