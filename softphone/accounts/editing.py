"""Accounts added to and taken out of the configuration file; comments and what else stands there remain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from softphone.accounts.accounts import load
from softphone.errors import ConfigError


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
