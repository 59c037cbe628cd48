"""What may stand in an account's table of the configuration: each key with what is expected there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from softphone.accounts.interface import truth
from softphone.accounts.passwords import (
    CommandPassword,
    EnvironmentPassword,
    FilePassword,
    KeyringPassword,
    PasswordSource,
    PlainPassword,
)
from softphone.accounts.toml_file import Table
from softphone.config import AutoAnswer, Consent
from softphone.media.codecs import codec_named
from softphone.media.ice_description import IceSettings
from softphone.media.ike_description import IpsecMode
from softphone.media.keying import Keying, SrtpMode
from softphone.sip.errors import SipParseError
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri, split_host_port

T = TypeVar("T")
Check = Callable[[object], object]
PASSWORD = "password"


def text(value: object) -> str:
    """a text of at least one character"""
    if not isinstance(value, str) or not value.strip() or any(char < " " for char in value):
        raise ValueError
    return value


def any_text(value: object) -> str:
    """a text"""
    if not isinstance(value, str):
        raise ValueError
    return value


def sip_address(value: object) -> SipUri:
    """a SIP address without port such as "alice@example.org\""""
    uri = parse_address(text(value))
    if uri.port is not None:
        raise ValueError("a port belongs into registrar")
    return uri


def parse_address(written: str) -> SipUri:
    """``alice@example.org``, with or without ``sip:``. Raises ValueError."""
    try:
        uri = SipUri.parse(written if written.lower().startswith(("sip:", "sips:")) else f"sip:{written}")
    except SipParseError as exc:
        raise ValueError(str(exc)) from None
    if not uri.user or uri.parameters or uri.headers:
        raise ValueError("expected is user@domain")
    return uri


def sip_uri(value: object) -> str:
    """a SIP URI such as "sip:proxy.example.org;transport=tls\""""
    try:
        return str(SipUri.parse(text(value)))
    except SipParseError as exc:
        raise ValueError(str(exc)) from None


def numeric_host(value: object) -> str:
    """a numeric address of this machine such as "2001:db8::1\""""
    return str(ip_address(text(value)))


def server(value: object) -> tuple[str, int]:
    """a numeric address with port such as "192.0.2.1:3478\""""
    try:
        host, port = split_host_port(text(value))
    except SipParseError as exc:
        raise ValueError(str(exc)) from None
    return str(ip_address(host)), 3478 if port is None else port


def number(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    check.__doc__ = f"a number from {least} to {most}"
    return check


def ip_version(value: object) -> int:
    """4 or 6"""
    if isinstance(value, bool) or value not in (4, 6):
        raise ValueError
    return 4 if value == 4 else 6


def seconds_or_never(value: object) -> float | None:
    """a number of seconds, or false: never"""
    if value is False:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 86400:
        raise ValueError
    return float(value)


def one_of(kind: Callable[[str], T]) -> Callable[[object], T]:
    def check(value: object) -> T:
        return kind(text(value))

    check.__doc__ = "one of " + ", ".join(f'"{member.value}"' for member in kind)  # type: ignore[attr-defined]
    return check


def keyings(value: object) -> tuple[Keying, ...]:
    """a list of "sdes" and "dtls", the better first"""
    return tuple(Keying(text(one)) for one in _list(value))


def codecs(value: object) -> tuple[str, ...]:
    """a list of codecs such as ["opus", "G722", "PCMA"], the best first"""
    names = tuple(text(one) for one in _list(value))
    for name in names:
        codec_named(name)
    return names


def urn(value: object) -> str:
    """a URN such as "urn:uuid:00000000-0000-1000-8000-000A95A0E128\""""
    if not re.fullmatch(r"urn:[A-Za-z0-9:._-]+", text(value)):
        raise ValueError
    return text(value)


def path(value: object) -> Path:
    """a path; relative ones begin at this file, "~" is your home"""
    if "\0" in text(value):
        raise ValueError
    return Path(text(value)).expanduser()


def password_file(value: object) -> FilePassword:
    """the path of a file whose first line is the password and that only you can read"""
    return FilePassword(path(value))


def command(value: object) -> CommandPassword:
    """a command with its arguments, as a text or a list: "pass show sip/alice\""""
    arguments = tuple(text(one) for one in value) if isinstance(value, list) else tuple(shlex.split(text(value)))
    if not arguments:
        raise ValueError
    return CommandPassword(arguments)


def variable(value: object) -> EnvironmentPassword:
    """the name of a variable of the environment"""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text(value)):
        raise ValueError
    return EnvironmentPassword(text(value))


def plain(value: object) -> PlainPassword:
    """a text"""
    return PlainPassword(any_text(value))


def keyring_user(value: object) -> KeyringPassword:
    """the name under which the keyring has the password"""
    return KeyringPassword(text(value))


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


SETTINGS: dict[str, Check] = {
    "auth_user": text, "display_name": any_text, "register": truth, "registrar": sip_uri, "outbound_proxy": sip_uri,
    "transport": one_of(Transport), "expires": number(1, 2**31 - 1), "outbound": truth, "gruu": truth, "instance": urn,
    "local_host": numeric_host, "local_port": number(0, 65535), "ip_version": ip_version, "ca_file": path,
    "certificate": path, "private_key": path, "verify_clients": truth, "websocket_path": text, "codecs": codecs,
    "srtp": one_of(SrtpMode), "srtp_keying": keyings, "srtp_offer": keyings, "ipsec": one_of(IpsecMode),
    "dtx": truth,
    "media_timeout": seconds_or_never, "max_calls": number(1, 1000), "session_expires": number(0, 2**31 - 1),
    "least_session_expires": number(0, 2**31 - 1), "follow_redirects": truth, "transfers": one_of(Consent),
    "auto_answer": one_of(AutoAnswer), "ignore_strangers": truth, "voicemail": text, "message_waiting": truth,
}  # fmt: skip
"Keys that are settings of `softphone.config.Account` under the same name."

SOURCES: dict[str, Callable[[object], PasswordSource]] = {
    "": plain, "_file": password_file, "_env": variable, "_command": command, "_keyring": keyring_user,
}  # fmt: skip
"Ends of the keys that say where a password comes from."


def read_settings(table: Table, beside: Path) -> dict[str, Any]:
    """Those of `SETTINGS` that are in the table; relative paths begin at ``beside``. Raises ConfigError."""
    found: dict[str, Any] = {}
    for key, check in SETTINGS.items():
        present = key in table
        value = table.optional(key, check)
        if present:  # None may be a value
            found[key] = beside / value if isinstance(value, Path) else value
    return found


def read_password(table: Table, beside: Path, name: str = PASSWORD) -> PasswordSource | None:
    """Where the password comes from: one of ``password``, ``password_file``... Raises ConfigError."""
    found: dict[str, PasswordSource] = {}
    for end, check in SOURCES.items():
        if (source := table.optional(name + end, check)) is not None:
            found[name + end] = FilePassword(beside / source.path) if isinstance(source, FilePassword) else source
    if len(found) > 1:
        raise table.error(list(found)[1], f"stands beside {next(iter(found))}: one of them is enough")
    return next(iter(found.values()), None)


def read_ice(table: Table | None, beside: Path) -> tuple[IceSettings | None, PasswordSource | None]:
    """The servers of ICE, and where the password for the relay comes from. Raises ConfigError."""
    if table is None:
        return None, None
    stun, turn = table.optional("stun", server), table.optional("turn", server)
    user, way = table.optional("turn_user", text), table.optional("turn_transport", text)
    password = read_password(table, beside, "turn_password")
    table.end()
    try:
        return IceSettings(stun=stun, turn=turn, turn_user=user or "", turn_transport=way or "udp"), password
    except ValueError as exc:
        raise table.error(None, str(exc)) from None
