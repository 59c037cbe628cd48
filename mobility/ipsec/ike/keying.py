"""The arithmetic of IKEv2 keys (RFC 7296 sections 2.13 to 2.18, RFC 9370 section 2.2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hmac import digest

from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.ike.numbers import Encr, Integ, Prf
from mobility.ipsec.ike.proposals import Suite

KEY_PAD = b"Key Pad for IKEv2"
"RFC 7296 section 2.15."


def prf_plus(hash_name: str, key: bytes, seed: bytes, size: int) -> bytes:
    """``prf+`` of section 2.13, for HMAC with a hash function. Raises `ValueError`: more than 255 blocks."""
    out = block = b""
    for count in range(1, 257):
        if len(out) >= size:
            return out[:size]
        block = digest(key, block + seed + bytes((count & 0xFF,)), hash_name)
        out += block
    raise ValueError(f"prf+ has no {size} octets to give")


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """Key material of an IKE SA; the repr shows none of it."""

    d: bytes = field(repr=False)
    "SK_d: child SAs and the next IKE SA are made from it."
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    "SK_ei; for AEAD with the four octets of salt behind it."
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


def encryption_key_size(suite: Suite) -> int:
    """Octets of SK_ei and SK_er, salt included."""
    if suite.encr is Encr.CHACHA20_POLY1305:
        return 36
    return suite.key_bits // 8 + (4 if suite.aead else 0)


def skeyseed(hash_name: str, shared: bytes, nonces: bytes) -> bytes:
    """SKEYSEED of an IKE SA out of IKE_SA_INIT (section 2.14); ``nonces``: Ni | Nr."""
    return digest(nonces, shared, hash_name)


def next_skeyseed(hash_name: str, sk_d: bytes, shared: bytes, nonces: bytes) -> bytes:
    """SKEYSEED of a rekeyed IKE SA (section 2.18), or after one more key exchange (RFC 9370 section 2.2.2)."""
    return digest(sk_d, shared + nonces, hash_name)


def ike_keys(suite: Suite, seed: bytes, nonces: bytes, spis: bytes) -> IkeKeys:
    """All keys of an IKE SA (section 2.14); ``spis``: SPIi | SPIr."""
    integrity = 32 if suite.integ is Integ.HMAC_SHA2_256_128 else 0
    encryption, prf = encryption_key_size(suite), suite.prf.size
    sizes = (prf, integrity, integrity, encryption, encryption, prf, prf)
    material = prf_plus(suite.prf.hash_name, seed, nonces + spis, sum(sizes))
    cut, at = [], 0
    for size in sizes:
        cut.append(material[at : at + size])
        at += size
    return IkeKeys(*cut)


def child_keys(
    prf: Prf, sk_d: bytes, nonces: bytes, algorithm: Algorithm, key_size: int, shared: bytes = b""
) -> tuple[Keys, Keys]:
    """Keys of a child SA (section 2.17): of what the initiator of the exchange sends, and of what it receives.

    ``key_size``: octets of the encryption key, salt included; ``shared``: of the key exchange, with forward secrecy.
    """
    each = key_size + algorithm.authentication_key_length
    material = prf_plus(prf.hash_name, sk_d, shared + nonces, 2 * each)
    first, second = material[:each], material[each:]
    return Keys(first[:key_size], first[key_size:]), Keys(second[:key_size], second[key_size:])


def shared_key_mic(prf: Prf, secret: bytes, octets: bytes) -> bytes:
    """The content of AUTH with a pre-shared key (section 2.15)."""
    return digest(digest(secret, KEY_PAD, prf.hash_name), octets, prf.hash_name)
