"""``mobility mn|router|ha|cn|map|gateway``: runs a node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mobility.client import MobilityError
from mobility.commands.common import configuration_file, default_configuration, say
from mobility.config import Role, load

if TYPE_CHECKING:
    from mobility.commands.common import Commands

_WHAT = {
    Role.MOBILE_NODE: "run a mobile node: a host OS that keeps its home address wherever it is",
    Role.MOBILE_ROUTER: "run a mobile router: a mobile node that takes the networks behind it along",
    Role.HOME_AGENT: "run a home agent",
    Role.CORRESPONDENT: "run a correspondent: a host OS with IPsec that stays where it is",
    Role.MAP: "run a mobility anchor point, or advertise others",
    Role.GATEWAY: "run a gateway: terminals reach chosen servers behind it through TLS",
}


def add(commands: Commands) -> None:
    for role, what in _WHAT.items():
        command = commands.add_parser(role, help=what, description=what)
        usual = default_configuration(role)
        command.add_argument("--config", type=Path, metavar="FILE", help=f"see docs/configuration.md; default: {usual}")
        command.set_defaults(run=_run, role=role)


def _run(options: argparse.Namespace) -> int:
    configuration = load(configuration_file(options.config, options.role), role=options.role)
    from mobility.assembly import build  # only here: the other commands need no node and start faster without
    from mobility.supervisor import AlreadyRunning, Supervisor

    def ready() -> None:
        say(f"mobility {configuration.role}: ready in {configuration.runtime}")

    try:
        return Supervisor(configuration, build, ready).run()
    except AlreadyRunning as error:
        raise MobilityError(str(error)) from error
