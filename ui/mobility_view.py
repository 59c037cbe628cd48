"""What the mobility process tells, as text: the path that packets take now, and tables. Pure functions, no widgets.

A process of another version may say less: what is missing is left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from textual.content import Content

from ui.widgets.meter import EIGHTHS, STEPS, clock

Object = Mapping[str, Any]
Named = list[tuple[str, Content]]
"Lines of a table, each with its name."

FAINT, QUIET = "$foreground 50%", "$foreground 75%"
LOCKED, OPEN = "■", "□"
WIDE_LABEL = 16


def part(values: object, *names: str) -> Object:
    """An object inside of an object; empty where there is none."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def rows(values: Object, name: str) -> list[Object]:
    """The objects of a list; none where there is no list."""
    found = values.get(name)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


# ---------------------------------------------------------------- the path


@dataclass(frozen=True, slots=True)
class Lane:
    """Something that spans two places of the path: a layer of protection."""

    begin: int
    end: int
    words: str
    style: str
    fill: str


def path(status: Object, peer: str | None, width: int) -> list[Content]:
    """Where packets go: places from left to right, and what protects them between which."""
    node = part(status, "node")
    names, lanes, trouble = _places(node, peer)
    room = max(width, 20)
    at = [round(place * (room - 1) / (len(names) - 1)) for place in range(len(names))]
    lines = [_labels(names, at, room)]
    line = list("─" * room)
    for place in at:
        line[place] = "●"
    lines.append(Content.styled("".join(line), "$error" if trouble else "$primary"))
    lines += [_lane(lane, at) for lane in lanes]
    if trouble:
        lines.append(Content.styled(trouble, "bold $error"))
    return lines


def _places(node: Object, peer: str | None) -> tuple[list[str], list[Lane], str]:
    forwarding, movement = part(node, "forwarding"), part(node, "mobile_node", "movement")
    present, regional = part(movement, "present"), part(forwarding, "regional")
    other = peer or "correspondent"
    application = next((row for row in rows(node, "application") if row.get("action") == "protect"), None)
    secured = "application IPsec: none" if application is None else f"application IPsec  {_algorithm(application)}"
    style, fill = ("$success", "━") if application is not None else (FAINT, "╌")
    if not present:
        return ["phone", other], [Lane(0, 1, secured, style, fill)], "no network lets packets through"
    link = str(present.get("link"))
    if forwarding.get("at_home"):
        return ["phone", f"{link} at home", other], [Lane(0, 2, secured, style, fill)], ""
    names = ["phone", link, *(["MAP"] if regional else []), "home agent", other]
    agent = len(names) - 2
    lanes = [Lane(0, len(names) - 1, secured, style, fill)]
    if part(forwarding, "tunnel"):
        form = str(forwarding.get("form", "?"))
        protected = form != "plain"
        around = ", in UDP" if part(forwarding, "tunnel").get("udp") else ""
        lanes.append(
            Lane(1, agent, f"mobile tunnel {form}{around}", "$accent" if protected else "$warning", "═")
        )  # fmt: skip
        if regional:
            lanes.append(Lane(1, 2, "to the MAP", "$secondary", "═"))
    direct = [row for row in rows(part(node, "route_optimization"), "correspondents") if row.get("state") == "direct"]
    if direct:
        lanes.append(Lane(1, len(names) - 1, f"directly, past the home agent ({len(direct)})", "$secondary", "╍"))
    trouble = "" if part(forwarding, "tunnel") else "not bound yet: packets wait for the home agent"
    return names, lanes, trouble


def _algorithm(policy: Object) -> str:
    association = part(policy, "outbound_sa") or part(policy, "inbound_sa")
    return f"ESP {association.get('algorithm', '')}".rstrip()


def _labels(names: Sequence[str], at: Sequence[int], width: int) -> Content:
    """Each above its place; the first and the last at the edges."""
    line = [" "] * width
    taken = -1
    for number, (name, place) in enumerate(zip(names, at, strict=True)):
        share = width // max(1, len(names) - 1) - 1
        text = name if len(name) <= share else name[: share - 1] + "…"
        begin = 0 if number == 0 else place - len(text) // 2
        begin = min(max(begin, taken + 2 if number else 0), width - len(text))
        line[begin : begin + len(text)] = text
        taken = begin + len(text)
    return Content.styled("".join(line), "bold")


def _lane(lane: Lane, at: Sequence[int]) -> Content:
    begin, end = at[lane.begin], at[lane.end]
    inside = max(0, end - begin - 1)
    words = f" {lane.words} "
    if len(words) > inside - 2:
        words = f" {lane.words.removeprefix('mobile ')} "
    if len(words) > inside - 2:
        words = f" {lane.words}"[: max(0, inside - 3)] + "…" if inside > 8 else ""
    text = words.center(inside, lane.fill)
    edges = ("╰", "╯")
    return Content.assemble(" " * begin, (f"{edges[0]}{text}{edges[1]}", lane.style))


def facts(status: Object, trips: Sequence[float], width: int) -> list[Content]:
    """Addresses, binding and round trip, one each."""
    node = part(status, "node")
    mobile, forwarding = part(node, "mobile_node"), part(node, "forwarding")
    present = part(mobile, "movement", "present")
    registration = part(mobile, "registration")
    address4 = f" and {mobile['home_address4']}" if mobile.get("home_address4") else ""
    lines = [_fact("home address", f"{mobile.get('home_address', '?')}{address4}")]
    if present and not present.get("at_home"):
        lines.append(_fact("care-of address", f"{present.get('address')}  {_kind(mobile, present)}"))
    regional = part(forwarding, "regional")
    if regional:
        lines.append(_fact("MAP", f"{regional.get('map')}  regional address {regional.get('rcoa')}"))
    state = str(registration.get("state", ""))
    left = registration.get("remaining")
    words = f"{registration.get('home_agent', '?')}  {state}"
    if isinstance(left, int | float) and left > 0:
        words += f", {clock(left)} left"
    if registration.get("refused_because"):
        words += f", refused: {registration['refused_because']}"
    lines.append(_fact("home agent", words))
    lines.append(_round_trip(trips, max(8, min(60, width - WIDE_LABEL - 28))))
    return lines


def _fact(name: str, words: str) -> Content:
    return Content.assemble((f"{name:<{WIDE_LABEL}}", FAINT), words)


def _kind(mobile: Object, present: Object) -> str:
    kind = "in UDP" if present.get("udp") else "native"
    in_use = next((place for place in rows(mobile, "places") if place.get("role") == "in use"), {})
    return f"{kind}, behind a NAT" if in_use.get("nat") else kind


def _round_trip(trips: Sequence[float], room: int) -> Content:
    if not trips:
        return _fact("round trip", "…")
    latest = list(trips)[-room:]
    top = max(latest) or 1.0
    line = "".join(STEPS[min(7, int(trip / top * 7.99))] for trip in latest)
    words = f"  {latest[-1]:.1f} ms  ({min(latest):.1f} to {max(latest):.1f})"
    return Content.assemble((f"{'round trip':<{WIDE_LABEL}}", FAINT), (line, "$secondary"), words)


# ---------------------------------------------------------------- tables


def networks(status: Object) -> Named:
    """Candidate networks in their order of preference, which one is used, and why others are not."""
    mobile = part(status, "node", "mobile_node")
    movement = part(mobile, "movement")
    present, preferred = part(movement, "present").get("link"), movement.get("preferred")
    kernel = part(status, "links")
    links = part(movement, "links")
    lines: Named = []
    for link, state in links.items():
        addresses = state.get("addresses") if isinstance(state, Mapping) else None
        address = ", ".join(map(str, addresses)) if addresses else ""
        used = link == present
        words, style = ("in use", "bold $success") if used else _usable(part(links, link), bool(addresses))
        mark = "●" if used else "○"
        star = " preferred" if preferred in (link, link.split("/")[0]) else ""
        lines.append(
            (link, Content.assemble((f"{mark} ", style), (f"{link:<11}", "bold" if used else ""), (words, style),
                                    (star, "$accent"), f"  {address}"))
        )  # fmt: skip
    for link, state in kernel.items():
        if link not in links and isinstance(state, Mapping):
            up = "up, no address yet" if state.get("up") else "no carrier"
            lines.append((link, Content.styled(f"○ {link:<11}{up}", FAINT)))
    return lines


def _usable(state: Object, addresses: bool) -> tuple[str, str]:
    for name, words in (("dead_for", "nothing comes through, next try in"), ("doubted_for", "watched for another")):
        seconds = state.get(name)
        if isinstance(seconds, int | float) and seconds > 0:
            return f"{words} {seconds:.0f} s", "$warning"
    if state.get("deserted"):
        return "left behind", "$warning"
    return ("ready", "$foreground") if addresses else ("waits for an address", FAINT)


def bindings(status: Object) -> Named:
    """The binding update list, counting down."""
    lines: Named = []
    regional = part(status, "node", "regional")
    mobile = part(status, "node", "mobile_node")
    for kind, row in [("HA", row) for row in rows(mobile, "binding_update_list")] + [
        ("MAP", row) for row in rows(regional, "binding_update_list")
    ]:
        left, lifetime = _number(row.get("remaining")), _number(row.get("lifetime"))
        share = min(1.0, left / lifetime) if lifetime else 0.0
        style = "$success" if share > 0.2 else "$warning"
        kind = kind if row.get("home_registration", True) else "CN"
        words = Content.assemble(
            f"{kind:<4}", (f"{row.get('state')} #{row.get('sequence')} ", QUIET),
            (_bar(share, 6), f"{style} on $panel"), (f" {clock(left)} ", style),
            f" {row.get('care_of_address')} {row.get('link', '')}",
        )  # fmt: skip
        words += Content.styled(f" ⇒ {row.get('destination')}", QUIET)
        lines.append((f"{row.get('destination')} {row.get('identifier')}", words))
    return lines


def handovers(status: Object) -> Named:
    """The latest first: when, where to, how long it took, what it cost."""
    lines: Named = []
    for event in reversed(rows(status, "handovers")):
        moment = time.strftime("%H:%M:%S", time.localtime(_number(event.get("time"))))
        way = "made before broken" if event.get("make_before_break") else "broken before made"
        silence, lost = event.get("silence_ms"), event.get("lost")
        cost = (
            Content.styled("nobody talked" if "silence_ms" in event else "measuring…", FAINT)
            if silence is None
            else Content.assemble(
                (f"{_gap_bar(_number(silence))} gap {_number(silence):.0f} ms", _gap_style(silence)),
                (f"  {lost} lost", "bold $error" if lost else "$success"),
            )
        )  # fmt: skip
        again = _number(event.get("sent_again")) + _number(event.get("received_again"))
        words = Content.assemble(
            (f"{moment} ", FAINT), (f"{event.get('from_link')} → {event.get('to_link')}", "bold"),
            "  ", cost,
        )  # fmt: skip
        took = f"  took {_number(event.get('since_noticed_ms')):.0f} ms, {way}"
        words += Content.styled(took + (f", {again:.0f} sent again" if again else ""), FAINT)
        lines.append((f"{moment} {event.get('to_address')} {len(lines)}", words))
    return lines


def _gap_bar(milliseconds: float) -> str:
    """Longer for ten times as long: 10 ms are nothing, 10 s are all of it."""
    return _bar(min(1.0, max(0.0, log10(max(milliseconds, 1.0) / 10) / 3)), 6)


def _gap_style(milliseconds: object) -> str:
    value = _number(milliseconds)
    return "$success" if value < 100 else "$warning" if value < 400 else "$error"


def scenarios(status: Object) -> Named:
    """The scenario policy table (table 220)."""
    lines: Named = []
    for row in rows(part(status, "node"), "scenarios"):
        enabled, used = row.get("status") == "enabled", bool(row.get("in_use"))
        style = "bold $success" if used else "" if enabled else FAINT
        lines.append(
            (
                str(row.get("number")),
                Content.assemble(
                    (f"{LOCKED if enabled else OPEN} ", "$primary" if enabled else FAINT),
                    (f"{row.get('number')} {row.get('substance')}", style), ("  in use" if used else "", "$success"),
                ),
            )
        )  # fmt: skip
    if lacking := part(status, "node").get("no_scenario"):
        lines.insert(0, ("", Content.styled(f"no tunnel: {lacking}", "bold $error")))
    return lines


def translations(status: Object) -> Named:
    """The translation table (table 230) of programs that only speak IPv4."""
    translation = part(status, "node", "translation")
    lines: Named = []
    for row in reversed(rows(part(translation, "table"), "rows")):
        left = row.get("lifetime")
        tail = f"  {row.get('origin') or ''}" + (f" {clock(left)}" if isinstance(left, int | float) else "")
        lines.append((str(row.get("ipv4")), Content.assemble(f"{row.get('ipv4')} ⇄ {row.get('ipv6')}", (tail, FAINT))))
    return lines


def associations(status: Object) -> Named:
    """Both layers of IPsec: what goes under which association, and how much of it."""
    node = part(status, "node")
    lines: Named = []
    for layer, policies in (
        ("application", rows(node, "application")),
        ("mobile", rows(part(node, "forwarding"), "policies")),
    ):
        for row in policies:
            if row.get("action") != "protect":
                continue
            out, inbound = part(row, "outbound_sa"), part(row, "inbound_sa")
            bad = int(_number(inbound.get("failed")))
            name = str(row.get("name", ""))
            lines.append(
                (
                    f"{layer} {name} {len(lines)}",
                    Content.assemble(
                        (f"{LOCKED} ", "$success" if layer == "application" else "$accent"),
                        (name, ""), (f"  {out.get('algorithm', '')}", QUIET),
                        (f"  ↑{out.get('spi', '')} {out.get('packets', 0)}", QUIET),
                        (f"  ↓{inbound.get('spi', '')} {inbound.get('packets', 0)}", QUIET),
                        (f"  {bad} forged or broken" if bad else "", "bold $error"),
                    ),
                )
            )  # fmt: skip
    return lines


def round_trips(status: Object) -> list[float]:
    """Milliseconds to the home agent and back, the oldest first."""
    samples = part(status, "node", "liveness").get("round_trips")
    return [float(pair[1]) for pair in samples] if isinstance(samples, list) else []


def next_network(status: Object) -> str | None:
    """Where to move when the user only says to: the first usable network that is not in use."""
    movement = part(status, "node", "mobile_node", "movement")
    present = part(movement, "present").get("link")
    return next(
        (
            link
            for link, state in part(movement, "links").items()
            if link != present and part(movement, "links", link).get("addresses")
        ),
        None,
    )


def _bar(share: float, width: int) -> str:
    full, rest = divmod(round(share * width * 8), 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
