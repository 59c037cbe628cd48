"""Accounts added to and taken out of the configuration file; comments and what else stands there remain."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from softphone.accounts.accounts import AccountEntry, load
from softphone.accounts.preferences import PREFERENCES
from softphone.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")


def add_account(path: Path, name: str, keys: Mapping[str, object]) -> None:
    """Append ``[account.NAME]``; the file is made where there is none (mode 0600). Raises ConfigError.

    Nothing is written when the file would not be valid afterwards.
    """
    document = _read(path)
    accounts = document.get("account")
    if accounts is None:
        accounts = tomlkit.table(is_super_table=True)
        document["account"] = accounts
    if name in accounts:
        raise ConfigError(f"{path} has an account {name!r} already: choose another name, or remove it first")
    table = tomlkit.table()
    table.update(keys)
    accounts[name] = table
    _write(path, document)


def save_account(path: Path, name: str, keys: Mapping[str, object]) -> None:
    """Change these keys of ``[account.NAME]``, or make it; None takes a key out. Raises ConfigError.

    Nothing is written when the file would not be valid afterwards.
    """
    if not NAME.match(name):
        raise ConfigError(f"{name!r} is no name for an account: letters, digits, - and _, 40 at most")
    document = _read(path)
    accounts = document.get("account")
    if not isinstance(accounts, dict) or name not in accounts:
        add_account(path, name, {key: value for key, value in keys.items() if value is not None})
        return
    _change(accounts[name], keys)
    _write(path, document)


def save_preference(path: Path, name: str, value: object) -> None:
    """Change a key beyond accounts; None takes it out. Raises ConfigError, also for a key that is not known."""
    if not any(name == preference.name for preference in PREFERENCES):
        raise ConfigError(f"{name!r} is no setting; there are {', '.join(one.name for one in PREFERENCES)}")
    document = _read(path)
    section, _, key = name.rpartition(".")
    if not section:
        if key not in document and value is not None:  # keys of the root stand before all tables
            fresh = tomlkit.document()
            fresh.add(key, tomlkit.item(value))
            document = tomlkit.parse(tomlkit.dumps(fresh) + tomlkit.dumps(document))
        else:
            _change(document, {key: value})
    else:
        if section not in document:
            document[section] = tomlkit.table()
        table = document[section]
        assert isinstance(table, dict)
        _change(table, {key: value})
    _write(path, document)


def drafted(path: Path, name: str, keys: Mapping[str, object]) -> AccountEntry:
    """The account as the file would have it with these keys; nothing is written there. Raises ConfigError."""
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")  # beside it, for relative paths
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.touch(0o600)
        if path.exists():
            draft.write_bytes(path.read_bytes())
            draft.chmod(path.stat().st_mode & 0o777)
        save_account(draft, name, keys)
        return load(draft).entries[name]
    except ConfigError as exc:
        raise ConfigError(str(exc).replace(str(draft), str(path))) from None
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc
    finally:
        draft.unlink(missing_ok=True)


def _change(table: MutableMapping[str, Any], keys: Mapping[str, object]) -> None:
    for key, value in keys.items():
        if value is None:
            table.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(table.get(key), dict):
            _change(table[key], value)
        else:
            table[key] = value


def remove_account(path: Path, name: str) -> None:
    """Take ``[account.NAME]`` out, and ``default`` if it names it. Raises ConfigError."""
    document = _read(path)
    accounts = document.get("account")
    if not isinstance(accounts, dict) or name not in accounts:
        raise ConfigError(f"{path} has no account {name!r}: softphone accounts list shows them")
    del accounts[name]
    if not accounts:
        del document["account"]
    if document.get("default") == name:
        del document["default"]
    _write(path, document)


def _read(path: Path) -> tomlkit.TOMLDocument:
    if not path.exists():
        return tomlkit.document()
    load(path)  # says better what is wrong
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except TOMLKitError as exc:
        raise ConfigError(f"{path}: cannot be changed: {exc}") from exc


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
        fresh.chmod(mode)
        try:
            load(fresh)
        except ConfigError as exc:
            raise ConfigError(str(exc).replace(str(fresh), str(path))) from None
        fresh.replace(path.resolve())
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc
    finally:
        fresh.unlink(missing_ok=True)
