"""Section ``nesting``: what each mobile network around a terminal costs (Fig. 36), by form of the tunnels.

``networks``: how many mobile networks the terminal is in, one inside the other; 0: in none, its own tunnel alone. For
a packet of speech (`bench.octets.PROGRAM` octets of IPv6, without the application's ESP): ``octets`` on the air outside
of all networks, ``us_down`` and ``us_up``: microseconds of the home agent's processor for one packet to and from the
terminal, medians. ``each_network``: what one more of them adds, on average. No sockets: the node alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import octets
from bench.statistics import measured, microseconds
from mobility.mipv6.tunnel import TunnelForm
from mobility.nemo.nest import NESTING_LIMIT
from mobility.wire import udp
from tests.mobility.nemo.rig import Member, Rig, sent
from tests.mobility.whole import CN

CALLS, ROUNDS = 100, 15
FIGURES = ("octets", "us_down", "us_up")


def measure() -> dict[str, object]:
    return {"packet": octets.PROGRAM, **{form.value: _form(form) for form in TunnelForm}}


def _form(form: TunnelForm) -> dict[str, object]:
    found = [_depth(form, depth) for depth in range(NESTING_LIMIT + 1)]
    first, last = found[0], found[-1]
    return {
        "networks": {str(depth): figures for depth, figures in enumerate(found)},
        "each_network": {name: round((last[name] - first[name]) / NESTING_LIMIT, 2) for name in FIGURES},
    }


def _depth(form: TunnelForm, depth: int) -> dict[str, Any]:
    rig, terminal = nest(form, depth)
    down, up = packets(terminal)
    (outer,) = sent(rig.arrives(down))
    rising = _rising(terminal, up)
    if len(sent(rig.arrives(next(rising)))) != 1:
        raise RuntimeError("a packet of the terminal did not come through")
    return {
        "octets": len(outer),
        **measured("us_down", microseconds(lambda: rig.arrives(down), CALLS, ROUNDS), 2),
        **measured("us_up", microseconds(lambda: rig.arrives(next(rising)), CALLS, ROUNDS), 2),
    }


def nest(form: TunnelForm, depth: int) -> tuple[Rig, Member]:
    """A home agent, and a terminal inside ``depth`` networks; all tunnels have the same form."""
    rig = Rig(*[form] * (depth + 1))
    return rig, rig.nest(depth)


def packets(terminal: Member) -> tuple[bytes, bytes]:
    """One of speech to the terminal, and one from it."""
    home = terminal.home.packed
    body = bytes(octets.SPEECH)
    return udp.packet(CN.packed + home, octets.PORTS, body), udp.packet(home + CN.packed, octets.PORTS, body)


def _rising(terminal: Member, packet: bytes) -> Iterator[bytes]:
    """Copies of a packet as they arrive at the home agent: each is sealed anew, before the clock runs."""
    return iter([terminal.up(packet) for _ in range(CALLS * ROUNDS + 1)])
