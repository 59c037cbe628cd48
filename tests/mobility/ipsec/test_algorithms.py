"""Names, key lengths and sizes."""

from __future__ import annotations

import pytest

from mobility.ipsec.algorithms import Algorithm, KeyingError, Keys
from mobility.ipsec.sa import Mode
from tests.mobility.ipsec.keying import ALL_KEYS, keys_for, pair


@pytest.mark.parametrize("algorithm", Algorithm)
def test_names_go_both_ways(algorithm: Algorithm) -> None:
    assert Algorithm.parse(algorithm.value) is algorithm
    assert Algorithm.parse(f" {algorithm.value.upper()} ") is algorithm


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyingError, match=r"'des'.*aes-gcm-16.*null-hmac-sha2-256-128"):
        Algorithm.parse("des")


@pytest.mark.parametrize(("algorithm", "length"), ALL_KEYS)
def test_right_keys_pass(algorithm: Algorithm, length: int) -> None:
    algorithm.check(keys_for(algorithm, length))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_wrong_keys_are_refused_with_the_right_length(algorithm: Algorithm) -> None:
    for length in set(range(70)) - set(algorithm.key_lengths):
        with pytest.raises(KeyingError, match=rf"needs an encryption key of .*{algorithm.key_lengths[0]}.*{length}"):
            algorithm.check(Keys(bytes(length), bytes(algorithm.authentication_key_length)))
    for length in set(range(70)) - {algorithm.authentication_key_length}:
        with pytest.raises(KeyingError, match=f"authentication key of {algorithm.authentication_key_length} octets"):
            algorithm.check(Keys(bytes(algorithm.key_lengths[0]), bytes(length)))


def test_aead_error_speaks_of_the_salt() -> None:
    with pytest.raises(KeyingError, match=r"20 or 28 or 36 octets, the last 4 of them salt; this one has 16"):
        Algorithm.AES_GCM_16.check(Keys(bytes(16)))


def test_keys_hide() -> None:
    keys = keys_for(Algorithm.AES_CBC_HMAC_SHA2_256_128)
    assert repr(keys) == str(keys) == "Keys(<16 octets>, <32 octets>)"


@pytest.mark.parametrize(("algorithm", "length"), ALL_KEYS)
def test_overhead_and_room_say_what_seal_does(algorithm: Algorithm, length: int) -> None:
    out, _ = pair(algorithm, length, Mode.TUNNEL)
    for size in range(70):
        sealed = len(out.seal(41, bytes(size)))
        assert sealed == size + algorithm.overhead(size)
        room = algorithm.room(sealed)
        assert room >= size
        assert room + algorithm.overhead(room) <= sealed
        assert room + 1 + algorithm.overhead(room + 1) > sealed
