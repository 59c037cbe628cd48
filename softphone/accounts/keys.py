"""The keys of an account's table as a form shows them: meaning, kind, choices, default."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from enum import Enum, StrEnum

from softphone.accounts.accounts import Engine, Network
from softphone.config import Account, AutoAnswer, Consent
from softphone.media.ike_description import IpsecMode
from softphone.media.keying import Keying, SrtpMode
from softphone.sip.transport import Transport


@dataclass(frozen=True, slots=True)
class AccountKey:
    """One key."""

    name: str
    kind: str
    "``text``, ``secret``, ``number``, ``truth``, ``choice``, ``choices`` (several, best first), ``file``, ``table``..."
    meaning: str
    default: object = None
    "As it would stand in the file; None: nothing."
    choices: tuple[str, ...] = ()


MEANINGS: dict[str, tuple[str, str]] = {
    "address": ("text", "your SIP address: alice@example.org"),
    "password": ("secret", "the password; it is kept in the keyring, or in a file of its own"),
    "password_file": ("file", "a file whose first line is the password, mode 0600"),
    "password_command": ("command", "a command whose first line is the password"),
    "password_env": ("text", "a variable that has the password"),
    "password_keyring": ("text", "the name in the keyring under the service roamphone"),
    "auth_user": ("text", "name for the login, where it is not the part before the @"),
    "display_name": ("text", "what others see"),
    "network": ("choice", "direct, or home: the mobile home address"),
    "engine": ("choice", "roamphone, or pjsua2: another engine, over IPv4"),
    "home_socket": ("file", "host.sock of the mobility process"),
    "register": ("truth", "tell the server where we are; else calls go directly to addresses"),
    "registrar": ("text", "URI of the registrar; else of the domain"),
    "outbound_proxy": ("text", "URI that everything goes to first"),
    "transport": ("choice", "with udp the DNS of the domain may choose another"),
    "expires": ("number", "seconds of registration to ask for"),
    "outbound": ("truth", "calls come over the connection that the phone keeps open (RFC 5626)"),
    "gruu": ("truth", "an address of this phone alone (RFC 5627)"),
    "instance": ("text", "urn:uuid:..., the name of this phone among those of the account"),
    "local_host": ("text", "numeric address of this phone"),
    "local_port": ("number", "port of this phone; 0: any"),
    "ip_version": ("number", "4 or 6, where no numeric address decides it"),
    "ca_file": ("file", "certificates of authorities for TLS; else the system's"),
    "certificate": ("file", "our own, for TLS"),
    "private_key": ("file", "its key"),
    "verify_clients": ("truth", "take TLS connections only from whom an authority vouches for"),
    "websocket_path": ("text", "where the server speaks WebSocket; many say /ws"),
    "codecs": ("choices", "codecs, best first"),
    "srtp": ("choice", "encryption of the sound"),
    "srtp_keying": ("choices", "ways to keys that are accepted, best first"),
    "srtp_offer": ("choices", "those that are offered"),
    "ipsec": ("choice", "encryption of all packets between two home addresses, with keys that the call makes"),
    "dtx": ("truth", "next to nothing is sent while nobody speaks"),
    "media_timeout": ("number", "seconds of silence after which the other side counts as gone; false: never"),
    "max_calls": ("number", "further ones are busy"),
    "session_expires": ("number", "seconds after which a dead call ends (RFC 4028); 0: none"),
    "least_session_expires": ("number", "shorter ones are refused"),
    "follow_redirects": ("truth", "call whom a redirection names"),
    "transfers": ("choice", "when the other side wants to transfer us"),
    "auto_answer": ("choice", "which calls the phone answers by itself"),
    "ignore_strangers": ("truth", "only our own proxy is answered"),
    "voicemail": ("text", "what to dial for messages; else what message-waiting tells"),
    "message_waiting": ("truth", "ask the server about the mailbox"),
    "ice": ("table", "connectivity checks: stun, turn, turn_user, turn_password, turn_transport"),
}
"Kind and meaning of every key, in the order of a form."
CHOICES: dict[str, tuple[str, ...]] = {
    "network": tuple(Network),
    "engine": tuple(Engine),
    "transport": tuple(Transport),
    "srtp": tuple(SrtpMode),
    "ipsec": tuple(IpsecMode),
    "transfers": tuple(Consent),
    "auto_answer": tuple(AutoAnswer),
    "srtp_keying": tuple(Keying),
    "srtp_offer": tuple(Keying),
    "codecs": ("opus", "G722", "PCMA", "PCMU", "L16"),
}
SECRETS = frozenset(["password", "turn_password"])
"Keys whose values are shown to nobody."


def account_keys() -> list[AccountKey]:
    """All of them."""
    defaults = {
        field.name: _plain(field.default) for field in fields(Account) if field.default is not MISSING
    } | {"password": None, "network": Network.DIRECT.value, "engine": Engine.ROAMPHONE.value}  # fmt: skip
    return [
        AccountKey(name, kind, meaning, defaults.get(name), tuple(map(str, CHOICES.get(name, ()))))
        for name, (kind, meaning) in MEANINGS.items()
    ]


def without_secrets(values: dict[str, object]) -> dict[str, object]:
    """A table of the file as it may be shown."""
    return {
        key: without_secrets(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in SECRETS
    }


def _plain(value: object) -> object:
    match value:
        case StrEnum() | Enum():
            return value.value
        case tuple():
            return [_plain(part) for part in value]
        case _:
            return value
