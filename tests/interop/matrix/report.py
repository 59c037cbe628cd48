"""The table for people: docs/matrix.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from softphone.sip.transport import Transport
from tests.interop.matrix.cells import Keys, Outcome, Program

HEAD = """# Calls with other phones

What `make matrix` found on {day}: our phone and others call each other through Kamailio {kamailio}, on one machine.
In each cell all phones register, over that transport, and make two calls. **Passed** means: in the first call a tone
came to us, one of ours came to the other phone, a digit went each way, each side held the other and resumed, and the
caller hung up. In the second call the other phone was transferred by us where we called, and transferred us where it
called, to a third phone, and sound came there. What fails is tried once more.
"""
COLUMNS = ((6, False), (6, True), (4, False), (4, True))


def write(outcomes: Sequence[tuple[Program, Sequence[Outcome]]], kamailio: str, day: date) -> str:
    """The page. Raises KeyError unless all cells of the programs are there."""
    parts = [HEAD.format(day=day.isoformat(), kamailio=kamailio)]
    parts += [_section(program, of_program) for program, of_program in outcomes]
    return "\n".join(parts)


def _section(program: Program, outcomes: Iterable[Outcome]) -> str:
    found = {(o.cell.transport, o.cell.keys, o.cell.version, o.cell.calls_us): o for o in outcomes}
    notes: list[str] = []
    lines = [
        f"## {program.name} {program.version()}",
        "",
        "| | we call, IPv6 | it calls, IPv6 | we call, IPv4 | it calls, IPv4 |",
        "|---|---|---|---|---|",
    ]
    for transport in (Transport.UDP, Transport.TCP, Transport.TLS):
        for keys in Keys:
            row = [_verdict(found[transport, keys, version, calls_us], notes) for version, calls_us in COLUMNS]
            lines.append(f"| {transport.upper()}, {keys} | {' | '.join(row)} |")
    lines.append("")
    lines += [f"({number}) {note}\n" for number, note in enumerate(notes, 1)]
    lines += [f"Not tried: {deed}; {why}.\n" for deed, why in program.without.items()]
    return "\n".join(lines)


def _verdict(outcome: Outcome, notes: list[str]) -> str:
    if outcome.impossible is not None:
        word, note = "–", outcome.impossible
    elif outcome.failed is not None:
        word, note = "**failed**", outcome.failed
    elif outcome.before is not None:
        word, note = "passed", f"at the second attempt; the first ended at {outcome.before}"
    else:
        return "passed"
    if note not in notes:
        notes.append(note)
    return f"{word} ({notes.index(note) + 1})"
