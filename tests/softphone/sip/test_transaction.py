"""The four transaction machines and the layer, in simulated time."""

from __future__ import annotations

from collections import Counter

import pytest

from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response, respond
from softphone.sip.transaction import (
    T1,
    InviteClient,
    InviteServer,
    Key,
    NonInviteClient,
    NonInviteServer,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    State,
    Terminated,
    Transaction,
    Unanswered,
    Unreachable,
)
from softphone.sip.transaction_layer import TransactionLayer, cancel_for, server_key
from softphone.sip.uri import SipUri


def request(method: str = "INVITE", branch: str = "z9hG4bK1", *, cseq: int = 1, to_tag: str = "") -> Request:
    to = "<sip:bob@example.org>" + (f";tag={to_tag}" if to_tag else "")
    headers = Headers.of(
        ("Via", f"SIP/2.0/UDP [2001:db8::1];branch={branch}"),
        ("From", "<sip:alice@example.org>;tag=a"),
        ("To", to),
        ("Call-ID", "call"),
        ("CSeq", f"{cseq} {method}"),
        ("Route", "<sip:proxy.example.org;lr>"),
    )
    return Request(method=method, uri=SipUri("example.org", "bob"), headers=headers)


class Bench:
    """A layer, its clock, and a diary of (time, output)."""

    def __init__(self, limit: int = 1000) -> None:
        self.layer = TransactionLayer(limit)
        self.now = 0.0
        self.diary: list[tuple[float, Output]] = []

    def note(self, outputs: list[Output]) -> list[Output]:
        self.diary += [(self.now, output) for output in outputs]
        return outputs

    def ask(self, message: Request, *, reliable: bool = False) -> Key:
        key, outputs = self.layer.request(message, reliable, self.now)
        self.note(outputs)
        return key

    def arrive(self, message: Request | Response, *, reliable: bool = False) -> list[Output]:
        return self.note(self.layer.received(message, reliable, self.now))

    def respond(self, key: Key, message: Response) -> list[Output]:
        return self.note(self.layer.respond(key, message, self.now))

    def run(self, until: float) -> None:
        while (timer := self.layer.timer) is not None and timer <= until:
            self.now = timer
            self.note(self.layer.handle_timer(timer))
        self.now = until

    def sent_at(self) -> list[float]:
        return [time for time, output in self.diary if isinstance(output, Send)]

    def at(self, kind: type[Output]) -> list[float]:
        return [time for time, output in self.diary if isinstance(output, kind)]


def test_invite_is_repeated_with_doubling_intervals_until_timer_b() -> None:
    bench = Bench()
    bench.ask(request())
    bench.run(100)
    assert bench.sent_at() == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert bench.at(Unanswered) == bench.at(Terminated) == [32]
    assert not bench.layer.transactions


def test_invite_over_a_stream_is_sent_once() -> None:
    bench = Bench()
    bench.ask(request(), reliable=True)
    bench.run(100)
    assert bench.sent_at() == [0]
    assert bench.at(Unanswered) == [32]


def test_a_provisional_response_stops_repetition_and_timer_b() -> None:
    bench = Bench()
    invite = request()
    bench.ask(invite)
    bench.run(0.7)
    bench.arrive(respond(invite, 180, to_tag="b"))
    bench.run(500)
    assert bench.sent_at() == [0, 0.5]
    assert not bench.at(Unanswered)
    assert len(bench.layer.transactions) == 1


def test_every_repeated_failure_is_acknowledged_until_timer_d() -> None:
    bench = Bench()
    invite = request()
    key = bench.ask(invite)
    busy = respond(invite, 486, to_tag="b")
    bench.arrive(busy)
    bench.run(10)
    bench.arrive(busy)
    acks = [output.message for _, output in bench.diary if isinstance(output, Send)][1:]
    assert [ack.headers.get("CSeq") for ack in acks] == ["1 ACK", "1 ACK"]
    ack = acks[0]
    assert isinstance(ack, Request)
    assert ack.to.tag == "b"
    assert ack.via == invite.via
    assert ack.headers.raw("Route") == invite.headers.raw("Route")
    assert [o for _, o in bench.diary if isinstance(o, ResponseArrived)] == [ResponseArrived(key, busy)]
    bench.run(31)
    assert key in bench.layer.transactions
    bench.run(32)
    assert bench.at(Terminated) == [32]


def test_a_failure_over_a_stream_ends_the_invite_at_once() -> None:
    bench = Bench()
    invite = request()
    bench.ask(invite, reliable=True)
    bench.arrive(respond(invite, 486, to_tag="b"), reliable=True)
    assert bench.at(Terminated) == [0]


def test_two_successes_of_a_forked_invite_both_reach_the_user_until_timer_m() -> None:
    bench = Bench()
    invite = request()
    bench.ask(invite)
    bench.arrive(respond(invite, 200, to_tag="b"))
    bench.run(5)
    bench.arrive(respond(invite, 200, to_tag="c"))
    assert bench.at(ResponseArrived) == [0, 5]
    bench.run(40)
    assert bench.at(Terminated) == [32]
    bench.arrive(respond(invite, 200, to_tag="c"))
    assert bench.layer.counters == Counter({"response-stray": 1})


def test_other_requests_are_repeated_up_to_four_seconds_apart() -> None:
    bench = Bench()
    bench.ask(request("BYE"))
    bench.run(100)
    assert bench.sent_at() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.at(Unanswered) == [32]


def test_after_a_provisional_response_other_requests_are_repeated_every_four_seconds() -> None:
    bench = Bench()
    bye = request("BYE")
    bench.ask(bye)
    bench.run(0.6)
    bench.arrive(respond(bye, 100))
    bench.run(20)
    assert bench.sent_at() == [0, 0.5, 1.5, 5.5, 9.5, 13.5, 17.5]
    bench.run(33)
    assert bench.at(Unanswered) == [32]


@pytest.mark.parametrize(("reliable", "gone"), [(False, 5.0), (True, 0.0)])
def test_an_answered_request_waits_for_repeated_answers(reliable: bool, gone: float) -> None:
    bench = Bench()
    bye = request("BYE")
    key = bench.ask(bye, reliable=reliable)
    answer = respond(bye, 200, to_tag="b")
    bench.arrive(answer, reliable=reliable)
    bench.arrive(answer, reliable=reliable)
    bench.run(10)
    assert [o for _, o in bench.diary if isinstance(o, ResponseArrived)] == [ResponseArrived(key, answer)]
    assert bench.at(Terminated) == [gone]


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_a_dead_transport_ends_a_client_transaction(method: str) -> None:
    bench = Bench()
    key = bench.ask(request(method))
    bench.note(bench.layer.transport_failed(key, "no route", 0))
    assert bench.diary[-2:] == [(0, Unreachable(key, "no route")), (0, Terminated(key))]


def test_a_repeated_invite_gets_the_latest_provisional_response_again() -> None:
    bench = Bench()
    invite = request()
    assert bench.arrive(invite) == [RequestArrived(server_key(invite), invite)]
    assert bench.arrive(invite) == []
    ringing = respond(invite, 180, to_tag="b")
    bench.respond(server_key(invite), ringing)
    assert bench.arrive(invite) == [Send(server_key(invite), ringing)]


def test_a_refusal_is_repeated_until_acknowledged() -> None:
    bench = Bench()
    invite = request()
    bench.arrive(invite)
    bench.respond(server_key(invite), respond(invite, 486, to_tag="b"))
    bench.run(8)
    assert bench.sent_at() == [0, 0.5, 1.5, 3.5, 7.5]
    bench.arrive(request("ACK", to_tag="b"))
    bench.run(12.9)
    assert bench.sent_at() == [0, 0.5, 1.5, 3.5, 7.5]
    assert not bench.at(RequestArrived)[1:]
    assert not bench.at(Terminated)
    bench.run(13)
    assert bench.at(Terminated) == [13]


def test_a_refusal_that_nobody_acknowledges_ends_with_timer_h() -> None:
    bench = Bench()
    invite = request()
    bench.arrive(invite)
    bench.respond(server_key(invite), respond(invite, 486, to_tag="b"))
    bench.run(100)
    assert bench.sent_at() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.at(Unanswered) == bench.at(Terminated) == [32]


def test_a_success_absorbs_repeated_invites_and_is_repeated_by_the_user_only() -> None:
    bench = Bench()
    invite = request()
    bench.arrive(invite)
    success = respond(invite, 200, to_tag="b")
    bench.respond(server_key(invite), success)
    assert bench.arrive(invite) == []
    assert bench.respond(server_key(invite), success) == [Send(server_key(invite), success)]
    assert bench.respond(server_key(invite), respond(invite, 486, to_tag="b")) == []
    bench.run(40)
    assert bench.sent_at() == [0, 0]
    assert bench.at(Terminated) == [32]


def test_an_ack_of_its_own_branch_goes_to_the_user() -> None:
    bench = Bench()
    ack = request("ACK", "z9hG4bKother", to_tag="b")
    assert bench.arrive(ack) == [RequestArrived(None, ack)]
    assert not bench.layer.transactions


@pytest.mark.parametrize(("reliable", "gone"), [(False, 32.0), (True, 0.0)])
def test_other_requests_are_answered_again_until_timer_j(reliable: bool, gone: float) -> None:
    bench = Bench()
    options = request("OPTIONS")
    bench.arrive(options, reliable=reliable)
    assert bench.arrive(options, reliable=reliable) == []
    answer = respond(options, 200, to_tag="b")
    bench.respond(server_key(options), answer)
    if not reliable:
        assert bench.arrive(options) == [Send(server_key(options), answer)]
    bench.run(40)
    assert bench.at(Terminated) == [gone]


def test_a_late_response_of_the_user_is_counted() -> None:
    bench = Bench()
    assert bench.respond(Key(False, "z9hG4bKx", "", "BYE"), respond(request("BYE"), 200)) == []
    assert bench.layer.counters == Counter({"response-too-late": 1})


def test_requests_match_by_branch_sent_by_and_method() -> None:
    bench = Bench()
    bench.arrive(request("OPTIONS"))
    other = request("OPTIONS", to_tag="b")
    elsewhere = Request(
        method="OPTIONS", uri=other.uri, headers=other.headers.set("Via", "SIP/2.0/UDP [2001:db8::2];branch=z9hG4bK1")
    )
    assert [type(o) for o in bench.arrive(elsewhere)] == [RequestArrived]
    assert len(bench.layer.transactions) == 2


def test_old_requests_without_magic_cookie_match_by_their_headers() -> None:
    bench = Bench()
    first = request("OPTIONS", "1")
    assert len(bench.arrive(first)) == 1
    assert bench.arrive(first) == []
    assert len(bench.arrive(request("OPTIONS", "1", cseq=2))) == 1


def test_a_merged_request_gets_482() -> None:
    bench = Bench()
    bench.arrive(request("INVITE", "z9hG4bK1"))
    merged = bench.arrive(request("INVITE", "z9hG4bK2"))
    assert [o.message.start_line() for o in merged if isinstance(o, Send)] == ["SIP/2.0 482 Loop Detected"]
    assert bench.layer.counters["request-merged"] == 1


def test_a_flood_is_bounded_and_leaves_those_in_progress_alone() -> None:
    bench = Bench(limit=10)
    invites = [request("INVITE", f"z9hG4bK{n}", cseq=n) for n in range(1, 51)]
    for invite in invites:
        bench.arrive(invite)
    assert len(bench.layer.transactions) == 10
    assert bench.layer.counters["server-transactions-full"] == 40
    assert bench.respond(server_key(invites[0]), respond(invites[0], 200, to_tag="b"))
    bench.run(40)
    assert len(bench.layer.transactions) == 9


def test_what_was_answered_makes_room_for_what_comes_but_not_at_once() -> None:
    bench = Bench(limit=10)
    for n in range(1, 11):
        options = request("OPTIONS", f"z9hG4bK{n}", cseq=n)
        bench.arrive(options)
        bench.respond(server_key(options), respond(options, 200, to_tag="b"))
    late = request("OPTIONS", "z9hG4bK11", cseq=11)
    assert not bench.arrive(late)
    bench.run(5)
    assert any(isinstance(output, RequestArrived) for output in bench.arrive(late))
    first = server_key(request("OPTIONS", "z9hG4bK1", cseq=1))
    assert len(bench.layer.transactions) == 10
    assert first not in bench.layer.transactions
    assert bench.layer.counters["server-transaction-forgotten"] == 1
    bench.run(60)
    assert list(bench.layer.transactions) == [server_key(late)]  # not answered yet, so nothing ends it


def test_a_cancel_finds_its_invite_and_has_a_transaction_of_its_own() -> None:
    bench = Bench()
    invite = request()
    bench.arrive(invite)
    cancel = cancel_for(invite)
    assert bench.arrive(cancel) == [RequestArrived(server_key(cancel), cancel)]
    assert bench.layer.find_cancelled(cancel) == server_key(invite)
    assert bench.layer.find_cancelled(cancel_for(request(branch="z9hG4bKother"))) is None


@pytest.mark.parametrize("machine", [InviteClient, NonInviteClient, InviteServer, NonInviteServer])
def test_no_input_leads_out_of_the_table(machine: type[Transaction]) -> None:
    """Every state of a table is reached by one of its rows, and a dead machine stays dead."""
    reached = {machine.FIRST} | {then for then, _ in machine.TABLE.values()}
    assert {state for state, _ in machine.TABLE} == reached - {State.TERMINATED}
    assert not [event for state, event in machine.TABLE if state is State.TERMINATED]


def test_loss_duplication_and_reordering_change_nothing_for_the_users() -> None:
    """Every second message is lost, every third doubled, and they overtake each other."""
    for offset in range(6):
        network = BadNetwork(offset)
        network.run()
        assert (network.asked, network.answered) == (1, 1)
        assert not network.caller.transactions
        assert not network.callee.transactions


class BadNetwork:
    """A caller asks a callee for its options."""

    def __init__(self, counter: int) -> None:
        self.caller, self.callee = TransactionLayer(), TransactionLayer()
        self.counter = counter
        self.wire: list[tuple[float, bool, Request | Response]] = []
        self.asked = self.answered = 0
        self.options = request("OPTIONS")

    def post(self, to_callee: bool, outputs: list[Output], now: float) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.counter += 1
                for copy in range(0 if self.counter % 2 == 0 else 2 if self.counter % 3 == 0 else 1):
                    delay = 0.05 * ((self.counter * 7) % 5 + copy)
                    self.wire.append((now + delay, to_callee, output.message))

    def deliver(self, to_callee: bool, message: Request | Response, now: float) -> None:
        outputs = (self.callee if to_callee else self.caller).received(message, False, now)
        self.post(not to_callee, outputs, now)
        for output in outputs:
            if isinstance(output, RequestArrived) and output.key is not None:
                self.asked += 1
                answer = respond(self.options, 200, to_tag="b")
                self.post(False, self.callee.respond(output.key, answer, now), now)
            self.answered += isinstance(output, ResponseArrived)

    def run(self) -> None:
        self.post(True, self.caller.request(self.options, False, 0.0)[1], 0.0)
        while True:
            timers = [t for t in (self.caller.timer, self.callee.timer) if t is not None]
            moments = [moment for moment, _, _ in self.wire] + timers
            if not moments:
                return
            now = min(moments)
            due = [item for item in self.wire if item[0] <= now]
            self.wire = [item for item in self.wire if item[0] > now]
            for _, to_callee, message in due:
                self.deliver(to_callee, message, now)
            self.post(True, self.caller.handle_timer(now), now)
            self.post(False, self.callee.handle_timer(now), now)


def test_t1_is_half_a_second() -> None:
    assert T1 == 0.5
