"""Several accounts at once: the configuration file, and the phones that it makes.

``async with Phones.configured() as phones: call = await phones.choose("bob@example.org").dial(...)``
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from softphone.accounts.passwords import PasswordSource, PlainPassword, check_private
from softphone.accounts.preferences import read_preferences
from softphone.accounts.settings import (
    any_text,
    one_of,
    parse_address,
    read_ice,
    read_password,
    read_settings,
    sip_address,
)
from softphone.accounts.settings import path as a_path
from softphone.accounts.toml_file import Table, TomlFile
from softphone.config import Account
from softphone.errors import ConfigError, SoftphoneError
from softphone.media.ike_description import IpsecMode
from softphone.network.sockets import DirectSockets, HomeSockets, Sockets
from softphone.paths import default_home_socket, default_path
from softphone.people.call_log import CallLog
from softphone.people.history import History
from softphone.phone import Softphone
from softphone.pjsua.phone import PjsuaPhone, check
from softphone.sip.uri import unescape
from softphone.telephone import Telephone


class Network(StrEnum):
    """Which network an account's calls and speech go through."""

    DIRECT = "direct"
    "The one that this machine is in."
    HOME = "home"
    "The home network, wherever the machine is: the mobile home address (`mobility mn` has to run)."


class Engine(StrEnum):
    """What makes an account's calls."""

    ROAMPHONE = "roamphone"
    "Our own SIP and media."
    PJSUA2 = "pjsua2"
    "PJSUA2, in a process of its own, over IPv4."


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEntry:
    """One account of the configuration; its password has not been asked for yet."""

    name: str
    settings: Account
    "Without passwords."
    password: PasswordSource | None = None
    turn_password: PasswordSource | None = None
    network: Network = Network.DIRECT
    home_socket: Path | None = None
    "``host.sock`` of the mobility process; None: where `mobility mn` puts it."
    engine: Engine = Engine.ROAMPHONE

    def account(self) -> Account:
        """With the passwords. May take long (a command may ask a person). Raises ConfigError."""
        settings = self.settings
        if self.turn_password is not None and settings.ice is not None:
            settings = replace(settings, ice=replace(settings.ice, turn_password=self.turn_password.read()))
        return settings if self.password is None else replace(settings, password=self.password.read())

    def sockets(self) -> Sockets:
        """Of the network that the account uses."""
        return DirectSockets() if self.network is Network.DIRECT else HomeSockets(self._host_socket)

    def phone(self, account: Account, log: CallLog | None = None) -> Telephone:
        """Its phone, not started yet; ``account`` is what `account` gave, or a variation of it."""
        if self.engine is Engine.PJSUA2:
            mobility = None if self.network is Network.DIRECT else self._host_socket.parent
            return PjsuaPhone(account, mobility=mobility, log=log)
        return Softphone(account, self.sockets(), log=log)

    @property
    def _host_socket(self) -> Path:
        return default_home_socket() if self.home_socket is None else self.home_socket


@dataclass(frozen=True, slots=True)
class PhoneConfiguration:
    """What the file says."""

    path: Path
    entries: Mapping[str, AccountEntry]
    default: str | None = None
    "Name of the account that calls where none is named; None: the first."
    preferences: Mapping[str, Any] = field(default_factory=dict)
    "What stands there beyond accounts, by the names of `softphone.accounts.preferences`."


def load(path: Path) -> PhoneConfiguration:
    """Read and check the file. Raises ConfigError with line, key and what is expected there.

    No password is asked for; but a file that holds one must not be open to others.
    """
    file = TomlFile(path)
    root = file.root
    preferences = read_preferences(root, path.parent)
    default = preferences.get("default")
    entries = read_accounts(root, path)
    root.end()
    if default is not None and default not in entries:
        raise root.error("default", f"there is no account {default!r}; there are {', '.join(entries) or 'none at all'}")
    return PhoneConfiguration(path, entries, default, preferences)


def read_accounts(root: Table, path: Path) -> dict[str, AccountEntry]:
    """The tables ``[account.NAME]`` of a file. Raises ConfigError."""
    accounts = root.table("account")
    entries = {} if accounts is None else {name: _entry(name, table, path) for name, table in accounts.tables().items()}
    if any(
        isinstance(source, PlainPassword)
        for entry in entries.values()
        for source in (entry.password, entry.turn_password)
    ):
        check_private(path)
    return entries


def _entry(name: str, table: Table, path: Path) -> AccountEntry:
    beside = path.parent
    address = table.required("address", sip_address)
    settings = read_settings(table, beside)
    password = read_password(table, beside)
    ice, turn_password = read_ice(table.table("ice"), beside)
    network = table.optional("network", one_of(Network)) or Network.DIRECT
    home_socket = table.optional("home_socket", a_path)
    engine = table.optional("engine", one_of(Engine)) or Engine.ROAMPHONE
    table.end()
    if settings.get("ipsec") is IpsecMode.MANDATORY and network is Network.DIRECT:
        raise table.error("ipsec", 'is made between home addresses: give this account network = "home"')
    if home_socket is not None and network is Network.DIRECT:
        raise table.error("home_socket", 'is for network = "home"')
    try:
        account = Account(user=unescape(address.user or ""), domain=address.host, ice=ice, **settings)
        if engine is Engine.PJSUA2:
            check(account)
    except ConfigError as exc:
        raise table.error(None, str(exc)) from None
    return AccountEntry(
        name=name, settings=account, password=password, turn_password=turn_password, network=network,
        home_socket=None if home_socket is None else beside / home_socket, engine=engine,
    )  # fmt: skip


def load_or_empty(path: Path) -> PhoneConfiguration:
    """As `load`; no file is one without accounts."""
    return load(path) if path.exists() else PhoneConfiguration(path, {})


class Changed(NamedTuple):
    """What another configuration has changed: names of accounts."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    waiting: tuple[str, ...]
    "Have calls, and go on with what they had until `Phones.apply` is called again."


PhoneFactory = Callable[[AccountEntry, Account], Telephone]
"Makes the phone of an account, whose password has been read."


class Phones:
    """The phones of all accounts, each by its name. One that cannot start does not stop the others: `failures`.

    ``history`` gets the calls of all. ``make`` replaces how a phone is made.
    """

    def __init__(
        self, configuration: PhoneConfiguration, make: PhoneFactory | None = None, *, history: History | None = None
    ) -> None:
        self.configuration = configuration
        self.running: dict[str, Telephone] = {}
        self.failures: dict[str, SoftphoneError] = {}
        "Accounts that could not start (no password, no home address, port in use), and why."
        self.on_start: list[Callable[[str, Telephone], None]] = []
        "Told of every phone that starts, before it sends anything."
        self.on_apply: Callable[[], None] = lambda: None
        "Told when another configuration counts."
        self.history = history
        self._make = self._phone if make is None else make
        self._closed = False

    @classmethod
    def configured(cls, path: Path | None = None, *, history: History | None = None) -> Self:
        """Those of a file; None: of ``~/.config/roamphone/softphone.toml``. Raises ConfigError."""
        return cls(load(default_path() if path is None else path), history=history)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start all accounts, one after the other: commands for passwords may ask the same person."""
        self._closed = False
        try:
            for name in self.configuration.entries:
                with suppress(SoftphoneError):
                    await self.start_one(name)
        except BaseException:
            await self.close()
            raise

    async def start_one(self, name: str) -> Telephone:
        """Start an account that does not run, also again after a failure. Raises ConfigError, TransportError."""
        if name in self.running:
            return self.running[name]
        if (entry := self.configuration.entries.get(name)) is None:
            known = ", ".join(self.configuration.entries) or "none at all"
            raise ConfigError(f"there is no account {name!r} in {self.configuration.path}; there are {known}")
        self.failures.pop(name, None)
        try:
            account = await asyncio.to_thread(entry.account)
            phone = self._make(entry, account)
            await phone.start()
        except SoftphoneError as exc:
            self.failures[name] = exc
            raise
        self.running[name] = phone
        if self._closed:  # meanwhile
            await self._end(name)
            raise ConfigError("the phones are being closed")
        for tell in self.on_start:
            tell(name, phone)
        return phone

    async def apply(self, configuration: PhoneConfiguration) -> Changed:
        """From now on this one counts: accounts are started, ended, and begun anew where their settings changed.

        Those with calls wait for their end. Raises nothing that an account can cause: `failures`.
        """
        old, new = self.configuration.entries, configuration.entries
        different = [name for name, entry in old.items() if name in self.running and new.get(name) != entry]
        waiting = [name for name in different if self.running[name].calls]
        kept = {name: old[name] for name in waiting}
        self.configuration = replace(configuration, entries={**new, **kept})
        self.on_apply()
        ending = [name for name in different if name not in waiting]
        await asyncio.gather(*(self._end(name) for name in ending))
        for name in [name for name in self.failures if name not in new]:
            del self.failures[name]
        for name in new:
            if name not in self.running:
                with suppress(SoftphoneError):
                    await self.start_one(name)
        return Changed(
            added=tuple(name for name in new if name not in old),
            removed=tuple(name for name in old if name not in new and name not in waiting),
            changed=tuple(name for name in ending if name in new),
            waiting=tuple(waiting),
        )

    async def _end(self, name: str) -> None:
        await self.running.pop(name).close()

    def _phone(self, entry: AccountEntry, account: Account) -> Telephone:
        log = None if self.history is None else CallLog(self.history, entry.name)
        return entry.phone(account, log)

    async def close(self) -> None:
        """End all of them, side by side."""
        self._closed = True
        phones, self.running = list(self.running.values()), {}
        await asyncio.gather(*(phone.close() for phone in phones))

    def __getitem__(self, name: str) -> Telephone:
        """The running phone of that name. Raises ConfigError, or why it could not start."""
        if name in self.running:
            return self.running[name]
        raise self.failures.get(name) or ConfigError(f"the account {name!r} does not run")

    def choose(self, target: str) -> Telephone:
        """Who calls a target: an account at its domain, else the default, else the first that runs.

        Raises ConfigError when none runs.
        """
        if not self.running:
            raise ConfigError(f"no account runs: {'; '.join(map(str, self.failures.values())) or 'none is configured'}")
        default = self.configuration.default
        order = sorted(self.running, key=lambda name: name != default)
        try:
            domain = parse_address(any_text(target)).host
        except ValueError:
            domain = None  # a number
        at_home = (name for name in order if self.running[name].account.domain.lower() == domain)
        return self.running[next(at_home, order[0])]
