"""Dialogs: route sets, sequence numbers, targets; the repetition of 2xx responses."""

from __future__ import annotations

import pytest

from softphone.sip.dialog import Dialog, DialogId, DialogState, next_hop, route
from softphone.sip.errors import SipParseError, SipStateError
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Request, Response, respond
from softphone.sip.reliable import SuccessKeeper
from softphone.sip.uri import SipUri

ALICE = NameAddr(SipUri("2001:db8::a", "alice", 5060))
BOB = NameAddr(SipUri("2001:db8::b", "bob", 5060))


def invite(*record_route: str, contact: str | None = str(ALICE), cseq: int = 5) -> Request:
    lines = [
        ("Via", "SIP/2.0/UDP [2001:db8::a];branch=z9hG4bK1"),
        *(("Record-Route", hop) for hop in record_route),
        ("From", "<sip:alice@example.org>;tag=a"),
        ("To", "<sip:bob@example.org>"),
        ("Call-ID", "call"),
        ("CSeq", f"{cseq} INVITE"),
    ]
    if contact is not None:
        lines.append(("Contact", contact))
    return Request(method="INVITE", uri=SipUri("example.org", "bob"), headers=Headers.of(*lines))


def answer(request: Request, status: int = 200, tag: str = "b", contact: NameAddr = BOB) -> Response:
    return respond(request, status, to_tag=tag, headers=Headers.of(("Contact", str(contact))))


def test_both_sides_see_the_same_dialog_the_other_way_round() -> None:
    request = invite("<sip:p2;lr>", "<sip:p1;lr>")
    caller = Dialog.as_caller(request, answer(request), ALICE)
    callee = Dialog.as_callee(request, "b", BOB)
    assert caller.id == DialogId("call", "a", "b")
    assert callee.id == DialogId("call", "b", "a")
    assert [str(hop.uri) for hop in caller.routes] == ["sip:p1;lr", "sip:p2;lr"]
    assert [str(hop.uri) for hop in callee.routes] == ["sip:p2;lr", "sip:p1;lr"]
    assert (caller.remote_target, callee.remote_target) == (BOB.uri, ALICE.uri)
    bye = caller.request("BYE")
    assert DialogId.of_request(bye) == callee.id
    assert DialogId.of_request(callee.request("BYE")) == caller.id
    assert bye.cseq.number == 6
    assert (bye.uri, bye.headers.raw("Route")) == (BOB.uri, ["<sip:p1;lr>", "<sip:p2;lr>"])


def test_a_strict_router_takes_the_place_of_the_target() -> None:
    request = invite("<sip:p2;lr>", "<sip:p1>")
    dialog = Dialog.as_caller(request, answer(request), ALICE)
    bye = dialog.request("BYE")
    assert str(bye.uri) == "sip:p1"
    assert bye.headers.raw("Route") == ["<sip:p2;lr>", str(BOB)]
    assert dialog.first_hop == SipUri("p1")


def test_the_next_hop_is_a_loose_route_or_the_target() -> None:
    request = invite("<sip:p1;lr>")
    dialog = Dialog.as_caller(request, answer(request), ALICE)
    assert next_hop(dialog.request("BYE")) == dialog.first_hop == SipUri("p1", parameters=(("lr", None),))
    assert next_hop(request) == request.uri
    assert route(BOB.uri, []) == (BOB.uri, [])


def test_an_early_dialog_becomes_confirmed_with_the_routes_of_the_2xx() -> None:
    request = invite()
    dialog = Dialog.as_caller(request, answer(request, 180), ALICE)
    assert dialog.state is DialogState.EARLY
    moved = NameAddr(SipUri("2001:db8::c", "bob"))
    dialog.confirm(answer(invite("<sip:p1;lr>"), 200, contact=moved))
    assert (dialog.state, dialog.remote_target, len(dialog.routes)) == (DialogState.CONFIRMED, moved.uri, 1)


def test_sequence_numbers_must_rise() -> None:
    dialog = Dialog.as_callee(invite(cseq=5), "b", BOB)
    assert not dialog.accepts(invite(cseq=5))
    assert not dialog.accepts(invite(cseq=4))
    assert dialog.accepts(invite(cseq=9))
    assert not dialog.accepts(invite(cseq=8))
    ack = Request(method="ACK", uri=SipUri("x"), headers=invite(cseq=1).headers)
    assert dialog.accepts(ack)


def test_an_ack_has_the_number_of_its_invite_and_consumes_none() -> None:
    request = invite()
    dialog = Dialog.as_caller(request, answer(request), ALICE)
    assert str(dialog.request("ACK", sequence=5).cseq) == "5 ACK"
    assert str(dialog.request("OPTIONS").cseq) == "6 OPTIONS"
    assert dialog.request("INVITE").contacts == [ALICE]


def test_the_target_moves_with_a_reinvite() -> None:
    dialog = Dialog.as_callee(invite(), "b", BOB)
    moved = NameAddr(SipUri("2001:db8::d", "alice"))
    dialog.refresh(invite(contact=str(moved)))
    assert dialog.remote_target == moved.uri
    dialog.refresh(invite(contact=None))
    assert dialog.remote_target == moved.uri


def test_nothing_can_be_sent_after_the_end() -> None:
    dialog = Dialog.as_callee(invite(), "b", BOB)
    dialog.end()
    with pytest.raises(SipStateError, match="call again"):
        dialog.request("BYE")


def test_an_invite_without_contact_makes_no_dialog() -> None:
    with pytest.raises(SipParseError, match="Contact"):
        Dialog.as_callee(invite(contact=None), "b", BOB)


def test_a_success_is_repeated_until_its_ack() -> None:
    request = invite()
    keeper = SuccessKeeper.begin(answer(request), 0.0)
    sent = []
    while keeper.timer is not None and keeper.timer < 10:
        now = keeper.timer
        assert keeper.handle_timer(now) is not None
        sent.append(now)
    assert sent == [0.5, 1.5, 3.5, 7.5]
    wrong = Request(method="ACK", uri=SipUri("x"), headers=request.headers.set("CSeq", "4 ACK"))
    right = Request(method="ACK", uri=SipUri("x"), headers=request.headers.set("CSeq", "5 ACK"))
    assert not keeper.acknowledged(wrong)
    assert keeper.acknowledged(right)
    assert keeper.timer is None
    assert not keeper.acknowledged(right)


def test_a_success_that_nobody_acknowledges_ends_after_32_seconds() -> None:
    keeper = SuccessKeeper.begin(answer(invite()), 0.0)
    now, repeats = 0.0, 0
    while keeper.timer is not None:
        now = keeper.timer
        repeats += keeper.handle_timer(now) is not None
    assert (now, repeats) == (32.0, 10)
