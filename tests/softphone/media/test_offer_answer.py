"""Agreement on the audio stream (RFC 3264, RFC 4568)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.codecs import CODECS, G722, OPUS, PCMA, PCMU
from softphone.media.offer_answer import Agreed, Direction, LocalStream, Negotiation, NotAcceptable, SrtpMode
from softphone.media.sdp import SdpError, SessionDescription
from softphone.media.srtp import AES_CM_32, AES_CM_80
from tests.softphone.media.support import seeded

HOME = "2001:db8:6::1"
PEER = "2001:db8:2::2"


def side(address: str = HOME, port: int = 4000, seed: int = 1, **changes: object) -> Negotiation:
    local = replace(LocalStream(address, port, port + 1), **changes)  # type: ignore[arg-type]
    return Negotiation(local, seeded(seed))


def agree(offerer: Negotiation, answerer: Negotiation) -> tuple[Agreed, Agreed]:
    offerer.accept(answerer.answer(offerer.offer()))
    assert offerer.result is not None
    assert answerer.result is not None
    return offerer.result, answerer.result


def an_offer(media: str, address: str = PEER) -> str:
    kind = "IP6" if ":" in address else "IP4"
    return f"v=0\r\no=- 1 1 IN {kind} {address}\r\ns=-\r\nc=IN {kind} {address}\r\nt=0 0\r\n{media}"


CRYPTO = "a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\r\n"


def test_both_sides_agree() -> None:
    ours, theirs = agree(side(), side(PEER, 5000, seed=2))
    assert (ours.codec, theirs.codec) == (OPUS, OPUS)
    assert (ours.remote_address, ours.remote_rtp_port) == (PEER, 5000)
    assert (theirs.remote_address, theirs.remote_rtp_port) == (HOME, 4000)
    assert ours.rtcp_mux
    assert ours.remote_rtcp_port == 5000
    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert ours.send_key != ours.receive_key
    assert ours.suite == "AEAD_AES_128_GCM"
    assert ours.send_events == 101
    assert ours.direction is theirs.direction is Direction.SENDRECV


def test_only_the_home_address_is_in_the_description() -> None:
    negotiation = side()
    bodies = [negotiation.offer(), side().answer(side(PEER, 5000).offer())]
    for body in bodies:
        lines = [line for line in body.split("\r\n") if "IN IP" in line]
        assert lines == [lines[0], f"c=IN IP6 {HOME}"]
        assert lines[0].startswith("o=")
        assert lines[0].endswith(HOME)
        assert PEER not in body


def test_the_offerer_prefers() -> None:
    ours, theirs = agree(side(codecs=(PCMA, OPUS)), side(PEER, codecs=(OPUS, PCMA), seed=2))
    assert ours.codec is theirs.codec is PCMA


def test_dynamic_payload_types_of_the_other_side_are_used() -> None:
    media = "m=audio 6000 RTP/AVP 111 8 120\r\na=rtpmap:111 OPUS/48000/2\r\na=rtpmap:120 telephone-event/48000\r\n"
    negotiation = side(srtp=SrtpMode.OFF)
    answer = SessionDescription.parse(negotiation.answer(an_offer(media)))
    assert answer.media[0].formats == ("111", "120")
    assert negotiation.result is not None
    assert negotiation.result.payload_type == 111
    assert negotiation.result.receive == {111: OPUS}
    assert negotiation.result.events == {120: 48_000}
    assert negotiation.result.remote_rtcp_port == 6001


def test_static_payload_types_need_no_mapping() -> None:
    negotiation = side(srtp=SrtpMode.OFF)
    negotiation.answer(an_offer("m=audio 6000 RTP/AVP 18 9 0\r\n"))
    assert negotiation.result is not None
    assert negotiation.result.codec is G722
    assert negotiation.result.send_events is None


def test_an_answer_may_choose_several_codecs() -> None:
    negotiation = side(srtp=SrtpMode.OFF)
    negotiation.offer()
    negotiation.accept(an_offer("m=audio 6000 RTP/AVP 0 8\r\na=ptime:20\r\n"))
    assert negotiation.result is not None
    assert negotiation.result.codec is PCMU
    assert set(negotiation.result.receive.values()) == set(CODECS)


def test_unwanted_streams_are_answered_with_port_0_in_their_places() -> None:
    media = (
        "m=video 7000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        "m=audio 6000 RTP/AVP 0\r\n"
        "m=application 7002 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        "m=audio 7004 RTP/AVP 8\r\n"
    )
    answer = SessionDescription.parse(side().answer(an_offer(media)))
    assert [(m.kind, m.port) for m in answer.media] == [
        ("video", 0),
        ("audio", 4000),
        ("application", 0),
        ("audio", 0),
    ]
    assert answer.media[2].protocol == "UDP/DTLS/SCTP"


def test_a_changed_offer_keeps_the_places_of_refused_streams() -> None:
    negotiation = side()
    negotiation.answer(an_offer("m=video 7000 RTP/AVP 96\r\nm=audio 6000 RTP/AVP 0\r\n"))
    offer = SessionDescription.parse(negotiation.offer())
    assert [(m.kind, m.port) for m in offer.media] == [("video", 0), ("audio", 4000)]


def test_of_two_audio_streams_the_encrypted_one_is_taken() -> None:
    media = "m=audio 6000 RTP/AVP 0\r\n" + "m=audio 6002 RTP/SAVP 0\r\n" + CRYPTO
    answer = SessionDescription.parse(side().answer(an_offer(media)))
    assert [m.port for m in answer.media] == [0, 4000]
    assert next(answer.media[1].values("crypto")).startswith("7 AES_CM_128_HMAC_SHA1_80 inline:")


@pytest.mark.parametrize(
    ("mode", "media", "secure"),
    [
        (SrtpMode.MANDATORY, "m=audio 6000 RTP/SAVP 0\r\n" + CRYPTO, True),
        (SrtpMode.MANDATORY, "m=audio 6000 RTP/AVP 0\r\n" + CRYPTO, True),
        (SrtpMode.MANDATORY, "m=audio 6000 RTP/AVP 0\r\n", None),
        (SrtpMode.MANDATORY, "m=audio 6000 RTP/SAVP 0\r\n", None),
        (SrtpMode.OPTIONAL, "m=audio 6000 RTP/SAVPF 0\r\n" + CRYPTO, True),
        (SrtpMode.OPTIONAL, "m=audio 6000 RTP/AVP 0\r\n" + CRYPTO, True),
        (SrtpMode.OPTIONAL, "m=audio 6000 RTP/AVP 0\r\n", False),
        (SrtpMode.OPTIONAL, "m=audio 6000 RTP/AVP 0\r\na=crypto:1 FOO inline:x\r\n", False),
        (SrtpMode.OPTIONAL, "m=audio 6000 RTP/SAVP 0\r\na=crypto:1 FOO inline:x\r\n", None),
        (SrtpMode.OFF, "m=audio 6000 RTP/AVP 0\r\n" + CRYPTO, False),
        (SrtpMode.OFF, "m=audio 6000 RTP/SAVP 0\r\n" + CRYPTO, None),
    ],
)
def test_srtp_modes_of_the_answerer(mode: SrtpMode, media: str, secure: bool | None) -> None:
    negotiation = side(srtp=mode)
    if secure is None:
        with pytest.raises(NotAcceptable, match="SRTP"):
            negotiation.answer(an_offer(media))
        assert negotiation.result is None
        return
    answer = SessionDescription.parse(negotiation.answer(an_offer(media)))
    assert answer.media[0].protocol == media.split()[2]
    assert negotiation.result is not None
    assert bool(negotiation.result.suite) is answer.media[0].has("crypto") is secure


@pytest.mark.parametrize(
    ("ours", "theirs", "protocol", "secure"),
    [
        (SrtpMode.MANDATORY, SrtpMode.OPTIONAL, "RTP/SAVP", True),
        (SrtpMode.OPTIONAL, SrtpMode.MANDATORY, "RTP/AVP", True),
        (SrtpMode.OPTIONAL, SrtpMode.OPTIONAL, "RTP/AVP", True),
        (SrtpMode.OPTIONAL, SrtpMode.OFF, "RTP/AVP", False),
        (SrtpMode.OFF, SrtpMode.OPTIONAL, "RTP/AVP", False),
    ],
)
def test_srtp_modes_of_both(ours: SrtpMode, theirs: SrtpMode, protocol: str, secure: bool) -> None:
    offerer = side(srtp=ours)
    assert SessionDescription.parse(offerer.offer()).media[0].protocol == protocol
    a, b = agree(offerer, side(PEER, srtp=theirs, seed=3))
    assert bool(a.suite) is bool(b.suite) is secure


def test_the_short_tag_is_accepted_but_not_offered() -> None:
    offerer = side(suites=(AES_CM_32,))
    ours, _ = agree(offerer, side(PEER, seed=2))
    assert ours.suite == AES_CM_32.name
    assert AES_CM_32.name not in side().offer()
    assert AES_CM_80.name in side().offer()


@pytest.mark.parametrize(
    ("media", "why"),
    [
        ("m=video 6000 RTP/AVP 96\r\n", "no audio stream"),
        ("m=audio 0 RTP/AVP 0\r\n", "no audio stream"),
        ("m=audio 6000 DCCP/RTP/AVP 0\r\n", "transport DCCP/RTP/AVP"),
        ("m=audio 6000 UDP/TLS/RTP/SAVPF 0\r\n", "it sends no key"),
        ("m=audio 6000 RTP/AVP 18\r\n", "no common codec"),
        ("m=audio 6000 RTP/AVP 96\r\na=rtpmap:96 opus/16000/2\r\n", "no common codec"),
        ("m=audio 6000 RTP/AVP 96\r\n", "no common codec"),
        ("m=audio 6000 RTP/AVP 0\r\nc=IN IP6 phone.example.org\r\n", "only IP addresses"),
        ("m=audio 6000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", "multicast"),
    ],
)
def test_offers_that_are_not_acceptable(media: str, why: str) -> None:
    negotiation = side()
    with pytest.raises(NotAcceptable, match=why):
        negotiation.answer(an_offer(media))
    assert negotiation.result is None


def test_an_offer_without_address_is_an_error() -> None:
    text = "v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
    with pytest.raises(SdpError, match="no connection line"):
        side().answer(text)


@pytest.mark.parametrize(
    ("media", "why"),
    [
        ("m=audio 0 RTP/SAVP 0\r\n", "does not want"),
        ("m=audio 6000 RTP/AVP 0\r\n" + CRYPTO, "was offered"),
        ("m=audio 6000 RTP/SAVP 0\r\n", "no key for it"),
        ("m=audio 6000 RTP/SAVP 0\r\n" + CRYPTO + CRYPTO, "2 crypto attributes"),
        ("m=audio 6000 RTP/SAVP 0\r\n" + CRYPTO, "was not offered"),
        ("m=audio 6000 RTP/SAVP 0\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:xx\r\n", "cannot be used"),
        ("m=audio 6000 RTP/SAVP 18\r\n" + CRYPTO.replace("7", "2", 1), "no codec"),
    ],
)
def test_answers_that_are_not_acceptable(media: str, why: str) -> None:
    negotiation = side(srtp=SrtpMode.MANDATORY)
    negotiation.offer()
    with pytest.raises(NotAcceptable, match=why):
        negotiation.accept(an_offer(media))
    assert negotiation.result is None


def test_an_answer_that_repeats_our_key_is_refused() -> None:
    negotiation = side(srtp=SrtpMode.MANDATORY)
    offer = negotiation.offer()
    keys = [line for line in offer.split("\r\n") if line.startswith("a=crypto:1 ")]
    with pytest.raises(NotAcceptable, match="repeats our own key"):
        negotiation.accept(an_offer(f"m=audio 6000 RTP/SAVP 0\r\n{keys[0]}\r\n"))


@pytest.mark.parametrize("media", ["", "m=video 6000 RTP/SAVP 0\r\n", "m=audio 6000 RTP/AVP 0\r\n" * 2])
def test_answers_that_do_not_fit_the_offer(media: str) -> None:
    negotiation = side()
    negotiation.offer()
    with pytest.raises(SdpError):
        negotiation.accept(an_offer(media))


def test_an_answer_without_an_offer_is_an_error() -> None:
    with pytest.raises(SdpError, match="nothing was offered"):
        side().accept(an_offer("m=audio 6000 RTP/AVP 0\r\n"))


@pytest.mark.parametrize(
    ("offered", "wished", "answered"),
    [
        (Direction.SENDRECV, Direction.SENDRECV, Direction.SENDRECV),
        (Direction.SENDONLY, Direction.SENDRECV, Direction.RECVONLY),
        (Direction.RECVONLY, Direction.SENDRECV, Direction.SENDONLY),
        (Direction.INACTIVE, Direction.SENDRECV, Direction.INACTIVE),
        (Direction.SENDRECV, Direction.SENDONLY, Direction.SENDONLY),
        (Direction.SENDONLY, Direction.SENDONLY, Direction.INACTIVE),
    ],
)
def test_directions(offered: Direction, wished: Direction, answered: Direction) -> None:
    a, b = side(), side(PEER, seed=2)
    a.accept(b.answer(a.offer(offered), wished))
    assert a.result is not None
    assert b.result is not None
    assert b.result.direction is answered
    assert a.result.direction.sends is b.result.direction.receives
    assert a.result.direction.receives is b.result.direction.sends


def test_a_direction_of_the_session_holds_for_the_stream() -> None:
    negotiation = side(srtp=SrtpMode.OFF)
    negotiation.answer(an_offer("").replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n") + "m=audio 6000 RTP/AVP 0\r\n")
    assert negotiation.result is not None
    assert negotiation.result.direction is Direction.RECVONLY


def test_the_version_grows_with_every_change_and_only_then() -> None:
    def version(body: str) -> int:
        return SessionDescription.parse(body).origin.version

    a = side()
    first = version(a.offer())
    assert version(a.offer()) == first
    assert version(a.offer(Direction.SENDONLY)) == first + 1
    assert version(a.offer(Direction.SENDONLY)) == first + 1
    assert version(a.offer()) == first + 2


@pytest.mark.parametrize("answerer_offers", [True, False])
@pytest.mark.parametrize("srtp", SrtpMode)
def test_a_changed_offer_begins_with_what_is_in_use(srtp: SrtpMode, answerer_offers: bool) -> None:
    """Keys, transport and codec go on: a hold is no occasion to change them."""
    a, b = side(srtp=srtp), side(PEER, seed=2, codecs=(G722, PCMA), suites=(AES_CM_80,), srtp=srtp)
    agree(b, a) if answerer_offers else agree(a, b)
    assert a.result is not None
    again = SessionDescription.parse(a.offer(Direction.SENDONLY)).media[0]
    first = SessionDescription.parse(b.offer()).media[0]
    assert (again.protocol, again.formats[0]) == (first.protocol, "9")
    assert len(again.formats) > len(first.formats)
    keys = [] if srtp is SrtpMode.OFF else [str(replace(a.result.send_key, tag=1))]  # type: ignore[type-var]
    assert list(again.values("crypto")) == keys


def test_keys_stay_when_the_offer_is_renewed() -> None:
    a, b = side(), side(PEER, seed=2)
    first, _ = agree(a, b)
    again, _ = agree(a, b)
    back, _ = agree(b, a)
    assert first.send_key is not None
    assert again.send_key == first.send_key
    assert back.receive_key is not None
    assert back.receive_key.key == first.send_key.key


def test_rtcp_without_multiplexing() -> None:
    a, b = side(rtcp_mux=False, rtcp_port=4444), side(PEER, 5000, seed=2)
    ours, theirs = agree(a, b)
    assert not ours.rtcp_mux
    assert theirs.remote_rtcp_port == 4444
    assert ours.remote_rtcp_port == 5001


def test_a_false_rtcp_attribute_is_an_error() -> None:
    for value in ("x", "", "0", "99999", "70000 IN IP6 ::1"):
        with pytest.raises(SdpError, match="port for RTCP"):
            side().answer(an_offer(f"m=audio 6000 RTP/AVP 0\r\na=rtcp:{value}\r\n"))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.integers(0, 400))
def test_damaged_offers_are_answered_or_refused(junk: str, place: int) -> None:
    offer = side(PEER).offer()
    place = min(place, len(offer))
    for damaged in (offer[:place], offer[:place] + junk + offer[place:], an_offer("m=audio 6 RTP/AVP " + junk)):
        negotiation = side()
        try:
            answer = negotiation.answer(damaged)
        except (SdpError, NotAcceptable):
            assert negotiation.result is None
        else:
            SessionDescription.parse(answer)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.integers(0, 400))
def test_damaged_answers_are_taken_or_refused(junk: str, place: int) -> None:
    negotiation = side()
    answer = side(PEER, seed=2).answer(negotiation.offer())
    place = min(place, len(answer))
    try:
        negotiation.accept(answer[:place] + junk + answer[place:])
    except (SdpError, NotAcceptable):
        assert negotiation.result is None
