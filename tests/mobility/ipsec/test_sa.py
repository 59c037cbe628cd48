"""ESP against scapy and RFC vectors, and against tampering, replays and restarts."""

from __future__ import annotations

import hmac
from ipaddress import IPv6Address

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.packet import Raw

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, KeyingError, Keys
from mobility.ipsec.replay import SIZE, ReplayWindow
from mobility.ipsec.sa import LAST_SEQUENCE, RESERVATION, InboundSA, Mode, OutboundSA, SequenceState
from mobility.wire import ip6
from tests.mobility.ipsec.keying import (
    ALL_KEYS,
    CARE_OF,
    HOME,
    OF_ESP,
    PEER,
    SPI,
    dice,
    discarded,
    keys_for,
    pair,
    scapy_twin,
)

every_key = pytest.mark.parametrize(("algorithm", "length"), ALL_KEYS)
every_algorithm = pytest.mark.parametrize("algorithm", OF_ESP)


class TestScapy:
    @every_key
    @given(body=st.binary(max_size=100))
    def test_scapy_opens_what_we_seal_in_transport_mode(self, algorithm: Algorithm, length: int, body: bytes) -> None:
        out, _ = pair(algorithm, length)
        inner = bytes(UDP(sport=5004, dport=5006, chksum=1) / Raw(body))
        packet = ip6.packet(HOME, PEER, ip6.ESP, out.seal(ip6.UDP, inner))
        opened = scapy_twin(algorithm, length).decrypt(IPv6(packet))
        assert opened.nh == ip6.UDP
        assert bytes(opened[UDP]) == inner

    @every_key
    @given(body=st.binary(max_size=100))
    def test_we_open_what_scapy_seals_in_transport_mode(self, algorithm: Algorithm, length: int, body: bytes) -> None:
        _, inbound = pair(algorithm, length)
        inner = UDP(sport=5004, dport=5006, chksum=1) / Raw(body)
        sealed = scapy_twin(algorithm, length).encrypt(IPv6(src=str(HOME), dst=str(PEER)) / inner)
        assert inbound.open(bytes(sealed[ESP])) == (ip6.UDP, bytes(inner))

    @every_key
    def test_tunnel_mode_both_ways(self, algorithm: Algorithm, length: int) -> None:
        out, inbound = pair(algorithm, length, Mode.TUNNEL)
        inner = bytes(IPv6(src=str(HOME), dst=str(PEER)) / UDP(sport=1, dport=2) / Raw(b"hello"))
        twin = scapy_twin(algorithm, length, tunnel=(CARE_OF, PEER))
        sealed = twin.encrypt(IPv6(inner))
        assert (IPv6Address(sealed.src), sealed[ESP].spi) == (CARE_OF, SPI)
        assert inbound.open(bytes(sealed[ESP])) == (ip6.IPV6, inner)
        packet = ip6.packet(CARE_OF, PEER, ip6.ESP, out.seal(ip6.IPV6, inner))
        assert bytes(twin.decrypt(IPv6(packet))) == inner


class TestVectors:
    def test_chacha20_poly1305_of_rfc_7634_appendix_a(self) -> None:
        key = bytes.fromhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")
        inner = bytes.fromhex(
            "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
            "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
            "2425262728292a2b2c2d2e2f3031323334353637"
        )
        # The appendix has sequence number 5 but an IV of its own, which only a receiver can be shown.
        sealed = bytes.fromhex(
            "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b"
            "67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7"
            "2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da"
            "9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43"
        )
        keys = Keys(key + bytes.fromhex("a0a1a2a3"))
        inbound = InboundSA(0x01020304, Algorithm.CHACHA20_POLY1305, keys, Mode.TUNNEL)
        assert inbound.open(sealed) == (ip6.IPV4, inner)
        assert inbound.top == 5

    def test_aes_gcm_is_gcm_of_salt_and_iv_over_spi_and_sequence(self) -> None:
        keys = keys_for(Algorithm.AES_GCM_16)
        out, _ = pair(Algorithm.AES_GCM_16)
        sealed = out.seal(17, b"abcde")
        encryptor = Cipher(
            algorithms.AES(keys.encryption[:16]), modes.GCM(keys.encryption[16:] + sealed[8:16])
        ).encryptor()
        encryptor.authenticate_additional_data(SPI.to_bytes(4, "big") + b"\0\0\0\1")
        expected = encryptor.update(b"abcde\1\1\x11") + encryptor.finalize() + encryptor.tag
        assert sealed[16:] == expected
        assert sealed[:8] == SPI.to_bytes(4, "big") + b"\0\0\0\1"

    def test_hmac_is_sha256_over_all_before_it(self) -> None:
        out, _ = pair(Algorithm.NULL_HMAC_SHA2_256_128)
        sealed = out.seal(17, b"abcde")
        expected = SPI.to_bytes(4, "big") + b"\0\0\0\1" + b"abcde\1\1\x11"
        key = keys_for(Algorithm.NULL_HMAC_SHA2_256_128).authentication
        assert sealed == expected + hmac.new(key, expected, "sha256").digest()[:16]

    def test_cbc_iv_is_from_the_dice(self) -> None:
        asked: list[int] = []

        def random(size: int) -> bytes:
            asked.append(size)
            return b"\xaa" * size

        algorithm = Algorithm.AES_CBC_HMAC_SHA2_256_128
        out = OutboundSA(SPI, algorithm, keys_for(algorithm), Mode.TUNNEL, random=random)
        assert out.seal(41, b"x")[8:24] == b"\xaa" * 16
        assert asked == [16]


class TestKeying:
    @pytest.mark.parametrize("algorithm", [a for a in Algorithm if a.aead])
    def test_aead_with_static_keys_is_refused(self, algorithm: Algorithm) -> None:
        with pytest.raises(KeyingError, match=r"static keys is unsafe.*Use aes-cbc-hmac-sha2-256-128"):
            OutboundSA(SPI, algorithm, keys_for(algorithm), Mode.TUNNEL, random=dice)

    @pytest.mark.parametrize("algorithm", [a for a in OF_ESP if not a.aead])
    def test_the_others_take_static_keys(self, algorithm: Algorithm) -> None:
        out = OutboundSA(SPI, algorithm, keys_for(algorithm), Mode.TUNNEL, random=dice)
        inbound = InboundSA(SPI, algorithm, keys_for(algorithm), Mode.TUNNEL)
        assert inbound.open(out.seal(41, b"data")) == (41, b"data")

    @pytest.mark.parametrize("spi", [-1, 0, 255, 1 << 32])
    def test_reserved_spi_is_refused(self, spi: int) -> None:
        keys = keys_for(Algorithm.NULL_HMAC_SHA2_256_128)
        with pytest.raises(KeyingError, match="choose one from 256"):
            OutboundSA(spi, Algorithm.NULL_HMAC_SHA2_256_128, keys, Mode.TUNNEL, random=dice)
        with pytest.raises(KeyingError, match="choose one from 256"):
            InboundSA(spi, Algorithm.NULL_HMAC_SHA2_256_128, keys, Mode.TUNNEL)

    @every_key
    def test_wrong_length_is_refused(self, algorithm: Algorithm, length: int) -> None:
        keys = keys_for(algorithm, length)
        wrong = Keys(keys.encryption + b"x", keys.authentication)
        with pytest.raises(KeyingError, match=f"this one has {length + 1}"):
            InboundSA(SPI, algorithm, wrong, Mode.TUNNEL)
        with pytest.raises(KeyingError, match=f"this one has {length + 1}"):
            OutboundSA(SPI, algorithm, wrong, Mode.TUNNEL, random=dice, fresh_keys=True)

    @every_algorithm
    def test_nothing_shown_holds_a_key(self, algorithm: Algorithm) -> None:
        keys = keys_for(algorithm)
        for sa in pair(algorithm):
            shown = f"{sa!r} {sa} {sa.describe()} {keys!r}"
            for secret in (keys.encryption, keys.authentication):
                for size in (4, 8, 16):
                    if secret:
                        assert secret[:size].hex() not in shown
                        assert repr(secret[:size])[2:-1] not in shown


class TestBadInput:
    @every_algorithm
    def test_every_changed_octet_is_noticed(self, algorithm: Algorithm) -> None:
        out, inbound = pair(algorithm)
        good = out.seal(17, b"some payload")
        for at in range(4, len(good)):
            for change in (0x01, 0x80):
                bad = bytearray(good)
                bad[at] ^= change
                sequence = int.from_bytes(bad[4:8], "big")
                wanted = Reason.AUTHENTICATION_FAILED if sequence else Reason.REPLAYED
                discarded(wanted, lambda bad=bad: inbound.open(bytes(bad)))  # type: ignore[misc]
        # None of that moved the window.
        assert (inbound.top, inbound.packets) == (0, 0)
        assert inbound.open(good) == (17, b"some payload")

    @every_algorithm
    def test_another_spi(self, algorithm: Algorithm) -> None:
        out, inbound = pair(algorithm)
        good = out.seal(17, b"some payload")
        for at in range(4):
            bad = bytearray(good)
            bad[at] ^= 1
            discarded(Reason.SA_UNKNOWN, lambda bad=bad: inbound.open(bytes(bad)))  # type: ignore[misc]

    @every_algorithm
    def test_truncated_everywhere(self, algorithm: Algorithm) -> None:
        out, inbound = pair(algorithm)
        good = out.seal(17, b"some payload")
        for size in range(len(good)):
            with pytest.raises(Discard) as caught:
                inbound.open(good[:size])
            assert caught.value.reason in (Reason.ESP_MALFORMED, Reason.AUTHENTICATION_FAILED)
        assert inbound.top == 0

    @every_algorithm
    @given(data=st.binary(max_size=200))
    def test_random_bytes(self, algorithm: Algorithm, data: bytes) -> None:
        _, inbound = pair(algorithm)
        for esp in (data, SPI.to_bytes(4, "big") + data):
            with pytest.raises(Discard):
                inbound.open(esp)
        assert inbound.top == 0

    @every_algorithm
    def test_wrong_key(self, algorithm: Algorithm) -> None:
        out, _ = pair(algorithm)
        _, inbound = pair(algorithm, seed=2)
        discarded(Reason.AUTHENTICATION_FAILED, lambda: inbound.open(out.seal(17, b"x")))
        assert inbound.describe()["failed"] == 1

    @pytest.mark.parametrize("tail", [b"ab\2\2\x11", b"abc\1\3\x11", b"ab\xff\x11", b"\0\0\0\0\0\5\x11"])
    def test_padding_must_count_from_one(self, tail: bytes) -> None:
        # An authenticated peer that pads wrongly; NULL encryption lets us write its packet by hand.
        key = keys_for(Algorithm.NULL_HMAC_SHA2_256_128).authentication
        sealed = SPI.to_bytes(4, "big") + b"\0\0\0\1" + tail
        sealed += hmac.new(key, sealed, "sha256").digest()[:16]
        _, inbound = pair(Algorithm.NULL_HMAC_SHA2_256_128)
        discarded(Reason.ESP_MALFORMED, lambda: inbound.open(sealed))
        discarded(Reason.REPLAYED, lambda: inbound.open(sealed))

    def test_partial_cipher_block(self) -> None:
        key = keys_for(Algorithm.AES_CBC_HMAC_SHA2_256_128).authentication
        sealed = SPI.to_bytes(4, "big") + b"\0\0\0\1" + bytes(16 + 23)
        sealed += hmac.new(key, sealed, "sha256").digest()[:16]
        _, inbound = pair(Algorithm.AES_CBC_HMAC_SHA2_256_128)
        assert "partial block" in discarded(Reason.ESP_MALFORMED, lambda: inbound.open(sealed)).detail


class TestReplay:
    @every_algorithm
    def test_once_only_in_any_order(self, algorithm: Algorithm) -> None:
        out, inbound = pair(algorithm)
        sealed = [out.seal(17, b"%d" % number) for number in range(20)]
        for esp in (*sealed[10:], *sealed[:10]):
            inbound.open(esp)
        for esp in sealed:
            discarded(Reason.REPLAYED, lambda esp=esp: inbound.open(esp))  # type: ignore[misc]
        assert (inbound.packets, inbound.replayed, inbound.top) == (20, 20, 20)

    @pytest.mark.parametrize("newest", [SIZE, SIZE + 1, SIZE + 7, 2999])
    def test_edges_of_the_window(self, newest: int) -> None:
        out, inbound = pair(Algorithm.NULL_HMAC_SHA2_256_128)
        sealed = _three_thousand(out)
        inbound.open(sealed[newest - 1])
        oldest = newest - SIZE + 1
        if oldest > 1:
            discarded(Reason.REPLAYED, lambda: inbound.open(sealed[oldest - 2]))
        assert inbound.open(sealed[oldest - 1]) == (17, b"x")
        discarded(Reason.REPLAYED, lambda: inbound.open(sealed[oldest - 1]))
        discarded(Reason.REPLAYED, lambda: inbound.open(sealed[newest - 1]))

    @given(st.lists(st.integers(0, 2999), max_size=60))
    def test_same_answers_as_the_window_itself(self, order: list[int]) -> None:
        out, inbound = pair(Algorithm.NULL_HMAC_SHA2_256_128)
        window = ReplayWindow()
        sealed = _three_thousand(out)
        for index in order:
            if window.acceptable(index + 1):
                window.accept(index + 1)
                inbound.open(sealed[index])
            else:
                discarded(Reason.REPLAYED, lambda index=index: inbound.open(sealed[index]))  # type: ignore[misc]
        assert (inbound.top, inbound.bitmap) == (window.top, window.bitmap)


_sealed: list[bytes] = []


def _three_thousand(out: OutboundSA) -> list[bytes]:
    if not _sealed:
        _sealed.extend(out.seal(17, b"x") for _ in range(3000))
    return _sealed


class TestRestart:
    def test_outbound_never_uses_a_number_twice(self) -> None:
        state = SequenceState()
        used: set[int] = set()
        for run in (1, RESERVATION - 1, RESERVATION, RESERVATION + 1, 5):
            out, _ = pair(Algorithm.AES_GCM_16, state=state)
            for _ in range(run):
                number = int.from_bytes(out.seal(17, b"")[4:8], "big")
                assert number not in used
                used.add(number)
            assert out.packets == run
            # Killed here: nothing but the state is left.
        assert max(used) <= len(used) + 5 * RESERVATION

    def test_a_restarted_pair_goes_on_talking(self) -> None:
        state = SequenceState()
        out, inbound = pair(Algorithm.AES_GCM_16, state=state)
        old = [out.seal(17, b"%d" % number) for number in range(10)]
        for esp in old[:8]:
            inbound.open(esp)
        out, inbound = pair(Algorithm.AES_GCM_16, state=state)
        for esp in old[:8]:
            discarded(Reason.REPLAYED, lambda esp=esp: inbound.open(esp))  # type: ignore[misc]
        assert inbound.open(old[9]) == (17, b"9")
        assert inbound.open(old[8]) == (17, b"8")
        assert inbound.open(out.seal(17, b"new")) == (17, b"new")

    def test_numbers_that_came_late_are_not_taken_again(self) -> None:
        state = SequenceState()
        out, inbound = pair(Algorithm.AES_GCM_16, state=state)
        first, second = out.seal(17, b"1"), out.seal(17, b"2")
        inbound.open(second)
        _, inbound = pair(Algorithm.AES_GCM_16, state=state)
        # 1 was never seen, but the state holds only the top: better lost than replayed.
        discarded(Reason.REPLAYED, lambda: inbound.open(first))

    def test_state_lives_in_the_memory_given(self) -> None:
        memory = bytearray(48)
        state = SequenceState(memoryview(memory)[16:32])
        out, inbound = pair(Algorithm.NULL_HMAC_SHA2_256_128, state=state)
        inbound.open(out.seal(17, b""))
        assert memory[:16] == memory[32:] == bytes(16)
        again = SequenceState(memoryview(memory)[16:32])
        assert (again.outbound, again.inbound) == (RESERVATION, 1)

    def test_another_node_that_took_over_gives_back(self) -> None:
        """Home agents that are one: the numbers that the other one used are neither used nor accepted again."""
        state = SequenceState()
        out, inbound = pair(Algorithm.AES_GCM_16, state=state)
        old = [out.seal(17, b"") for _ in range(3)]
        inbound.open(old[0])
        state.cells[0], state.cells[1] = 70_000, 2
        out.resume()
        inbound.resume()
        assert (out.sequence, out.packets) == (70_000, 3)
        assert out.seal(17, b"")[4:8] == (70_001).to_bytes(4, "big")
        discarded(Reason.REPLAYED, lambda: inbound.open(old[1]))
        assert inbound.open(old[2])
        state.cells[1] = 2  # less than this one received itself
        inbound.resume()
        assert inbound.top == 3

    @pytest.mark.parametrize("memory", [bytearray(15), bytearray(17), bytes(16)])
    def test_wrong_memory(self, memory: bytes | bytearray) -> None:
        with pytest.raises(ValueError, match="16 writable octets"):
            SequenceState(memoryview(memory))

    def test_damaged_state_means_exhausted_not_wrapped(self) -> None:
        state = SequenceState(memoryview(bytearray(b"\xff" * 16)))
        out, inbound = pair(Algorithm.NULL_HMAC_SHA2_256_128, state=state)
        discarded(Reason.SEQUENCE_EXHAUSTED, lambda: out.seal(17, b""))
        fresh, _ = pair(Algorithm.NULL_HMAC_SHA2_256_128)
        discarded(Reason.REPLAYED, lambda: inbound.open(fresh.seal(17, b"")))


@every_algorithm
def test_the_last_sequence_number_is_used_and_none_after_it(algorithm: Algorithm) -> None:
    state = SequenceState()
    state.cells[0] = LAST_SEQUENCE - 2
    out, _ = pair(algorithm, state=state)
    assert out.seal(17, b"")[4:8] == b"\xff\xff\xff\xfe"
    assert out.seal(17, b"")[4:8] == b"\xff\xff\xff\xff"
    for _ in range(2):
        assert "new keys" in discarded(Reason.SEQUENCE_EXHAUSTED, lambda: out.seal(17, b"")).detail
    assert (out.packets, out.sequence) == (2, LAST_SEQUENCE)


def test_counters() -> None:
    out, inbound = pair(Algorithm.AES_GCM_16)
    for size in (10, 20, 30):
        inbound.open(out.seal(17, bytes(size)))
    common = {"spi": "0xc0ffee01", "algorithm": "aes-gcm-16", "mode": "transport", "sequence": 3}
    assert out.describe() == common | {"direction": "out", "packets": 3, "octets": 60}
    assert inbound.describe() == common | {"direction": "in", "packets": 3, "octets": 60, "replayed": 0, "failed": 0}
