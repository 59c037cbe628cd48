"""What the commands that run a phone share: which account, what is told while it runs, how it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from softphone.accounts.accounts import AccountEntry, Engine, Network, load
from softphone.accounts.settings import parse_address
from softphone.accounts.trial import explain
from softphone.commands.common import complain, config_path, say, say_json
from softphone.commands.tracing import tracing
from softphone.config import Account
from softphone.errors import CallRejected, ConfigError, RegistrationError, SoftphoneError
from softphone.event_names import described
from softphone.events import CallMedia, Event, Listener
from softphone.exit_code import ExitCode, code_of
from softphone.media.recorder import RecordingEnded
from softphone.paths import history_file
from softphone.people.call_log import CallLog
from softphone.people.history import History
from softphone.sip.errors import SipParseError
from softphone.sip.uri import unescape
from softphone.telephone import Telephone


class Finished(Exception):
    """The command is over, with this to say."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Session:
    """A running phone and who watches it."""

    phone: Telephone
    name: str
    as_json: bool
    failure: str = ""
    "What went wrong although the command went on."
    endless: bool = False
    "It goes on until it is interrupted: that is no failure."
    on_event: Callable[[Event], None] = lambda event: None
    "Is told of everything, too."

    def tell(self, values: Mapping[str, object]) -> None:
        """One line on stdout, at once: whoever reads it waits for it."""
        if self.as_json:
            say_json(values)
        else:
            details = (f"{key}={value}" for key, value in values.items() if key != "event" and value not in ("", None))
            say(" ".join((str(values["event"]), *details)))
        sys.stdout.flush()

    def failed(self, why: str) -> None:
        self.failure = why
        complain(why)

    async def watch(self, events: Listener) -> None:
        async for event in events:
            match event:
                case CallMedia(_, RecordingEnded(_, _, _, why)) if why:
                    self.failed(why)
                case _:
                    pass
            self.tell(described(event, self.name))
            self.on_event(event)


def run(options: argparse.Namespace, work: Callable[[Session, argparse.Namespace], Awaitable[str]]) -> int:
    """Run a phone and this with it. Ctrl-C and SIGTERM end both politely: calls by BYE, the registration too."""
    logging.basicConfig(level=logging.INFO if options.verbose else logging.ERROR, stream=sys.stderr)
    code, text = ExitCode.OK, ""
    try:
        text = asyncio.run(_run(options, work))
    except Finished as exc:
        code, text = exc.code, str(exc)
    except RegistrationError as exc:
        code, text = explain(exc.status, exc.reason, _entry(options).settings)
    except CallRejected as exc:
        code, text = code_of(exc.status), str(exc)
    except SipParseError as exc:
        code, text = ExitCode.USAGE, str(exc)
    except TimeoutError as exc:
        code, text = ExitCode.TIMEOUT, str(exc) or f"nothing came within {options.timeout:g} s"
    except ConfigError as exc:
        code, text = ExitCode.USAGE, str(exc)
    except (SoftphoneError, OSError) as exc:
        code, text = ExitCode.FAILURE, str(exc)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code, text = ExitCode.FAILURE, "interrupted"
    if options.json:
        say_json({"event": "result", "result": code.word, "text": text})
    elif text:
        complain(text)
    return code


async def _run(options: argparse.Namespace, work: Callable[[Session, argparse.Namespace], Awaitable[str]]) -> str:
    main = asyncio.current_task()
    assert main is not None
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    async with _session(options) as session:
        try:
            text = await work(session, options)
        except asyncio.CancelledError:
            if not session.endless:
                raise
            main.uncancel()
            text = ""
    if session.failure:
        raise Finished(ExitCode.FAILURE, session.failure)
    return text


@asynccontextmanager
async def _session(options: argparse.Namespace) -> AsyncIterator[Session]:
    entry = await asyncio.to_thread(_entry, options)
    name, account = entry.name, await asyncio.to_thread(entry.account)
    with contextlib.ExitStack() as stack:
        traces = stack.enter_context(tracing(options))
        log = None
        if not options.no_history and options.id is None:
            log = CallLog(stack.enter_context(History(history_file())), name, failed=lambda exc: complain(str(exc)))
        phone = entry.phone(account, log)
        traces.watch(phone)
        session = Session(phone, name, options.json)
        watching = asyncio.create_task(session.watch(phone.events()))
        try:
            async with phone:
                session.tell({"event": "ready", "account": name, "host": phone.host, "port": phone.port})
                if account.register:
                    await _registered(phone, options.timeout)
                yield session
        finally:  # closing the phone ends the events
            await watching


async def _registered(phone: Telephone, timeout: float) -> None:
    try:
        await phone.registered(timeout)
    except TimeoutError:
        raise TimeoutError(f"the registrar did not accept us within {timeout:g} s") from None


def _entry(options: argparse.Namespace) -> AccountEntry:
    """The account that is meant. Raises ConfigError."""
    if options.id is None:
        configuration = load(config_path(options))
        name = options.account or configuration.default or next(iter(configuration.entries), None)
        if name is None:
            raise ConfigError(f"{configuration.path} has no accounts: softphone accounts add, or --id ADDRESS")
        if (entry := configuration.entries.get(name)) is None:
            raise ConfigError(f"there is no account {name!r}; there are {', '.join(configuration.entries)}")
        return entry
    try:
        uri = parse_address(options.id)
    except ValueError as exc:
        raise ConfigError(f"{options.id!r} is no SIP address: {exc}") from None
    password = "" if options.password_env is None else os.environ.get(options.password_env)
    if password is None:
        raise ConfigError(f"the variable {options.password_env} is not set")
    account = Account(
        user=unescape(uri.user or ""), domain=uri.host, password=password, auth_user=options.username,
        register=options.registrar is not None, registrar=options.registrar,
        local_host=options.local_host, local_port=options.local_port,
    )  # fmt: skip
    network = Network.DIRECT if options.mobility is None else Network.HOME
    return AccountEntry(
        name=str(network), settings=account, network=network, engine=Engine(options.engine),
        home_socket=None if options.mobility is None else Path(options.mobility) / "host.sock",
    )  # fmt: skip
