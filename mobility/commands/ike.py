"""``mobility ike``: keys that are negotiated, of a running terminal, home agent or correspondent."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from mobility.client import ControlClient
from mobility.commands import files
from mobility.commands.common import DONE, FAILED, add_runtime, runtime, say
from mobility.commands.view import negotiated

if TYPE_CHECKING:
    from mobility.commands.common import Commands


def add(commands: Commands) -> None:
    what = "keys that a running terminal, home agent or correspondent negotiates (IKEv2)"
    family = commands.add_parser("ike", help=what, description=what)
    verbs = family.add_subparsers(required=True, metavar="VERB")
    status = verbs.add_parser("status", help="with whom, which algorithms, which keys; status 1: with nobody")
    add_runtime(status)
    status.set_defaults(run=lambda options: asyncio.run(_status(options)))
    rekey = verbs.add_parser("rekey", help="terminal, correspondent: new keys of ESP at once")
    add_runtime(rekey)
    rekey.set_defaults(run=lambda options: asyncio.run(_rekey(options)))
    keys = verbs.add_parser(
        "keys", help="write the present keys for Wireshark: FILE.ikev2_decryption_table and FILE.esp_sa, mode 0600"
    )
    keys.add_argument("file", type=Path, metavar="FILE")
    add_runtime(keys)
    keys.set_defaults(run=lambda options: asyncio.run(_keys(options)))


async def _status(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options) / "control.sock") as control:
        lines = negotiated(await control.status())
    say("\n".join(lines or ["nothing is negotiated; `mobility status --watch` shows attempts and why they fail"]))
    return DONE if lines else FAILED


async def _rekey(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options) / "control.sock") as control:
        await control.command("rekey")
    return DONE


async def _keys(options: argparse.Namespace) -> int:
    async with ControlClient(runtime(options) / "control.sock") as control:
        tables = await control.request("ike-keys")
    for name, text in tables.items() if isinstance(tables, dict) else ():
        path = options.file.with_name(f"{options.file.name}.{name}")
        files.write(path, str(text), replace=True)
        say(f"wrote {path}")
    return DONE
