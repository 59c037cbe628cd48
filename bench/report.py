"""The report for people: ``report.md`` from the figures of ``report.json``, and the gate that holds their ratios.

What the keys mean is said by the docstring of each section, which the report quotes. Times of different machines, or of
one machine an hour later, do not compare; ratios of one run do, so only these are held.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """One ratio of one run and what it may be."""

    claim: str
    figure: str
    "Path of keys, with the section first."
    beside: str | None
    "Path of what it is divided by; None: the figure itself is a ratio or a count."
    most: float

    def judged(self, report: Mapping[str, Any]) -> tuple[float, bool] | None:
        """The ratio and whether it is within the bound; None: not measured."""
        figure, beside = _at(report, self.figure), 1.0 if self.beside is None else _at(report, self.beside)
        if figure is None or beside is None or beside == 0:
            return None
        return figure / beside, figure / beside <= self.most


BOUNDS = (
    Bound(
        "a packet out through both ESP layers, by scapy's time", "data_plane.us_out", "data_plane.scapy_us_out", 0.05
    ),
    Bound("a packet in through both ESP layers, by scapy's time", "data_plane.us_in", "data_plane.scapy_us_in", 0.1),
    Bound("packets lost in handovers that make before they break", "handover.make_before_break.lost", None, 0),
    Bound("packets lost around rekeys", "negotiation.rekeys.lost", None, 0),
    Bound(
        "round trips that the first packet of an answered call takes, its own way included",
        "negotiation.first_packet.in a call",
        None,
        0.6,
    ),
    Bound(
        "packets lost by a home agent with calls, of those sent out",
        "home_agent.lost",
        "home_agent.talk.out.sent",
        0.001,
    ),
    Bound(
        "a handover within a MAP's domain, by one through the home agent",
        "hierarchy.break_before_make.through_map.update_p50_ms",
        "hierarchy.break_before_make.through_home_agent.update_p50_ms",
        0.3,
    ),
    Bound(
        "processor time of an end of a call (SRTP, PCMA), by PJSUA2's",
        "phone.at_the_same_time.PCMA.processor_percent",
        "phone.at_the_same_time.pjsua2, PCMA.processor_percent",
        3.0,
    ),
    Bound("packets lost when our terminal roams", "strangers.ours.roaming.lost", None, 0),
    Bound(
        "silence of a move, by WireGuard's",
        "strangers.ours.roaming.gap_p50_ms",
        "strangers.wireguard.roaming.gap_p50_ms",
        1.5,
    ),
    Bound(
        "silence of a move, by that of PJSUA2, which registers and changes the call",
        "strangers.ours.roaming.gap_p50_ms",
        "reinvite.break_before_make.gap_p50_ms",
        0.6,
    ),
    Bound(
        "processor time a packet at the terminal, by wireguard-go's",
        "strangers.ours.us_per_packet",
        "strangers.wireguard.us_per_packet",
        3.0,
    ),
)


def failures(report: Mapping[str, Any]) -> list[str]:
    """What is beyond its bound, in words."""
    return [
        f"{bound.claim}: {judged[0]:.3g}, may be {bound.most:g} at most"
        for bound in BOUNDS
        if (judged := bound.judged(report)) is not None and not judged[1]
    ]


def write(report: Mapping[str, Any], path: Path) -> None:
    """Writes ``report.md``; pictures of sections that lie beside it are shown in it."""
    lines = [
        "# What was measured",
        "",
        "Made by `make bench`. Figures are medians where nothing else is said, least and greatest in brackets.",
        "",
    ]
    lines += ["## Ratios that are held", "", "| what | measured | at most |", "|---|---|---|"]
    for bound in BOUNDS:
        judged = bound.judged(report)
        measured = "not measured" if judged is None else f"{judged[0]:.3g}" + ("" if judged[1] else " **(too much)**")
        lines.append(f"| {bound.claim} | {measured} | {bound.most:g} |")
    for section, figures in report.items():
        explained = importlib.import_module(f"bench.{section}").__doc__ or ""
        machine = figures.get("machine", {})
        lines += ["", f"## {section}", "", *explained.strip().split("\n"), ""]
        lines += [", ".join(f"{name}: {value}" for name, value in machine.items()), ""]
        lines += ["| figure | value |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in _rows(figures) if not name.startswith("machine.")]
        if (picture := path.with_name(f"{section}.png")).exists():
            lines += ["", f"![{section}]({picture.name})"]
    path.write_text("\n".join(lines) + "\n")


def _rows(figures: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    match figures:
        case dict():
            for name, value in figures.items():
                if name.removesuffix("_range") in figures and name.endswith("_range"):
                    continue  # it stands beside the median
                for row, text in _rows(value, f"{prefix}.{name}" if prefix else str(name)):
                    match figures.get(f"{name}_range"):
                        case [least, most]:
                            yield row, f"{text} ({least} to {most})"
                        case _:
                            yield row, text
        case list() if figures and isinstance(figures[0], dict):
            for number, value in enumerate(figures):
                yield from _rows(value, f"{prefix}.{number}")
        case list() if len(figures) > 12:
            yield prefix, f"{len(figures)} values, {min(figures)} to {max(figures)}"
        case list():
            yield prefix, ", ".join(map(str, figures))
        case _:
            yield prefix, str(figures)


def _at(report: Mapping[str, Any], path: str) -> float | None:
    found: Any = report
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return float(found)
