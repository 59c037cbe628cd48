"""``softphone daemon``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys

from softphone.accounts.accounts import Phones, load, load_or_empty
from softphone.commands.tracing import tracing
from softphone.daemon.server import Daemon
from softphone.exit_code import ExitCode
from softphone.paths import default_path, default_socket, history_file
from softphone.people.history import History


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
            daemon = Daemon(phones, options.socket or default_socket(), exit_idle_time=options.exit_idle_time)
            phones.on_start.append(lambda _, phone: traces.watch(phone))
            await daemon.run()

    with History(history_file()) as history, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run(history))
    return ExitCode.OK
