"""A certification authority for tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mobility.ipsec.ike.certificates import Credential, PrivateKey
from tests.mobility.ipsec.ike.world import NOON


def new_key(kind: str) -> PrivateKey:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """Signs certificates, and takes them back."""

    def __init__(
        self,
        name: str = "Test CA",
        parent: Authority | None = None,
        at: datetime = NOON,
        *,
        usage: bool = True,
        ca: bool = True,
    ) -> None:
        """``usage``: with the extension that says what its key is for; ``ca``: it is an authority, really."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer, issuer = (self.key, self.name) if parent is None else (parent.key, parent.name)
        public = self.key.public_key()
        signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1000))
            .not_valid_after(at + timedelta(days=1000))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        builder = builder.add_extension(signs, critical=True) if usage else builder
        self.certificate = builder.sign(signer, hashes.SHA256())
        self.above: tuple[x509.Certificate, ...] = () if parent is None else (self.certificate,)

    def issue(
        self,
        name: str,
        kind: str = "p256",
        *,
        at: datetime = NOON,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Credential:
        """A certificate of somebody, with its key."""
        key = new_key(kind)
        names: x509.GeneralName = x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
        if name[0].isdigit():
            names = x509.IPAddress(ip_address(name))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since or at - timedelta(days=1))
            .not_valid_after(until or at + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Credential(certificate, key, self.above)

    def revoke(self, *credentials: Credential) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(NOON - timedelta(hours=1)).next_update(NOON + timedelta(days=1))
        for each in credentials:
            gone = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(gone.revocation_date(NOON - timedelta(hours=2)).build())
        return builder.sign(self.key, hashes.SHA256())
