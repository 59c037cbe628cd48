"""What people see of negotiated keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Object = Mapping[str, object]
Entry = Callable[[str, str], list[str]]
"Makes the lines of one entry: title, text."

ROWS = 20
"How many IKE SAs are shown."


def lines(node: Object, entry: Entry, *, everything: bool = False) -> list[str]:
    """The IKE SAs of a node; ``everything``: all of them, with their child SAs."""
    rows = list(_objects(node, "ike"))
    shown: list[str] = []
    for row in rows if everything else rows[:ROWS]:
        nat = " through a NAT" if row.get("nat") else ""
        text = f"IKE with {row.get('peer')} at {row.get('remote')}{nat}, {row.get('state')}"
        suite = f": {row['suite']}" if row.get("suite") else ""
        shown += entry("" if shown else "keys", text + suite)
        for child in _objects(row, "children") if everything else ():
            sent = "" if child.get("sending") else ", not sent by"
            spis = f"{child.get('inbound_spi')} in, {child.get('outbound_spi')} out"
            algorithm = f"{child.get('algorithm')}, {child.get('mode')} mode"
            shown += entry("", f"{child.get('name')}: {algorithm}, {child.get('state')}{sent}; SPIs {spis}")
    if len(rows) > ROWS and not everything:
        shown += entry("", f"and {len(rows) - ROWS} more: `mobility ike status`")
    return shown


def failed(event: Object) -> str:
    """An attempt of which nothing came."""
    return f"no keys with {event.get('peer')}: {event.get('reason')}"


def _objects(value: Object, key: str) -> Iterable[Object]:
    found = value.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
