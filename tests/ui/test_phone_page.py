"""The screen of the phone, driven by keys, with calls that are real but for their sound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from softphone.calls.call import Call, CallState
from softphone.errors import CallError
from softphone.phone import Softphone
from tests.softphone.support import FakeMedia, account
from tests.ui.support import SIZES, Screen, drive, opened
from ui.pages.phone import PhonePage
from ui.widgets.target import TargetInput


@pytest.mark.parametrize("size", SIZES)
def test_a_call_from_dialling_to_hanging_up(tmp_path: Path, size: tuple[int, int]) -> None:
    async def work() -> None:
        async with opened(tmp_path, size) as screen:
            await screen.sees("Accounts", "work", "alice@example.org", "direct calls", "No calls")
            await screen.paste(screen.bob_uri)
            await screen.press("enter")
            call = await anext(screen.bob.incoming())
            await call.ring()
            await screen.sees("bob@[::1]", "ringing there")
            await call.answer()
            await screen.sees("in call", "00:0")
            await screen.press("ctrl+o")
            await screen.until(lambda: call.held)
            await screen.sees("on hold")
            await screen.press("ctrl+o")
            await screen.until(lambda: not call.held)
            await screen.sees("in call")
            await call.hold()
            await screen.sees("held by them")
            await screen.press("ctrl+b")
            await screen.until(lambda: call.state is CallState.ENDED)
            await screen.sees("you hung up")

    drive(work)


@pytest.mark.parametrize("size", SIZES)
def test_a_call_that_comes_in_never_takes_what_is_typed(tmp_path: Path, size: tuple[int, int]) -> None:
    async def work() -> None:
        async with opened(tmp_path, size) as screen:
            await screen.types("60")
            call = await screen.bob.dial(screen.alice_uri)
            await screen.sees("bob@", "Answer", "Refuse", "alice@example.org")
            await screen.types("02a")
            assert screen.app.screen.query_one(TargetInput).text == "6002a"
            assert call.state is not CallState.CONFIRMED
            await screen.press("ctrl+y")
            await call.answered(5)
            await screen.sees("in call")
            await screen.sees_no("Refuse")
            assert screen.app.screen.query_one(TargetInput).text == "6002a"
            await call.hangup()
            await screen.sees("they hung up")

    drive(work)


def test_a_call_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as screen:
            call = await screen.bob.dial(screen.alice_uri)
            await screen.sees("Refuse")
            await screen.press("ctrl+x")
            await screen.until(lambda: call.state is CallState.ENDED)
            assert call.ended_event is not None
            assert call.ended_event.status == 486
            await screen.sees("refused")

    drive(work)


def test_errors_of_the_daemon_are_told_in_words(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, (120, 36)) as screen:
            await screen.types("sip:")
            await screen.press("enter")
            await screen.is_told("URI")
            assert isinstance(screen.app.screen, PhonePage)

    drive(work)


async def answered_call(screen: Screen) -> Call:
    call = await screen.bob.dial(screen.alice_uri)
    await screen.sees("Refuse")
    await screen.press("ctrl+y")
    await call.answered(5)
    await screen.sees_no("Refuse")
    return call


@pytest.mark.parametrize(("key", "words"), [("ctrl+y", "accepted"), ("ctrl+x", "refused")])
def test_a_transfer_that_the_other_side_wants_is_asked_about(tmp_path: Path, key: str, words: str) -> None:
    async def work() -> None:
        async with opened(tmp_path) as screen, Softphone(account("carol"), media=FakeMedia.factory([])) as carol:
            call = await answered_call(screen)
            await screen.types("12")
            wanted = asyncio.create_task(call.transfer(f"sip:carol@[::1]:{carol.port}"))
            await screen.sees("wants to connect you with", "carol@[::1]", "Accept", "Stay")
            assert screen.app.screen.query_one(TargetInput).text == "12"
            await screen.press(key)
            if words == "accepted":
                await (await anext(carol.incoming())).answer()
                await wanted
            else:
                with pytest.raises(CallError):
                    await wanted
            await screen.sees_no("wants to connect you with")

    drive(work)


def test_two_calls_are_connected_with_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            opened(tmp_path, (120, 36)) as screen,
            Softphone(account("carol"), media=FakeMedia.factory([])) as carol,
        ):
            first = await answered_call(screen)
            await screen.paste(f"sip:carol@[::1]:{carol.port}")
            await screen.press("enter")
            await (await anext(carol.incoming())).answer()
            await screen.until(lambda: sum(call.established for call in screen.app.model.live_calls) == 2)
            await screen.press("ctrl+t")
            await screen.sees("or connect with the call to")
            await screen.press("tab", "enter")
            await screen.until(lambda: first.transfer_request is not None)
            assert first.transfer_request is not None
            talking = await first.transfer_request.accept()
            await talking.answered(5)  # by Replaces: Carol's phone does not ring again
            await screen.until(lambda: not screen.app.model.live_calls)

    drive(work)
