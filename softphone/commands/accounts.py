"""``softphone accounts``: list, add (with a walk through), test, remove."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from softphone.accounts.accounts import AccountEntry, PhoneConfiguration, load
from softphone.accounts.editing import NAME, add_account, drafted, remove_account
from softphone.accounts.passwords import FilePassword, KeyringPassword, keep_password
from softphone.accounts.settings import parse_address
from softphone.accounts.trial import Trial, try_account
from softphone.commands.common import complain, config_path, say, say_json
from softphone.config import Account
from softphone.errors import ConfigError
from softphone.exit_code import ExitCode
from softphone.phone import Softphone
from softphone.sip.uri import host_port, unescape

SOURCE_OPTIONS = ("password_file", "password_command", "password_env", "password_keyring")


@dataclass(frozen=True, slots=True)
class Terminal:
    """Who is asked: tests put something else here."""

    ask: Callable[[str], str] = input
    ask_secretly: Callable[[str], str] = getpass.getpass
    interactive: Callable[[], bool] = sys.stdin.isatty


# list, test, remove


def list_accounts(options: argparse.Namespace) -> int:
    """What is configured, without passwords."""
    configuration = load(config_path(options))
    for name, entry in configuration.entries.items():
        account, default = entry.settings, name == _default(configuration)
        if options.json:
            say_json(
                {"account": name, "address": str(account.aor), "default": default, "network": str(entry.network),
                 "transport": str(account.transport), "register": account.register, "voicemail": account.voicemail,
                 "password": _source(entry)}
            )  # fmt: skip
            continue
        details = [str(account.transport), str(entry.network), *([] if account.register else ["does not register"])]
        say(f"{name:16} {account.aor}  ({', '.join(details)}; password: {_source(entry)}){' *' if default else ''}")
    if not configuration.entries and not options.json:
        say("no accounts; softphone accounts add makes one")
    return ExitCode.OK


def _default(configuration: PhoneConfiguration) -> str | None:
    return configuration.default or next(iter(configuration.entries), None)


def _source(entry: AccountEntry) -> str:
    return "none" if entry.password is None else type(entry.password).__name__.removesuffix("Password").lower()


def try_accounts(options: argparse.Namespace) -> int:
    """The first failure's exit status."""
    configuration = load(config_path(options))
    names: list[str] = options.names or list(configuration.entries)
    if unknown := [name for name in names if name not in configuration.entries]:
        raise ConfigError(f"there is no account {unknown[0]!r}; there are {', '.join(configuration.entries)}")
    if not names:
        raise ConfigError(f"{configuration.path} has no accounts: softphone accounts add")
    codes = [_test(configuration.entries[name], options.timeout, as_json=options.json) for name in names]
    return next((code for code in codes if code), ExitCode.OK)


def _test(entry: AccountEntry, timeout: float, *, as_json: bool = False) -> ExitCode:
    try:
        trial = asyncio.run(try_account(Softphone(entry.account(), entry.sockets()), timeout))
    except ConfigError as exc:
        trial = Trial(ExitCode.USAGE, (), str(exc))
    if as_json:
        say_json(
            {"account": entry.name, "result": trial.code.word, "status": trial.status, "text": trial.text,
             "servers": trial.servers, "contact": trial.contact, "expires": trial.expires}
        )  # fmt: skip
    else:
        _tell(entry.name, trial)
    return trial.code


def _tell(name: str, trial: Trial) -> None:
    for server in trial.servers[:4]:
        say(f"{name}: server {server}")
    say(f"{name}: {trial.text}")


def remove(options: argparse.Namespace) -> int:
    """The password in a keyring goes, too; files stay."""
    path = config_path(options)
    entry = load(path).entries.get(options.name)
    remove_account(path, options.name)
    say(f"{options.name}: removed from {path}")
    match None if entry is None else entry.password:
        case KeyringPassword() as kept:
            try:
                kept.delete()
            except ConfigError as exc:
                complain(str(exc))
        case FilePassword(file):
            say(f"the password is still in {file}")
    return ExitCode.OK


# add


def add_interactively(options: argparse.Namespace) -> int:
    """With whoever sits at the terminal, if anybody does."""
    return add_one(options, Terminal())


def add_one(options: argparse.Namespace, terminal: Terminal) -> int:
    """Walk through: address, name, login, password, network; then a try, then the file."""
    path = config_path(options)
    asks = terminal.interactive() and not options.batch
    configuration = load(path) if path.exists() else PhoneConfiguration(path, {})
    if options.address is None and not asks:
        raise ConfigError("say which address: softphone accounts add alice@example.org")
    address = options.address or _ask(terminal, "SIP address (alice@example.org)")
    try:
        uri = parse_address(address)
    except ValueError as exc:
        raise ConfigError(f"{address!r} is no SIP address: {exc}") from None
    user = unescape(uri.user or "")
    name = options.name or _name(uri.host, configuration)
    if asks and options.name is None:
        name = _ask(terminal, "Name of the account here", name)
    if not NAME.match(name):
        raise ConfigError(f"{name!r} is no name for an account: letters, digits, - and _, 40 at most")
    if name in configuration.entries:
        raise ConfigError(f"there is an account {name!r} already: choose another --name, or remove it first")
    keys: dict[str, object] = {"address": f"{uri.user}@{host_port(uri.host, None)}"}
    if uri.port is not None and options.registrar is None:
        keys["registrar"] = f"sip:{host_port(uri.host, uri.port)}"
    for key in ("auth_user", "display_name", "transport", "registrar", "outbound_proxy", "local_host", "ca_file"):
        if (value := getattr(options, key)) is not None:
            keys[key] = str(Path(value).absolute()) if key == "ca_file" else value
    for key in ("voicemail", "network"):
        if (value := getattr(options, key)) is not None:
            keys[key] = value
    if asks and options.network is None:
        keys["network"] = _ask(terminal, "Network: direct, or home (the mobile home address)", "direct")
    if options.no_register:
        keys["register"] = False
    password = _password(options, terminal, keys, user, asks=asks)
    entry = drafted(path, name, keys)
    if not options.no_test:
        code = _try(entry, password, options.timeout)
        if code and not options.keep and not (asks and _yes(terminal, "Save the account all the same?")):
            say("not saved")
            return code
    if password is not None:
        where = keep_password(password, path, name, user)
        keys |= where
        file = where.get("password_file")
        place = "the keyring" if file is None else f"{path.parent / str(file)} (mode 0600)"
        say(f"the password is in {place}")
    add_account(path, name, keys)
    say(f"{name}: saved in {path}")
    return ExitCode.OK


def _password(
    options: argparse.Namespace, terminal: Terminal, keys: dict[str, object], user: str, *, asks: bool
) -> str | None:
    """One that was typed in and has to be kept, or None: ``keys`` say where it is, or there is none."""
    for key in SOURCE_OPTIONS:
        if (value := getattr(options, key)) is not None:
            keys[key] = str(Path(value).absolute()) if key == "password_file" else value
            return None
    if options.password_stdin:
        if not (given := sys.stdin.readline().rstrip("\r\n")):
            raise ConfigError("no password came by stdin")
        return given
    return (terminal.ask_secretly(f"Password of {user} (empty: none): ") or None) if asks else None


def _try(entry: AccountEntry, password: str | None, timeout: float) -> ExitCode:
    account: Account = entry.account() if password is None else replace(entry.settings, password=password)
    trial = asyncio.run(try_account(Softphone(account, entry.sockets()), timeout))
    _tell(entry.name, trial)
    return trial.code


def _name(host: str, configuration: PhoneConfiguration) -> str:
    base = re.sub(r"[^A-Za-z0-9_-]", "-", host.removeprefix("sip.")).strip("-")[:36] or "account"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, len(configuration.entries) + 2))
    return next(name for name in names if name not in configuration.entries)


def _ask(terminal: Terminal, question: str, default: str = "") -> str:
    answer = terminal.ask(f"{question} [{default}]: " if default else f"{question}: ").strip()
    return answer or default


def _yes(terminal: Terminal, question: str) -> bool:
    return _ask(terminal, f"{question} (y/n)", "n").lower() in ("y", "yes")
