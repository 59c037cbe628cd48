"""Reliable provisional responses: repetition, order, what a PRACK confirms."""

from __future__ import annotations

import pytest

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response, respond
from softphone.sip.reliable import RAck, ReliableReceiver, ReliableSender, is_reliable
from softphone.sip.uri import SipUri

INVITE = Request(
    method="INVITE", uri=SipUri("::1"),
    headers=Headers.of(
        ("Via", "SIP/2.0/UDP [::1];branch=z9hG4bK1"), ("From", "<sip:a@x>;tag=a"), ("To", "<sip:b@x>"),
        ("Call-ID", "c"), ("CSeq", "7 INVITE"),
    ),
)  # fmt: skip


def prack(rack: str) -> Request:
    return Request(method="PRACK", uri=SipUri("::1"), headers=Headers.of(("RAck", rack)))


def provisional(*headers: tuple[str, str], status: int = 183) -> Response:
    return respond(INVITE, status, to_tag="t", headers=Headers.of(*headers))


def test_the_callee_repeats_until_the_right_prack() -> None:
    sender = ReliableSender(100)
    response = provisional(*sender.headers())
    assert is_reliable(response)
    sender.sent(response, 10.0)
    assert (sender.waiting, sender.timer) == (True, 10.5)
    assert sender.handle_timer(10.5) is response
    assert sender.timer == 11.5
    assert not sender.confirmed(prack("99 7 INVITE"))
    assert not sender.confirmed(prack("100 8 INVITE"))
    with pytest.raises(SipParseError):
        sender.confirmed(prack("nonsense"))
    assert sender.confirmed(prack("100 7 INVITE"))
    assert not sender.waiting
    assert not sender.confirmed(prack("100 7 INVITE"))
    assert sender.headers().get("RSeq") == "101"


def test_the_intervals_double_without_bound_and_end_after_64_t1() -> None:
    sender = ReliableSender(1)
    sender.sent(provisional(*sender.headers()), 0.0)
    moments = []
    while sender.timer is not None:
        moments.append(sender.timer)
        last = sender.handle_timer(sender.timer)
    assert moments == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 32.0]
    assert last is None


def test_the_caller_keeps_the_order_and_drops_repetitions() -> None:
    receiver = ReliableReceiver()

    def receive(rseq: int) -> RAck | None:
        return receiver.receive(provisional(("Require", "100rel"), ("RSeq", str(rseq))))

    assert receive(5) == RAck(5, 7, "INVITE")
    assert receive(5) is None
    assert receive(7) is None  # 6 is still to come
    assert receive(6) == RAck(6, 7, "INVITE")
    assert receive(7) == RAck(7, 7, "INVITE")
    assert receive(4) is None


@pytest.mark.parametrize(
    ("headers", "status", "reliable"),
    [
        ((("Require", "100rel"), ("RSeq", "1")), 180, True),
        ((("Require", "foo, 100REL"), ("RSeq", "1")), 180, True),
        ((("Require", "100rel"),), 180, False),
        ((("Supported", "100rel"), ("RSeq", "1")), 180, False),
        ((("Require", "100rel"), ("RSeq", "1")), 200, False),
        ((("Require", "100rel"), ("RSeq", "1")), 100, False),
    ],
)
def test_what_is_reliable(headers: tuple[tuple[str, str], ...], status: int, reliable: bool) -> None:
    assert is_reliable(provisional(*headers, status=status)) is reliable


@pytest.mark.parametrize("text", ["", "1 2", "1 2 INVITE 3", "-1 2 INVITE", "1 x INVITE", "1 2 IN(VITE"])
def test_malformed_rack(text: str) -> None:
    with pytest.raises(SipParseError):
        RAck.parse(text)
    assert str(RAck.parse(" 1  2 INVITE ")) == "1 2 INVITE"
