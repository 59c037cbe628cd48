"""IKE in session descriptions (RFC 6193): who protects the packets of a call with whom."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from softphone.media.dtls import Fingerprint
from softphone.media.ike_description import IkeEnd, IkePeer, IpsecMode, is_ike
from softphone.media.offer_answer import Agreed, Direction, LocalStream, Negotiation, NotAcceptable
from softphone.media.sdp import Media, SdpError, SessionDescription
from tests.softphone.media.support import seeded

HOME, PEER, THIRD = "2001:db8:6::1", "2001:db8:2::2", "2001:db8:3::3"
PRINTS = {address: Fingerprint("sha-256", bytes([n]) * 32) for n, address in enumerate((HOME, PEER, THIRD), 0xA1)}


def side(address: str = HOME, mode: IpsecMode = IpsecMode.OPTIONAL, keys: bool = True) -> Negotiation:
    ike = IkeEnd(IPv6Address(address), PRINTS[address]) if keys else None
    return Negotiation(LocalStream(address, 4000, 4001, ipsec=mode, ike=ike), seeded(sum(address.encode())))


def peer(address: str = PEER) -> IkePeer:
    return IkePeer(IPv6Address(address), (PRINTS[address],))


def agreed(negotiation: Negotiation) -> Agreed:
    assert negotiation.result is not None
    return negotiation.result


def active(negotiation: Negotiation) -> bool:
    ike = agreed(negotiation).ike
    assert ike is not None
    return ike.active


def section(text: str) -> Media:
    return next(media for media in SessionDescription.parse(text).media if is_ike(media))


def without_section(text: str) -> str:
    return text[: text.index("m=application")]


def test_the_section_of_an_offer_is_as_the_rfc_has_it() -> None:
    offer = side().offer()
    shown = "A1" + ":A1" * 31
    assert offer[offer.index("m=application") :].split("\r\n") == [
        "m=application 500 udp ike-esp", f"c=IN IP6 {HOME}", "a=ike-setup:actpass", f"a=fingerprint:sha-256 {shown}", ""
    ]  # fmt: skip


def test_both_ends_know_each_other_and_the_answerer_begins() -> None:
    ours, theirs = side(), side(PEER)
    answer = theirs.answer(ours.offer())
    assert section(answer).value("ike-setup") == "active"
    ours.accept(answer)
    assert agreed(ours).ike == peer(PEER)
    assert agreed(theirs).ike == peer(HOME)
    assert active(theirs)
    assert not active(ours)


@pytest.mark.parametrize(
    ("offered", "answered", "begins"),
    [("a=ike-setup:passive\r\n", "active", True), ("a=ike-setup:active\r\n", "passive", False), ("", "passive", False)],
)
def test_who_begins_is_as_the_offer_wants(offered: str, answered: str, begins: bool) -> None:
    answerer = side(PEER)
    answer = answerer.answer(side().offer().replace("a=ike-setup:actpass\r\n", offered))
    assert section(answer).value("ike-setup") == answered
    assert active(answerer) is begins


@pytest.mark.parametrize(("said", "begins"), [("a=ike-setup:passive\r\n", True), ("", True)])
def test_an_answer_that_says_nothing_is_passive(said: str, begins: bool) -> None:
    offerer = side()
    offerer.accept(side(PEER).answer(offerer.offer()).replace("a=ike-setup:active\r\n", said))
    assert active(offerer) is begins


def test_without_keys_or_with_ipsec_off_nothing_is_offered_and_the_section_is_refused() -> None:
    for other in (side(PEER, keys=False), side(PEER, IpsecMode.OFF)):
        assert "m=application" not in other.offer()
        ours = side()
        answer = other.answer(ours.offer())
        assert section(answer).port == 0
        ours.accept(answer)
        assert agreed(ours).ike is None
        assert agreed(other).ike is None


def test_a_phone_that_leaves_the_section_out_is_understood_and_stays_without() -> None:
    ours, other = side(), side(PEER, keys=False)
    ours.accept(without_section(other.answer(ours.offer())))
    assert agreed(ours).ike is None
    again = SessionDescription.parse(ours.offer(Direction.SENDONLY))
    assert [media.kind for media in again.media] == ["audio"]


def test_who_leaves_out_the_audio_is_not_understood() -> None:
    ours = side()
    answer = side(PEER).answer(ours.offer())
    with pytest.raises(SdpError):
        ours.accept(answer[: answer.index("m=audio")] + answer[answer.index("m=application") :])


def test_mandatory_is_not_acceptable_to_others_and_says_why() -> None:
    ours = side(mode=IpsecMode.MANDATORY)
    with pytest.raises(NotAcceptable, match=r"mandatory.*does not take part"):
        ours.accept(side(PEER, keys=False).answer(ours.offer()))
    with pytest.raises(NotAcceptable, match=r"mandatory.*does not take part"):
        ours.answer(side(PEER, keys=False).offer())
    with pytest.raises(NotAcceptable, match=r"mandatory.*nobody who makes the keys"):
        side(mode=IpsecMode.MANDATORY, keys=False).answer(side(PEER).offer())
    ours.accept(side(PEER, IpsecMode.MANDATORY).answer(ours.offer()))
    assert agreed(ours).ike == peer(PEER)


@pytest.mark.parametrize("direction", [Direction.SENDONLY, Direction.SENDRECV])
def test_the_section_goes_on_unchanged_in_new_offers_of_both_sides(direction: Direction) -> None:
    ours, theirs = side(), side(PEER)
    first = ours.offer()
    ours.accept(theirs.answer(first))
    before = agreed(ours).ike, agreed(theirs).ike, active(theirs)
    offer = theirs.offer(direction)
    assert section(offer) == replace(section(theirs.offer()), attributes=section(offer).attributes)
    answer = ours.answer(offer)
    assert section(answer).value("ike-setup") == "passive"  # as it was: the other side had begun
    theirs.accept(answer)
    ours.accept(theirs.answer(ours.offer(direction)))
    assert (agreed(ours).ike, agreed(theirs).ike, active(theirs)) == before
    assert section(ours.offer()) == section(first)


def test_the_call_is_handed_on_to_another_phone() -> None:
    ours = side()
    ours.accept(side(PEER).answer(ours.offer()))
    ours.answer(side(THIRD).offer())
    assert agreed(ours).ike == peer(THIRD)
    assert active(ours)


def test_one_side_gives_up_in_mid_call_and_the_other_learns_it() -> None:
    ours, theirs = side(), side(PEER)
    ours.accept(theirs.answer(ours.offer()))
    ours.give_up_ike()
    offer = ours.offer()
    assert section(offer).port == 0
    ours.accept(theirs.answer(offer))
    assert agreed(ours).ike is None
    assert agreed(theirs).ike is None


def test_answers_of_several_branches_of_a_fork() -> None:
    ours = side()
    offer = ours.offer()
    answers = [side(address).answer(offer) for address in (PEER, THIRD)]
    for address, answer in zip((PEER, THIRD), answers, strict=True):
        ours.accept(answer)
        assert agreed(ours).ike == peer(address)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("m=application 500", "m=application 4500", "port 4500"),
        (f"c=IN IP6 {HOME}\r\na=ike", "c=IN IP6 ff02::1\r\na=ike", "nobody can be reached"),
        (f"c=IN IP6 {HOME}\r\na=ike", "c=IN IP6 ::\r\na=ike", "nobody can be reached"),
        (f"c=IN IP6 {HOME}\r\na=ike", "c=IN IP6 phone.example\r\na=ike", "no IPv6 address"),
        (f"c=IN IP6 {HOME}\r\na=ike", f"c=IN IP6 {THIRD}\r\na=ike", "its sound at"),
        ("a=fingerprint:sha-256 A1", "a=fingerprint:sha-1 A1", "no fingerprint"),
        ("a=fingerprint:sha-256 A1:", "a=fingerprint:sha-256 ", "no fingerprint"),
        ("a=ike-setup:actpass", "a=ike-setup:holdconn", "holdconn"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused_and_the_call_goes_on(old: str, new: str, why: str) -> None:
    offer = side().offer()
    assert old in offer
    offer = offer.replace(old, new)
    answerer = side(PEER)
    assert section(answerer.answer(offer)).port == 0
    assert why in answerer.ike_refusal
    assert agreed(answerer).ike is None
    with pytest.raises(NotAcceptable, match="mandatory"):
        side(PEER, IpsecMode.MANDATORY).answer(offer)


def test_what_stands_for_the_session_counts_where_the_section_says_nothing() -> None:
    offer = side().offer()
    at = offer.index("m=application")
    line = next(line for line in offer.split("\r\n") if line.startswith("a=fingerprint"))
    rest = offer[at:].replace(f"c=IN IP6 {HOME}\r\n", "").replace(f"{line}\r\n", "").replace("ike-setup:actpass", "x")
    whole = offer[:at].replace("t=0 0\r\n", f"t=0 0\r\n{line}\r\na=ike-setup:passive\r\n") + rest
    answerer = side(PEER)
    assert section(answerer.answer(whole.replace("udp ike-esp", "UDP IKE-ESP"))).value("ike-setup") == "active"
    assert agreed(answerer).ike == peer(HOME)


def test_the_section_may_stand_before_the_audio_and_only_the_first_one_counts() -> None:
    offer = side().offer()
    start, at = offer.index("m=audio"), offer.index("m=application")
    turned = offer[:start] + offer[at:] + offer[start:at] + offer[at:]
    answer = SessionDescription.parse(side(PEER).answer(turned))
    assert [(media.kind, media.port) for media in answer.media] == [
        ("application", 500), ("audio", 4000), ("application", 0)
    ]  # fmt: skip


def test_hold_of_the_old_kind_leaves_the_section_as_it_is() -> None:
    ours, theirs = side(), side(PEER)
    ours.accept(theirs.answer(ours.offer()))
    offer = ours.offer()
    at = offer.index("t=0 0")
    theirs.answer(offer[:at].replace(f"c=IN IP6 {HOME}", "c=IN IP6 ::") + offer[at:])
    assert agreed(theirs).ike == peer(HOME)
