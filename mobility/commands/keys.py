"""``mobility keys`` makes keys, ``mobility esp-sa`` shows them to Wireshark."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mobility.commands.common import DONE, say
from mobility.config import load
from mobility.enrolment import association
from mobility.ipsec.algorithms import Algorithm

if TYPE_CHECKING:
    from mobility.commands.common import Commands


def add(commands: Commands) -> None:
    table = commands.add_parser("esp-sa", help="write the keys of nodes as Wireshark's esp_sa table")
    table.add_argument(
        "--config", type=Path, required=True, action="append", metavar="FILE", help="may be given several times"
    )
    table.add_argument("--output", type=Path, metavar="FILE", help="mode 0600; default: standard output")
    table.set_defaults(run=_esp_sa)

    keys = commands.add_parser("keys", help="make random keys for a pair of security associations")
    keys.add_argument(
        "--algorithm",
        choices=[algorithm.value for algorithm in Algorithm],
        default=Algorithm.AES_CBC_HMAC_SHA2_256_128.value,
    )
    keys.set_defaults(run=_keys)


def _esp_sa(options: argparse.Namespace) -> int:
    from mobility.trace import esp_sa_table, write_esp_sa

    configurations = [load(path) for path in options.config]
    if options.output is None:
        say(esp_sa_table(configurations).rstrip("\n"))
    else:
        write_esp_sa(options.output, configurations)
    return DONE


def _keys(options: argparse.Namespace) -> int:
    algorithm = Algorithm.parse(options.algorithm)
    # SPIs in a range that is left to manual keying; the other end has the two lines swapped.
    lines = [
        f"{direction} = {association(0x1000 + int.from_bytes(os.urandom(2), 'big'), algorithm)}"
        for direction in ("outbound", "inbound")
    ]
    if algorithm.aead:
        lines.append('keys = "session"  # never use these keys a second time')
    say("\n".join(lines))
    return DONE
