"""Accounts and settings, as clients of the daemon read, change and try them."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import replace
from pathlib import Path

from softphone.accounts.accounts import AccountEntry, Changed, PhoneConfiguration, load, load_or_empty
from softphone.accounts.editing import drafted, remove_account, save_account, save_preference
from softphone.accounts.keys import account_keys, without_secrets
from softphone.accounts.passwords import KeyringPassword, keep_password
from softphone.accounts.preferences import PREFERENCES
from softphone.accounts.toml_file import TomlFile, expectation
from softphone.accounts.trial import TRIAL_SECONDS, try_account
from softphone.daemon.operations import Ground, Operation
from softphone.daemon.protocol import Arguments, RequestError
from softphone.errors import ConfigError
from softphone.events import CallEnded, Event
from softphone.exit_code import ExitCode
from softphone.phone import Softphone

SETTLE_SECONDS = 2.0
"After the end of a call its account is begun anew: what is left to say has been said then."


class Accounts:
    """What is saved counts after ``reload``."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._changing = asyncio.Lock()
        self._wanted: PhoneConfiguration | None = None
        "Is to count for accounts that wait for the end of their calls, too."
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def operations(self) -> dict[str, Operation]:
        return {
            "accounts": self._list, "account-save": self._save, "account-remove": self._remove,
            "account-test": self._test, "settings": self._settings, "settings-save": self._save_setting,
            "reload": self._reload,
        }  # fmt: skip

    def happened(self, event: Event) -> None:
        """Accounts that waited for the end of their calls follow."""
        if isinstance(event, CallEnded) and self._wanted is not None and self._catching_up is None:
            self._catching_up = asyncio.create_task(self._catch_up(), name="reload")

    async def close(self) -> None:
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.gather(self._catching_up, return_exceptions=True)

    async def _catch_up(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        self._catching_up = None
        async with self._changing:
            if self._wanted is not None:
                await self._apply(self._wanted)

    async def _apply(self, configuration: PhoneConfiguration) -> Changed:
        changed = await self._ground.phones.apply(configuration)
        self._wanted = configuration if changed.waiting else None
        self._ground.tell("reloaded", waiting=list(changed.waiting))
        return changed

    @property
    def _path(self) -> Path:
        return self._ground.phones.configuration.path

    async def _list(self, arguments: Arguments) -> object:
        arguments.end()
        configuration = await asyncio.to_thread(load_or_empty, self._path)
        tables = self._tables("account")
        phones = self._ground.phones
        default = configuration.default or next(iter(configuration.entries), None)
        listed = [
            {
                "name": name, "default": name == default, "values": without_secrets(tables.get(name, {})),
                "password": _source(entry), "running": name in phones.running,
                "registered": name in phones.running and phones.running[name].is_registered,
                "failure": str(phones.failures.get(name, "")),
            }
            for name, entry in configuration.entries.items()
        ]  # fmt: skip
        return {"accounts": listed, "keys": [dataclasses.asdict(key) for key in account_keys()]}

    async def _save(self, arguments: Arguments) -> object:
        """A ``password`` goes into the keyring or a file; null takes a key out."""
        name, values = arguments.text("name"), arguments.table("values")
        arguments.end()
        async with self._changing:
            await asyncio.to_thread(self._write, name, dict(values))
        self._ground.tell("accounts-changed")
        return None

    def _write(self, name: str, values: dict[str, object]) -> None:
        password = values.pop("password", None)
        if password is None:
            save_account(self._path, name, values)
            return
        if not isinstance(password, str) or not password:
            raise RequestError("password has to be a text")
        entry = drafted(self._path, name, {**values, **OTHER_SOURCES})  # mistakes are told before it is kept
        where = keep_password(password, self._path, name, entry.settings.user)
        save_account(self._path, name, {**values, **OTHER_SOURCES, **where})

    async def _remove(self, arguments: Arguments) -> object:
        """A password in the keyring goes, too; files stay."""
        name = arguments.text("name")
        arguments.end()
        async with self._changing:
            await asyncio.to_thread(self._take_out, name)
        self._ground.tell("accounts-changed")
        return None

    def _take_out(self, name: str) -> None:
        entry = load(self._path).entries.get(name)
        remove_account(self._path, name)
        if entry is not None and isinstance(entry.password, KeyringPassword):
            entry.password.delete()

    async def _test(self, arguments: Arguments) -> object:
        """As it is saved, or with other ``values``, which are not saved. The running phone goes on."""
        name, values = arguments.text("name"), arguments.table("values", {})
        arguments.end()
        try:
            entry = await asyncio.to_thread(self._drafted, name, dict(values))
            account = await asyncio.to_thread(entry.account)
        except ConfigError as exc:
            return {"ok": False, "result": ExitCode.USAGE.word, "text": str(exc), "servers": [], "status": 0}
        phone = Softphone(replace(account, local_port=0), entry.sockets())  # the running one has the port
        trial = await try_account(phone, TRIAL_SECONDS)
        return {
            "ok": trial.code is ExitCode.OK, "result": trial.code.word, "text": trial.text,
            "servers": list(trial.servers), "status": trial.status,
        }  # fmt: skip

    def _drafted(self, name: str, values: dict[str, object]) -> AccountEntry:
        if values:
            others = OTHER_SOURCES if values.get("password") else {}
            return drafted(self._path, name, {**values, **others})
        if (entry := load_or_empty(self._path).entries.get(name)) is None:
            raise RequestError(f"there is no account {name!r}")
        return entry

    async def _settings(self, arguments: Arguments) -> object:
        arguments.end()
        root = self._tables()
        return {
            "settings": [
                {
                    "name": one.name, "value": _found(root, one.name), "default": one.default, "meaning": one.meaning,
                    "kind": one.kind, "choices": list(one.choices), "expected": expectation(one.check),
                }
                for one in PREFERENCES
            ]
        }  # fmt: skip

    async def _save_setting(self, arguments: Arguments) -> object:
        name, value = arguments.text("name"), arguments.value("value")
        arguments.end()
        async with self._changing:
            await asyncio.to_thread(save_preference, self._path, name, value)
        self._ground.tell("settings-changed", name=name)
        return None

    async def _reload(self, arguments: Arguments) -> object:
        """Read the file again. Accounts with calls follow when these have ended."""
        arguments.end()
        async with self._changing:
            changed = await self._apply(await asyncio.to_thread(load_or_empty, self._path))
        failures = {name: str(why) for name, why in self._ground.phones.failures.items()}
        return {**{name: list(values) for name, values in changed._asdict().items()}, "failures": failures}

    def _tables(self, *keys: str) -> dict[str, dict[str, object]]:
        found: object = TomlFile(self._path).values if self._path.exists() else {}
        for key in keys:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}


OTHER_SOURCES: dict[str, object] = dict.fromkeys(
    ("password_file", "password_command", "password_env", "password_keyring")
)
"None: a password that is typed in takes the place of these."


def _source(entry: AccountEntry) -> str:
    return "none" if entry.password is None else type(entry.password).__name__.removesuffix("Password").lower()


def _found(root: object, name: str) -> object:
    for key in name.split("."):
        root = root.get(key) if isinstance(root, dict) else None
    return root
