"""Fingerprints of certificates (RFC 8122): the format, and whom they make us believe."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mobility.ipsec.ike.certificates import Distrusted
from mobility.ipsec.ike.fingerprint import Fingerprint, Fingerprints
from mobility.ipsec.ike.payloads import Identity
from tests.mobility.ipsec.ike.authority import Authority

IDENTITY = Identity.of("2001:db8::1")


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_a_fingerprint_reads_what_it_writes() -> None:
    leaf = Authority().issue("2001:db8::1").certificate
    for name in ("sha-256", "sha-384", "sha-512"):
        own = Fingerprint.of(leaf, name)
        assert Fingerprint.parse(str(own)) == own
    own = Fingerprint.of(leaf)
    assert own.octets == leaf.fingerprint(hashes.SHA256())
    assert str(own).startswith("sha-256 ")
    assert Fingerprint.parse(f"  SHA-256   {own.octets.hex(':')} ") == own  # others write small letters


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no fingerprint"),
        ("sha-256", "is no fingerprint"),
        ("sha-256 AABB", "is no fingerprint"),
        ("sha-256 AA:B", "is no fingerprint"),
        ("sha-256 AA:GG", "is no fingerprint"),
        ("sha-256 AA:+1", "is no fingerprint"),
        ("sha-256 AA:BB", "has 32 octets, not 2"),
        ("sha-1 " + ":".join(["AA"] * 20), "only sha-256, sha-384, sha-512 are taken"),
        ("md5 " + ":".join(["AA"] * 16), "only sha-256, sha-384, sha-512 are taken"),
    ],
)
def test_what_is_no_fingerprint(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Fingerprint.parse(text)


def test_whoever_has_the_certificate_is_believed_and_nobody_else() -> None:
    authority = Authority()
    right, wrong = authority.issue("2001:db8::1").certificate, authority.issue("2001:db8::1").certificate
    belief = Fingerprints((Fingerprint.of(right),))
    when = right.not_valid_before_utc.replace(year=1999)  # validity is nobody's business
    assert belief.public_key([der(right)], IDENTITY, when) == right.public_key()
    assert belief.expect([der(right)])
    for chain in ([], [b"no certificate"], [der(wrong)], [der(wrong), der(right)]):
        assert not belief.expect(chain)
        with pytest.raises(Distrusted):
            belief.public_key(chain, IDENTITY, when)


def test_of_several_hash_functions_the_strongest_decides() -> None:
    authority = Authority()
    right, other = authority.issue("2001:db8::1").certificate, authority.issue("2001:db8::1").certificate
    belief = Fingerprints((Fingerprint.of(other, "sha-256"), Fingerprint.of(right, "sha-512")))
    assert belief.include(right)
    assert not belief.include(other)
    with pytest.raises(Distrusted, match="another one's"):
        belief.public_key([der(other)], IDENTITY, right.not_valid_before_utc)


def test_without_a_fingerprint_nobody_is_believed() -> None:
    leaf = Authority().issue("2001:db8::1").certificate
    assert not Fingerprints(()).include(leaf)


def test_certificates_that_rfc_5280_forbids_are_distrusted_without_a_warning() -> None:
    """The library reads a negative serial number for the time being, and warns: found by fuzzing."""
    leaf = Authority().issue("2001:db8::1").certificate
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1)
    forbidden = der(leaf).replace(serial, b"\xff" + serial[1:], 1)
    assert forbidden != der(leaf)
    belief = Fingerprints((Fingerprint.of(leaf),))
    with pytest.raises(Distrusted, match="cannot be read"):
        belief.public_key([forbidden], IDENTITY, leaf.not_valid_before_utc)
