"""What people see of negotiated keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Object = Mapping[str, object]
Entry = Callable[[str, str], list[str]]
"Makes the lines of one entry: title, text."

ROWS, FAILURES = 20, 5
"How many IKE SAs, and failures, are shown."


def lines(node: Object, entry: Entry, *, everything: bool = False) -> list[str]:
    """The IKE SAs of a node; ``everything``: all of them, with their child SAs."""
    rows = list(_objects(node, "ike"))
    shown: list[str] = []
    for row in rows if everything else rows[:ROWS]:
        nat = " through a NAT" if row.get("nat") else ""
        text = f"IKE with {row.get('peer')} at {row.get('remote')}{nat}, {row.get('state')}"
        suite = f": {row['suite']}" if row.get("suite") else ""
        renewal = _renewal(row) if everything else ""
        shown += entry("" if shown else "keys", text + suite + renewal)
        for child in _objects(row, "children") if everything else ():
            sent = "" if child.get("sending") else ", not sent by"
            spis = f"{child.get('inbound_spi')} in, {child.get('outbound_spi')} out"
            algorithm = f"{child.get('algorithm')}, {child.get('mode')} mode"
            text = f"{child.get('name')}: {algorithm}, {child.get('state')}{sent}; SPIs {spis}{_renewal(child)}"
            shown += entry("", text)
    if len(rows) > ROWS and not everything:
        shown += entry("", f"and {len(rows) - ROWS} more: `mobility ike status`")
    for row in _objects(node, "application_keys"):
        shown += entry("" if shown else "keys", _correspondent(row))
    for row in _objects(node, "ike_counters") if everything else ():
        refused = f"{row.get('replayed')} replayed, {row.get('failed')} not authentic"
        counts = f"{row.get('sent')} packets sent, {row.get('received')} received, {refused}"
        shown += entry("", f"{row.get('name')} with {row.get('peer')}: {counts}")
    failures = list(_objects(node, "ike_failures"))
    for failure in failures if everything else failures[-FAILURES:]:
        shown += entry("" if shown else "keys", failed(failure))
    return shown


def _correspondent(row: Object) -> str:
    """How it stands with somebody with whom the application's keys are negotiated: since when, why, until when."""
    calls = row.get("calls")
    wanted = ["the configuration"] if row.get("why") == "configured" else []
    wanted += [f"call {call}" for call in calls] if isinstance(calls, list) else []
    why = " and ".join(wanted)
    since, left, waiting = row.get("since"), row.get("until"), row.get("packets_waiting")
    text = f"application with {row.get('peer')}: {row.get('state')}"
    text += f" for {since:.0f} s" if isinstance(since, int | float) else ""
    text += f", wanted by {why}" if why else ""
    text += f" for {left:.0f} s more at least" if isinstance(left, int | float) else ""
    return text + (f", {waiting} packets wait" if waiting else "")


def _renewal(row: Object) -> str:
    """When keys are to be renewed; who does not begin that waits longer than the other end."""
    left = row.get("rekey_in")
    return f", new ones in {left:.0f} s" if isinstance(left, int | float) else ""


def failed(event: Object) -> str:
    """An attempt of which nothing came."""
    return f"no keys with {event.get('peer')}: {event.get('reason')}"


def _objects(value: Object, key: str) -> Iterable[Object]:
    found = value.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
