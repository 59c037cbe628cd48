"""What commands share: exit status, output, and which node is meant."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mobility.config import ConfigurationError, Role, default_runtime, load

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    "What ``add`` of a module adds its commands to."

DONE, FAILED, WRONG = 0, 1, 2
"Exit status: done, something failed, wrong use or wrong configuration."


def say(text: str) -> None:
    """A line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def default_configuration(role: Role) -> Path:
    """Where a configuration is looked for that nobody names: ``/etc/roamphone``, or the user's own directory."""
    if os.geteuid() == 0:
        return Path("/etc/roamphone") / f"{role}.toml"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "roamphone" / f"{role}.toml"


def configuration_file(named: Path | None, role: Role) -> Path:
    """The file that is meant. Raises ConfigurationError if none is named and there is none at the usual place."""
    if named is not None:
        return named
    usual = default_configuration(role)
    if not usual.exists():
        how = (
            "`mobility import URI` makes it from what your operator gave you"
            if role is Role.MOBILE_NODE
            else "write it"
        )
        raise ConfigurationError(f"{usual}: does not exist: {how}, or name another with --config FILE")
    return usual


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """The options by which a running node is named."""
    parser.add_argument("--runtime", type=Path, metavar="DIRECTORY", help="runtime directory of the node")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="take the directory from this file; default: the node that runs"
    )


def runtime(options: argparse.Namespace, *roles: Role) -> Path:
    """The runtime directory of the node that is meant: the one that is named, or the one that runs at the usual place.

    ``roles``: those that come into question, all by default. Raises ConfigurationError.
    """
    if options.runtime is not None:
        return Path(options.runtime)
    if options.config is not None:
        return load(options.config).runtime
    usual = [_usual_runtime(role) for role in roles or tuple(Role)]
    return next((path for path in usual if (path / "control.sock").exists()), usual[0])


def _usual_runtime(role: Role) -> Path:
    path = default_configuration(role)
    return load(path).runtime if path.exists() else default_runtime(role)
