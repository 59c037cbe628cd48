"""The report as one HTML file that needs nothing beside it: figures, and plots as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from softphone.load.records import Role
from softphone.load.report import Report

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 40
COLOURS = ("#1f5fa8", "#c2410c", "#3f7d20", "#7a3fa0")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2em auto; padding: 0 1em; color: #1b1b1b;
  background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse } td { padding: .15em 1.2em .15em 0; vertical-align: top }
td:first-child { color: #555; white-space: nowrap }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #444 }
.good { color: #2c6e1a } .bad { color: #b3261e }
@media (prefers-color-scheme: dark) { body { background: #16181b; color: #e4e4e4 } td:first-child { color: #a5a5a5 }
  svg text { fill: #b8b8b8 } .good { color: #7fc96a } .bad { color: #f2857c } }
"""

Points = Sequence[tuple[float, float]]


def page(report: Report) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in report.lines())
    kind, words = ("good", "everything held") if report.ok else ("bad", "not everything held")
    offer = report.offer
    rate = "as fast as callers are free" if offer.rate is None else f"{offer.rate:g} calls/s"
    course = report.over_time()
    plots = [
        _figure("Calls over time", plot(
            {name: [(part["at"], part[name]) for part in course] for name in ("begun", "answered", "failed")},
            "s", "calls", steps=True,
        )),
        _figure("Calls at once", plot({"at once": [(part["at"], part["at_once"]) for part in course]}, "s", "calls",
                                      steps=True)),
        _figure("Post-dial delay: share of calls that took no longer",
                plot({"calls": distribution([1000 * delay for delay in report.post_dial_delays])}, "ms", "share")),
        _figure("Quality: share of ends that heard no better", plot(
            {f"{role}s": distribution(report.mos(role)) for role in Role if report.mos(role)}, "MOS", "share",
        )),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(report.scenario)}</title>'
        f'<style>{STYLE}</style></head><body><h1>{escape(report.scenario)}: <span class="{kind}">{words}</span></h1>'
        f"<p>{escape(report.began)}; {rate}, {offer.concurrent} callers, {offer.duration:g} s, "
        f"{report.processes} process{'' if report.processes == 1 else 'es'}"
        f"{'; interrupted' if report.interrupted else ''}</p><table>{rows}</table>{''.join(plots)}</body></html>\n"
    )


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """The cumulative distribution: (value, share that is not greater); at most about 200 points."""
    ordered = sorted(values)
    every = max(1, len(ordered) // 200)
    found = [(value, (n + 1) / len(ordered)) for n, value in enumerate(ordered) if n % every == 0]
    return [*found, (ordered[-1], 1.0)] if ordered else []


def plot(series: dict[str, Points], across: str, up: str, *, steps: bool = False) -> str:
    """Lines over a common grid, as SVG. ``steps``: a value holds until the next."""
    points = [point for line in series.values() for point in line]
    if not points:
        return "<p>nothing to show</p>"
    least, most = min(x for x, _ in points), max(x for x, _ in points)
    if steps or least == most:
        most += 1
    highest = max(1e-9, max(y for _, y in points))
    marks_x, marks_y = ticks(least, most), ticks(0, highest)
    highest = max(highest, marks_y[-1])

    def x_of(value: float) -> float:
        return LEFT + (value - least) / (most - least) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(up)} over {escape(across)}">']
    for mark in marks_y:
        y = y_of(mark)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#8886" stroke-width="1"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for mark in marks_x:
        parts.append(f'<text x="{x_of(mark):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(across)}</text>')
    for n, (name, line) in enumerate(series.items()):
        colour = COLOURS[n % len(COLOURS)]
        drawn = list(line)
        if steps and drawn:
            width = drawn[1][0] - drawn[0][0] if len(drawn) > 1 else 1.0
            drawn = [corner for x, y in drawn for corner in ((x, y), (min(x + width, most), y))]
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in drawn)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(series) > 1:
            x = LEFT + n * 110
            parts.append(f'<path d="M{x} {HEIGHT - 10}h16" stroke="{colour}" stroke-width="3"/>')
            parts.append(f'<text x="{x + 22}" y="{HEIGHT - 6}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def ticks(least: float, most: float, wanted: int = 6) -> list[float]:
    """Round numbers from ``least`` to ``most``: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0**-9
    while (most - least) / step > wanted:
        digit = f"{step:e}"[0]
        step *= 2.5 if digit == "2" else 2
    first = -(-least // step)
    return [round((first + n) * step, 9) for n in range(int((most - first * step) / step + 1e-9) + 1)]


def _figure(title: str, drawing: str) -> str:
    return f"<h2>{escape(title)}</h2>{drawing}"
