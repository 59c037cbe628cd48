"""Certificates of IKE peers (RFC 4945, RFC 7296 section 3.6): whom to believe that a public key is somebody's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification as v

from mobility.ipsec.ike.numbers import IdType
from mobility.ipsec.ike.payloads import Identity

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
MOST_CERTIFICATES = 8


class Distrusted(ValueError):
    """A certificate that proves nothing here; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Who we are, with a certificate: its private key, and the certificates between it and a trusted authority."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    intermediates: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom we believe: certification authorities, and what they have revoked."""

    anchors: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()

    def hashes(self) -> bytes:
        """For CERTREQ: SHA-1 of the public keys of the authorities (RFC 7296 section 3.7)."""
        return b"".join(_key_hash(anchor) for anchor in self.anchors)

    def public_key(self, chain: Iterable[bytes], identity: Identity, at: datetime) -> PublicKey:
        """The public key of the first certificate (DER), once it is proven that it is that of ``identity``.

        Raises `Distrusted`: nobody vouches for it, expired, revoked, of somebody else, or a key that is not used here.
        """
        leaf, *others = _parsed(chain)
        if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
            raise Distrusted(
                f"the certificate of {identity} is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} to"
                f" {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and here it is {at:%Y-%m-%d %H:%M}: renew it, or set"
                " the clock"
            )
        policy = v.PolicyBuilder().store(v.Store(list(self.anchors))).time(at)
        policy = policy.extension_policies(ca_policy=_AUTHORITY, ee_policy=_PEER)
        try:
            path = policy.build_client_verifier().verify(leaf, others).chain
        except v.VerificationError as error:
            raise Distrusted(
                f"no authority that is trusted here vouches for the certificate of {identity}: {error}"
            ) from None
        self._check_revocation(path, at)
        if not names(leaf, identity):
            raise Distrusted(f"the certificate is not of {identity}: it names {_all_names(leaf)}")
        return signing_key(leaf, identity)

    def _check_revocation(self, path: list[x509.Certificate], at: datetime) -> None:
        for certificate, issuer in pairwise(path):
            for revocations in self.revocations:
                if revocations.issuer != certificate.issuer or not revocations.is_signature_valid(_signer(issuer)):
                    continue
                found = revocations.get_revoked_certificate_by_serial_number(certificate.serial_number)
                if found is not None and found.revocation_date_utc <= at:
                    raise Distrusted(
                        f"the certificate {certificate.subject.rfc4514_string()} was revoked on"
                        f" {found.revocation_date_utc:%Y-%m-%d}"
                    )


def leaf_of(chain: Iterable[bytes]) -> x509.Certificate:
    """The first certificate (DER), that of the other end itself. Raises `Distrusted`."""
    return _parsed(chain)[0]


def signing_key(certificate: x509.Certificate, identity: Identity) -> PublicKey:
    """The public key of ``identity``. Raises `Distrusted`: of a kind that is not used here, or one that is broken."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Distrusted(f"the certificate of {identity} has a key that cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise Distrusted(f"the certificate of {identity} has a key of a kind that is not used here")
    return key


def _is_authority(_policy: object, _certificate: object, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("it is no authority")


def _signs_certificates(_policy: object, _certificate: object, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("its key is not for certificates")


def _signs(_policy: object, _certificate: object, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise ValueError("its key is not for signatures")


# As RFC 4945 section 5.1.3 wants it: what those of the web demand beyond that, authorities of one's own do not have.
_AUTHORITY = (
    v.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, v.Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, v.Criticality.AGNOSTIC, _signs_certificates)
)
_PEER = (
    v.ExtensionPolicy.permit_all()
    .require_present(x509.SubjectAlternativeName, v.Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, v.Criticality.AGNOSTIC, _signs)
)


def names(certificate: x509.Certificate, identity: Identity) -> bool:
    """Whether the certificate is that of ``identity`` (RFC 4945 section 3.1): whole names only, no wildcards."""
    if identity.kind == IdType.DER_ASN1_DN:
        return certificate.subject.public_bytes() == identity.data
    wanted = str(identity).lower()
    alternative = _alternative_names(certificate)
    match identity.kind:
        case IdType.FQDN:
            return wanted in (name.lower() for name in alternative.get_values_for_type(x509.DNSName))
        case IdType.RFC822_ADDR:
            return wanted in (name.lower() for name in alternative.get_values_for_type(x509.RFC822Name))
        case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
            return ip_address(identity.data) in alternative.get_values_for_type(x509.IPAddress)
    return False


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return x509.SubjectAlternativeName([])


def _all_names(certificate: x509.Certificate) -> str:
    return ", ".join(str(name.value) for name in _alternative_names(certificate)) or "nobody"


def _parsed(chain: Iterable[bytes]) -> list[x509.Certificate]:
    try:
        with warnings.catch_warnings():
            # What RFC 5280 forbids, and the library reads for the time being only.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            found = [x509.load_der_x509_certificate(each) for each in list(chain)[:MOST_CERTIFICATES]]
    except (ValueError, CryptographyDeprecationWarning):
        raise Distrusted("a certificate cannot be read") from None
    if not found:
        raise Distrusted("no certificate came")
    return found


def _signer(certificate: x509.Certificate) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise Distrusted("an authority has a key of a kind that is not used here")
    return key


def _key_hash(certificate: x509.Certificate) -> bytes:
    digest = hashes.Hash(hashes.SHA1())
    digest.update(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()
