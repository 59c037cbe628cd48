"""``mobility check``: what this machine can do, and what is missing."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from mobility.commands.common import DONE, FAILED, default_configuration, say
from mobility.config import ConfigurationError, Role, load
from mobility.examination import Finding, State, able, described, examine

if TYPE_CHECKING:
    from mobility.commands.common import Commands
    from mobility.settings import Configuration

WIDTH = 80
_INDENT = " " * 9


def add(commands: Commands) -> None:
    usual = default_configuration(Role.MOBILE_NODE)
    what = "tell what this machine can do and what is missing"
    check = commands.add_parser(
        "check", help=what,
        description=f"{what}; exit status 0 if a node can run here, 1 if not. Sends two octets to the home agent.",
    )  # fmt: skip
    check.add_argument("--config", type=Path, metavar="FILE", help=f"what is to run; default: {usual}, if it is there")
    check.add_argument("--json", action="store_true", help="one object")
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    configuration, first = _configuration(options.config)
    findings: list[Finding] = []
    for finding in (first, *examine(configuration)) if not options.json else ():
        findings.append(finding)
        say(shown(finding))
    if options.json:
        findings = [first, *examine(configuration)]
        say(json.dumps({"able": able(findings), "findings": [described(finding) for finding in findings]}))
    else:
        role = Role.MOBILE_NODE if configuration is None else configuration.role
        names = {
            Role.MOBILE_NODE: "terminal",
            Role.MOBILE_ROUTER: "mobile router",
            Role.HOME_AGENT: "home agent",
            Role.MAP: "mobility anchor point",
            Role.GATEWAY: "gateway",
        }
        node = f"A {names.get(role, 'correspondent')}"
        say("")
        say(f"{node} can run here." if able(findings) else f"{node} cannot run here: see what is missing.")
    return DONE if able(findings) else FAILED


def _configuration(named: Path | None) -> tuple[Configuration | None, Finding]:
    """Reads it, if there is one; what is wrong with it is a finding, not the end."""
    path = default_configuration(Role.MOBILE_NODE) if named is None else named
    if named is None and not path.exists():
        return None, Finding(
            "configuration", State.LIMITED, f"none at {path}: looking at the machine alone",
            "`mobility import` makes one from what your operator gave you.",
        )  # fmt: skip
    try:
        configuration = load(path)
    except ConfigurationError as error:
        return None, Finding("configuration", State.MISSING, str(error), "Correct it; see docs/configuration.md.")
    secret = "; its keys are closed to others" if configuration.associations else ""
    return configuration, Finding("configuration", State.OK, f"{path}, role {configuration.role}{secret}")


def shown(finding: Finding) -> str:
    """For people, 80 columns wide; commands in the remedy stay in one piece, however long."""
    head = f"{finding.state:<8} {finding.subject}: "
    lines = textwrap.wrap(
        head + finding.text, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )
    if finding.state is not State.OK:
        for line in finding.remedy.splitlines():
            verbatim = line.startswith((" ", "As root:", "For good:", "then:")) or len(line) <= WIDTH - len(_INDENT)
            lines += [_INDENT + line] if verbatim else _wrapped(line)
    return "\n".join(lines)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )
