"""Session timers: who refreshes, which interval, when the end is due (RFC 4028)."""

from __future__ import annotations

import pytest

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response
from softphone.sip.session_timer import Due, Refresher, SessionExpires, SessionTimer, TooSmall
from softphone.sip.uri import SipUri


def request(*headers: tuple[str, str]) -> Request:
    return Request(method="INVITE", uri=SipUri("::1"), headers=Headers.of(*headers))


def response(*headers: tuple[str, str], status: int = 200) -> Response:
    return Response(status=status, reason="", headers=Headers.of(*headers))


TIMER = ("Supported", "timer")


@pytest.mark.parametrize(
    ("headers", "answer", "ours"),
    [  # table 2 of RFC 4028 section 9, and intervals
        ([TIMER, ("Session-Expires", "600")], "600;refresher=uac", False),
        ([TIMER, ("Session-Expires", "600;refresher=uas")], "600;refresher=uas", True),
        ([TIMER, ("Session-Expires", "600;refresher=uac")], "600;refresher=uac", False),
        ([TIMER, ("Session-Expires", "7200")], "1800;refresher=uac", False),
        ([TIMER], "1800;refresher=uac", False),
        ([], "1800;refresher=uas", True),
        ([("Session-Expires", "600"), ("Min-SE", "700")], "700;refresher=uas", True),
        ([TIMER, ("Min-SE", "3600")], "3600;refresher=uac", False),
    ],
)
def test_the_answer_to_an_invite(headers: list[tuple[str, str]], answer: str, ours: bool) -> None:
    timer = SessionTimer(1800)
    wanted = request(*headers)
    timer.check(wanted)
    said = timer.answer(wanted, 0.0)
    assert said.get("Session-Expires") == answer
    assert timer.ours is ours
    assert ("Require" in said) is not ours


def test_an_interval_too_small_is_refused_only_where_the_caller_understands() -> None:
    timer = SessionTimer(1800, least=300)
    with pytest.raises(TooSmall) as caught:
        timer.check(request(TIMER, ("Session-Expires", "200")))
    assert caught.value.headers.get("Min-SE") == "300"
    timer.check(request(("Session-Expires", "200")))
    assert timer.answer(request(("Session-Expires", "200")), 0.0).get("Session-Expires") == "300;refresher=uas"


def test_a_422_raises_our_interval_once() -> None:
    timer = SessionTimer(100)
    assert timer.ask().get("Session-Expires") == "100"
    assert timer.ask().get("Min-SE") is None
    assert timer.refused(response(("Min-SE", "500"), status=422))
    assert (timer.ask().get("Session-Expires"), timer.ask().get("Min-SE")) == ("500", "500")
    assert not timer.refused(response(("Min-SE", "500"), status=422))
    assert not timer.refused(response(status=422))


def test_who_refreshes_does_so_at_half_time_and_else_gives_up_before_the_end() -> None:
    timer = SessionTimer(180)
    timer.answered(response(("Session-Expires", "180;refresher=uac")), 1000.0)
    assert (timer.ours, timer.timer) == (True, 1090.0)
    assert timer.handle_timer(1089.9) is None
    assert timer.handle_timer(1090.0) is Due.REFRESH
    assert timer.ask().get("Session-Expires") == "180;refresher=uac"
    assert timer.timer == 1148.0  # 32 s before the end
    timer.answered(response(("Session-Expires", "180;refresher=uac")), 1091.0)
    assert timer.handle_timer(1181.0) is Due.REFRESH
    assert timer.handle_timer(1239.0) is Due.EXPIRED
    assert timer.timer is None


def test_who_waits_for_the_refresh_says_bye_when_none_comes() -> None:
    timer = SessionTimer(90)
    timer.answered(response(("Session-Expires", "90;refresher=uas")), 0.0)
    assert (timer.ours, timer.timer) == (False, 60.0)  # a third of the interval before the end
    assert timer.ask().get("Session-Expires") == "90;refresher=uas"
    timer.answer(request(TIMER, ("Session-Expires", "90;refresher=uac")), 45.0)
    assert (timer.ours, timer.timer) == (False, 105.0)
    assert timer.handle_timer(105.0) is Due.EXPIRED


def test_the_roles_are_those_of_each_request() -> None:
    timer = SessionTimer(1800)
    timer.answer(request(TIMER, ("Session-Expires", "1800;refresher=uas")), 0.0)
    assert timer.ours
    assert timer.ask().get("Session-Expires") == "1800;refresher=uac"  # in our own request we are the UAC
    timer.answer(request(TIMER), 10.0)
    assert timer.ours  # nobody said otherwise


def test_no_session_timer() -> None:
    off = SessionTimer(0)
    assert (list(off.ask()), list(off.answer(request(TIMER, ("Session-Expires", "90")), 0.0))) == ([], [])
    off.check(request(TIMER, ("Session-Expires", "1")))
    off.answered(response(("Session-Expires", "90;refresher=uac")), 0.0)
    assert off.timer is None
    theirs = SessionTimer(1800)
    theirs.answered(response(("Session-Expires", "1800")), 0.0)
    theirs.answered(response(), 5.0)
    assert (theirs.timer, theirs.agreed) == (None, None)


def test_an_absurd_interval_makes_no_storm_of_refreshes() -> None:
    timer = SessionTimer(1800)
    timer.answered(response(("Session-Expires", "1;refresher=uac")), 0.0)
    assert timer.timer == 45.0


@pytest.mark.parametrize("text", ["", "x", "90;refresher=me", "99999999999", "90;;refresher", "-1"])
def test_malformed(text: str) -> None:
    with pytest.raises(SipParseError):
        SessionExpires.parse(text)
    assert SessionExpires.parse("90 ;Refresher=UAS") == SessionExpires(90, Refresher.UAS)
