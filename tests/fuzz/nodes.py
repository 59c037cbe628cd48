"""Whole nodes with bindings, and anybody who sends them packets: nothing raises, and what is bound stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import get_args

from mobility.outputs import Deliver, Discarded, Event, Transmit
from mobility.wire import ip6, mh
from mobility.wire.errors import WireError
from tests.fuzz.reader import Reader, put_right
from tests.fuzz.victims import STRANGER as STRANGER
from tests.fuzz.victims import FuzzedRole as FuzzedRole
from tests.fuzz.victims import Victim
from tests.fuzz.victims import victim_of as victim_of

INPUTS = 100
"So many inputs a node lives for; a kept one is replayed to a node of its own."
OUTPUTS = 64
"A packet causes fewer outputs than this."
_NO_TABLES = {
    # counters
    "counters", "of_all_homes", "advertisements", "received", "packets", "octets", "replayed", "failed",
    # neighbour discovery and path MTU, which anybody on the link or path may change (RFC 4861 section 11, RFC 8201)
    "links", "ingress", "home_link", "host_mtu",
    # packets for a terminal are tunnelled, whoever sent them
    "sent_lately",
}  # fmt: skip


_victims: dict[tuple[FuzzedRole, int], Victim] = {}


def forget() -> None:
    """The next input gets nodes of its own."""
    _victims.clear()


def _tables(value: object, path: str = "") -> dict[str, object]:
    """All values of a snapshot that a stranger must not change, by their paths."""
    found: dict[str, object] = {}
    if isinstance(value, dict):
        sends = value.get("direction") == "out"
        for name, part in value.items():
            if name not in _NO_TABLES and not (sends and name == "sequence"):
                found |= _tables(part, f"{path}.{name}")
    elif isinstance(value, list):
        # Without ESP in the tunnel anybody may reach a program: a translation remembers from whom, within bounds.
        for number, part in enumerate(each for each in value if not _of_stranger(each)):
            found |= _tables(part, f"{path}[{number}]")
    else:
        found[path] = value
    return found


def _of_stranger(row: object) -> bool:
    return isinstance(row, dict) and row.get("origin") == "stranger"


def attack(role: FuzzedRole, data: bytes, *, on_link: bool) -> None:
    """``on_link``: also what only a neighbour can send, who may do more than a stranger: no table is compared."""
    reader = Reader(data)
    kind = reader.byte() % 12
    victim = _victims.get((role, kind))
    if victim is None or victim.uses >= INPUTS:
        victim = _victims[role, kind] = victim_of(role, kind)
    victim.uses += 1
    node = victim.node
    for _ in range(32):
        if not reader:
            break
        step = reader.byte()
        links = [each for each in victim.links if on_link or each[0] not in victim.inside]
        link, senders = links[(step >> 6 & 1) % len(links)]
        sender = reader.chosen(senders)
        packet = _packet(step, reader, victim)
        if not on_link and len(packet) > 7 and packet[0] >> 4 == 6 and "/" not in link:
            packet = b"%b%c%b" % (packet[:7], min(packet[7], 64), packet[8:])  # came through a router
        if step & 0x20:
            victim.now += reader.byte() / 16
            if node.timer is not None and node.timer <= victim.now:
                _check(node.handle_timer(victim.now), None)
        before = {} if on_link else _tables(node.snapshot(victim.now))
        if on_link and step & 0x10:
            _check(node.from_host(packet, victim.now), None)
            continue
        # What programs sent may wait for a neighbour, and goes when he answers.
        _check(node.from_link(link, packet, sender, victim.now), None if on_link else packet)
        if not on_link:
            _same(before, _tables(node.snapshot(victim.now)), packet)
    size = len(json.dumps(node.snapshot(victim.now)))
    if size > 500_000:
        raise AssertionError(f"a snapshot of {size} octets: some table has no bound")


def _packet(step: int, reader: Reader, victim: Victim) -> bytes:
    match step & 3:
        case 0:
            return put_right(reader.edited(reader.chosen(victim.templates)))
        case 1:
            return reader.edited(reader.chosen(victim.templates))
        case 2:
            source, to = reader.chosen(victim.addresses), reader.chosen(victim.addresses)
            protocol, hops = reader.byte(), reader.byte()
            return put_right(ip6.packet(source, to, protocol, reader.take(reader.byte() * 8), hops))
        case _:
            return reader.take(reader.short())


def _same(before: dict[str, object], after: dict[str, object], packet: bytes) -> None:
    changed = {
        path: (before.get(path), after.get(path)) for path in before | after if before.get(path) != after.get(path)
    }
    if changed and not (_asks(packet) and all(_of_route(path) for path in changed)):
        raise AssertionError(f"a stranger's packet {packet.hex()} changed {changed}")


def _asks(packet: bytes) -> bool:
    """Two messages prove nothing and may come from anybody: a binding error sends packets by the tunnel until the
    binding is renewed, and a refresh request has it renewed."""
    try:
        flow = ip6.flow(packet)
    except WireError:
        return False
    return flow.protocol == ip6.MOBILITY and flow.type in (mh.Type.BINDING_ERROR, mh.Type.BINDING_REFRESH_REQUEST)


def _of_route(path: str) -> bool:
    return path.startswith((".mobile_node.binding_update_list[1]", ".route_optimization.correspondents"))


def _check(outputs: object, packet: bytes | None) -> None:
    if not isinstance(outputs, list) or not all(isinstance(o, Transmit | Deliver | Discarded | Event) for o in outputs):
        raise AssertionError(f"outputs {outputs!r}")
    if packet is None:
        return
    if len(outputs) > OUTPUTS:
        raise AssertionError(f"{len(outputs)} outputs for one packet")
    octets = sum(len(output.packet) for output in outputs if isinstance(output, Transmit))
    if octets > 3 * len(packet) + 4000:
        raise AssertionError(f"{octets} octets sent for {len(packet)}")


Target = Callable[[bytes], None]
ROLES: tuple[FuzzedRole, ...] = get_args(FuzzedRole)
TEMPLATES = 64
"So many of the packets that a node knows are inputs to begin with."


def seeds() -> list[bytes]:
    """Inputs of one packet each, as it was seen or forged, for each form of the tunnel and for UDP."""
    return [bytes((kind, step, 0, number, 0)) for kind in range(4) for step in (0, 0x40) for number in range(TEMPLATES)]


TARGETS: dict[str, Target] = {
    f"{role}{'-on-link' if on_link else ''}": partial(attack, role, on_link=on_link)
    for role in ROLES
    for on_link in (False, True)
}
