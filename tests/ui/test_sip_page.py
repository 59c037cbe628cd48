"""The screen of SIP: ladders of calls that are real, driven by keys, and as it looks with fixed messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from softphone.calls.call import CallState
from tests.ui.mobile import CALL
from tests.ui.support import SIZES, Screen, drive, opened
from ui.dialogs.sip_message import SipMessageDialog
from ui.pages.sip import CallLines, LadderLines, SipPage
from ui.sip_log import SipCall, SipLog, SipMessage, heading, rung


async def a_call(screen: Screen) -> None:
    """Answered, and ended by us."""
    await screen.paste(screen.bob_uri)
    await screen.press("enter")
    call = await anext(screen.bob.incoming())
    await call.answer()
    await screen.sees("in call")
    await screen.press("ctrl+b")
    await screen.until(lambda: call.state is CallState.ENDED)


KEYS = (
    "sip.open", "sip.back", "sip.copy", "sip.export", "sip.calls", "sip.search", "sip.next", "sip.previous",
    "message.copy",
)  # fmt: skip
"That are pressed below."


@pytest.mark.parametrize("size", SIZES)
def test_every_key(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    async def work() -> None:
        async with opened(tmp_path, size) as screen:
            await a_call(screen)
            await screen.press("f5")
            await screen.sees("INVITE", "ended", "─ INVITE (SDP) ─", "─ 200 OK (SDP) ─", "BYE")
            page = screen.app.screen
            assert isinstance(page, SipPage)
            ladder = page.query_one(LadderLines)
            await screen.press("enter", "down", "home")
            assert ladder.chosen is not None
            await screen.press("y")
            await screen.until(lambda: screen.app.clipboard)
            assert screen.app.clipboard == ladder.chosen.text
            await screen.press("enter")
            await screen.until(lambda: isinstance(screen.app.screen, SipMessageDialog))
            await screen.sees("Max-Forwards", "INVITE sip:bob@")
            await screen.press("y", "escape")
            await screen.press("e")
            await screen.until(lambda: list((tmp_path / "data" / "roamphone" / "sip").glob("*.txt")))
            (file,) = (tmp_path / "data" / "roamphone" / "sip").iterdir()
            await screen.until(lambda: "BYE sip:" in file.read_text())
            assert file.stat().st_mode & 0o077 == 0
            await screen.press("escape", "f")
            await screen.sees("calls only")
            await screen.press("tab")
            assert ladder.has_focus
            await screen.press("shift+tab", "slash", *"nobody")
            await screen.sees("0 of 1")
            await screen.press(*["backspace"] * 6, "enter")
            await screen.sees("1 of 1")
            await screen.bob.message(screen.alice_uri, "hello")  # comes while the screen is visible
            await screen.press("f")
            await screen.sees("MESSAGE", "2 of 2")
            assert page.query_one(CallLines).count == 2

    drive(work)


def test_the_log_takes_each_message_once_and_in_order() -> None:
    log = SipLog()
    log.take([CALL[1]])
    log.take(CALL)
    log.take(CALL[:3])
    (call,) = log.calls.values()
    assert [each.first_line for each in call.messages] == [str(each["text"]).partition("\r\n")[0] for each in CALL]
    assert call.is_call
    assert call.outcome[0] == "ended"
    assert log.chosen(calls_only=True, search="198.51.100.2") == [call]
    assert log.chosen(search="carol") == []


def test_ladders_fit_into_any_width() -> None:
    call = SipCall("a")
    call.messages = [SipMessage.of(each) for each in CALL]
    for width in (40, 60, 78, 120):
        assert heading(call, width).cell_length <= width
        for index in range(len(CALL)):
            assert rung(call, index, width).cell_length <= width
    assert "▶│" in rung(call, 0, 78).plain
    assert "│◀" in rung(call, 1, 78).plain
    assert "+2.6 s" in rung(call, 5, 78).plain
    assert "─ 407 Proxy Authentication Required ─" in rung(call, 2, 120).plain


@pytest.mark.parametrize(
    "text", ["", "\r\n", "SIP/2.0", "SIP/2.0 abc", "x" * 5000, "INVITE\r\nFrom\r\n: :\r\n\r\nv", "\udcff"]
)
def test_messages_that_make_no_sense_are_shown(text: str) -> None:
    log = SipLog()
    log.take([{"text": text}, {"text": None, "time": None}])
    (call,) = log.calls.values()
    call.line()
    for index in range(len(call.messages)):
        rung(call, index, 80)
