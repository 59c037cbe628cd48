"""Tokens, keys and authenticators against an independent computation and scapy; nonces that come and go."""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    IPv6,
    IPv6ExtHdrDestOpt,
    MIP6OptBindingAuthData,
    MIP6OptNonceIndices,
    in6_chksum,
)

from mobility.mipv6.return_routability import (
    MAX_NONCE_LIFETIME,
    MAX_TOKEN_LIFETIME,
    NONCE_INTERVAL,
    KeygenToken,
    Nonces,
    authenticator,
    authorized,
    binding_key,
    care_of_keygen_token,
    home_keygen_token,
    is_authorized,
)
from mobility.mipv6.signalling import UNPROTECTED, from_terminal
from mobility.wire import ip6, mh

HOME = IPv6Address("2001:db8:1::100")
CARE_OF = IPv6Address("2001:db8:a::1")
CORRESPONDENT = IPv6Address("2001:db8:c::c")


def hmac_sha1(key: bytes, message: bytes) -> bytes:
    """RFC 2104 by hand: nothing of the standard library's hmac."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha1(bytes(octet ^ 0x36 for octet in key) + message).digest()
    return hashlib.sha1(bytes(octet ^ 0x5C for octet in key) + inner).digest()


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
def test_tokens_as_in_section_5_2_5(secret: bytes, nonce: bytes, address: bytes) -> None:
    assert home_keygen_token(secret, address, nonce) == hmac_sha1(secret, address + nonce + b"\0")[:8]
    assert care_of_keygen_token(secret, address, nonce) == hmac_sha1(secret, address + nonce + b"\1")[:8]


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_key_as_in_section_5_2_5(home: bytes, care_of: bytes) -> None:
    assert binding_key(home, care_of) == hashlib.sha1(home + care_of).digest()
    assert binding_key(home) == hashlib.sha1(home).digest()


def update(key: bytes, lifetime: int = 420) -> mh.BindingUpdate:
    options = (mh.NonceIndices(7, 9),)
    return authorized(
        mh.BindingUpdate(77, mh.UpdateFlag.ACKNOWLEDGE, lifetime, options), key, CARE_OF.packed, CORRESPONDENT.packed
    )


def test_binding_update_as_scapy_builds_it() -> None:
    """The same message made by scapy, its authenticator by hand over what section 6.2.7 says."""
    key = binding_key(b"homehome", b"care-of!")
    packet = from_terminal(update(key), HOME, CARE_OF, CORRESPONDENT, UNPROTECTED)
    # Scapy's own idea of these lengths counts the fields wrong.
    options = [MIP6OptNonceIndices(olen=4, hni=7, coni=9), MIP6OptBindingAuthData(olen=12, authenticator=0)]
    message = MIP6MH_BU(seq=77, flags=0x40, mhtime=105, options=options)
    theirs = bytes(
        IPv6(src=str(CARE_OF), dst=str(CORRESPONDENT)) / IPv6ExtHdrDestOpt(options=[HAO(hoa=str(HOME))]) / message
    )
    header = theirs[64:]
    assert len(header) == len(packet) - 64 == 32
    covered = CARE_OF.packed + CORRESPONDENT.packed + header[:4] + b"\0\0" + header[6:-12]
    value = hmac_sha1(key, covered)[:12]
    ours = packet[64:]
    assert ours[-12:] == value
    assert ours[:4] + ours[6:-12] == header[:4] + header[6:-12]
    dissected = IPv6(packet)
    assert dissected[MIP6MH_BU].seq == 77
    assert dissected[MIP6OptNonceIndices].hni == 7
    assert dissected[HAO].hoa == str(HOME)
    pseudo = IPv6(src=str(HOME), dst=str(CORRESPONDENT))  # the checksum is over the home address (section 6.1.1)
    assert in6_chksum(ip6.MOBILITY, pseudo, ours[:4] + b"\0\0" + ours[6:]) == int.from_bytes(ours[4:6])


def test_authenticator_covers_all_and_nothing_else() -> None:
    key = binding_key(b"homehome", b"care-of!")
    header = mh.payload(update(key), HOME, CORRESPONDENT)
    assert is_authorized(header, key, CARE_OF.packed, CORRESPONDENT.packed)
    for at in range(len(header)):
        changed = header[:at] + bytes((header[at] ^ 1,)) + header[at + 1 :]
        covered = at not in (4, 5)  # the checksum is computed with the authenticator inside
        assert is_authorized(changed, key, CARE_OF.packed, CORRESPONDENT.packed) is not covered
    assert not is_authorized(header, binding_key(b"homehome"), CARE_OF.packed, CORRESPONDENT.packed)
    assert not is_authorized(header, key, HOME.packed, CORRESPONDENT.packed)
    assert not is_authorized(header, key, CARE_OF.packed, HOME.packed)
    for size in range(len(header)):
        assert not is_authorized(header[:size], key, CARE_OF.packed, CORRESPONDENT.packed)


def test_option_that_is_not_the_last_is_none() -> None:
    key = binding_key(b"homehome", b"care-of!")
    good = update(key)
    behind = mh.BindingUpdate(77, mh.UpdateFlag.ACKNOWLEDGE, 420, (*good.options, mh.NonceIndices(7, 9)))
    assert not is_authorized(bytes(behind), key, CARE_OF.packed, CORRESPONDENT.packed)
    value = authenticator(key, CARE_OF.packed, CORRESPONDENT.packed, bytes(behind))
    assert len(value) == 12


def test_nonces_are_known_as_long_as_tokens_may_be_used() -> None:
    nonces = Nonces(Random(5).randbytes)
    index, token = nonces.home_token(HOME.packed, 0.0)
    care_of_index, care_of_token = nonces.care_of_token(CARE_OF.packed, NONCE_INTERVAL - 0.1)
    assert care_of_index == index  # one nonce for a while
    assert care_of_token != token
    later, _ = nonces.home_token(HOME.packed, NONCE_INTERVAL)
    assert later == (index + 1) & 0xFFFF
    last_use = NONCE_INTERVAL - 0.1 + MAX_TOKEN_LIFETIME
    assert nonces.home_token_again(index, HOME.packed, last_use) == token
    assert nonces.care_of_token_again(index, CARE_OF.packed, last_use) == care_of_token
    assert nonces.home_token_again(index, HOME.packed, MAX_NONCE_LIFETIME) is None
    assert nonces.home_token_again((index + 7) & 0xFFFF, HOME.packed, 1.0) is None


def test_table_of_nonces_is_bounded_and_indices_wrap() -> None:
    nonces = Nonces(Random(5).randbytes)
    seen: list[int] = []
    for step in range(70000):
        index, _ = nonces.care_of_token(CARE_OF.packed, step * NONCE_INTERVAL)
        seen.append(index)
        assert len(nonces) <= MAX_NONCE_LIFETIME / NONCE_INTERVAL
        if step > 66000:
            break
    assert 0 in seen
    assert 0xFFFF in seen


@pytest.mark.parametrize(("age", "margin", "usable"), [(0, 0, True), (209, 0, True), (210, 0, False), (206, 5, False)])
def test_age_of_a_token(age: float, margin: float, usable: bool) -> None:
    assert KeygenToken(1, b"12345678", 100.0, HOME.packed).usable(100.0 + age, margin) is usable


def test_header_is_aligned_for_others() -> None:
    """Binding authorization data ends at a multiple of eight octets, with nothing behind (section 6.2.7)."""
    key = binding_key(b"homehome", b"care-of!")
    vendor = mh.VendorSpecific(32473, 3, bytes(8))
    for options in ((), (mh.NonceIndices(1, 2),), (mh.NonceIndices(1, 2), vendor), (vendor,)):
        plain = mh.BindingUpdate(1, mh.UpdateFlag.ACKNOWLEDGE, 420, options)
        header = bytes(authorized(plain, key, CARE_OF.packed, CORRESPONDENT.packed))
        assert len(header) % 8 == 0
        assert is_authorized(header, key, CARE_OF.packed, CORRESPONDENT.packed)
        parsed = mh.parse(mh.payload(mh.BindingUpdate.parse(header), HOME, CORRESPONDENT), HOME, CORRESPONDENT)
        assert isinstance(parsed, mh.BindingUpdate)
        assert isinstance(parsed.options[-1], mh.BindingAuthorizationData)
        assert (
            ip6.checksum(HOME.packed, CORRESPONDENT.packed, ip6.MOBILITY, mh.payload(parsed, HOME, CORRESPONDENT)) == 0
        )
