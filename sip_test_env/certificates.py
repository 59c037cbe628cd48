"""A certificate authority and a server certificate, made anew for every instance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=30)


class Authority:
    """A certificate authority whose key lives only in this object."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begin: timedelta = -timedelta(hours=1)
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC) + begin
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + _LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    @property
    def pem(self) -> bytes:
        """The certificate that others trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(
        self,
        names: Sequence[str],
        addresses: Sequence[IPv4Address | IPv6Address],
        *,
        begin: timedelta = -timedelta(hours=1),
        client: bool = False,
    ) -> tuple[bytes, bytes]:
        """Key and certificate (PEM) for a server that is reached by these names and addresses.

        ``begin``: of its validity, from now; ``client``: for a client instead.
        """
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        certificate = (
            self._builder(subject, key.public_key(), begin)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return (
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificate.public_bytes(serialization.Encoding.PEM),
        )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def write(directory: Path, names: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address]) -> None:
    """``ca.pem``, ``server.key`` (mode 0600) and ``server.pem`` in ``directory``."""
    authority = Authority("roamphone test authority")
    key, certificate = authority.server(names, addresses)
    (directory / "ca.pem").write_bytes(authority.pem)
    secret = directory / "server.key"
    secret.touch(mode=0o600)
    secret.write_bytes(key)
    (directory / "server.pem").write_bytes(certificate)
