"""``mobility scenario``: the policy table of a running terminal."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from mobility.client import ControlClient, MobilityError
from mobility.commands.common import DONE, add_runtime, runtime, say
from mobility.commands.view import scenarios, waits_for_the_home_agent
from mobility.config import Role

if TYPE_CHECKING:
    from mobility.commands.common import Commands

PATIENCE = 3.0
"Seconds for which the answer of the home agent is waited for."
_LOOK = 0.05
_LASTING = "Until the terminal ends; what it begins with is `scenarios` in [mobile_node]."


def add(commands: Commands) -> None:
    what = "show or change which methods of communication a running terminal may use"
    command = commands.add_parser("scenario", help=what, description=f"{what}. See docs/scenarios.md.")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    shown = actions.add_parser("list", help="show the table: number, status, in use, substance")
    add_runtime(shown)
    shown.set_defaults(run=lambda options: asyncio.run(_list(options)))
    for verb, effect in (("enable", "let a scenario be used"), ("disable", "let it be used no more")):
        action = actions.add_parser(verb, help=f"{effect}; the terminal registers again at once, so that it counts")
        action.add_argument("number", metavar="NUMBER", help="of the scenario")
        add_runtime(action)
        action.set_defaults(run=lambda options: asyncio.run(_change(options)), verb=verb)


async def _list(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options, Role.MOBILE_NODE, Role.MOBILE_ROUTER) / "control.sock") as control:
        return await _show(control)


async def _change(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options, Role.MOBILE_NODE, Role.MOBILE_ROUTER) / "control.sock") as control:
        await control.command(f"scenario {options.verb} {options.number}")
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while waits_for_the_home_agent(await control.status()):
            if asyncio.get_running_loop().time() >= deadline:
                say("The home agent has not answered yet; the change counts as soon as it does.")
                break
            await asyncio.sleep(_LOOK)
        outcome = await _show(control)
    say(_LASTING)
    return outcome


async def _show(control: ControlClient) -> int:
    lines = scenarios(await control.status())
    if not lines:
        raise MobilityError("this node has no scenarios: it is no terminal; name one with --runtime or --config")
    say("\n".join(lines))
    return DONE
