"""TLS for SIP: what we show, whom we believe, and which domains a certificate proves (RFC 5922)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from softphone.errors import ConfigError
from softphone.sip.errors import SipParseError
from softphone.sip.uri import SipUri

Certificate = Mapping[str, Any]
"A verified certificate as `ssl.SSLObject.getpeercert` tells it; empty if the peer showed none."


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates. TLS 1.2 is the oldest version that is spoken."""

    ca_file: Path | None = None
    "PEM file of trusted authorities; None: those of the system."
    certificate: Path | None = None
    "Our own certificate chain (PEM): shown to servers that ask for one, and needed to accept TLS connections."
    private_key: Path | None = None
    verify_clients: bool = False
    "Accept TLS connections only from peers with a certificate of a trusted authority."

    def client(self) -> ssl.SSLContext:
        """Verifies the server's certificate; its name is `proves`' business. Raises ConfigError."""
        context = self._context(ssl.Purpose.SERVER_AUTH)
        context.check_hostname = False  # its rules are those of HTTPS
        context.verify_mode = ssl.CERT_REQUIRED
        if self.certificate is not None:
            self._show(context, self.certificate)
        return context

    def server(self) -> ssl.SSLContext | None:
        """None without a certificate of our own. Raises ConfigError."""
        if self.certificate is None:
            return None
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_clients else ssl.CERT_NONE
        self._show(context, self.certificate)
        return context

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"cannot read the CA file {self.ca_file}: {exc}") from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _show(self, context: ssl.SSLContext, certificate: Path) -> None:
        try:
            context.load_cert_chain(certificate, self.private_key)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"cannot read certificate {certificate} or its private key: {exc}") from exc


def identities(certificate: Certificate) -> list[str]:
    """The domains and addresses that a certificate stands for (RFC 5922 section 7.1), in lower case.

    SIP URIs without user and DNS names among its subject alternative names, and numeric addresses. The common name
    counts only where there are no alternative names at all.
    """
    names = certificate.get("subjectAltName", ())
    if not names:
        subject = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
        return [_plain(value) for key, value in subject if key == "commonName"]
    return list(_alternative(names))


def _alternative(names: Any) -> Iterator[str]:
    for kind, value in names:
        match kind:
            case "DNS":
                yield _plain(value)
            case "IP Address":
                yield str(ip_address(value.strip()))
            case "URI":
                try:
                    uri = SipUri.parse(value)
                except SipParseError:
                    continue
                if uri.scheme == "sip" and uri.user is None:
                    yield _plain(uri.host)


def proves(certificate: Certificate, name: str) -> bool:
    """Whether its owner may speak for the domain or address ``name`` (section 7.2): the whole name, no wildcards."""
    try:
        wanted = str(ip_address(name))
    except ValueError:
        wanted = _plain(name)
    return wanted in identities(certificate)


def _plain(name: str) -> str:
    return name.lower().rstrip(".")
