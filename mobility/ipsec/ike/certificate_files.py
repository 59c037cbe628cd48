"""Certificates, keys and revocation lists of IKE from PEM files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mobility.ipsec.ike.certificates import Credential, Trust


def load_credential(certificate: Path, private_key: Path) -> Credential:
    """Our certificate, with those between it and an authority behind it in the same file, and its key.

    Raises OSError, `ValueError` that says which file is wrong.
    """
    chain = _certificates(certificate)
    if private_key.stat().st_mode & 0o077:
        raise ValueError(f"{private_key} can be read by others: `chmod 600 {private_key}`")
    try:
        key = load_pem_private_key(private_key.read_bytes(), None)
    except (ValueError, TypeError):
        raise ValueError(f"{private_key} is no private key in PEM without a passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError(f"{private_key} is of a kind that IKE does not use here: RSA, ECDSA or Ed25519 are wanted")
    if key.public_key() != chain[0].public_key():
        raise ValueError(f"{private_key} is not the key of {certificate}")
    return Credential(chain[0], key, tuple(chain[1:]))


def load_trust(authorities: Iterable[Path], revocations: Iterable[Path] = ()) -> Trust:
    """Authorities and what they have revoked. Raises OSError, `ValueError` that says which file is wrong."""
    anchors = tuple(each for path in authorities for each in _certificates(path))
    if not anchors:
        raise ValueError("no authority is named whose certificates count")
    return Trust(anchors, tuple(_revocations(path) for path in revocations))


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path} is no certificate in PEM") from None


def _revocations(path: Path) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path} is no certificate revocation list in PEM") from None
