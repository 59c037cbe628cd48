"""One TLS session as bytes (RFC 8446, RFC 5246): what comes from the network goes in, what goes there comes out."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from mobility.gateway.causes import Cause

_READ = 1 << 16
_CERTIFICATE = {
    9: (Cause.CERTIFICATE_NOT_YET_VALID, "the certificate is not valid yet: look at the clocks of both machines"),
    10: (Cause.CERTIFICATE_EXPIRED, "the certificate has expired: its owner has to renew it"),
    62: (Cause.NAME_MISMATCH, ""),
    64: (Cause.NAME_MISMATCH, ""),
}
"Verification results of OpenSSL (x509_vfy.h) that have a name of their own."
_ALERTS = {
    "CERTIFICATE_REQUIRED": (Cause.CLIENT_CERTIFICATE_MISSING, "the gateway wants a certificate: name one"),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (Cause.CLIENT_CERTIFICATE_MISSING, "the terminal has shown no certificate"),
    "ALERT_UNKNOWN_CA": (Cause.CERTIFICATE_REFUSED, "the other side does not trust the certificate that it was shown"),
    "ALERT_BAD_CERTIFICATE": (Cause.CERTIFICATE_REFUSED, "the other side refuses the certificate that it was shown"),
    "ALERT_CERTIFICATE_EXPIRED": (Cause.CERTIFICATE_REFUSED, "the other side finds the certificate expired"),
    "HANDSHAKE_FAILURE": (Cause.TLS_FAILED, "the other side refuses the handshake (a certificate or version it wants)"),
}
"Parts of OpenSSL's reasons."


class SecureLinkError(Exception):
    """The session cannot go on. ``outgoing`` of the link may still hold the alert that tells the other side."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(f"{cause}: {why}")
        self.cause = cause
        self.why = why


class SecureLink:
    """One end of a session. Nothing is sent before `start`."""

    def __init__(
        self, context: ssl.SSLContext, *, server_name: str | None = None, session: ssl.SSLSession | None = None
    ) -> None:
        """``server_name``: what the server must prove (SNI too, where it is a name); None: this is the server.

        ``session``: to be resumed.
        """
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_name is None
        self._name = server_name
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server, server_hostname=server_name, session=session
        )
        self.established = False
        self.ended = False
        "The other side has said that nothing more comes (close_notify)."

    def start(self) -> None:
        """The client's first message. Raises SecureLinkError."""
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Takes octets of the network; returns what they say. Raises SecureLinkError."""
        self._in.write(data)
        if not self.established:
            self._handshake()
        return self._read() if self.established else b""

    def cut_off(self) -> None:
        """The connection ended without close_notify."""
        self._in.write_eof()

    def send(self, data: bytes) -> None:
        """Raises SecureLinkError."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Says that nothing more comes."""
        with suppress(ssl.SSLError, OSError):
            self._tls.unwrap()

    def outgoing(self) -> bytes:
        """What has to go to the network now."""
        return self._out.read()

    @property
    def session(self) -> ssl.SSLSession | None:
        """With which a later session is resumed, if the server has given a ticket already."""
        found = self._tls.session
        return found if found is not None and found.has_ticket else None

    @property
    def resumed(self) -> bool:
        return bool(self._tls.session_reused)

    @property
    def version(self) -> str:
        """``TLSv1.3``, for example."""
        return self._tls.version() or "none"

    @property
    def protocol(self) -> str | None:
        """What ALPN (RFC 7301) chose."""
        return self._tls.selected_alpn_protocol()

    def peer_certificate(self) -> bytes | None:
        """Of the other side (DER); None: it has shown none."""
        return self._tls.getpeercert(binary_form=True)

    def peer_names(self) -> list[str]:
        """Common name and alternative names of the other side's certificate."""
        shown: dict[str, Any] = dict(self._tls.getpeercert() or {})
        names = [str(value) for field in shown.get("subject", ()) for key, value in field if key == "commonName"]
        return names + [str(value) for _, value in shown.get("subjectAltName", ())]

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise self._failure(error) from error

    def _read(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_READ):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise self._failure(error) from error
        return b"".join(parts)

    def _failure(self, error: ssl.SSLError) -> SecureLinkError:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason, why = _CERTIFICATE.get(
                error.verify_code,
                (Cause.CERTIFICATE_UNTRUSTED, f"the certificate is not trusted: {error.verify_message}"),
            )
            return SecureLinkError(reason, why or f"the certificate is not one of {self._name}: {error.verify_message}")
        words = error.reason or ""
        for part, (reason, why) in _ALERTS.items():
            if part in words:
                return SecureLinkError(reason, why)
        if isinstance(error, ssl.SSLEOFError) or "EOF" in words:
            return SecureLinkError(Cause.CUT_OFF, "the connection ended in the middle")
        return SecureLinkError(Cause.TLS_FAILED, words.lower().replace("_", " ") or str(error))
