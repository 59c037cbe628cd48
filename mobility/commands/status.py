"""``mobility status``: what a running node knows and does."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

from mobility.client import ControlClient
from mobility.commands.common import DONE, add_runtime, runtime, say

if TYPE_CHECKING:
    from mobility.commands.common import Commands


def add(commands: Commands) -> None:
    status = commands.add_parser("status", help="show tables and counters of a running node")
    add_runtime(status)
    status.add_argument("--json", action="store_true", help="one line of JSON")
    status.add_argument("--watch", action="store_true", help="then show events as they happen")
    status.set_defaults(run=lambda options: asyncio.run(_status(options)))


async def _status(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options) / "control.sock") as control:
        events = control.events() if options.watch else None
        status = await control.status()
        say(json.dumps(status) if options.json else "\n".join(full(status)))
        if events is not None:
            async for event in events:
                say(json.dumps(event) if options.json else _event_line(event))
    return DONE


def full(value: object, indent: str = "") -> list[str]:
    """JSON-ready values as indented text for people."""
    if isinstance(value, dict):
        entries = [(f"{key}:", item) for key, item in value.items()]
    elif isinstance(value, list):
        entries = [("-", item) for item in value]
    else:
        return [f"{indent}{_word(value)}"]
    lines: list[str] = []
    for head, item in entries:
        if isinstance(item, dict | list) and item:
            lines.append(f"{indent}{head}")
            lines.extend(full(item, indent + "  "))
        else:
            lines.append(f"{indent}{head} {_word(item)}")
    return lines


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


def _event_line(event: dict[str, object]) -> str:
    rest = " ".join(f"{key}={_word(value)}" for key, value in event.items() if key not in ("time", "event"))
    return f"{event.get('time', '')} {event['event']} {rest}".rstrip()
