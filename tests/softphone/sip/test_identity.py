"""What header fields say about a call; fields that only inform never break one."""

from __future__ import annotations

import pytest

from softphone.sip.headers import Headers, NameAddr
from softphone.sip.identity import Diversion, Reason, answer_after, asserted, diversions, privacy, reasons
from softphone.sip.message import Request
from softphone.sip.uri import SipUri


def invite(*headers: tuple[str, str]) -> Request:
    return Request(method="INVITE", uri=SipUri("x"), headers=Headers.of(*headers))


def test_reasons() -> None:
    told = reasons(
        invite(("Reason", 'SIP ;cause=200 ;text="Call completed elsewhere", Q.850;cause=16'), ("Reason", "?;;"))
    )
    assert told == (Reason("SIP", 200, "Call completed elsewhere"), Reason("Q.850", 16))
    assert str(told[0]) == 'SIP;cause=200;text="Call completed elsewhere"'
    assert Reason.parse("Q.850;cause=x").cause is None


def test_diversion_latest_first() -> None:
    found = diversions(
        invite(("Diversion", '"Bob" <sip:bob@x>;reason=no-answer;counter=1, <sip:carol@x>;reason=user-busy'))
    )
    assert found == (
        Diversion(NameAddr(SipUri("x", "bob"), "Bob"), "no-answer"),
        Diversion(NameAddr(SipUri("x", "carol")), "user-busy"),
    )


def test_history_info_counts_where_the_address_changes() -> None:
    found = diversions(
        invite(
            (
                "History-Info",
                "<sip:bob@x>;index=1, <sip:bob@x;gr=1?Reason=SIP%3Bcause%3D302%3Btext%3D%22Moved%22>;index=1.1",
            ),
            ("History-Info", "<sip:office@y?Reason=SIP%3Bcause%3D408>;index=1.2;mp=1, <sip:carol@z>;index=1.2.1"),
        )
    )
    assert [(str(d.by.uri), d.reason) for d in found] == [("sip:office@y", "SIP 408"), ("sip:bob@x;gr=1", "Moved")]
    assert diversions(invite(("History-Info", "nonsense"), ("Diversion", '"<sip:a@x>'))) == ()


def test_identity_and_privacy() -> None:
    request = invite(
        ("P-Asserted-Identity", '"Alice" <sip:alice@example.org>, <tel:+15551234>'), ("Privacy", "id;header, critical")
    )
    assert [str(who.uri) for who in asserted(request)] == ["sip:alice@example.org", "tel:+15551234"]
    assert privacy(request) == {"id", "header", "critical"}


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("Call-Info", "<sip:x>;answer-after=0", 0.0),
        ("Call-Info", "<http://x/photo.jpg>;purpose=icon, <sip:x>; answer-after=3", 3.0),
        ("Call-Info", "<sip:x>;answer-after=soon", None),
        ("Alert-Info", "<http://www.example.org>;info=alert-autoanswer;delay=2", 2.0),
        ("Alert-Info", 'info="Auto Answer"', None),
        ("Alert-Info", ';info="Auto Answer"', 0.0),
        ("Alert-Info", "<urn:alert:service:call-waiting>", None),
        ("Answer-Mode", "Auto;require", 0.0),
        ("Answer-Mode", "Manual", None),
        ("Subject", "auto", None),
    ],
)
def test_who_wants_an_answer_at_once(name: str, value: str, seconds: float | None) -> None:
    assert answer_after(invite((name, value))) == seconds
