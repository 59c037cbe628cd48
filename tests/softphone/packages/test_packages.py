"""Documents of event packages, good ones and those of strangers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.packages import PackageError
from softphone.packages.dialog_info import DialogInfo, Lamp, MissingVersion, parse_dialog_info
from softphone.packages.message_summary import Counts, parse_summary
from softphone.packages.presence import PIDF, Presence, parse_pidf, print_pidf
from softphone.packages.xml import LARGEST

PARSERS: list[Callable[[bytes], object]] = [parse_pidf, parse_summary, parse_dialog_info]

RICH = b"""<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
    xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:alice@example.org">
  <tuple id="desk"><status><basic>closed</basic></status></tuple>
  <tuple id="mobile"><status><basic> OPEN </basic></status><contact priority="0.8">sip:a@example.org</contact></tuple>
  <dm:person id="p1"><rpid:activities><rpid:on-the-phone/><rpid:note>x</rpid:note><rpid:Bad/></rpid:activities>
    <dm:note>In a
    call</dm:note></dm:person>
</presence>"""


def test_presence_of_several_devices() -> None:
    assert parse_pidf(RICH) == Presence(True, "In a call", ("on-the-phone",))
    assert parse_pidf(f'<presence xmlns="{PIDF}" entity="x"/>'.encode()) == Presence(False)


@given(st.booleans(), st.text(max_size=100), st.lists(st.sampled_from(["away", "busy", "on-the-phone"]), unique=True))
def test_presence_comes_back(open_: bool, note: str, activities: list[str]) -> None:
    note = " ".join("".join(char if char.isprintable() else " " for char in note).split())
    presence = Presence(open_, note, tuple(activities))
    assert parse_pidf(print_pidf(presence, "sip:alice@example.org", "urn:uuid:1-2")) == presence


def test_activities_are_words() -> None:
    with pytest.raises(PackageError, match="no activity"):
        print_pidf(Presence(True, "", ("<evil/>",)), "sip:a@b", "d")


SUMMARY = (
    b"Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.org\r\n"
    b"Voice-Message: 2/8 (1/2)\r\nFax-Message: 0/1\r\n\r\nTo: x\r\n"
)


def test_message_summaries() -> None:
    summary = parse_summary(SUMMARY)
    assert summary.waiting
    assert summary.account == "sip:*97@example.org"
    assert summary.voice == Counts(2, 8, 1, 2)
    assert summary.counts["fax-message"] == Counts(0, 1)
    assert parse_summary(b"messages-waiting:no").voice == Counts(0, 0)


@pytest.mark.parametrize(
    "text",
    [b"", b"Messages-Waiting: perhaps", b"Voice-Message: 1/1", b"Messages-Waiting: yes\nVoice-Message: x/2",
     b"nonsense", b"Messages-Waiting: yes\nVoice-Message: " + b"9" * 40 + b"/1", b"x" * 20_000],
)  # fmt: skip
def test_summaries_that_are_none(text: bytes) -> None:
    with pytest.raises(PackageError):
        parse_summary(text)


def dialogs(version: int, *inner: str, state: str = "full") -> bytes:
    return (
        f'<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="{version}" state="{state}" '
        f'entity="sip:bob@example.org">{"".join(inner)}</dialog-info>'
    ).encode()


def one(ident: str, state: str, direction: str = "recipient") -> str:
    remote = "<remote><identity>sip:carol@example.org</identity></remote>"
    return f'<dialog id="{ident}" direction="{direction}"><state>{state}</state>{remote}</dialog>'


def test_a_busy_lamp() -> None:
    def after(data: bytes, before: DialogInfo | None) -> DialogInfo:
        return parse_dialog_info(data, before)

    info = after(dialogs(0), None)
    assert info.lamp is Lamp.FREE
    info = after(dialogs(1, one("a", "early"), state="partial"), info)
    assert info.lamp is Lamp.RINGING
    assert info.dialogs[0].remote == "sip:carol@example.org"
    info = after(dialogs(2, one("a", "confirmed"), one("b", "trying", "initiator"), state="partial"), info)
    assert info.lamp is Lamp.BUSY
    assert after(dialogs(1, one("a", "early"), state="partial"), info) is info  # late
    info = after(dialogs(3, one("a", "terminated"), state="partial"), info)
    assert info.lamp is Lamp.CALLING
    with pytest.raises(MissingVersion):
        after(dialogs(5, one("b", "terminated"), state="partial"), info)
    assert after(dialogs(5), info).lamp is Lamp.FREE
    with pytest.raises(MissingVersion):
        after(dialogs(5, state="partial"), None)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY a%d "&a%d;&a%d;">' % (n, n - 1, n - 1) for n in range(1, 30)).replace(b"&a0;", b"&a;")
    + b']><presence xmlns="urn:ietf:params:xml:ns:pidf"><note>&a29;</note></presence>'
)
EXTERNAL = (
    b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    b'<presence xmlns="urn:ietf:params:xml:ns:pidf"><note>&f;</note></presence>'
)


@pytest.mark.parametrize("parse", [parse_pidf, parse_dialog_info])
@pytest.mark.parametrize(
    "data",
    [
        BOMB, EXTERNAL, b"", b"\xff\xfe", b"<a>", b"<other/>", b"<presence/>", b"<!DOCTYPE presence><presence/>",
        b'<?xml version="1.0" encoding="no-such"?><presence/>',
        f'<presence xmlns="{PIDF}">{"<a>" * 2000}{"</a>" * 2000}</presence>'.encode(),
        f'<presence xmlns="{PIDF}">{"<a/>" * 3000}</presence>'.encode(),
        f'<presence xmlns="{PIDF}"><tuple id="a"><status><basic>maybe</basic></status></tuple></presence>'.encode(),
        b"<presence>" + b" " * LARGEST + b"</presence>",
        dialogs(1).replace(b"full", b"half"), dialogs(1, "<dialog/>"), dialogs(-1), dialogs(1, one("a", "asleep")),
    ],
)  # fmt: skip
def test_documents_that_are_none(parse: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        parse(data)
    assert len(str(caught.value)) < 400


@given(
    st.sampled_from(PARSERS),
    st.binary(max_size=200) | st.sampled_from([RICH, SUMMARY, dialogs(1, one("a", "early"))]),
    st.data(),
)
def test_any_bytes_are_read_or_refused(parse: Callable[[bytes], object], data: bytes, draw: st.DataObject) -> None:
    if data:
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + 1 :]
    try:
        parse(data)
    except PackageError:
        pass
