"""What callers and answerers do: a TOML file (docs/load.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from softphone.accounts.accounts import AccountEntry, Network, load, read_accounts
from softphone.accounts.settings import number, sip_uri, text
from softphone.accounts.toml_file import Table, TomlFile
from softphone.errors import ConfigError
from softphone.media.codecs import Samples
from softphone.media.dtmf import checked
from softphone.media.files import FileError, read_sound
from softphone.paths import default_path

TONE = "tone:"
SILENCE = "silence"
SOUND_RATE = 48_000
"Samples a second of sounds as they are kept; each process converts them to the rate of its codec once."
LOUDNESS = 8000
"Amplitude of tones."


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One side of the calls."""

    sound: Samples | None
    "Over and over, at `SOUND_RATE`; None: silence."
    dtmf: str = ""
    "What callers send when they are answered."
    talk: float = 5.0
    "Seconds from the answer until callers hang up."
    timeout: float = 30.0
    "Seconds within which callers want to be answered."
    think: float = 0.0
    "Seconds until a caller calls again."
    ring: float = 0.0
    "Seconds until answerers answer."
    status: int = 200
    "With which answerers answer, or refuse."


@dataclass(frozen=True, slots=True)
class Expectations:
    """What has to hold; None: nobody cares."""

    answered: float | None = None
    "Answer-seizure ratio, at least."
    post_dial_delay_p95: float | None = None
    "Seconds, at most."
    mos_p05: float | None = None
    "At least, of what 95 % of all ends heard."
    loss: float | None = None
    "Share of packets that were lost or came too late, at most."
    digits: float | None = None
    "Share of answered calls whose digits arrived at answerers of ours, at least."


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    callers: tuple[AccountEntry, ...]
    answerers: tuple[AccountEntry, ...]
    targets: tuple[str, ...]
    "URIs that are called in turn."
    calling: Behaviour
    answering: Behaviour
    expected: Expectations = field(default_factory=Expectations)


def read_scenario(path: Path, configuration: Path | None = None) -> Scenario:
    """Raises ConfigError with line, key and what is expected there.

    Accounts are those of the file, or of ``configuration`` (None: the phone's) where it has none.
    """
    file = TomlFile(path)
    root = file.root
    known = read_accounts(root, path) or dict(load(default_path() if configuration is None else configuration).entries)
    name = root.optional("name", text) or path.stem
    answerers = _chosen(root, "answerers", known, [])
    callers = _chosen(root, "callers", known, [name for name in known if name not in {one.name for one in answerers}])
    targets = root.optional("targets", _targets)
    calling = _behaviour(root.table("call"), path.parent, _CALLING)
    answering = _behaviour(root.table("answer"), path.parent, _ANSWERING)
    expected = _expectations(root.table("expect"))
    root.end()
    if not callers:
        raise ConfigError(f"{path}: nobody calls: add an account, and its name to callers")
    if targets is None:
        targets = tuple(_target(root, one) for one in answerers)
    if not targets:
        raise ConfigError(f"{path}: nobody is called: add targets, or answerers")
    return Scenario(name, callers, answerers, targets, calling, answering, expected)


def seconds(value: object) -> float:
    """a number of seconds from 0 to 86400"""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86400:
        raise ValueError
    return float(value)


def share(value: object) -> float:
    """a share from 0 to 1"""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def mos(value: object) -> float:
    """a mean opinion score from 1 to 4.5"""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 4.5:
        raise ValueError
    return float(value)


def digits(value: object) -> str:
    """keys of the keypad such as "12#\""""
    return checked(text(value))


def status(value: object) -> int:
    """200, or the status of a refusal from 300 to 699"""
    found = number(200, 699)(value)
    if 200 < found < 300:
        raise ValueError
    return found


def _targets(value: object) -> tuple[str, ...]:
    """a list of SIP URIs such as ["sip:6002@example.org"]"""
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(sip_uri(one) for one in value)


def _names(value: object) -> tuple[str, ...]:
    """a list of names of accounts"""
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(text(one) for one in value)


def _chosen(root: Table, key: str, known: dict[str, AccountEntry], otherwise: list[str]) -> tuple[AccountEntry, ...]:
    names = root.optional(key, _names) or tuple(otherwise)
    for name in names:
        if name not in known:
            raise root.error(key, f"there is no account {name!r}; there are {', '.join(known) or 'none at all'}")
    return tuple(known[name] for name in names)


_CALLING: dict[str, Callable[[object], object]] = {
    "dtmf": digits, "talk": seconds, "timeout": seconds, "think": seconds,
}  # fmt: skip
_ANSWERING: dict[str, Callable[[object], object]] = {"ring": seconds, "status": status}


def _behaviour(table: Table | None, beside: Path, checks: dict[str, Callable[[object], object]]) -> Behaviour:
    if table is None:
        return Behaviour(None)
    say = table.optional("say", text)
    found = {key: value for key, check in checks.items() if (value := table.optional(key, check)) is not None}
    table.end()
    try:
        sound = _sound(SILENCE if say is None else say, beside)
    except (FileError, ValueError) as exc:
        raise table.error("say", str(exc)) from None
    return Behaviour(sound, **found)  # type: ignore[arg-type]


def _sound(say: str, beside: Path) -> Samples | None:
    """Raises ValueError, FileError."""
    if say == SILENCE:
        return None
    if not say.startswith(TONE):
        return read_sound(beside / Path(say).expanduser(), SOUND_RATE)[0]
    hertz = say.removeprefix(TONE)
    if not hertz.isdecimal() or not 20 <= int(hertz) <= 20_000:
        raise ValueError(f'{say!r}: a tone is "tone:440", 20 to 20000 Hz')
    return np.asarray(LOUDNESS * np.sin(2 * np.pi * int(hertz) * np.arange(SOUND_RATE) / SOUND_RATE), np.int16)


def _expectations(table: Table | None) -> Expectations:
    if table is None:
        return Expectations()
    checks: dict[str, Callable[[object], float]] = {
        "answered": share, "post_dial_delay_p95": seconds, "mos_p05": mos, "loss": share, "digits": share,
    }  # fmt: skip
    found = Expectations(**{key: table.optional(key, check) for key, check in checks.items()})
    table.end()
    return found


def _target(root: Table, answerer: AccountEntry) -> str:
    """How an answerer is called. Raises ConfigError."""
    account = answerer.settings
    if account.register:
        return str(account.aor)
    if account.local_host is None or not account.local_port or answerer.network is Network.HOME:
        raise root.error(
            "targets",
            f"are missing: {answerer.name} does not register; give it local_host and local_port, or say targets",
        )
    host = f"[{account.local_host}]" if ":" in account.local_host else account.local_host
    return f"sip:{account.user}@{host}:{account.local_port}"
