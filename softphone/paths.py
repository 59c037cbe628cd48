"""Where the phone keeps its files: configuration, history, contacts, sockets."""

from __future__ import annotations

import os
from pathlib import Path


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/roamphone/softphone.toml``."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "softphone.toml"


def data_directory() -> Path:
    """``$XDG_DATA_HOME/roamphone``: history and contacts."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def history_file() -> Path:
    """The calls and messages that were."""
    return data_directory() / "history.db"


def contacts_file() -> Path:
    """The address book."""
    return data_directory() / "contacts.vcf"


def default_socket() -> Path:
    """Of the daemon: ``$XDG_RUNTIME_DIR/roamphone/softphone.sock``; without a runtime directory beside the history."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return (runtime / "roamphone" if runtime.is_absolute() else data_directory()) / "softphone.sock"


def default_home_socket() -> Path:
    """Where `mobility mn` of the same user listens."""
    if os.geteuid() == 0:
        return Path("/run/roamphone/mn/host.sock")
    own = os.environ.get("XDG_RUNTIME_DIR")
    return (
        _xdg("XDG_STATE_HOME", ".local/state") / "mn/run" if own is None else Path(own) / "roamphone/mn"
    ) / "host.sock"


def _xdg(variable: str, otherwise: str) -> Path:
    given = Path(os.environ.get(variable, ""))
    return (given if given.is_absolute() else Path.home() / otherwise) / "roamphone"
