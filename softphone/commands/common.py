"""What the commands share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.paths import default_path

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    "What ``add`` of a module adds its commands to."


def config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="default: ~/.config/roamphone/softphone.toml"
    )


def socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", type=Path, metavar="FILE", help="default: that of the user's own daemon")


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def config_path(options: argparse.Namespace) -> Path:
    given: Path | None = options.config
    return default_path() if given is None else given


def say(text: str = "") -> None:
    """A line for people, on stdout."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"softphone: {text}\n")


def say_json(values: Mapping[str, object]) -> None:
    """One object, one line."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
