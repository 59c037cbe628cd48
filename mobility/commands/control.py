"""``mobility command`` and ``mobility reload``: have a running node do something."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

from mobility.client import ControlClient
from mobility.commands.common import DONE, add_runtime, runtime, say
from mobility.config import Role

if TYPE_CHECKING:
    from mobility.commands.common import Commands


def add(commands: Commands) -> None:
    command = commands.add_parser("command", help="have a running node do something")
    command.add_argument(
        "name",
        nargs="+",
        help="mobile node: reregister (send a binding update now), move LINK (prefer it), return-home,"
        " optimize ADDRESS (of a correspondent: packets go directly), tunnel ADDRESS (they do not);"
        " see also `mobility scenario`",
    )
    add_runtime(command)
    command.set_defaults(run=lambda options: asyncio.run(_command(options)))

    what = "have a running home agent read its configuration anew; bindings stay"
    reload = commands.add_parser("reload", help=what, description=f"{what}. The same as SIGHUP, but with an answer.")
    add_runtime(reload)
    reload.set_defaults(run=lambda options: asyncio.run(_reload(options)))


async def _command(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options) / "control.sock") as control:
        result = await control.command(" ".join(options.name))
        if result is not None:
            say(json.dumps(result))
    return DONE


async def _reload(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options, Role.HOME_AGENT) / "control.sock") as control:
        changes = await control.request("reload")
    for what, homes in changes.items() if isinstance(changes, dict) else ():
        for home in homes if isinstance(homes, list) else ():
            say(f"{what} {home}")
    say("The configuration was read anew.")
    return DONE
