"""``softphone daemon`` and ``softphone ctl``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.accounts.accounts import Phones, load, load_or_empty
from softphone.commands.common import complain, config_option, say_json
from softphone.daemon.client import DaemonClient
from softphone.daemon.server import Daemon
from softphone.errors import SoftphoneError
from softphone.exit_code import ExitCode
from softphone.paths import default_path, default_socket, history_file
from softphone.people.history import History

if TYPE_CHECKING:
    from softphone.commands.common import Commands

OPERATIONS = {
    "status": (), "dial": ("target",), "message": ("target", "text"), "answer": (), "reject": (), "hangup": (),
    "hold": (), "resume": (), "transfer": ("target",), "dtmf": ("digits",), "play": ("file",), "record": ("file",),
    "events": (),
}  # fmt: skip
"What `ctl` can do, and what follows the word."
HELP = {
    "status": "accounts and calls", "dial": "call somebody", "message": "send a text", "answer": "take a call",
    "reject": "refuse it", "hangup": "end it", "hold": "put on hold", "resume": "end the hold",
    "transfer": "hand a call on", "dtmf": "send digits", "play": "play a file into it",
    "record": "record both sides into a file", "events": "tell what happens, until Ctrl-C",
}  # fmt: skip
OF_A_CALL = ("answer", "reject", "hangup", "hold", "resume", "transfer", "dtmf", "play", "record")


def add(commands: Commands) -> None:
    serving = commands.add_parser("daemon", help="own all accounts and their calls; programs attach over a socket")
    config_option(serving)
    _socket_option(serving)
    serving.add_argument("--verbose", "-v", action="store_true", help="log more on stderr")
    serving.set_defaults(run=serve)
    controlling = commands.add_parser("ctl", help="have the daemon do something; results are JSON lines")
    _socket_option(controlling)
    inner = controlling.add_subparsers(dest="operation", required=True, metavar="OPERATION")
    for operation, words in OPERATIONS.items():
        parser = inner.add_parser(operation, help=HELP[operation])
        for word in words:
            parser.add_argument(word, metavar=word.upper())
        if operation in OF_A_CALL:
            parser.add_argument("--call", metavar="ID", help="default: the only one")
        if operation in ("dial", "message"):
            parser.add_argument("--account", metavar="NAME")
        if operation == "reject":
            parser.add_argument("--status", type=int, help="default: 486")
    controlling.set_defaults(run=control)


def _socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", type=Path, metavar="FILE", help=f"default: {default_socket()}")


def serve(options: argparse.Namespace) -> int:
    """Until Ctrl-C or SIGTERM; then calls end politely."""
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, stream=sys.stderr)
    configuration = load_or_empty(default_path()) if options.config is None else load(options.config)

    async def run(history: History) -> None:
        main = asyncio.current_task()
        assert main is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
        await Daemon(Phones(configuration, history=history), options.socket or default_socket()).run()

    with History(history_file()) as history, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run(history))
    return ExitCode.OK


def control(options: argparse.Namespace) -> int:
    """One request, one line."""
    names = (*OPERATIONS[options.operation], "call", "account", "status")
    arguments = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if "file" in arguments:
        arguments["file"] = str(Path(arguments["file"]).absolute())
    try:
        asyncio.run(_control(options.socket, options.operation, arguments))
    except KeyboardInterrupt:
        return ExitCode.OK
    except SoftphoneError as exc:
        complain(str(exc))
        return ExitCode.FAILURE
    return ExitCode.OK


async def _control(path: Path | None, operation: str, arguments: dict[str, object]) -> None:
    async with DaemonClient(path) as client:
        if operation != "events":
            say_json({"result": await client.request(operation, **arguments)})
            return
        await client.subscribe()
        async for event in client.events():
            say_json(event)
            sys.stdout.flush()
