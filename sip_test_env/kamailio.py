"""Kamailio's configuration: the fixed ``kamailio.cfg`` of this package, and what differs between instances.

Used for the namespaces (`sip_test_env.network`) and inside the container (`sip_test_env.container`) alike. Imports
nothing outside the standard library and `cryptography`, so that the container needs no more.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from sip_test_env import certificates

DigestAlgorithm = Literal["MD5", "SHA-256"]

TEMPLATE = Path(__file__).with_name("kamailio.cfg")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What differs between one Kamailio and another."""

    domain: str
    addresses: tuple[IPv4Address | IPv6Address, ...]
    passwords: dict[str, str]
    "Per user."
    sip_port: int = 5060
    sips_port: int = 5061
    digest: DigestAlgorithm = "MD5"
    "Kamailio 5.6 speaks one algorithm at a time."

    def __post_init__(self) -> None:
        for word in (self.domain, *self.passwords, *self.passwords.values()):
            if not word or not all(letter.isalnum() or letter in "-._" for letter in word):
                raise ValueError(
                    f"{word!r}: use letters, digits, '-', '.', '_' (it goes into Kamailio's configuration)"
                )


def _host(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def local_config(settings: ProxySettings, directory: Path) -> str:
    """``local.cfg``: addresses, and the files below ``directory``."""
    lines = ["# written by sip_test_env.kamailio"]
    for name, value in {
        "CTL_SOCKET": f"unix:{directory}/ctl",
        "TLS_CONFIG": f"{directory}/tls.cfg",
        "DIGEST_ALGORITHM": settings.digest,
    }.items():
        lines.append(f'#!define {name} "{value}"')
    lines += [f'alias="{settings.domain}"']
    for address in settings.addresses:
        host = _host(address)
        lines += [
            f"listen=udp:{host}:{settings.sip_port}",
            f"listen=tcp:{host}:{settings.sip_port}",
            f"listen=tls:{host}:{settings.sips_port}",
        ]
    return "\n".join(lines) + "\n"


def users_config(settings: ProxySettings) -> str:
    """``users.cfg``: the password of every user."""
    lines = [f'    $sht(passwords=>{user}) = "{password}";' for user, password in settings.passwords.items()]
    return "\n".join(["event_route[htable:mod-init] {", *lines, "}"]) + "\n"


def tls_config(directory: Path) -> str:
    """``tls.cfg`` of the tls module: TLS 1.2 and 1.3, no client certificate wanted."""
    common = f"verify_certificate = no\nrequire_certificate = no\nca_list = {directory}/ca.pem\n"
    return (
        f"[server:default]\nmethod = TLSv1.2+\nprivate_key = {directory}/server.key\n"
        f"certificate = {directory}/server.pem\n{common}\n[client:default]\nmethod = TLSv1.2+\n{common}"
    )


def write(settings: ProxySettings, directory: Path) -> Path:
    """Writes everything Kamailio needs into ``directory`` (certificates only if there are none yet); returns the
    configuration file to start it with.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (directory / "server.pem").exists():
        certificates.write(directory, [settings.domain], settings.addresses)
    (directory / "tls.cfg").write_text(tls_config(directory))
    (directory / "local.cfg").write_text(local_config(settings, directory))
    secret = directory / "users.cfg"
    secret.touch(mode=0o600)
    secret.write_text(users_config(settings))
    return Path(shutil.copyfile(TEMPLATE, directory / "kamailio.cfg"))


def command(config: Path) -> list[str]:
    """Kamailio in the foreground, logging to standard error, with little memory."""
    directory = config.parent
    return ["kamailio", "-DD", "-E", "-f", str(config), "-Y", str(directory), "-m", "32", "-M", "4"]


def environment() -> dict[str, str]:
    """In which Debian's Kamailio and kamcmd are found by ordinary users, too."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
