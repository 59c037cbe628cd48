"""Pictures of what was measured, each of a section, some with figures of others beside it.

What a picture needs and the report lacks is a KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

ALLOWANCE_MS = 10.0
"What a handover may take beyond one round trip to the home agent."
OURS, THEIRS, THIRD = "tab:blue", "tab:orange", "tab:gray"
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    draw: Callable[[Report, Path], None]
    beside: tuple[str, ...] = ()
    "Sections of which it shows something, too."


def handover(report: Report, path: Path) -> None:
    """One dot a move, by the round trip to the home agent; the bars are what a move may take."""
    figures = report["handover"]
    rounds = figures["break_before_make"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for place, measured in enumerate(rounds):
        _dots(axes, place, measured["gaps_ms"], OURS)
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


def data_plane(report: Report, path: Path) -> None:
    """What two layers of ESP cost a packet."""
    figures = report["data_plane"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    rows = {
        "scapy, in": ("scapy_us_in", THEIRS),
        "scapy, out": ("scapy_us_out", THEIRS),
        "ours, in": ("us_in", OURS),
        "ours, out": ("us_out", OURS),
    }
    _across(axes, {name: (figures, key, color) for name, (key, color) in rows.items()})
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("microseconds for a packet of 200 octets (logarithmic)")
    axes.set_title("Both layers of ESP (AES-GCM), policies, replay windows; scapy: ESP alone", fontsize="medium")
    figure.savefig(path, dpi=120)


def strangers(report: Report, path: Path) -> None:
    """The same packets through our terminal, WireGuard and OpenVPN."""
    figures = report["strangers"]
    names = {"ours": "ours\n(ESP twice)", "wireguard": "wireguard-go", "openvpn": "OpenVPN"}
    figure = Figure(figsize=(9, 4), layout="constrained")
    time, delay = figure.subplots(1, 2)
    for place, name in enumerate(names):
        measured = figures[name]
        _bar(time, place, measured, "us_per_packet", OURS if name == "ours" else THEIRS)
        for offset, way, hatch in ((-0.2, "to_cn", ""), (0.2, "to_mn", "//")):
            middle, high = (measured["delay_ms"][way][share] for share in ("p50", "p99"))
            color = OURS if name == "ours" else THEIRS
            delay.bar(place + offset, middle, 0.38, color=color, hatch=hatch, edgecolor="white")
            delay.vlines(place + offset, middle, high, "black")
    for axes in (time, delay):
        axes.set_xticks(range(len(names)), list(names.values()))
    time.set_ylabel("microseconds")
    time.set_title("processor time a packet at the laptop\n(line: least to greatest window)", fontsize="medium")
    delay.set_ylabel("milliseconds")
    delay.set_title("one way, no delay of wires: median, line up to p99\n(hatched: to the laptop)", fontsize="medium")
    figure.savefig(path, dpi=120)


def changes(report: Report, path: Path) -> None:
    """What a change of networks costs: ours, tunnels that roam, phones that change their calls."""
    roaming = {name: report["strangers"][name]["roaming"] for name in ("ours", "wireguard", "openvpn")}
    again, beside = report["reinvite"], report["handover"]["make_before_break"]
    rows = (
        ("ours", roaming["ours"], OURS),
        ("wireguard-go", roaming["wireguard"], THEIRS),
        ("OpenVPN", roaming["openvpn"], THEIRS),
        ("PJSUA2:\nre-INVITE", again["break_before_make"], THEIRS),
        ("PJSUA2, not\nregistered", again["unregistered"], THEIRS),
        ("baresip", again["baresip"], THEIRS),
        ("ours, two\ninterfaces", beside, OURS),
        ("PJSUA2, two\ninterfaces", again["make_before_break"], THEIRS),
    )
    figure = Figure(figsize=(10, 7), layout="constrained")
    silence, missing = figure.subplots(2, 1, sharex=True)
    for place, (_, measured, color) in enumerate(rows):
        if "gaps_ms" in measured:
            _dots(silence, place, measured["gaps_ms"], color)
            silence.hlines(measured["gap_p50_ms"], place - 0.35, place + 0.35, color)
        else:
            # of two interfaces the longest is known, the interval between two packets included
            gap = max(measured["longest_gap_ms"].values()) - measured["interval_ms"]
            silence.plot([place], [gap], "v", color=color)
        lost = measured["lost"] * measured["interval_ms"] / (measured.get("handovers") or measured["changes"])
        missing.bar(place, lost, color=color)
        missing.text(place, lost, f"{lost:.0f}", ha="center", va="bottom")
    silence.set_yscale("log")
    silence.yaxis.set_major_formatter(ScalarFormatter())
    silence.yaxis.set_minor_formatter(ScalarFormatter())
    missing.margins(y=0.15)
    silence.set_ylabel("silence, ms (logarithmic)")
    silence.set_title(
        f"One change of networks at {again['round_trip_ms']:g} ms of round trip; dots: each change, line: the median; "
        f"triangle: the longest of {beside['handovers']},\nto and from a hotspot with 40 ms of round trip and jitter",
        fontsize="medium",
    )
    missing.set_ylabel("speech lost in one change, ms")
    missing.set_title("both directions together, on average", fontsize="medium")
    missing.set_xticks(range(len(rows)), [name for name, _, _ in rows])
    figure.savefig(path, dpi=120)


def routes(report: Report, path: Path) -> None:
    """Octets of a packet of speech on the wire, in every form."""
    octets = report["routes"]["octets"]
    program = octets["packet"]["ipv6"]
    forms = dict(reversed(octets["on_the_wire"].items()))
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    places = range(len(forms))
    without = [form["without"]["out"] for form in forms.values()]
    wholes = [form["application_esp"]["out"] for form in forms.values()]
    label = f"packet of the phone (Opus, SRTP): {program}"
    axes.barh(places, [program for _ in places], color=THIRD, label=label)
    axes.barh(places, [part - program for part in without], left=program, color=OURS, label="tunnel or direct way")
    added = [whole - part for whole, part in zip(wholes, without, strict=True)]
    axes.barh(places, added, left=without, color=THEIRS, label="application's ESP")
    for place, whole in enumerate(wholes):
        axes.text(whole, place, f" {whole}", va="center")
    axes.set_yticks(range(len(forms)), list(forms))
    axes.set_xlabel("octets of the IP packet on the terminal's access")
    axes.margins(x=0.1)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)


def phone(report: Report, path: Path) -> None:
    """How many calls one processor carries, and sets up."""
    figures = report["phone"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, part, key, label in zip(
        figure.subplots(1, 2),
        ("at_the_same_time", "set_up_and_torn_down"),
        ("concurrent_calls", "calls_per_second"),
        ("calls at the same time, SRTP", "calls a second, set up and torn down"),
        strict=True,
    ):
        for place, (name, measured) in enumerate(figures[part].items()):
            axes.bar(place, measured[key], color=THEIRS if name.startswith("pjsua2") else OURS)
            axes.text(place, measured[key], str(measured[key]), ha="center", va="bottom")
        axes.set_xticks(range(len(figures[part])), [name.replace(", ", ",\n") for name in figures[part]])
        axes.set_title(label, fontsize="medium")
    figure.suptitle("One end on one processor (pjsua2 in as many processes as it needs)", fontsize="medium")
    figure.savefig(path, dpi=120)


def home_agent(report: Report, path: Path) -> None:
    """A thousand terminals on one home agent."""
    figures = report["home_agent"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    registrations, latency = figure.subplots(1, 2)
    for place, name in enumerate(("registration", "refresh")):
        registrations.bar(place, figures[name]["per_second"], color=OURS)
        registrations.text(place, figures[name]["per_second"], f"{figures[name]['per_second']:.0f}", ha="center")
    registrations.set_xticks((0, 1), ("first registration", "refresh"))
    registrations.set_title(f"a second, of {figures['terminals']} terminals", fontsize="medium")
    shares = ("p50", "p95", "p99", "longest")
    for offset, way in ((-0.2, "out"), (0.2, "in")):
        values = [figures["talk"][way]["latency_ms"][share] for share in shares]
        latency.bar([place + offset for place in range(len(shares))], values, 0.38, label=way)
    latency.set_xticks(range(len(shares)), shares)
    latency.set_yscale("log")
    latency.set_ylabel("milliseconds (logarithmic)")
    latency.legend()
    latency.set_title(
        f"one way, {figures['calls']} calls, {figures['packets_per_second']} packets/s, {figures['lost']} lost,\n"
        f"{figures['processor_percent']:g} % of one processor",
        fontsize="medium",
    )
    figure.savefig(path, dpi=120)


def _dots(axes: Axes, place: float, values: Sequence[float], color: str) -> None:
    spread = [place + 0.3 * (2 * number / max(1, len(values) - 1) - 1) for number in range(len(values))]
    axes.plot(spread, values, ".", color=color, alpha=0.6)


def _bar(axes: Axes, place: float, figures: Mapping[str, Any], key: str, color: str) -> None:
    axes.bar(place, figures[key], color=color)
    least, most = figures[f"{key}_range"]
    axes.vlines(place, least, most, "black")
    axes.text(place, most, f"{figures[key]:g}", ha="center", va="bottom")


def _across(axes: Axes, rows: Mapping[str, tuple[Mapping[str, Any], str, str]]) -> None:
    """Bars to the right, by name: figures, key and color."""
    for place, (figures, key, color) in enumerate(rows.values()):
        axes.barh(place, figures[key], color=color)
        least, most = figures[f"{key}_range"]
        axes.hlines(place, least, most, "black")
        axes.text(most, place, f"  {figures[key]:g}", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.margins(x=0.1)


PICTURES = {
    "handover": Picture(handover),
    "data_plane": Picture(data_plane),
    "strangers": Picture(strangers),
    "reinvite": Picture(changes, ("strangers", "handover")),
    "routes": Picture(routes),
    "phone": Picture(phone),
    "home_agent": Picture(home_agent),
}
