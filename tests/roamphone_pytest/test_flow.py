"""Flows and the patterns they are compared with."""

from __future__ import annotations

import pytest

from roamphone_pytest.flow import Flow, Step, calls, of_call, steps
from softphone.sip.endpoint import Traced
from softphone.sip.transport import Address, Transport


def message(start: str, *, sent: bool = True, call: str = "one", method: str = "INVITE", at: float = 1.0) -> Traced:
    text = (
        f"{start}\r\nVia: SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n"
        f"Call-ID: {call}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    return Traced(at, sent, Transport.UDP, Address("::1", 5060), Address("::1", 5062), text.encode())


def flow(text: str) -> Flow:
    return Flow(Step(0.0, True, "one", name, name, "") for name in text.split())


def test_retransmissions_and_what_is_no_sip_do_not_count() -> None:
    invite = message("INVITE sip:b@b SIP/2.0")
    ringing = message("SIP/2.0 180 Ringing", sent=False, at=1.5)
    keepalive = invite._replace(data=b"\r\n\r\n")
    other = message("OPTIONS sip:b@b SIP/2.0", call="two", method="OPTIONS")
    found = steps([invite, keepalive, invite, other, ringing, ringing])
    assert calls(found) == ["one"]
    one = of_call(found, "one")
    assert str(one) == "INVITE 180"
    assert one.names == ["INVITE", "180"]
    first, second = one.ladder().splitlines()
    assert first.endswith("--> ::1 5062/udp  INVITE sip:b@b")
    assert second.strip() == "0.500 s <-- ::1 5062/udp  180 Ringing (INVITE)"


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("INVITE 100 180 200 ACK BYE 200", True),
        ("INVITE [407 ACK INVITE] 100 180 200 ACK BYE 200", True),
        ("INVITE [100] [183] 1xx 2xx ACK BYE 2xx", True),
        ("INVITE * BYE 200", True),
        ("*", True),
        ("INVITE [100[180]] 200 ACK BYE 200", True),
        ("INVITE 100 180 200 ACK", False),
        ("INVITE 100 200 ACK BYE 200", False),
        ("INVITE 100 180 4xx ACK BYE 200", False),
        ("", False),
    ],
)
def test_patterns(pattern: str, fits: bool) -> None:
    assert flow("INVITE 100 180 200 ACK BYE 200").matches(pattern) is fits


@pytest.mark.parametrize("pattern", ["invite", "INVITE [100", "99", "INVITE (100)?"])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is no method|without a partner"):
        flow("INVITE").matches(pattern)
