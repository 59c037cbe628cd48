"""``softphone daemon``."""

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
from softphone.commands.common import config_option
from softphone.commands.tracing import trace_options, tracing
from softphone.daemon.server import Daemon
from softphone.exit_code import ExitCode
from softphone.paths import default_path, default_socket, history_file
from softphone.people.history import History

if TYPE_CHECKING:
    from softphone.commands.common import Commands


def add(commands: Commands) -> None:
    serving = commands.add_parser("daemon", help="own all accounts and their calls; programs attach over a socket")
    config_option(serving)
    socket_option(serving)
    trace_options(serving)
    serving.add_argument("--verbose", "-v", action="store_true", help="log more on stderr")
    serving.set_defaults(run=serve)


def socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", type=Path, metavar="FILE", help=f"default: {default_socket()}")


def serve(options: argparse.Namespace) -> int:
    """Until Ctrl-C or SIGTERM; then calls end politely."""
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, stream=sys.stderr)
    configuration = load_or_empty(default_path()) if options.config is None else load(options.config)

    async def run(history: History) -> None:
        main = asyncio.current_task()
        assert main is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
        with tracing(options) as traces:
            phones = Phones(configuration, history=history)
            daemon = Daemon(phones, options.socket or default_socket())
            phones.on_start.append(lambda _, phone: traces.watch(phone))
            await daemon.run()

    with History(history_file()) as history, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run(history))
    return ExitCode.OK
