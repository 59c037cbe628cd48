"""SRTP keys in descriptions: SDES, DTLS-SRTP and the policies of accounts (RFC 4568, RFC 5763, RFC 8643)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.drops import Drop
from softphone.media.dtls import GIVE_UP, Certificate, DtlsAssociation, DtlsPeer, Fingerprint, is_dtls
from softphone.media.keying import Keying
from softphone.media.offer_answer import NotAcceptable, SrtpMode
from softphone.media.srtp import MediaDropped
from tests.softphone.media.test_offer_answer import CRYPTO, HOME, PEER, agree, an_offer, side

DTLS = "a=setup:actpass\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
ONLY_DTLS, BOTH, ONLY_SDES = (Keying.DTLS,), (Keying.SDES, Keying.DTLS), (Keying.SDES,)


@pytest.mark.parametrize(
    ("mode", "offered", "transport"),
    [
        (SrtpMode.MANDATORY, ONLY_DTLS, "UDP/TLS/RTP/SAVP"),
        (SrtpMode.MANDATORY, BOTH, "RTP/SAVP"),
        (SrtpMode.OPTIONAL, ONLY_DTLS, "RTP/AVP"),
    ],
)
def test_what_an_offer_says(mode: SrtpMode, offered: tuple[Keying, ...], transport: str) -> None:
    offer = side(srtp=mode, offered_keying=offered).offer()
    assert f"m=audio 4000 {transport} " in offer
    assert "a=setup:actpass\r\n" in offer
    assert "a=fingerprint:sha-256 " in offer
    assert ("a=crypto" in offer) is (Keying.SDES in offered)


@pytest.mark.parametrize("mode", [SrtpMode.MANDATORY, SrtpMode.OPTIONAL])
def test_dtls_is_agreed(mode: SrtpMode) -> None:
    one, other = (side(where, srtp=mode, offered_keying=ONLY_DTLS, seed=n) for n, where in ((1, HOME), (2, PEER)))
    ours, theirs = agree(one, other)
    assert ours.dtls == DtlsPeer((other.certificate.fingerprint,), client=False)
    assert theirs.dtls == DtlsPeer((one.certificate.fingerprint,), client=True)
    assert ours.encrypted
    assert ours.send_key is ours.receive_key is None
    # In the same call certificate and parts stay, whoever offers (RFC 8842 section 5).
    theirs, ours = agree(other, one)
    assert ours.dtls == DtlsPeer((other.certificate.fingerprint,), client=False)
    assert theirs.dtls == DtlsPeer((one.certificate.fingerprint,), client=True)


def test_the_order_of_preference_decides() -> None:
    for accepted, dtls in ((BOTH, False), ((Keying.DTLS, Keying.SDES), True), (ONLY_DTLS, True), (ONLY_SDES, False)):
        _, theirs = agree(side(offered_keying=BOTH), side(PEER, keying=accepted, seed=2))
        assert (theirs.dtls is not None) is dtls
        assert theirs.encrypted


def test_opportunistic_encryption_falls_back_to_none() -> None:
    ours, theirs = agree(side(offered_keying=BOTH), side(PEER, srtp=SrtpMode.OFF, seed=2))
    assert not ours.encrypted
    assert not theirs.encrypted


@pytest.mark.parametrize(
    ("mode", "keying", "media", "why"),
    [
        (SrtpMode.OFF, BOTH, "m=audio 6000 UDP/TLS/RTP/SAVPF 0\r\n" + DTLS, "switched off here"),
        (SrtpMode.MANDATORY, ONLY_DTLS, "m=audio 6000 RTP/SAVP 0\r\n" + CRYPTO, "sends no key"),
        (SrtpMode.MANDATORY, ONLY_SDES, "m=audio 6000 UDP/TLS/RTP/SAVP 0\r\n" + DTLS, "sends no key"),
        (
            SrtpMode.MANDATORY,
            BOTH,
            "m=audio 6000 UDP/TLS/RTP/SAVP 0\r\n" + DTLS.replace("actpass", "holdconn"),
            "opens no association",
        ),
        (SrtpMode.MANDATORY, BOTH, "m=audio 6000 RTP/SAVP 0\r\na=fingerprint:md5 00:11\r\n", "sends no key"),
    ],
)
def test_what_the_policy_forbids(mode: SrtpMode, keying: tuple[Keying, ...], media: str, why: str) -> None:
    with pytest.raises(NotAcceptable, match=why):
        side(srtp=mode, keying=keying).answer(an_offer(media))


def test_an_answer_without_a_key_ends_a_mandatory_offer() -> None:
    negotiation = side(srtp=SrtpMode.MANDATORY, offered_keying=BOTH)
    negotiation.offer()
    for media in ("m=audio 6000 RTP/SAVP 0\r\n", "m=audio 6000 RTP/AVP 0\r\n"):
        with pytest.raises(NotAcceptable):
            negotiation.accept(an_offer(media))
    with pytest.raises(NotAcceptable, match="setup:actpass"):
        negotiation.accept(an_offer("m=audio 6000 RTP/SAVP 0\r\n" + DTLS))


@pytest.mark.parametrize("setup", ["actpass", "active", "passive"])
def test_what_an_answer_in_mid_call_says_of_the_parts_changes_none(setup: str) -> None:
    negotiation = side()
    negotiation.answer(an_offer("m=audio 6000 UDP/TLS/RTP/SAVP 0\r\n" + DTLS))
    before = negotiation.result
    negotiation.offer()
    negotiation.accept(an_offer("m=audio 6000 UDP/TLS/RTP/SAVP 0\r\n" + DTLS.replace("actpass", setup)))
    assert before is not None
    assert negotiation.result is not None
    assert negotiation.result.dtls == before.dtls


def test_a_fingerprint_of_the_session_counts_for_its_media() -> None:
    negotiation = side()
    negotiation.answer(an_offer(DTLS + "m=audio 6000 UDP/TLS/RTP/SAVP 0\r\n"))
    assert negotiation.result is not None
    assert negotiation.result.dtls is not None
    assert negotiation.result.dtls.client


@given(st.text(max_size=80))
def test_fingerprints_are_read_or_ignored(text: str) -> None:
    found = Fingerprint.parse(text)
    assert found is None or Fingerprint.parse(str(found)) == found


# -- the handshake ----------------------------------------------------------------------------------------------------

OURS, THEIRS = Certificate.generate(), Certificate.generate()


class Pair:
    """A client and a server with a wire between them that may lose datagrams."""

    def __init__(self, known: Fingerprint = THEIRS.fingerprint) -> None:
        self.now = 0.0
        self.client = DtlsAssociation(OURS, DtlsPeer((known,), True), 0.0)
        self.server = DtlsAssociation(THEIRS, DtlsPeer((OURS.fingerprint,), False), 0.0)
        self.carried = 0

    def run(self, until: float, lost: frozenset[int] = frozenset()) -> None:
        while self.now < until:
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                datagrams, sender.outgoing = sender.outgoing, []
                for datagram in datagrams:
                    assert is_dtls(datagram)
                    assert len(datagram) < 1400
                    self.carried += 1
                    if self.carried - 1 not in lost and not receiver.failed:
                        receiver.receive(datagram, self.now)
            self.now += 0.05
            for end in (self.client, self.server):
                if end.timer is not None and end.timer <= self.now:
                    end.handle_timer(self.now)


def test_a_handshake_makes_the_same_keys_on_both_ends() -> None:
    pair = Pair()
    pair.run(0.3)
    ours, theirs = pair.client.keys, pair.server.keys
    assert ours is not None
    assert theirs is not None
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    assert ours.send.key != ours.receive.key
    assert pair.client.timer is None
    assert len(pair.client.close()) == 1


@given(st.frozensets(st.integers(0, 7), max_size=5))
def test_lost_datagrams_are_sent_again(lost: frozenset[int]) -> None:
    # OpenSSL's timer looks at the wall clock, so only what it does when asked is tested here.
    pair = Pair()
    pair.run(0.2, lost)
    assert not pair.client.failed
    assert not pair.server.failed
    if not lost:
        assert pair.client.keys is not None


def test_another_certificate_is_refused() -> None:
    pair = Pair(replace(THEIRS.fingerprint, digest=bytes(32)))
    pair.run(0.3)
    assert pair.client.keys is None
    assert "fingerprint" in pair.client.failed
    with pytest.raises(MediaDropped) as caught:
        pair.client.receive(b"\x16\xfe\xfd", 4.0)
    assert caught.value.drop is Drop.DTLS_FAILED


def test_nobody_answers() -> None:
    association = DtlsAssociation(OURS, DtlsPeer((THEIRS.fingerprint,), False), 0.0)
    assert association.timer == GIVE_UP
    association.handle_timer(GIVE_UP + 1)
    assert "does not complete" in association.failed
    assert association.timer is None


@given(st.lists(st.binary(min_size=1, max_size=120), max_size=4))
def test_nonsense_of_strangers_does_not_stop_a_handshake(noise: list[bytes]) -> None:
    pair = Pair()
    for datagram in noise:
        try:
            pair.server.receive(b"\x16\xfe\xfd" + datagram, 0.0)
        except MediaDropped:
            return  # three handshakes that went wrong are enough
    pair.run(0.4)
    assert pair.server.failed or pair.server.keys is not None
