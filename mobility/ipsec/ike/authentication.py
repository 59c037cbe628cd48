"""AUTH: proving who one is (RFC 7296 section 2.15; signatures: RFC 7427, RFC 8420)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest, digest

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mobility.ipsec.ike.certificates import Credential, Distrusted, PrivateKey, PublicKey, Trust
from mobility.ipsec.ike.fingerprint import Fingerprints
from mobility.ipsec.ike.keying import shared_key_mic
from mobility.ipsec.ike.numbers import AuthMethod, HashAlgorithm, Notification, Prf
from mobility.ipsec.ike.payloads import AuthPayload, Identity, NotifyPayload

SHORTEST_SECRET = 16
"Octets of a pre-shared key: it is a token that was made, not a word that somebody thought of."


class AuthenticationError(ValueError):
    """The other end is not who it claims to be, or cannot show it; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A secret that both ends have, from `mobility add-terminal` for example."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST_SECRET:
            raise ValueError(
                f"a pre-shared key of {len(self.secret)} octets can be guessed by trying: make one of {SHORTEST_SECRET}"
                " random octets at least"
            )


Proof = SharedKey | Credential
"How we show who we are."
Belief = SharedKey | Trust | Fingerprints
"How the other end has to."


def signed_octets(prf: Prf, key: bytes, message: bytes, nonce: bytes, identity: Identity, intermediate: bytes) -> bytes:
    """What one end's AUTH covers: its first message, the other's nonce, its identity (MACed with its SK_p).

    ``intermediate``: IntAuth of RFC 9242 section 3.3.2; empty without IKE_INTERMEDIATE.
    """
    return message + nonce + digest(key, identity.body(), prf.hash_name) + intermediate


def auth_payload(proof: Proof, prf: Prf, octets: bytes, peer_hashes: Iterable[int]) -> AuthPayload:
    """Our AUTH. Raises `AuthenticationError`: we sign, and the other end takes no such signatures."""
    if isinstance(proof, SharedKey):
        return AuthPayload(AuthMethod.SHARED_KEY, shared_key_mic(prf, proof.secret, octets))
    accepted = set(peer_hashes)
    for scheme in _SCHEMES:
        if scheme.hash_algorithm in accepted and scheme.fits(proof.private_key):
            signature = scheme.sign(proof.private_key, octets)
            return AuthPayload(
                AuthMethod.DIGITAL_SIGNATURE, bytes((len(scheme.identifier),)) + scheme.identifier + signature
            )
    raise AuthenticationError("the other end takes no signature that our key can make (RFC 7427)")


def check_auth(
    belief: Belief,
    prf: Prf,
    octets: bytes,
    auth: AuthPayload,
    identity: Identity,
    chain: Iterable[bytes],
    at: datetime,
) -> None:
    """Raises `AuthenticationError` unless AUTH shows that the other end is ``identity``; ``at``: now, in UTC."""
    if isinstance(belief, SharedKey):
        if auth.method != AuthMethod.SHARED_KEY:
            raise AuthenticationError(f"{identity} came with {auth.describe()}, a pre-shared key was agreed")
        if not compare_digest(shared_key_mic(prf, belief.secret, octets), auth.data):
            raise AuthenticationError(
                f"{identity} has another pre-shared key than we have for it, or somebody tampered with the first"
                " messages"
            )
        return
    if auth.method != AuthMethod.DIGITAL_SIGNATURE:
        raise AuthenticationError(f"{identity} came with {auth.describe()}, a certificate was agreed")
    try:
        key = belief.public_key(chain, identity, at)
    except Distrusted as error:
        raise AuthenticationError(str(error)) from None
    size = auth.data[0] if auth.data else 0
    identifier, signature = auth.data[1 : 1 + size], auth.data[1 + size :]
    for scheme in _SCHEMES:
        if scheme.identifier == identifier and scheme.fits(key):
            if not scheme.verify(key, signature, octets):
                raise AuthenticationError(
                    f"the signature of {identity} is wrong: its certificate is not of its key, or somebody tampered"
                    " with the first messages"
                )
            return
    raise AuthenticationError(f"{identity} signs in a way that is not used here ({identifier.hex()})")


def may_be(belief: Belief, chain: Iterable[bytes]) -> bool:
    """Whether these certificates are those that we wait for, where that can be told in advance."""
    return not isinstance(belief, Fingerprints) or belief.expect(chain)


def accepted_hashes() -> NotifyPayload:
    """SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4)."""
    data = b"".join(each.to_bytes(2, "big") for each in HashAlgorithm)
    return NotifyPayload(Notification.SIGNATURE_HASH_ALGORITHMS, data)


def hashes_of(notification: NotifyPayload | None) -> tuple[int, ...]:
    """What the other end's SIGNATURE_HASH_ALGORITHMS says."""
    data = b"" if notification is None else notification.data
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


@dataclass(frozen=True, slots=True)
class _Scheme:
    """One AlgorithmIdentifier (RFC 7427 appendix A) and what it means."""

    identifier: bytes
    hash_algorithm: HashAlgorithm
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512
    "Ed25519 has its own, whatever this says."
    key: type
    curve: type[ec.EllipticCurve] | None = None
    pss: bool = False

    def fits(self, key: PrivateKey | PublicKey) -> bool:
        public = key if isinstance(key, _PUBLIC) else key.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey) and self.key is ec.EllipticCurvePublicKey:
            return self.curve is None or isinstance(public.curve, self.curve)
        return isinstance(public, self.key)

    def sign(self, key: PrivateKey, octets: bytes) -> bytes:
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(octets)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(octets, ec.ECDSA(self.digest))
        return key.sign(octets, self._padding(self.digest), self.digest)

    def verify(self, key: PublicKey, signature: bytes, octets: bytes) -> bool:
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, octets)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, octets, ec.ECDSA(self.digest))
            else:
                key.verify(signature, octets, self._padding(self.digest), self.digest)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True

    def _padding(self, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
        if self.pss:
            return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        return padding.PKCS1v15()


_PUBLIC = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)


def _pss(oid_end: int, salt: int) -> bytes:
    """RSASSA-PSS with one hash function for all (RFC 7427 appendix A.4)."""
    hash_id = bytes.fromhex("300d06096086480165030402") + bytes((oid_end,)) + bytes.fromhex("0500")
    mask_id = bytes.fromhex("301a06092a864886f70d010108") + hash_id
    parameters = b"\xa0\x0f" + hash_id + b"\xa1\x1c" + mask_id + b"\xa2\x03\x02\x01" + bytes((salt,))
    content = bytes.fromhex("06092a864886f70d01010a") + b"\x30" + bytes((len(parameters),)) + parameters
    return b"\x30" + bytes((len(content),)) + content


def _pkcs1(end: int) -> bytes:
    return bytes.fromhex("300d06092a864886f70d0101") + bytes((end,)) + bytes.fromhex("0500")


def _ecdsa(end: int) -> bytes:
    return bytes.fromhex("300a06082a8648ce3d0403") + bytes((end,))


# In the order of preference.
_SCHEMES = (
    _Scheme(bytes.fromhex("300506032b6570"), HashAlgorithm.IDENTITY, hashes.SHA512(), ed25519.Ed25519PublicKey),
    _Scheme(_ecdsa(2), HashAlgorithm.SHA2_256, hashes.SHA256(), ec.EllipticCurvePublicKey, ec.SECP256R1),
    _Scheme(_ecdsa(3), HashAlgorithm.SHA2_384, hashes.SHA384(), ec.EllipticCurvePublicKey),
    _Scheme(_ecdsa(4), HashAlgorithm.SHA2_512, hashes.SHA512(), ec.EllipticCurvePublicKey),
    _Scheme(_ecdsa(2), HashAlgorithm.SHA2_256, hashes.SHA256(), ec.EllipticCurvePublicKey),
    _Scheme(_pss(1, 32), HashAlgorithm.SHA2_256, hashes.SHA256(), rsa.RSAPublicKey, pss=True),
    _Scheme(_pss(2, 48), HashAlgorithm.SHA2_384, hashes.SHA384(), rsa.RSAPublicKey, pss=True),
    _Scheme(_pss(3, 64), HashAlgorithm.SHA2_512, hashes.SHA512(), rsa.RSAPublicKey, pss=True),
    _Scheme(_pkcs1(11), HashAlgorithm.SHA2_256, hashes.SHA256(), rsa.RSAPublicKey),
    _Scheme(_pkcs1(12), HashAlgorithm.SHA2_384, hashes.SHA384(), rsa.RSAPublicKey),
    _Scheme(_pkcs1(13), HashAlgorithm.SHA2_512, hashes.SHA512(), rsa.RSAPublicKey),
)
