"""Keys, against published figures."""

from __future__ import annotations

from hmac import digest

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike import groups
from mobility.ipsec.ike.groups import KeyExchange, KeyExchangeError
from mobility.ipsec.ike.keying import child_keys, ike_keys, next_skeyseed, prf_plus, shared_key_mic, skeyseed
from mobility.ipsec.ike.numbers import Group, Integ, Prf
from mobility.ipsec.ike.proposals import choose, ike_offer, suite_of
from tests.mobility.ipsec.keying import dice


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def test_prf_plus_is_the_expansion_of_hkdf() -> None:
    """RFC 5869 appendix A.1: HKDF-Expand is the same function as prf+ with HMAC-SHA-256."""
    key = octets("077709362c2e32df0ddc3f0dc47bba63 90b6c73bb50f9c3122ec844ad7c2b3e5")
    out = prf_plus("sha256", key, octets("f0f1f2f3f4f5f6f7f8f9"), 42)
    assert out == octets("3cb25f25faacd57a90434f64d0362f2a 2d2d0a90cf1a5a4c5db02d56ecc4c5bf 34007208d5b887185865")


@pytest.mark.parametrize("size", [0, 1, 32, 33, 255 * 32])
def test_prf_plus_gives_what_is_asked(size: int) -> None:
    assert len(prf_plus("sha256", bytes(32), b"seed", size)) == size
    assert prf_plus("sha256", bytes(32), b"seed", size) == prf_plus("sha256", bytes(32), b"seed", 255 * 32)[:size]


def test_prf_plus_ends() -> None:
    with pytest.raises(ValueError, match="no 8161 octets"):
        prf_plus("sha256", bytes(32), b"seed", 255 * 32 + 1)


def test_key_derivation_of_nist() -> None:
    """NIST CAVS 14.3, IKEv2 KDF with SHA-1, first test: SKEYSEED, all of DKM, and SKEYSEED of a rekey."""
    nonces = octets("32b50d5f4a3763f3 9206a04b26564cb1")
    spis = octets("34c9e7c188868785 3ff77d760d2b2199")
    shared = octets("4b2c1f971981a8ad8d0abeafabf38cf7 5fc8349c148142465ed9c8b516b8be52")
    seed = skeyseed("sha1", shared, nonces)
    assert seed == octets("a9a7b222b59f8f48645f28a1db5b5f5d7479cba7")
    material = prf_plus("sha1", seed, nonces + spis, 132)
    assert material == octets(
        "a14293677cc80ff8f9cc0eee30d895da 9d8f405666e30ef0dfcb63c634a46002 a2a63080e514a062768b76606f9fa5e9"
        "92204fc5a670bde3f10d6b027113936a 5c55b648a194ae587b0088d52204b702 c979fa280870d2ed41efa9c549fd1119"
        "8af1670b143d384bd275c5f594cf266b 05ebadca855e4249520a441a81157435 a7a56cc4"
    )
    new = octets("863f3c9d06efd39d2b907b97f8699e5d d5251ef64a2a176f36ee40c87d4f9330")
    assert next_skeyseed("sha1", material[:20], new, nonces) == octets("63e81194946ebd05df7df5ebf5d8750056bf1f1d")


def test_keys_are_cut_in_the_order_of_the_rfc() -> None:
    """RFC 7296 section 2.14: SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi, SK_pr; section 2.17: initiator's first."""
    for aead in (True, False):
        offer = ike_offer((Group.X25519,), aead=aead, cbc=not aead)
        chosen = choose(offer, offer)
        assert chosen is not None
        suite = suite_of(chosen)
        keys = ike_keys(suite, bytes(32), b"nonces", b"spis")
        sizes = [len(each) for each in (keys.d, keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr)]
        assert sizes == ([32, 0, 0, 36, 36, 32, 32] if aead else [32, 32, 32, 32, 32, 32, 32])
        whole = prf_plus("sha256", bytes(32), b"noncesspis", sum(sizes))
        assert keys.d + keys.ai + keys.ar + keys.ei + keys.er + keys.pi + keys.pr == whole
        assert suite.integ is (Integ.NONE if aead else Integ.HMAC_SHA2_256_128)
        assert whole[:32].hex() not in repr(keys)
    first, second = child_keys(Prf.HMAC_SHA2_256, bytes(32), b"n", Algorithm.AES_CBC_HMAC_SHA2_256_128, 16, b"shared")
    whole = prf_plus("sha256", bytes(32), b"sharedn", 96)
    assert first.encryption + first.authentication + second.encryption + second.authentication == whole


def test_psk_mic_is_hmac_of_hmac() -> None:
    """RFC 7296 section 2.15, with the inner prf from RFC 4231 test case 2 (key "Jefe") in place of the pad."""
    inner = digest(b"Jefe", b"Key Pad for IKEv2", "sha256")
    assert shared_key_mic(Prf.HMAC_SHA2_256, b"Jefe", b"octets") == digest(inner, b"octets", "sha256")
    assert digest(b"Jefe", b"what do ya want for nothing?", Prf.HMAC_SHA2_256.hash_name) == octets(
        "5bdcc146bf60754e6a042426089575c7 5a003f089d2739839dec58b964ec3843"
    )


def test_p256_of_rfc_5903() -> None:
    """Section 8.1: the shared secret is the x coordinate."""
    mine = int("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433", 16)
    theirs = int("C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53", 16)
    ours = KeyExchange(Group.P256, lambda size: (mine - 1).to_bytes(size, "big"))
    assert ours.public == octets(
        "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"
        "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3"
    )
    public, shared = groups.answer(Group.P256, ours.public, lambda size: (theirs - 1).to_bytes(size, "big"))
    assert public[:32] == octets("D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63")
    assert shared == ours.shared(public)
    assert shared == octets("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE")


def test_x25519_of_rfc_7748() -> None:
    """Section 6.1."""
    alice = octets("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = octets("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    ours = KeyExchange(Group.X25519, lambda size: alice)
    assert ours.public == octets("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    public, shared = groups.answer(Group.X25519, ours.public, lambda size: bob)
    assert public == octets("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    assert shared == ours.shared(public)
    assert shared == octets("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize("group", [each for each in Group if each is not Group.NONE])
def test_both_ends_get_the_same(group: Group) -> None:
    ours = KeyExchange(group, dice)
    public, shared = groups.answer(group, ours.public, dice)
    assert ours.shared(public) == shared
    for wrong in (b"", public[:-1], bytes(len(public)), public + b"\0"):
        if group is Group.ML_KEM_768 and len(wrong) == len(public):
            continue  # any ciphertext of the right size gives a secret, which then is another one
        with pytest.raises(KeyExchangeError):
            ours.shared(wrong)
    for wrong in (b"", ours.public[:-1], ours.public + b"\0"):
        with pytest.raises(KeyExchangeError):
            groups.answer(group, wrong, dice)
