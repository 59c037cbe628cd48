"""DTLS-SRTP (RFC 5763, RFC 5764): the handshake that makes the keys, sans-IO, on OpenSSL.

aiortc's `RTCDtlsTransport` does the same in an asyncio loop of its own and over an `RTCIceTransport` only, and keeps
its keys to itself. Here datagrams go in and come out, so that a call without ICE, and with a port for RTCP, can use it.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from softphone.media.drops import Drop
from softphone.media.srtp import AES_128_GCM, AES_256_GCM, AES_CM_80, CryptoLine, MediaDropped, Suite, supported

GIVE_UP = 20.0
"Seconds after which a handshake that does not come to an end has failed."
ATTEMPTS = 3
"Handshakes that may go wrong."
_LABEL = b"EXTRACTOR-dtls_srtp"
_MTU = 1200
_RECORD_HEADER = 13
_DTLS_1_2 = 0xFEFD
_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA"
)
_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
}
"Hash functions of fingerprints (RFC 8122); weaker ones are not accepted."
_PROFILES: tuple[tuple[bytes, Suite, int, int], ...] = (
    (b"SRTP_AEAD_AES_128_GCM", AES_128_GCM, 16, 12),
    (b"SRTP_AES128_CM_SHA1_80", AES_CM_80, 16, 14),
    (b"SRTP_AEAD_AES_256_GCM", AES_256_GCM, 32, 12),
)
"Protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2), suite, lengths of key and salt; best first."


def is_dtls(packet: bytes) -> bool:
    """Tells DTLS from RTP, RTCP and STUN on one port (RFC 7983)."""
    return bool(packet) and 20 <= packet[0] <= 63


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The value of an ``a=fingerprint`` attribute (RFC 8122 section 5)."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, value: str) -> Self | None:
        """None: malformed, or of a hash function that is not accepted."""
        algorithm, _, text = value.strip().partition(" ")
        digest = _DIGESTS.get(algorithm.lower())
        try:
            octets = bytes.fromhex(text.strip().replace(":", ""))
        except ValueError:
            return None
        return cls(algorithm.lower(), octets) if digest is not None and len(octets) == digest.digest_size else None

    @classmethod
    def of(cls, certificate: x509.Certificate, algorithm: str = "sha-256") -> Self:
        return cls(algorithm, certificate.fingerprint(_DIGESTS[algorithm]))

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest.hex(':').upper()}"


@dataclass(frozen=True, slots=True)
class DtlsPeer:
    """What the descriptions say of an association."""

    fingerprints: tuple[Fingerprint, ...]
    "The other side's; its certificate has to fit one of them."
    client: bool
    "We open it (``a=setup:active`` is ours)."


@dataclass(frozen=True, slots=True)
class Certificate:
    """Our certificate of one call, signed by itself: its fingerprint is what counts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "phone")])
        now = datetime.datetime.now(tz=datetime.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=30))
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of(self.certificate)


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What a handshake made."""

    send: CryptoLine
    receive: CryptoLine


class DtlsAssociation:
    """One handshake. Every call may put datagrams into `outgoing`; `keys` are there when it is done."""

    def __init__(self, certificate: Certificate, peer: DtlsPeer, now: float) -> None:
        self.peer = peer
        self.keys: SrtpKeys | None = None
        self.failed = ""
        "Why it cannot succeed any more; empty: it can, or has."
        self.outgoing: list[bytes] = []
        self._certificate = certificate
        self._attempts = 0
        self._give_up = now + GIVE_UP
        self._retry: float | None = None
        self._ssl = self._begin()
        self._go_on(now)

    def _begin(self) -> SSL.Connection:
        self._attempts += 1
        context = SSL.Context(SSL.DTLS_METHOD)
        # The records are cut here; their form is that of version 1.2.
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET)
        # Whose certificate it is says its fingerprint, checked below.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(self._certificate.certificate)
        context.use_privatekey(self._certificate.key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(name for name, suite, _, _ in _PROFILES if supported(suite)))
        connection = SSL.Connection(context)
        connection.set_ciphertext_mtu(_MTU)
        if self.peer.client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return connection

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not at all."""
        if self.failed:
            return None
        if self.keys is not None:
            return self._retry
        return self._give_up if self._retry is None else min(self._retry, self._give_up)

    def receive(self, datagram: bytes, now: float) -> None:
        """A datagram of the other side. Raises `MediaDropped` where nothing can come of it."""
        if self.failed or not is_dtls(datagram):
            raise MediaDropped(Drop.DTLS_FAILED)
        self._ssl.bio_write(datagram)
        if self.keys is None:
            self._go_on(now)
        else:
            self._read()
            self._flush(now)

    def handle_timer(self, now: float) -> None:
        """Send again what was not answered, or give up."""
        if self.failed:
            return
        if self.keys is None and now >= self._give_up:
            self._fail("the other side does not complete the DTLS handshake")
        elif self._retry is not None and now >= self._retry:
            try:
                self._ssl.DTLSv1_handle_timeout()
            except SSL.Error:
                self._fail("the DTLS handshake was repeated too often")
            self._flush(now)

    def close(self) -> list[bytes]:
        """Say goodbye: datagrams to send (close_notify)."""
        if self.keys is not None:
            try:
                self._ssl.shutdown()
            except SSL.Error:
                return []
            self._flush(0.0)
        sent, self.outgoing = self.outgoing, []
        return sent

    def _go_on(self, now: float) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as exc:
            self._start_over(f"the DTLS handshake failed: {_reason(exc)}", now)
        else:
            self._complete()
        self._flush(now)

    def _start_over(self, why: str, now: float) -> None:
        """A failure may be a stranger's work, who cannot be told from the other side yet: it gets other chances."""
        self._flush(now)
        if self._attempts >= ATTEMPTS:
            self._fail(why)
            return
        self._ssl = self._begin()
        if self.peer.client:
            with contextlib.suppress(SSL.WantReadError):
                self._ssl.do_handshake()

    def _complete(self) -> None:
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        if certificate is None or not any(
            f == Fingerprint.of(certificate, f.algorithm) for f in self.peer.fingerprints
        ):
            self._fail("the certificate of the other side does not have the fingerprint in its description")
            return
        chosen = self._ssl.get_selected_srtp_profile()
        found = next((p for p in _PROFILES if p[0] == chosen), None)
        if found is None:
            self._fail("the other side chose no SRTP protection profile")
            return
        _, suite, key, salt = found
        material = self._ssl.export_keying_material(_LABEL, 2 * (key + salt), None)
        # Keys of client and server, then their salts (RFC 5764 section 4.2).
        lines = [
            CryptoLine(
                1, suite, material[n * key : (n + 1) * key] + material[2 * key + n * salt : 2 * key + (n + 1) * salt]
            )
            for n in (0, 1)
        ]
        client, server = lines
        self.keys = SrtpKeys(client, server) if self.peer.client else SrtpKeys(server, client)

    def _read(self) -> None:
        """Take in what comes after the handshake: repeated messages, alerts; there is no other data."""
        # Also the end of the association is none here: the stream ends with the call, not with a datagram.
        with contextlib.suppress(SSL.Error):
            while self._ssl.recv(2048):
                pass

    def _flush(self, now: float) -> None:
        try:
            self.outgoing += _datagrams(self._ssl.bio_read(65_536))
        except SSL.Error:
            pass  # nothing to send
        timeout = None if self.failed else self._ssl.DTLSv1_get_timeout()
        self._retry = None if timeout is None else now + timeout

    def _fail(self, why: str) -> None:
        self.failed = self.failed or why


def _datagrams(records: bytes) -> Iterator[bytes]:
    """A flight of records, cut between records into datagrams that need no fragments."""
    begin = at = 0
    while at + _RECORD_HEADER <= len(records):
        after = at + _RECORD_HEADER + int.from_bytes(records[at + 11 : at + 13])
        if after - begin > _MTU and at > begin:
            yield records[begin:at]
            begin = at
        at = after
    if begin < len(records):
        yield records[begin:]


def _reason(error: SSL.Error) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(details[0][-1]) if details else str(error) or type(error).__name__
