"""The phone: accounts, dialling, calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from softphone.daemon.link import LinkState
from ui.keys import key
from ui.model import AccountState, Part
from ui.page import Page
from ui.redraw import Watching
from ui.widgets.calls import CallList
from ui.widgets.keypad import Keypad
from ui.widgets.target import TargetInput
from ui.widgets.text import clickable


class AccountList(Watching):
    """The accounts, and whether calls reach them. A click, or Enter in the palette, chooses who calls."""

    PARTS: ClassVar = frozenset({Part.ACCOUNTS, Part.LINK})

    def show_model(self) -> None:
        self.border_title = "Accounts"
        self.refresh(layout=True)

    def render(self) -> Content:
        page = cast("PhonePage", self.screen)
        if not page.model.accounts:
            return Content.styled(_without_accounts(page), "$foreground 60%")
        lines = [self._line(account, page) for account in page.model.accounts.values()]
        return Content("\n").join(lines)

    def _line(self, account: AccountState, page: PhonePage) -> Content:
        light, style, words = _standing(account)
        chosen = page.caller == account.name
        name = clickable(account.name, f"screen.caller({account.name!r})", "bold $accent" if chosen else "bold")
        parts = [Content.styled(light, style), name]
        if account.address:
            parts.append(Content.styled(account.address.removeprefix("sip:"), "$foreground 80%"))
        if account.do_not_disturb:
            parts.append(Content.styled("do not disturb", "bold $warning"))
        parts.append(Content.styled(words, style))
        return Content(" ").join(parts)


class RecentList(Watching):
    """The latest calls; a click puts one into the field."""

    PARTS: ClassVar = frozenset({Part.HISTORY})

    def show_model(self) -> None:
        self.border_title = "Recent"
        self.refresh()

    def render(self) -> Content:
        page = cast("PhonePage", self.screen)
        lines = [
            Content.assemble(
                (f"{time.strftime('%d %b %H:%M', time.localtime(one.began))} ", "$foreground 50%"),
                ("← " if one.incoming else "→ ", "$error" if one.result == "missed" else "$accent"),
            )
            + clickable(one.who, f"screen.redial({at})", "bold $error" if one.result == "missed" else "")
            for at, one in enumerate(page.model.recent[: max(1, self.size.height)])
        ]
        if not lines:
            return Content.styled("nobody yet", "$foreground 50%")
        return Content("\n").join(line.truncate(self.size.width, ellipsis=True) for line in lines)


def _standing(account: AccountState) -> tuple[str, str, str]:
    if account.failure:
        return "✖", "$error", account.failure
    if not account.register:
        return "○", "$secondary", f"direct calls, {account.where}" if account.where else "direct calls"
    if account.registered:
        return "●", "$success", "registered" if account.network == "direct" else "mobile"
    return "○", "$warning", "not registered"


def _without_accounts(page: Page) -> str:
    match page.roamphone.link.state:
        case LinkState.CONNECTED:
            return f"none yet: {page.roamphone.key_of('app.palette')} Add an account"
        case LinkState.FAILED:
            return page.roamphone.link.why
    return "waiting for the daemon..."


class PhonePage(Page):
    """Accounts and dialling on the left, calls on the right; in a narrow terminal above each other."""

    TOPICS: ClassVar = frozenset({"levels"})
    BINDINGS: ClassVar = [
        key("phone.up", "up", "select(-1)", "Previous call", show=False),
        key("phone.down", "down", "select(1)", "Next call", show=False),
        key("phone.caller", "ctrl+e", "next_caller", "Account", show=False, priority=True, tooltip="Who calls"),
        key("phone.dnd", "f12", "dnd", "Do not disturb", show=False, tooltip="Calls are refused, or again not"),
    ]  # fmt: skip
    caller: str | None = None
    "The account that calls; None: the one that fits the address."

    def body(self) -> ComposeResult:
        with Horizontal(id="phone"):
            with Vertical(id="left"):
                yield AccountList()
                dial = TargetInput(placeholder="number, name or sip:address", id="dial")
                dial.border_title = "Call"
                yield dial
                yield Keypad(id="pad")
                yield RecentList(id="recent-left")
            yield CallList()
            yield RecentList(id="recent-right")

    def on_mount(self) -> None:
        self.query_one(TargetInput).input.focus()

    def on_opened(self) -> None:
        self.phone.look()
        if self.app.size.width >= 100:  # narrower ones have no room for them
            self.load(self._ask_recent)

    async def _ask_recent(self) -> None:
        answer = await self.phone.asked("history", limit=40)
        self.model.take_history(answer)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] in ("history-changed", "call-ended"):
            self.set_timer(0.2, self.on_opened)  # the entry is written at the end of the call

    def action_redial(self, at: int) -> None:
        """Into the field: Enter calls."""
        if at < len(self.model.recent):
            self.query_one("#dial", TargetInput).set_text(self.model.recent[at].remote)
            self.query_one("#dial", TargetInput).input.focus()

    @on(TargetInput.Dialled)
    def _dial(self, dialled: TargetInput.Dialled) -> None:
        self.phone.dial(dialled.target, self.caller)

    @on(Keypad.Pressed)
    def _pressed(self, pressed: Keypad.Pressed) -> None:
        """Into the call; without one it is dialling."""
        call = self.model.current
        if call is not None and call.established:
            self.phone.perform("dtmf", call=call.id, digits=pressed.digit)
        else:
            self.query_one(TargetInput).insert(pressed.digit)

    def action_select(self, step: int) -> None:
        self.model.select_next(step)

    def action_caller(self, name: str) -> None:
        self.caller = None if name == self.caller else name
        self.query_one("#dial", TargetInput).border_title = f"Call from {self.caller}" if self.caller else "Call"
        self.query_one(AccountList).refresh()

    def action_next_caller(self) -> None:
        """Through the accounts, and back to the one that fits."""
        names = [None, *self.model.accounts]
        following = names[(names.index(self.caller) + 1) % len(names)] if self.caller in names else None
        self.caller = following
        self.query_one("#dial", TargetInput).border_title = f"Call from {following}" if following else "Call"
        self.query_one(AccountList).refresh()

    def action_dnd(self) -> None:
        on = not all(account.do_not_disturb for account in self.model.accounts.values() if account.where)
        self.phone.perform("dnd", on=on)
