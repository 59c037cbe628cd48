"""Every key of the user interface does what the help says: in the smallest terminal, some in larger ones, too."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Select, Static

from softphone.calls.call import Call, CallState
from tests.ui import test_mobility_page, test_packets_page, test_sip_page
from tests.ui.support import SIZES, Screen, drive, opened
from ui.commands import all_names
from ui.dialogs.account import AccountDialog
from ui.dialogs.contact import ContactDialog
from ui.dialogs.help import HelpDialog
from ui.dialogs.keypad import KeypadDialog
from ui.dialogs.note import NoteDialog
from ui.dialogs.transfer import TransferDialog
from ui.pages import PAGES
from ui.pages.contacts import ContactsPage
from ui.pages.history import HistoryPage
from ui.pages.log import LogPage, LogView
from ui.pages.messages import MessagesPage
from ui.pages.phone import PhonePage
from ui.pages.settings import SettingsPage
from ui.widgets.fields import Field
from ui.widgets.table import Rows
from ui.widgets.target import TargetInput

Scene = Callable[[Screen], Awaitable[None]]
SCENES: dict[str, tuple[Scene, tuple[str, ...]]] = {}
"By name: a test, and the names of the keys that it presses."


def scene(*keys: str) -> Callable[[Scene], Scene]:
    def add(work: Scene) -> Scene:
        SCENES[work.__name__] = (work, keys)
        return work

    return add


async def call_from_bob(screen: Screen) -> Call:
    call = await screen.bob.dial(screen.alice_uri)
    await screen.until(lambda: screen.app.model.ringing)
    return call


async def established(screen: Screen) -> Call:
    """A call from Bob that was answered."""
    call = await call_from_bob(screen)
    await screen.press("ctrl+y")
    await call.answered(5)
    await screen.until(lambda: screen.app.model.current and screen.app.model.current.established)
    return call


def dialog(screen: Screen, kind: type[Any]) -> Callable[[], bool]:
    return lambda: isinstance(screen.app.screen, kind)


@scene("call.answer", "call.refuse", "call.hangup", "call.hold", "call.mute", "call.record")
async def calls(screen: Screen) -> None:
    first = await call_from_bob(screen)
    await screen.press("ctrl+x")
    await screen.until(lambda: first.state is CallState.ENDED)
    call = await established(screen)
    view = screen.app.model.current
    assert view is not None
    await screen.press("ctrl+o")
    await screen.until(lambda: call.held and view.on_hold)
    await screen.press("ctrl+o")
    await screen.until(lambda: not call.held and not view.on_hold)
    await screen.press("ctrl+l")
    await screen.until(lambda: view.muted)
    await screen.sees("muted")
    await screen.press("ctrl+l")
    await screen.until(lambda: not view.muted)
    await screen.press("ctrl+r")
    await screen.until(lambda: view.recording)
    await screen.sees("● rec")
    await screen.press("ctrl+r")
    await screen.until(lambda: not view.recording)
    await screen.press("ctrl+b")
    await screen.until(lambda: call.state is CallState.ENDED)


@scene("call.keypad", "call.note", "call.transfer")
async def dialogs_about_a_call(screen: Screen) -> None:
    call = await established(screen)
    await screen.press("ctrl+k")
    await screen.until(dialog(screen, KeypadDialog))
    await screen.press("4", "2", "#")
    await screen.sees("42#")
    await screen.until(lambda: screen.sent_digits() == "42#")
    await screen.press("escape")
    await screen.press("ctrl+n")
    await screen.until(dialog(screen, NoteDialog))
    await screen.types("hi")
    await screen.press("enter")
    await screen.sees("✎ hi")
    await screen.press("ctrl+t")
    await screen.until(dialog(screen, TransferDialog))
    await screen.paste("sip:carol@[::1]:9")
    await screen.press("enter")
    await screen.until(lambda: call.transfer_request is not None)
    await call.hangup()


@scene("call.conference", "phone.up", "phone.down")
async def two_calls(screen: Screen) -> None:
    first, second = await established(screen), await established(screen)
    model = screen.app.model
    current = model.current
    await screen.press("up")
    await screen.until(lambda: model.current is not current)
    await screen.press("down")
    await screen.until(lambda: model.current is current)
    await screen.press("ctrl+g")
    await screen.until(lambda: all(call.conference for call in model.live_calls))
    await screen.sees("conference")
    await first.hangup()
    await second.hangup()


@scene("phone.caller", "phone.dnd", "target.down", "target.up", "target.close")
async def dialling(screen: Screen) -> None:
    page = screen.app.screen
    assert isinstance(page, PhonePage)
    await screen.press("ctrl+e")
    await screen.sees("Call from work")
    await screen.press("ctrl+e")
    await screen.sees("Call from broken")
    await screen.press("ctrl+e")
    await screen.until(lambda: page.caller is None)
    await screen.press("f12")
    await screen.until(lambda: screen.app.model.accounts["work"].do_not_disturb)
    await screen.sees("do not disturb")
    await screen.press("f12")
    await screen.until(lambda: not screen.app.model.accounts["work"].do_not_disturb)
    for name in ("Bo Adams", "Bo Burns"):
        await screen.app.phone.request("contact-save", name=name, reaches=[{"address": f"{name[3:]}@example.org"}])
    target = page.query_one(TargetInput)
    await screen.types("bo")
    await screen.sees("Bo Adams", "Bo Burns")
    await screen.press("down", "down", "up")
    assert target.candidates.highlighted == 0
    await screen.press("escape")
    await screen.sees_no("Bo Adams")
    assert target.text == "bo"
    target.set_text("")


@scene("app.help", "app.palette", "page.next", "page.previous", *(f"page.{page.name}" for page in PAGES))
async def screens(screen: Screen) -> None:
    for page in PAGES:
        await screen.press(page.key)
        await screen.until(lambda name=page.name: screen.app.page_name == name)  # type: ignore[misc]
    await screen.press("ctrl+pagedown")
    await screen.until(lambda: screen.app.page_name == PAGES[0].name)
    await screen.press("ctrl+pageup")
    await screen.until(lambda: screen.app.page_name == PAGES[-1].name)
    await screen.press("f1")
    await screen.until(dialog(screen, HelpDialog))
    await screen.sees("Keys", "call.answer")
    await screen.press("escape")
    await screen.press("ctrl+p")
    await screen.sees("Search for commands")
    await screen.paste("Screen: Phone")
    await screen.sees("accounts, dialling, calls")
    await screen.press("enter", "enter")
    await screen.until(lambda: screen.app.page_name == "phone")


@scene("history.call", "history.search", "history.filter", "history.message", "history.contact", "history.note",
       "history.remove", "table.top", "table.bottom")  # fmt: skip
async def history(screen: Screen) -> None:
    await screen.paste(screen.bob_uri)
    await screen.press("enter")
    await (await anext(screen.bob.incoming())).reject()
    call = await established(screen)
    await call.hangup()
    missed = await call_from_bob(screen)
    await missed.hangup()
    await screen.press("f6")
    page = screen.page(HistoryPage)
    await screen.until(lambda: len(page._entries) == 3)
    rows = page.query_one(Rows)
    await screen.press("G")
    await screen.until(lambda: rows.cursor_row == 2)
    await screen.press("g")
    await screen.until(lambda: rows.cursor_row == 0)
    await screen.press("f")
    await screen.until(lambda: len(page._entries) == 1)
    await screen.press("f", "f", "f")
    await screen.until(lambda: len(page._entries) == 3)
    await screen.press("n")
    await screen.until(dialog(screen, NoteDialog))
    await screen.types("xyz")
    await screen.press("enter")
    await screen.until(lambda: any(entry["note"] == "xyz" for entry in page._entries.values()))
    await screen.press("slash")
    await screen.types("xyz")
    await screen.until(lambda: len(page._entries) == 1)
    page.query_one("#search", Input).value = ""
    await screen.press("enter")
    await screen.until(lambda: len(page._entries) == 3)
    await screen.press("a")
    await screen.until(dialog(screen, ContactDialog))
    await screen.press("escape")
    await screen.press("g", "delete")
    await screen.until(lambda: len(page._entries) == 2)
    await screen.press("m")
    await screen.until(lambda: screen.app.page_name == "messages")
    await screen.press("f6")
    await screen.until(dialog(screen, HistoryPage))
    await screen.press("G")
    await screen.press("enter")
    await screen.until(lambda: screen.app.page_name == "phone" and screen.app.model.live_calls)
    await screen.press("ctrl+b")
    await screen.until(lambda: not screen.app.model.live_calls)


@scene("contacts.call", "contacts.search", "contacts.add", "contacts.edit", "contacts.message", "contacts.watch",
       "contacts.remove")  # fmt: skip
async def contacts(screen: Screen) -> None:
    await screen.press("f7")
    page = screen.page(ContactsPage)
    await screen.press("a")
    await screen.until(dialog(screen, ContactDialog))
    await screen.types("Zoe")
    await screen.press("tab")
    await screen.paste("nonsense nonsense@")
    await screen.press("enter")
    await screen.sees("is no number and no SIP address")
    field = screen.app.screen.query(".way").first(Input)
    field.value = screen.bob_uri
    await screen.press("enter")
    await screen.until(lambda: list(page._contacts) == ["Zoe"])
    await screen.press("e")
    await screen.until(dialog(screen, ContactDialog))
    await screen.press("end", "exclamation_mark")
    await screen.press("enter")
    await screen.until(lambda: list(page._contacts) == ["Zoe!"])
    await screen.press("w")
    await screen.is_told("cannot be watched")  # his phone tells nobody whether he is there
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
        silent.bind(("::1", 0))
        address = f"sip:silent@[::1]:{silent.getsockname()[1]}"
        await screen.app.phone.request("contact-save", name="Adam", reaches=[{"address": address}])
        await screen.until(lambda: list(page._contacts) == ["Adam", "Zoe!"])
        await screen.press("g", "w")
        await screen.until(lambda: page._watched)
        await screen.press("w")
        await screen.until(lambda: not page._watched)
    await screen.press("delete")
    await screen.until(lambda: list(page._contacts) == ["Zoe!"])
    await screen.press("slash")
    await screen.types("nobody")
    await screen.until(lambda: not page._contacts)
    page.query_one("#search", Input).value = ""
    await screen.press("enter")
    await screen.until(lambda: page._contacts)
    await screen.press("m")
    await screen.until(lambda: screen.app.page_name == "messages")
    await screen.press("f7")
    await screen.until(dialog(screen, ContactsPage))
    await screen.press("enter")
    call = await anext(screen.bob.incoming())
    await call.reject()
    await screen.until(lambda: screen.app.page_name == "phone" and not screen.app.model.live_calls)
    await screen.press("f7")
    await screen.until(dialog(screen, ContactsPage))
    await screen.press("delete")
    await screen.until(lambda: not page._contacts)


@scene("messages.new", "messages.call")
async def messages(screen: Screen) -> None:
    await screen.bob.message(screen.alice_uri, "lunch at noon?")
    await screen.press("f8")
    page = screen.page(MessagesPage)
    await screen.sees("lunch at")
    await screen.press("ctrl+w")
    await screen.until(lambda: page.query_one("#to", TargetInput).input.has_focus)
    await screen.paste(screen.bob_uri)
    await screen.press("enter")
    await screen.until(lambda: page.query_one("#text").has_focus)
    await screen.types("yes")
    await screen.press("enter")
    await screen.sees("you  yes")
    await screen.press("ctrl+d")
    call = await anext(screen.bob.incoming())
    await call.reject()
    await screen.until(lambda: not screen.app.model.live_calls)


def field_of(page: SettingsPage, key: str) -> Field:
    return next(field for field in page.query(Field) if field.key == key)


def said(page: SettingsPage) -> str:
    return str(page.query_one("#said", Static).content)


@scene("settings.save", "settings.test", "settings.add")
async def settings(screen: Screen) -> None:
    await screen.press("f9")
    page = screen.page(SettingsPage)
    await screen.until(lambda: page._shown == "general" and page.query(Field))
    field = field_of(page, "ui.theme")
    field.query_one(Input).value = "NO"
    await screen.press("ctrl+s")
    await screen.until(lambda: "'NO' is not the name of a theme" in said(page))
    field.query_one(Input).value = "roamphone-light"
    await screen.press("ctrl+s")
    await screen.until(lambda: screen.app.theme == "roamphone-light")
    await screen.press("ctrl+w")
    await screen.until(lambda: page._shown == "new" and page.query("#account-name"))
    await screen.press("ctrl+s")
    await screen.until(lambda: "nothing was changed" in said(page))
    field = field_of(page, "address")
    field.query_one(Input).value = "alice"
    page.query_one("#account-name", Input).value = "third"
    await screen.press("ctrl+d")
    await screen.until(lambda: "expected is user@domain" in said(page))
    field.query_one(Input).value = "alice@[::1]"
    register = field_of(page, "register")
    register.query_one(Select).value = "no"
    await screen.press("ctrl+s")
    await screen.until(lambda: "third" in screen.app.model.accounts)


@scene("account.test", "account.save")
async def another_account(screen: Screen) -> None:
    screen.app.add_account()
    await screen.until(dialog(screen, AccountDialog))
    await screen.press("ctrl+s")
    await screen.sees("what is your SIP address?")
    await screen.paste("alice@[::1]")
    form = screen.app.screen
    form.query_one("#registrar", Input).value = "sip:[::1]:9"
    await screen.press("ctrl+d")
    await screen.until(lambda: "SIP address" not in str(form.query_one("#said", Static).content))
    await screen.press("ctrl+s")
    await screen.until(lambda: len(screen.app.model.accounts) == 3)


@scene("log.search", "log.level", "log.up", "log.down", "log.page_up", "log.page_down", "log.end")
async def log(screen: Screen) -> None:
    for number in range(80):
        text = f"line {number}"
        screen.app.phone.take_event({"event": "log", "time": 0.0, "level": "INFO", "logger": "test", "text": text})
    await screen.press("f10")
    view = screen.page(LogPage).query_one(LogView)
    await screen.sees("line 79")
    await screen.press("up", "k", "down")
    assert view.back == 1
    await screen.sees_no("line 79")
    await screen.press("pageup")
    assert view.back == 21
    await screen.press("pagedown", "j")
    await screen.sees("line 79")
    await screen.press("pageup", "end")
    assert view.back == 0
    await screen.press("slash")
    await screen.types("line 7")
    await screen.sees_no("line 65")
    await screen.press("enter", "f")
    await screen.sees_no("line 79")
    await screen.press("f", "f")
    await screen.sees("line 79")


@scene("app.quit")
async def quitting(screen: Screen) -> None:
    await screen.press("ctrl+q")
    await screen.until(lambda: not screen.app.is_running)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCENES)
def test_keys(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    async def work() -> None:
        async with opened(tmp_path, size) as screen:
            await SCENES[name][0](screen)

    drive(work)


def test_there_is_a_test_for_every_key() -> None:
    tested = [key for _, keys in SCENES.values() for key in keys]
    tested += [*test_mobility_page.KEYS, *test_packets_page.KEYS, *test_sip_page.KEYS]
    assert sorted(tested) == sorted(all_names())
