"""Key exchanges (RFC 7296 section 3.4; X25519: RFC 8031, P-256: RFC 5903, MODP 2048: RFC 3526, ML-KEM: FIPS 203)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mobility.ipsec.ike.numbers import Group

Random = Callable[[int], bytes]

_SIZES = {Group.X25519: 32, Group.P256: 64, Group.MODP2048: 256}
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MODP2048 = int(  # RFC 3526 section 3
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)


class KeyExchangeError(ValueError):
    """What the other end has sent is no public value of this group."""


@cache
def ml_kem_available() -> bool:
    """Whether the OpenSSL below `cryptography` knows ML-KEM-768; that of its wheels does."""
    try:
        mlkem.MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        return False
    return True


class KeyExchange:
    """Our half of one key exchange; for ML-KEM that of the initiator."""

    __slots__ = ("_private", "group", "public")

    def __init__(self, group: Group, random: Random) -> None:
        """Raises `ValueError`: NONE is no group, or ML-KEM is not to be had."""
        self.group = group
        self._private: X25519PrivateKey | ec.EllipticCurvePrivateKey | int | mlkem.MLKEM768PrivateKey
        match group:
            case Group.X25519:
                x25519 = X25519PrivateKey.from_private_bytes(random(32))
                self._private, self.public = x25519, x25519.public_key().public_bytes_raw()
            case Group.P256:
                scalar = 1 + int.from_bytes(random(40), "big") % (_P256_ORDER - 1)
                curve = ec.derive_private_key(scalar, ec.SECP256R1())
                numbers = curve.public_key().public_numbers()
                self._private, self.public = curve, numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
            case Group.MODP2048:
                # `cryptography` is giving up this kind of groups. An exponent is used for one exchange and no other.
                exponent = int.from_bytes(random(32), "big") | 1 << 255
                self._private, self.public = exponent, pow(2, exponent, _MODP2048).to_bytes(256, "big")
            case Group.ML_KEM_768 if ml_kem_available():
                key = mlkem.MLKEM768PrivateKey.from_seed_bytes(random(64))
                self._private, self.public = key, key.public_key().public_bytes_raw()
            case _:
                raise ValueError(f"no key exchange with {group.name} here")

    def shared(self, theirs: bytes) -> bytes:
        """The shared secret with the other end's public value, or from its ciphertext of ML-KEM.

        Raises `KeyExchangeError`.
        """
        try:
            match self._private:
                case X25519PrivateKey() as x25519:
                    return x25519.exchange(X25519PublicKey.from_public_bytes(theirs))
                case ec.EllipticCurvePrivateKey() as curve:
                    if len(theirs) != 64:
                        raise ValueError("64 octets are wanted")
                    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + theirs)
                    return curve.exchange(ec.ECDH(), point)
                case int() as exponent:
                    value = int.from_bytes(theirs, "big")
                    if len(theirs) != 256 or not 1 < value < _MODP2048 - 1:
                        raise ValueError("256 octets between 1 and p - 1 are wanted")
                    return pow(value, exponent, _MODP2048).to_bytes(256, "big")
                case key:
                    return key.decapsulate(theirs)
        except ValueError as error:
            raise KeyExchangeError(f"{self.group.name}: {error}") from None


def answer(group: Group, theirs: bytes, random: Random) -> tuple[bytes, bytes]:
    """The responder's half at once: its public value, or ciphertext of ML-KEM, and the shared secret.

    The randomness of an encapsulation is the library's own. Raises `KeyExchangeError`, `ValueError` as `KeyExchange`.
    """
    if group is Group.ML_KEM_768 and ml_kem_available():
        try:
            secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(theirs).encapsulate()
        except ValueError as error:
            raise KeyExchangeError(f"{group.name}: {error}") from None
        return ciphertext, secret
    ours = KeyExchange(group, random)
    return ours.public, ours.shared(theirs)


def plausible(group: Group, public: bytes) -> bool:
    """Whether a public value has the right size, before anything is computed."""
    return len(public) == _SIZES.get(group, len(public))
