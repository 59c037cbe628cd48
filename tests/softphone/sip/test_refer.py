"""Transfer: Refer-To, Replaces, sipfrag, the state of subscriptions."""

from __future__ import annotations

import pytest

from softphone.sip.dialog import DialogId
from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers
from softphone.sip.message import Request
from softphone.sip.refer import Outcome, ReferTo, Replaces
from softphone.sip.subscription import SubscriptionState
from softphone.sip.uri import SipUri


def refer(*values: str) -> Request:
    return Request(method="REFER", uri=SipUri("::1"), headers=Headers.of(*(("Refer-To", value) for value in values)))


def test_replaces_names_the_dialog_as_the_other_side_sees_it() -> None:
    ours = DialogId("12adf2f34456gs5@c", "ours", "theirs")
    replaces = Replaces.of_peer(ours)
    assert str(replaces) == "12adf2f34456gs5@c;to-tag=theirs;from-tag=ours"
    assert replaces.dialog == DialogId("12adf2f34456gs5@c", "theirs", "ours")
    assert Replaces.parse(" a@b ; from-tag=f;early-only ;to-tag=t") == Replaces("a@b", "t", "f", True)
    assert str(Replaces("a", "t", "f", True)) == "a;to-tag=t;from-tag=f;early-only"
    for wrong in ("", "a", "a;to-tag=1", ";to-tag=1;from-tag=2", "a;to-tag=1;from-tag=2;to-tag=3"):
        with pytest.raises(SipParseError):
            Replaces.parse(wrong)


def test_refer_to_there_and_back() -> None:
    [target, replaces] = [SipUri.parse("sip:6002@[2001:db8::2]:5070;transport=tcp"), Replaces("x@[::1]", "t", "f")]
    text = str(ReferTo(target, replaces))
    assert text == (
        "<sip:6002@[2001:db8::2]:5070;transport=tcp?Replaces=x%40%5B%3A%3A1%5D%3Bto-tag%3Dt%3Bfrom-tag%3Df>"
    )
    assert ReferTo.of(refer(text)) == ReferTo(target, replaces)
    assert ReferTo.of(refer("<sip:6002@example.org;method=INVITE>")).target == SipUri("example.org", "6002")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 400),
        (["<sip:a@x>, <sip:b@x>"], 400),
        (["nonsense"], 400),
        (["<https://example.org>"], 416),
        (["<sip:a@x;method=BYE>"], 403),
        (["<sip:a@x?Replaces=nonsense>"], 400),
    ],
)
def test_refers_that_cannot_be_followed(values: list[str], status: int) -> None:
    with pytest.raises(SipParseError) as caught:
        ReferTo.of(refer(*values))
    assert caught.value.status == status


def test_sipfrag() -> None:
    assert Outcome.parse(b"SIP/2.0 200 OK\r\nContact: <sip:a@x>\r\n") == Outcome(200, "OK")
    assert Outcome.parse(b"SIP/2.0 603") == Outcome(603, "")
    assert bytes(Outcome.of_status(180)) == b"SIP/2.0 180 Ringing\r\n"
    for wrong in (b"", b"INVITE sip:a SIP/2.0", b"SIP/2.0 999 x", b"SIP/2.0 20 OK"):
        with pytest.raises(SipParseError):
            Outcome.parse(wrong)


def test_subscription_state() -> None:
    def of(text: str) -> SubscriptionState:
        headers = Headers.of(("Subscription-State", text))
        return SubscriptionState.of(Request(method="NOTIFY", uri=SipUri("x"), headers=headers))

    assert of("active;expires=60") == SubscriptionState("active", 60)
    assert of("Terminated ;reason=noresource").terminated
    assert str(SubscriptionState("terminated", None, "noresource")) == "terminated;reason=noresource"
    with pytest.raises(SipParseError):
        of("active;expires=soon")
    with pytest.raises(SipParseError):
        SubscriptionState.of(Request(method="NOTIFY", uri=SipUri("x")))
