"""Hold, resume and what else a description may say of the stream (RFC 3264 section 8.4)."""

from __future__ import annotations

import pytest

from softphone.media.codecs import L16, OPUS, PCMU
from softphone.media.offer_answer import Direction, SrtpMode
from softphone.media.sdp import SessionDescription
from softphone.media.settings import MediaSettings
from tests.softphone.media.test_offer_answer import PEER, agree, an_offer, side


@pytest.mark.parametrize(
    ("wish", "answer", "ours", "theirs"),
    [
        (Direction.SENDONLY, "recvonly", Direction.SENDONLY, Direction.RECVONLY),
        (Direction.RECVONLY, "sendonly", Direction.RECVONLY, Direction.SENDONLY),
        (Direction.INACTIVE, "inactive", Direction.INACTIVE, Direction.INACTIVE),
        (Direction.SENDRECV, "sendrecv", Direction.SENDRECV, Direction.SENDRECV),
    ],
)
def test_directions(wish: Direction, answer: str, ours: Direction, theirs: Direction) -> None:
    one, other = side(), side(PEER, 5000, seed=2)
    agree(one, other)
    body = other.answer(one.offer(wish))
    assert f"a={answer}\r\n" in body
    one.accept(body)
    assert one.result is not None
    assert other.result is not None
    assert (one.result.direction, other.result.direction) == (ours, theirs)
    assert other.result.remote_direction is wish
    again = agree(one, other)
    assert {r.direction for r in again} == {Direction.SENDRECV}


@pytest.mark.parametrize("zero", ["0.0.0.0", "::"])
def test_the_old_form_of_hold(zero: str) -> None:
    negotiation = side(srtp=SrtpMode.OFF)
    negotiation.answer(an_offer("m=audio 6000 RTP/AVP 0\r\n"))
    answer = negotiation.answer(an_offer("m=audio 6000 RTP/AVP 0\r\na=sendrecv\r\n", zero))
    assert negotiation.result is not None
    assert not negotiation.result.remote_direction.receives
    assert not negotiation.result.direction.sends
    assert "a=recvonly\r\n" in answer


def test_comfort_noise_is_agreed_where_the_codec_has_its_clock() -> None:
    ours, theirs = agree(side(codecs=(PCMU,)), side(PEER, codecs=(PCMU,), seed=2))
    assert ours.noise
    assert theirs.noise
    ours, theirs = agree(side(codecs=(OPUS, PCMU)), side(PEER, codecs=(OPUS, PCMU), seed=2))
    assert not ours.noise
    negotiation = side(codecs=(PCMU,), comfort_noise=False)
    assert SessionDescription.parse(negotiation.offer()).media[0].formats == ("0", "101")


def test_l16_is_agreed_by_name() -> None:
    ours, theirs = agree(side(codecs=(L16,)), side(PEER, codecs=(OPUS, L16), seed=2))
    assert ours.codec is theirs.codec is L16
    negotiation = side(codecs=(L16, PCMU), srtp=SrtpMode.OFF)
    negotiation.answer(an_offer("m=audio 6000 RTP/AVP 11 0\r\na=rtpmap:11 L16/44100\r\n"))
    assert negotiation.result is not None
    assert negotiation.result.codec is PCMU, "another rate of L16 is another codec"


def test_wishes_about_opus_are_told_and_heard() -> None:
    settings = MediaSettings(dtx=True, playback_rate=16_000, greatest_bit_rate=24_000)
    offer = side(opus_parameters=settings.opus_parameters).offer()
    assert (
        "a=fmtp:96 useinbandfec=1;stereo=0;sprop-stereo=0;usedtx=1;maxplaybackrate=16000;maxaveragebitrate=24000"
        in offer
    )
    answerer = side(PEER, seed=2)
    answerer.answer(offer)
    assert answerer.result is not None
    assert answerer.result.parameters["maxplaybackrate"] == "16000"
    assert answerer.result.reports
