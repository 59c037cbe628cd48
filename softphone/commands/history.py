"""``softphone history``."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.commands.common import complain, json_option, say, say_json
from softphone.exit_code import ExitCode
from softphone.paths import history_file
from softphone.people.history import CallRecord, CallResult, History

if TYPE_CHECKING:
    from softphone.commands.common import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("history", help="the calls that were: missed, answered, refused...")
    parser.add_argument("--limit", type=int, default=50, metavar="NUMBER", help="the latest so many; default 50")
    parser.add_argument("--account", metavar="NAME")
    parser.add_argument("--search", metavar="TEXT", help="in addresses, names and notes")
    parser.add_argument("--missed", action="store_true", help="only missed calls")
    parser.add_argument("--before", type=int, metavar="ID", help="the page before this one")
    parser.add_argument("--clear", action="store_true", help="forget all calls")
    parser.add_argument("--file", type=Path, help="default: ~/.local/share/roamphone/history.db")
    json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The latest calls, the latest first."""
    with History(options.file or history_file()) as history:
        if history.moved_aside is not None:
            complain(f"the history was damaged; it is in {history.moved_aside} now, and a new one begins")
        if options.clear:
            say(f"{history.clear()} calls forgotten")
            return ExitCode.OK
        wanted = CallResult.MISSED if options.missed else None
        for record in history.calls(
            max(1, options.limit),
            account=options.account,
            result=wanted,
            before=options.before,
            search=options.search,
        ):
            if options.json:
                say_json(dataclasses.asdict(record))
            else:
                say(line(record))
    return ExitCode.OK


def line(record: CallRecord) -> str:
    """A call on one line."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.began))
    who = f"{record.name} <{record.remote}>" if record.name else record.remote
    details = []
    if record.result is CallResult.ANSWERED:
        minutes, seconds = divmod(round(record.duration), 60)
        details = [f"{minutes}:{seconds:02}", record.codec, "" if record.mos is None else f"MOS {record.mos:.1f}"]
    elif record.result in (CallResult.FAILED, CallResult.REFUSED):
        details = [f"{record.status} {record.reason}"]
    if record.note:
        details.append(f"note: {record.note}")
    way = "from" if record.incoming else "to  "
    shown = "".join(char if char.isprintable() else "?" for char in f"{who}  {', '.join(filter(None, details))}")
    return f"{when}  {record.result:9}  {way} {shown}".rstrip()
