"""What people see of MAPs: the lines of a terminal that uses one, and the overview of a MAP itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Object = Mapping[str, object]
Entry = Callable[[str, str], list[str]]
"Makes the lines of one entry: title, text."

ROWS = 20
"How many bindings of a MAP are shown."


def of_terminal(regional: Object, entry: Entry) -> list[str]:
    """Which MAPs are used, and which there are."""
    lines: list[str] = []
    for domain in _objects(regional, "domains"):
        registration = domain.get("registration")
        state = registration.get("state") if isinstance(registration, Mapping) else "?"
        where = f"RCoA {domain.get('rcoa')} at {domain.get('lcoa') or 'no LCoA'} on {domain.get('access') or 'no link'}"
        lines += entry("" if lines else "MAP", f"{domain.get('anchor')}, type {domain.get('type')}, {state}: {where}")
    used = {str(domain.get("anchor")) for domain in _objects(regional, "domains")}
    for heard in _objects(regional, "maps"):
        if str(heard.get("address")) in used:
            continue
        rank = f"distance {heard.get('distance')}, preference {heard.get('preference')}"
        why = "" if heard.get("usable") else ", not to be used"
        lines += entry("" if lines else "MAP", f"heard on {heard.get('link')}: {heard.get('address')}, {rank}{why}")
    return lines


def of_map(node: Object, entry: Entry) -> list[str]:
    """The overview of a node of the role ``map``."""
    anchor = node.get("anchor")
    lines: list[str] = []
    if isinstance(anchor, Mapping):
        rows = list(_objects(anchor, "map_cache"))
        lines += entry("MAP", f"{anchor.get('address')}, RCoAs in {anchor.get('prefix')}, {len(rows)} bound")
        for row in rows[:ROWS]:
            whose = f"{row.get('terminal')}: " if row.get("terminal") else ""
            lines += entry("", f"{whose}{row.get('rcoa')} at {row.get('lcoa')}, {row.get('remaining')} s left")
        if len(rows) > ROWS:
            lines += entry("", f"and {len(rows) - ROWS} more")
    advertised = node.get("advertised")
    for link, said in advertised.items() if isinstance(advertised, Mapping) else ():
        maps = ", ".join(f"MAP {each.get('address')} (type {each.get('type')})" for each in _objects(said, "maps"))
        prefixes = said.get("prefixes") if isinstance(said, Mapping) else None
        what = [str(each) for each in prefixes] if isinstance(prefixes, list) else []
        lines += entry("advertises", f"on {link}: {', '.join([*what, maps] if maps else what) or 'nothing'}")
    return lines


def _objects(value: object, key: str) -> Iterable[Object]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
