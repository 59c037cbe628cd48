"""The settings of an account."""

from __future__ import annotations

import re
import socket
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from softphone.errors import ConfigError
from softphone.media.codecs import codec_named
from softphone.media.ice_description import IceSettings
from softphone.media.ike_description import IpsecMode
from softphone.media.keying import Keying, SrtpMode
from softphone.media.settings import MediaSettings
from softphone.sip.errors import SipParseError
from softphone.sip.session_timer import SHORTEST
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri, escape, parse_host

MACHINE_ID = Path("/etc/machine-id")


class AutoAnswer(StrEnum):
    """Which calls the phone answers by itself."""

    NEVER = "never"
    ASKED = "asked"
    "Those whose caller asks for it (intercom: ``answer-after``, ``Alert-Info``, ``Answer-Mode``)."
    ALWAYS = "always"


class Consent(StrEnum):
    """What happens when the other side wants to transfer us to somebody else."""

    ASK = "ask"
    "The application decides: `Call.transfer_request`."
    ACCEPT = "accept"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who we are and over whom we call. Raises ConfigError when the settings contradict each other."""

    user: str
    domain: str
    "The right side of the address of record: a name or a numeric address (IPv6 without brackets)."
    password: str = field(default="", repr=False)
    auth_user: str | None = None
    "User name for the digest where it is not ``user``."
    display_name: str = ""
    register: bool = True
    "False: calls go directly to the address in their URI."
    registrar: str | None = None
    "URI of the registrar; None: ``sip:`` and the domain."
    outbound_proxy: str | None = None
    "URI that all requests outside dialogs go to first."
    transport: Transport = Transport.UDP
    "Where a URI names none; with UDP the DNS of the domain may choose another (RFC 3263)."
    expires: int = 300
    "Seconds of registration to ask for."
    outbound: bool = True
    "Ask the registrar to send over the connection, or the NAT mapping, that we keep open (RFC 5626)."
    gruu: bool = False
    "Ask for an address of this phone alone (RFC 5627) and give it to peers; proxies have to know it in mid call."
    instance: str | None = None
    "``urn:uuid:...``, of this phone for ever (RFC 5626 section 4.1); None: made from this machine and the account."
    local_host: str | None = None
    "Numeric address of this phone; None: what the socket factory says, the home address on a mobile terminal."
    local_port: int = 0
    ip_version: int = 6
    "4 or 6; decides where no numeric address does."
    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    verify_clients: bool = False
    "Accept TLS connections only from peers with a certificate of a trusted authority."
    websocket_path: str = "/"
    "Where the server speaks WebSocket, for ``transport = ws`` and ``wss``: many say ``/ws``."
    codecs: tuple[str, ...] = ("opus", "G722", "PCMA", "PCMU")
    "Names, best first."
    srtp: SrtpMode = SrtpMode.OPTIONAL
    srtp_keying: tuple[Keying, ...] = (Keying.SDES, Keying.DTLS)
    "Ways to SRTP keys that are accepted, best first."
    srtp_offer: tuple[Keying, ...] = (Keying.SDES,)
    "Those that our offers contain, of ``srtp_keying``."
    ipsec: IpsecMode = IpsecMode.OPTIONAL
    "Protect calls between home addresses by IPsec from end to end, with keys that the calls bring about (RFC 6193)."
    ice: IceSettings | None = None
    "Find the way of the sound by connectivity checks, with these servers; None: no ICE."
    dtx: bool = False
    "Send next to nothing while nobody speaks."
    media_timeout: float | None = 30.0
    "Seconds without sound and reports after which the other side counts as gone; None: never."
    max_calls: int = 8
    "Further incoming calls are answered with 486."
    session_expires: int = 1800
    "Seconds after which a call whose other side is gone ends (RFC 4028); 0: no session timers."
    least_session_expires: int = SHORTEST
    "Shorter ones that others want are refused."
    follow_redirects: bool = True
    "Call whom a 3xx names; else the call fails with it."
    transfers: Consent = Consent.ASK
    auto_answer: AutoAnswer = AutoAnswer.NEVER
    voicemail: str | None = None
    "What to dial to hear messages; None: what message-waiting tells."
    message_waiting: bool = False
    "Ask the server about our mailbox (RFC 3842)."

    ignore_strangers: bool = False
    "Outside of calls only our own proxy, or registrar, is answered: scanners hear nothing."

    def __post_init__(self) -> None:
        if not self.user:
            raise ConfigError("the account has no user: set user to the part before the @ of your SIP address")
        try:
            parse_host(f"[{self.domain}]" if ":" in self.domain else self.domain, "domain")
            for name in ("registrar", "outbound_proxy"):
                if (text := getattr(self, name)) is not None:
                    SipUri.parse(text)
        except SipParseError as exc:
            raise ConfigError(f"account {self.user}: {exc}") from exc
        if not 0 <= self.local_port <= 65535 or not 1 <= self.expires < 2**31 or self.ip_version not in (4, 6):
            raise ConfigError(f"account {self.user}: local_port, expires or ip_version is out of range")
        if self.session_expires and not SHORTEST <= self.least_session_expires <= self.session_expires:
            raise ConfigError(
                f"account {self.user}: set session_expires to 0 or at least least_session_expires, "
                f"and that to at least {SHORTEST}"
            )
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError(f"account {self.user}: set both certificate and private_key or neither")
        if self.ignore_strangers and not self.register and self.outbound_proxy is None:
            raise ConfigError(
                f"account {self.user}: without registration and outbound_proxy everybody is a stranger; "
                "unset ignore_strangers"
            )
        if self.instance is not None and not re.fullmatch(r"urn:[A-Za-z0-9:._-]+", self.instance):
            raise ConfigError(f"account {self.user}: instance must be a URN such as urn:uuid:... ")
        if not self.codecs:
            raise ConfigError(f"account {self.user}: set at least one codec")
        try:
            for name in self.codecs:
                codec_named(name)
        except ValueError as exc:
            raise ConfigError(f"account {self.user}: {exc}") from exc

        if not self.srtp_offer or not set(self.srtp_offer) <= set(self.srtp_keying):
            raise ConfigError(f"account {self.user}: srtp_offer needs at least one of srtp_keying, and no other")
        if self.ipsec is IpsecMode.MANDATORY and self.ice is not None:
            raise ConfigError(
                f"account {self.user}: ICE may find ways beside the home address, which IPsec does not protect: "
                "remove ice, or set ipsec to optional"
            )

    @property
    def media(self) -> MediaSettings:
        """How the audio of the account's calls is to be."""
        return MediaSettings(
            codecs=tuple(map(codec_named, self.codecs)),
            srtp=self.srtp,
            keying=self.srtp_keying,
            offered_keying=self.srtp_offer,
            ice=self.ice,
            ipsec=self.ipsec,
            dtx=self.dtx,
            timeout=self.media_timeout,
        )

    @property
    def aor(self) -> SipUri:
        """The address of record."""
        return SipUri(self.domain.lower(), escape(self.user, "&=+$,;?/"))

    @property
    def instance_urn(self) -> str:
        """The name of this phone among those of the account: the same after every start."""
        if self.instance is not None:
            return self.instance
        try:
            machine = MACHINE_ID.read_text().strip()
        except OSError:
            machine = f"{uuid.getnode():x}"
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.aor} {self.local_port} {machine}").urn

    @property
    def registrar_uri(self) -> SipUri:
        return SipUri(self.domain.lower()) if self.registrar is None else SipUri.parse(self.registrar)

    @property
    def proxy_uri(self) -> SipUri | None:
        return None if self.outbound_proxy is None else SipUri.parse(self.outbound_proxy)

    @property
    def family(self) -> socket.AddressFamily:
        """The IP version that the phone speaks: that of the first numeric address among the settings."""
        proxy = self.proxy_uri
        for host in (self.local_host, proxy.host if proxy else None, self.registrar_uri.host, self.domain):
            if host is None:
                continue
            try:
                version = ip_address(host).version
            except ValueError:
                continue
            return socket.AF_INET6 if version == 6 else socket.AF_INET
        return socket.AF_INET6 if self.ip_version == 6 else socket.AF_INET
