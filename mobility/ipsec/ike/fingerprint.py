"""Fingerprints of certificates, as they stand in session descriptions (RFC 8122 section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mobility.ipsec.ike.certificates import Distrusted, PublicKey, leaf_of, signing_key
from mobility.ipsec.ike.payloads import Identity

_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha-512": hashes.SHA512,
    "sha-384": hashes.SHA384,
    "sha-256": hashes.SHA256,
}
"The strongest first. MD5 and SHA-1 are refused, and SHA-224 is used by nobody."


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hash of a whole certificate."""

    hash_name: str
    "``sha-256``, ``sha-384`` or ``sha-512``."
    octets: bytes

    def __post_init__(self) -> None:
        kind = _HASHES.get(self.hash_name)
        if kind is None:
            raise ValueError(f"a fingerprint by {self.hash_name!r}: only {', '.join(sorted(_HASHES))} are taken")
        if len(self.octets) != kind.digest_size:
            raise ValueError(f"a fingerprint by {self.hash_name} has {kind.digest_size} octets, not {len(self.octets)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``sha-256 AA:BB:...``, the value of ``a=fingerprint``. Raises `ValueError`."""
        name, _, octets = text.strip().partition(" ")
        pairs = octets.strip().split(":")
        if not all(len(pair) == 2 and pair.isascii() and pair.isalnum() for pair in pairs):
            raise ValueError(f"{text!r} is no fingerprint: it has to look like sha-256 12:34:AB:... (RFC 8122)")
        try:
            return cls(name.lower(), bytes.fromhex("".join(pairs)))
        except ValueError as error:
            raise ValueError(f"{text!r} is no fingerprint: {error}") from None

    @classmethod
    def of(cls, certificate: x509.Certificate, hash_name: str = "sha-256") -> Self:
        """Of a certificate. Raises `ValueError`: a hash function that is not taken."""
        kind = _HASHES.get(hash_name)
        return cls(hash_name, b"" if kind is None else certificate.fingerprint(kind()))

    def __str__(self) -> str:
        return f"{self.hash_name} {self.octets.hex(':').upper()}"


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Whom we believe: who has a certificate with one of these fingerprints, whatever else it says.

    Neither who has signed it nor until when it is valid matters (RFC 8122 section 6): who told us the fingerprint
    vouches for it.
    """

    known: tuple[Fingerprint, ...]

    def public_key(self, chain: Iterable[bytes], identity: Identity, at: datetime) -> PublicKey:
        """As `Trust.public_key`. Raises `Distrusted`."""
        leaf = leaf_of(chain)
        if not self.include(leaf):
            own = Fingerprint.of(leaf, self._strongest)
            raise Distrusted(
                f"the certificate of {identity} has the fingerprint {own}, and {self._told} was told: it is another"
                " one's, or has been made anew since"
            )
        return signing_key(leaf, identity)

    def expect(self, chain: Iterable[bytes]) -> bool:
        """Whether the first certificate is one of these, readable or not."""
        try:
            return self.include(leaf_of(chain))
        except Distrusted:
            return False

    def include(self, certificate: x509.Certificate) -> bool:
        """Whether it has one of the fingerprints; where there are several hash functions, the strongest counts."""
        own = Fingerprint.of(certificate, self._strongest)
        return any(each.hash_name == own.hash_name and compare_digest(each.octets, own.octets) for each in self.known)

    @property
    def _strongest(self) -> str:
        names = {each.hash_name for each in self.known}
        return next((name for name in _HASHES if name in names), "sha-256")

    @property
    def _told(self) -> str:
        return " or ".join(str(each) for each in self.known if each.hash_name == self._strongest) or "none"
