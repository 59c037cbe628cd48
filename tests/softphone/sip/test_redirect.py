"""Redirects: the order of targets, and their bounds."""

from __future__ import annotations

import pytest

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Response
from softphone.sip.redirect import MAX_TARGETS, Targets, preference
from softphone.sip.uri import SipUri

FIRST = SipUri.parse("sip:bob@example.org")


def moved(*contacts: str, status: int = 302) -> Response:
    return Response(status=status, reason="", headers=Headers.of(*(("Contact", contact) for contact in contacts)))


def test_the_best_comes_first_and_nobody_twice() -> None:
    targets = Targets(FIRST)
    assert targets.redirected(
        moved("<sip:a@x>;q=0.1, <sip:b@x>;q=0.9", "<sip:c@x>", "<tel:+1>", "<sip:bob@example.org>")
    )
    assert str(targets.next()) == "sip:c@x"
    assert targets.redirected(moved("<sip:d@x>;q=0.5, <sip:a@x>;q=1"))
    assert [str(targets.next()) for _ in range(3)] == ["sip:b@x", "sip:d@x", "sip:a@x"]
    assert targets.next() is None


def test_circles_end() -> None:
    targets = Targets(FIRST)
    count = 0
    while targets.redirected(moved(f"<sip:{count}@x>")):
        targets.next()
        count += 1
    assert count == MAX_TARGETS - 1


@pytest.mark.parametrize("status", [305, 380, 404, 486])
def test_other_responses_name_no_targets(status: int) -> None:
    assert not Targets(FIRST).redirected(moved("<sip:a@x>", status=status))


@pytest.mark.parametrize(("q", "value"), [("0", 0.0), ("1", 1.0), ("0.5", 0.5), ("0.123", 0.123), ("1.000", 1.0)])
def test_preference(q: str, value: float) -> None:
    assert preference(NameAddr(FIRST, "", (("q", q),))) == value
    for wrong in ("2", "0.1234", "-1", "x", "0.x", ""):
        with pytest.raises(SipParseError):
            preference(NameAddr(FIRST, "", (("q", wrong),)))
