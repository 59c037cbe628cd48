"""What a node's status looks like to people: 80 columns, the important things first.

Pure functions of what the control socket answers. A node of another version may say less: what is missing is left out.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence

from mobility.commands import view_hierarchy, view_ike

WIDTH = 80
HANDOVERS = 5
"How many of the last ones are shown."
TRANSLATIONS = 10
"How many rows of the translation table are shown; the latest."
_INDENT = " " * 11
_MOVES = (
    "HandoverFinished",
    "RegionalHandover",
    "MapLeft",
    "HandoverAbandoned",
    "PathDead",
    "HomeAgentUnreachable",
    "BindingRefused",
    "IkeFailed",
    "ApplicationKeysFailed",
)

Object = Mapping[str, object]


def overview(status: Object, recent: Sequence[Object] = ()) -> list[str]:
    """The lines for a node of any role; ``recent``: its latest events, the oldest first."""
    node = _object(status, "node")
    if "mobile_node" in node:
        lines = _terminal(node, recent)
    elif node.get("role") == "map":
        lines = [*view_hierarchy.of_map(node, _entry), *view_ike.lines(node, _entry)]
    elif "binding_cache" in node:
        lines = _home_agent(node)
    elif "sessions" in node:
        lines = _gateway(node)
    else:
        lines = _correspondent(node)
    process = _object(status, "process")
    lives = "" if process.get("start") in (None, 1) else f", started {process['start']} times"
    lines += _gateways(status)
    if "sessions" not in node:  # a gateway moves no packets
        lines += _links(_object(status, "links"))
        lines += _counters(node, _object(status, "counters"))
    if process:
        scheduling = f", scheduled as {process['scheduling']}" if process.get("scheduling") else ""
        lines += _entry("process", f"{process.get('pid')}{scheduling}{lives}")
    return lines


def negotiated(status: Object) -> list[str]:
    """The lines about negotiated keys; none: there are none."""
    return view_ike.lines(_object(status, "node"), _entry, everything=True)


# ---------------------------------------------------------------- roles


def _terminal(node: Object, recent: Sequence[Object]) -> list[str]:
    mobile, forwarding = _object(node, "mobile_node"), _object(node, "forwarding")
    movement = _object(mobile, "movement")
    present = _object(movement, "present")
    address4 = f" and {mobile['home_address4']}" if mobile.get("home_address4") else ""
    lines = _entry("terminal", f"{mobile.get('home_address')}{address4}")
    if not present:
        where = "nowhere: no network lets packets through"
    elif present.get("at_home"):
        where = f"{present.get('link')}, at home"
    else:
        where = f"{present.get('link')}, {present.get('address')}, {'in UDP' if present.get('udp') else 'native'}"
        if any(place.get("nat") for place in _objects(mobile, "places") if place.get("role") == "in use"):
            where += " through a NAT"
    under_way = " (a handover is under way)" if mobile.get("handover_under_way") else ""
    lines += _entry("place", where + under_way)
    registration = _object(mobile, "registration")
    tunnel = "" if forwarding.get("at_home") else f", tunnel of the form {forwarding.get('form', '?')}"
    lines += _entry("home agent", f"{registration.get('home_agent')}{tunnel}")
    lines += _homes(node)
    liveness = _object(node, "liveness")
    if liveness.get("round_trip_ms") is not None:
        lines += _entry("", f"answers in {_milliseconds(liveness['round_trip_ms'])}")
    lines += view_ike.lines(node, _entry)
    lines += _networks(_object(node, "mobile_router"))
    lines += _scenario(node)
    lines += _places(mobile, recent)
    lines += view_hierarchy.of_terminal(_object(node, "regional"), _entry)
    lines += _candidates(movement)
    lines += _direct(node)
    lines += _translation(node)
    lines += _policies(node)
    return lines + _handovers(recent)


def _homes(node: Object) -> list[str]:
    """All home addresses of a terminal that has several, or that looks for its home agent."""
    lines: list[str] = []
    for home in _objects(node, "homes"):
        agent = home.get("home_agent")
        parts = [
            f"{home.get('home_address')}: " + (f"home agent {agent}" if agent else "looking for a home agent"),
            str(home.get("state") or ""),
            f"deprecated, {_left(home.get('ends_in'))}".rstrip(", ") if home.get("deprecated") else "",
        ]
        lines += _entry("" if lines else "homes", ", ".join(part for part in parts if part))
    return lines


def _networks(router: Object) -> list[str]:
    """Of a mobile router: what is behind it, and whether there is a way out."""
    lines: list[str] = []
    for name, ingress in _object(router, "ingress").items():
        if isinstance(ingress, Mapping):
            networks = ", ".join(str(network) for network in _list(ingress, "networks"))
            state = "" if ingress.get("up") else ", no carrier"
            lines += _entry("" if lines else "networks", f"{networks} on {name}{state}")
    if lines and not router.get("open"):
        lines += _entry("", "no way out: nodes are told to use another router")
    return lines


def _scenario(node: Object) -> list[str]:
    """Which rows of the scenario policy table are in use, or why none is."""
    used = [f"{row.get('number')} {row.get('substance')}" for row in _objects(node, "scenarios") if row.get("in_use")]
    if node.get("no_scenario"):
        used.insert(0, f"none: {node['no_scenario']}")
    return _entry("scenario", "; ".join(used)) if used else []


def scenarios(status: Object) -> list[str]:
    """The scenario policy table of a terminal, and why no row is in use if none is; empty: it is no terminal."""
    node = _object(status, "node")
    rows = list(_objects(node, "scenarios"))
    if not rows:
        return []
    lines = [f"{'number':<8}{'status':<10}{'in use':<8}substance"]
    for row in rows:
        number, state, used = str(row.get("number")), str(row.get("status")), "yes" if row.get("in_use") else "-"
        lines.append(f"{number:<8}{state:<10}{used:<8}{row.get('substance')}")
    return [*lines, f"No tunnel: {node['no_scenario']}."] if node.get("no_scenario") else lines


def waits_for_the_home_agent(status: Object) -> bool:
    """Whether a terminal has asked the home agent and not got an answer yet."""
    registration = _object(_object(_object(status, "node"), "mobile_node"), "registration")
    return registration.get("state") in ("registering", "refreshing")


def _places(mobile: Object, recent: Sequence[Object]) -> list[str]:
    """The bindings; the round trip is that of the last binding update of each."""
    bound = [event for event in recent if event.get("event") == "Bound"]
    trips = {str(event.get("care_of_address")): event.get("round_trip") for event in bound}
    lines: list[str] = []
    for place in _objects(mobile, "places"):
        trip = _figure(trips.get(str(place.get("address")), place.get("round_trip")))
        parts = [
            f"{place.get('role')}: {place.get('link')} {place.get('address')}",
            str(place.get("state")),
            _left(place.get("remaining")),
            "" if trip is None else f"round trip {trip * 1000:.1f} ms",
            str(place.get("refused_because") or ""),
        ]
        lines += _entry("" if lines else "bindings", ", ".join(part for part in parts if part))
    return lines


def _candidates(movement: Object) -> list[str]:
    """What else could be used, in the order of preference."""
    present = _object(movement, "present").get("link")
    lines: list[str] = []
    for link, state in _object(movement, "links").items():
        if link == present or not isinstance(state, Mapping):
            continue
        addresses = state.get("addresses")
        text = ", ".join(str(address) for address in addresses) if isinstance(addresses, list) and addresses else "-"
        for key, what in (("dead_for", "nothing comes through, next try in"), ("doubted_for", "watched for another")):
            seconds = _figure(state.get(key))
            if seconds is not None and seconds > 0:
                text += f"; {what} {seconds:.0f} s"
        if state.get("deserted"):
            text += "; left behind"
        lines += _entry("" if lines else "other ways", f"{link} {text}")
    return lines


def _direct(node: Object) -> list[str]:
    """Correspondents to which packets go without the tunnel, or might."""
    lines: list[str] = []
    for peer in _objects(_object(node, "route_optimization"), "correspondents"):
        text = f"{peer.get('correspondent')}: {peer.get('state')}"
        if peer.get("state") == "direct":
            text += f", {_left(peer.get('remaining'))}"
        elif peer.get("held_because"):
            text += f", {peer['held_because']}, next try in {_figure(peer.get('held_for')) or 0:.0f} s"
        lines += _entry("" if lines else "directly", text)
    return lines


def _translation(node: Object) -> list[str]:
    """The translation for programs that only speak IPv4, with the rows of its table."""
    translation = _object(node, "translation")
    if not translation:
        return []
    rows = list(_objects(_object(translation, "table"), "rows"))
    state = "" if translation.get("active") else ", not in use"
    counts = f"{translation.get('sent', 0)} packets out, {translation.get('received', 0)} in"
    lines = _entry("translates", f"{translation.get('address4')}{state}, {counts}")
    for row in rows[-TRANSLATIONS:]:
        parts = (f"{row.get('ipv4')} is {row.get('ipv6')}", str(row.get("origin") or ""), _left(row.get("lifetime")))
        lines += _entry("", ", ".join(part for part in parts if part))
    more = len(rows) - TRANSLATIONS
    return [*lines, *_entry("", f"and {more} more")] if more > 0 else lines


def _handovers(recent: Sequence[Object]) -> list[str]:
    moves: list[str] = []
    for event in recent:
        if event.get("event") in _MOVES:
            moves.append(f"{_clock(event)} {_move(event)}")
        elif event.get("event") == "HandoverMeasured" and event.get("silence_ms") is not None and moves:
            moves[-1] += f"; silence {_milliseconds(event['silence_ms'])}, {event.get('lost')} lost"
    lines: list[str] = []
    for move in moves[-HANDOVERS:]:
        lines += _entry("" if lines else "handovers", move)
    return lines


def _move(event: Object) -> str:
    match event.get("event"):
        case "HandoverFinished":
            way = "made before broken" if event.get("make_before_break") else "broken before made"
            again = sum(number for key in ("sent_again", "received_again") if isinstance(number := event.get(key), int))
            return (
                f"{event.get('from_link')} -> {event.get('to_link')} {event.get('to_address')}:"
                f" {_milliseconds(event.get('since_noticed_ms'))}, of which signalling"
                f" {_milliseconds(event.get('since_update_ms'))}; {way}" + (f"; {again} sent again" if again else "")
            )
        case "RegionalHandover":
            way = "made before broken" if event.get("make_before_break") else "broken before made"
            return (
                f"{event.get('from_link')} -> {event.get('to_link')} {event.get('to_lcoa')} within the domain of"
                f" {event.get('anchor')}: {_milliseconds(event.get('since_noticed_ms'))}; {way}"
            )
        case "MapLeft":
            return f"MAP {event.get('anchor')} left: {event.get('why')}"
        case "HandoverAbandoned":
            return f"{event.get('link')} -> {event.get('to_link')} given up: {event.get('why')}"
        case "PathDead":
            return f"{event.get('link')}: nothing comes through"
        case "IkeFailed" | "ApplicationKeysFailed":
            return view_ike.failed(event)
        case "HomeAgentUnreachable":
            return f"the home agent does not answer ({event.get('unanswered')} times)"
    why = f": {event['why']}" if event.get("why") else ""
    return f"the home agent refused: {event.get('status')}{why}"


def _home_agent(node: Object) -> list[str]:
    state = "stands by" if node.get("active") is False else "serves"
    terminals = {str(terminal.get("home_address")): terminal for terminal in _objects(node, "terminals")}
    bound: dict[str, list[Object]] = {}
    for binding in _objects(node, "binding_cache"):
        bound.setdefault(str(binding.get("home_address")), []).append(binding)
    lines = _entry(
        "home agent", f"{node.get('address', '')} {state}: {_several(len(terminals), 'terminal')}, {len(bound)} away"
    )
    shared = _object(node, "shared")
    if shared:
        lines += _entry(
            "shared", f"{shared.get('standing')}; store {shared.get('store')}; {shared.get('takeovers', 0)} takeovers"
        )
    lines += view_ike.lines(node, _entry)
    pool = _object(node, "ipv4")
    if pool.get("pool"):
        lines += _entry("IPv4", f"{pool.get('held')} addresses of {pool['pool']} are handed out")
    for home, bindings in bound.items():
        terminal = terminals.get(home, {})
        address4 = bindings[0].get("home_address4")
        named = terminal.get("name", home)
        head = ([] if named == home else [str(named)]) + [home] + ([str(address4)] if address4 else [])
        lines.append(f"  {' '.join(head)}, tunnel {terminal.get('tunnel', '?')}")
        behind = [str(network) for binding in bindings[:1] for network in _list(binding, "mobile_networks")]
        if behind:
            lines += _entry("", f"takes along {', '.join(behind)}")
        for binding in bindings:
            where = binding.get("endpoint") or binding.get("care_of_address")
            nat = " through a NAT" if binding.get("nat") else ""
            mark = "*" if binding.get("primary") else " "
            lines.append(f"   {mark} {binding.get('way', '')} {where}{nat}, {_left(binding.get('remaining'))}")
    rest = [terminal for home, terminal in terminals.items() if home not in bound]
    for title, admitted in (("not away", True), ("not admitted", False)):
        names = [str(one.get("name")) for one in rest if one.get("admitted", True) is admitted]
        if names:
            lines += _entry(title, ", ".join(names))
    return lines


def _correspondent(node: Object) -> list[str]:
    lines = _entry("peer", f"{node.get('address')} (correspondent)")
    return [*lines, *view_ike.lines(node, _entry), *_policies(node)]


def _gateway(node: Object) -> list[str]:
    """A gateway: who has a session, and where it leads."""
    listens = node.get("gateway")
    where = ", ".join(str(one) for one in listens) if isinstance(listens, list) else "?"
    sessions, waiting = list(_objects(node, "sessions")), list(_objects(node, "waiting"))
    opened = [session for session in sessions if session.get("state") == "open"]
    lines = _entry("gateway", f"{where}: {_several(len(opened), 'session')}")
    half = len(sessions) - len(opened)
    lines += _entry("", f"{half} in the middle of the handshake") if half else []
    for session in opened:
        lines.append(f"  {session.get('client')} from {session.get('address')}, {session.get('tls')}")
        lines += [f"    {_tunnel(tunnel)}" for tunnel in _objects(session, "tunnels")]
    lines += [f"  without a session: {_tunnel(tunnel)}" for tunnel in waiting]
    counters = _object(node, "counters")
    refused = {name: number for name, number in counters.items() if name.startswith(("refused-", "broken-", "lost-"))}
    lines += _entry("counted", ", ".join(f"{number} {name}" for name, number in sorted(counters.items())
                                         if name not in refused) or "nothing")  # fmt: skip
    return lines + (
        _entry("ended", ", ".join(f"{refused[name]} {name}" for name in sorted(refused))) if refused else []
    )


def _gateways(status: Object) -> list[str]:
    """The gateways of a terminal, and what goes through them."""
    lines: list[str] = []
    for one in _objects(status, "gateways"):
        text = f"{one.get('gateway')}: {one.get('state')}, {one.get('server')} via {one.get('via')}"
        if one.get("tls"):
            text += f", {one['tls']}{' resumed' if one.get('resumed') else ''}"
        if one.get("round_trip_ms") is not None:
            text += f", answers in {_milliseconds(one['round_trip_ms'])}"
        if one.get("because"):
            text += f"; {one['because']}"
        lines += _entry("gateway", text)
        for tunnel in _objects(one, "tunnels"):
            lines += _entry("", _tunnel(tunnel))
    return lines


def _tunnel(tunnel: Object) -> str:
    moved = f"{tunnel.get('sent', 0)} octets sent, {tunnel.get('received', 0)} received"
    return f"{tunnel.get('destination')} {tunnel.get('state')}, {moved}"


# ---------------------------------------------------------------- parts


def _policies(node: Object) -> list[str]:
    """The application's IPsec: how much went through each policy."""
    lines: list[str] = []
    for row in _objects(node, "application"):
        out, back = _object(row, "outbound_sa"), _object(row, "inbound_sa")
        text = f"{row.get('name')}: {row.get('action')}"
        if out or back:
            text += f", {out.get('packets', 0)} packets out, {back.get('packets', 0)} in"
            text += "".join(f", {back[key]} {key}" for key in ("replayed", "failed") if back.get(key))
        lines += _entry("" if lines else "IPsec", text)
    return lines


def _links(links: Object) -> list[str]:
    lines: list[str] = []
    for name, state in links.items():
        if isinstance(state, Mapping):
            up = "up" if state.get("up") else "down" if state.get("present") else "not there"
            mtu = f", MTU {state['mtu']}" if state.get("mtu") else ""
            lines += _entry("" if lines else "links", f"{name} {up}{mtu}")
    return lines


def _counters(node: Object, counters: Object) -> list[str]:
    own = _object(node, "counters")
    words = [f"{own[key]} {key}" for key in ("sent", "delivered", "intercepted", "reversed") if key in own]
    words += [f"{number} {name.replace('-', ' ', 1)}" for name, number in _object(counters, "packets").items()]
    words += [f"{node[key]} {what}" for key, what in (("waiting", "waiting"),) if node.get(key)]
    lines = _entry("packets", ", ".join(words) or "none")
    lost = sorted(_object(counters, "discards").items(), key=lambda item: -(_figure(item[1]) or 0.0))
    lines += _entry("discarded", ", ".join(f"{number} {reason}" for reason, number in lost) or "none")
    errors = {
        **{f"on {link}": counts for link, counts in _object(counters, "link_errors").items()},
        **_object(counters, "internal_errors"),
    }
    if errors:
        lines += _entry("errors", ", ".join(f"{counts} {where}" for where, counts in errors.items()))
    return lines


def event_line(event: Object) -> str:
    """One event, in one line."""
    rest = " ".join(f"{key}={_word(value)}" for key, value in event.items() if key not in ("time", "event"))
    return f"{_clock(event)} {event.get('event', '?')} {rest}".rstrip()


def full(value: object, indent: str = "") -> list[str]:
    """Any JSON-ready value, whole, as indented text."""
    if isinstance(value, Mapping):
        entries = [(f"{key}:", item) for key, item in value.items()]
    elif isinstance(value, list):
        entries = [("-", item) for item in value]
    else:
        return [f"{indent}{_word(value)}"]
    lines: list[str] = []
    for head, item in entries:
        if isinstance(item, Mapping | list) and item:
            lines.append(f"{indent}{head}")
            lines.extend(full(item, indent + "  "))
        else:
            lines.append(f"{indent}{head} {_word(item)}")
    return lines


def _entry(title: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{title:<{len(_INDENT)}}{text}", WIDTH, subsequent_indent=_INDENT, break_long_words=False,
        break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip


def _clock(event: Object) -> str:
    when = _figure(event.get("time"))
    try:
        return "--:--:--" if when is None else time.strftime("%H:%M:%S", time.localtime(when))
    except (ValueError, OSError, OverflowError):
        return "--:--:--"


def _milliseconds(value: object) -> str:
    figure = _figure(value)
    return "?" if figure is None else f"{figure:.1f} ms"


def _left(seconds: object) -> str:
    figure = _figure(seconds)
    return "" if figure is None else f"{figure:.0f} s left"


def _word(value: object) -> str:
    match value:
        case None | {} | []:
            return "none"
        case True:
            return "yes"
        case False:
            return "no"
        case float():
            return f"{value:.3f}"
    return str(value)


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _figure(value: object) -> float | None:
    """A number to be shown; None for everything else that may come."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _object(value: Object, key: str) -> Object:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _objects(value: Object, key: str) -> Iterable[Object]:
    found = value.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _list(value: Object, key: str) -> Sequence[object]:
    found = value.get(key)
    return found if isinstance(found, list) else []
