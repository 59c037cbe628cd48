"""SIP: every call as a ladder of its messages, as sngrep draws it; the messages themselves, to be copied or kept."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from softphone.paths import data_directory
from ui.dialogs.sip_message import SipMessageDialog
from ui.keys import key
from ui.page import Page
from ui.sip_log import SipCall, SipLog, SipMessage, coloured, heading, rung, written
from ui.widgets.line_list import LineList


class CallLines(LineList):
    """One line for each Call-ID."""

    nothing = "no SIP messages yet"

    def __init__(self) -> None:
        super().__init__(id="sip-calls", title="Calls and requests")
        self.calls: list[SipCall] = []

    def line(self, index: int, width: int) -> Content:
        return Content(" ") + self.calls[index].line()

    def name_of(self, index: int) -> Hashable | None:
        return self.calls[index].identity, len(self.calls[index].messages)

    @property
    def chosen(self) -> SipCall | None:
        return self.calls[self.cursor] if self.cursor < len(self.calls) else None


class LadderHeading(Widget):
    """Who is at the posts of the ladder."""

    call: SipCall | None = None

    def show(self, call: SipCall | None) -> None:
        self.call = call
        self.refresh()

    def render(self) -> Content:
        width = self.size.width - 2
        return Content("") if self.call is None or width < 30 else Content(" ") + heading(self.call, width)


class LadderLines(LineList):
    """The messages of one call."""

    nothing = "choose a call"

    def __init__(self) -> None:
        super().__init__(id="sip-ladder", title="Messages")
        self.call: SipCall | None = None

    def line(self, index: int, width: int) -> Content:
        return rung(self.call, index, width) if self.call is not None else Content("")

    def name_of(self, index: int) -> Hashable | None:
        return None if self.call is None else (self.call.identity, index, len({m.remote for m in self.call.messages}))

    @property
    def place(self) -> str:
        """The Call-ID."""
        return "" if self.call is None else self.call.identity

    @property
    def chosen(self) -> SipMessage | None:
        if self.call is None or self.cursor >= len(self.call.messages):
            return None
        return self.call.messages[self.cursor]


class SipPage(Page):
    """What the daemon keeps (2,000 messages), and what comes while it is visible."""

    TOPICS: ClassVar = frozenset({"sip"})
    BINDINGS: ClassVar = [
        key("sip.open", "enter", "open", "Open", tooltip="The ladder of the call; then the message"),
        key("sip.back", "escape", "back", "Back", show=False),
        key("sip.copy", "y", "copy", "Copy", tooltip="The message into the clipboard of the terminal"),
        key("sip.export", "e", "export", "Export", tooltip="All messages of the call into a file"),
        key("sip.calls", "f", "calls_only", "Calls only", tooltip="Registrations and the like are left out, or not"),
        key("sip.search", "slash", "search", "Search"),
        key("sip.next", "tab", "pane(1)", "Next pane", show=False),
        key("sip.previous", "shift+tab", "pane(-1)", "Previous pane", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.log_of_calls = SipLog()
        self.calls_only = False
        self._search = ""
        self._opened = False

    def body(self) -> ComposeResult:
        with Horizontal(classes="tools"):
            yield Input(placeholder="calls with…", id="sip-search", compact=True)
            yield Static(id="sip-state")
        with Container(id="sip-body"):
            yield CallLines()
            with Container(id="sip-flow"):
                yield LadderHeading(id="sip-heading")
                yield LadderLines()
            with VerticalScroll(id="sip-message") as scroll:
                scroll.border_title = "Message"
                scroll.can_focus = False
                yield Static(id="sip-text")

    def on_mount(self) -> None:
        self.query_one(CallLines).focus()

    def on_opened(self) -> None:
        self.phone.begin(self._load)

    async def _load(self) -> None:
        answer = await self.phone.request("sip-messages")
        told = answer.get("messages") if isinstance(answer, Mapping) else None
        self.log_of_calls.take(told if isinstance(told, list) else [])
        self.show_stream()
        current = self.model.current
        lines = self.query_one(CallLines)
        places = [at for at, call in enumerate(lines.calls) if current is not None and call.identity == current.id]
        if places and not self._opened:
            lines.move(places[0])
        self._opened = True

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "sip-message":
            self.log_of_calls.take([event])
            self.wants_drawing()

    def show_stream(self) -> None:
        lines = self.query_one(CallLines)
        before = lines.chosen
        lines.calls = self.log_of_calls.chosen(calls_only=self.calls_only, search=self._search)
        if before is not None and before in lines.calls and not lines.follows:
            lines.cursor = lines.calls.index(before)
        lines.set_count(len(lines.calls))
        mode = Content.styled(" calls only " if self.calls_only else " everything ", "bold $background on $primary")
        self.query_one("#sip-state", Static).update(
            mode + Content.styled(f" {len(lines.calls)} of {len(self.log_of_calls.calls)}", "$foreground 60%")
        )
        self._show_call()

    def _show_call(self) -> None:
        ladder, call = self.query_one(LadderLines), self.query_one(CallLines).chosen
        if call is not ladder.call:
            ladder.call, ladder.cursor, ladder.count = call, 0, 0
            ladder.set_count(0 if call is None else len(call.messages))
            ladder.move(0)
        elif call is not None:
            ladder.set_count(len(call.messages))
        self.query_one(LadderHeading).show(call)
        self._show_message()

    def _show_message(self) -> None:
        message = self.query_one(LadderLines).chosen
        self.query_one("#sip-text", Static).update("" if message is None else coloured(message))

    @on(LineList.Moved)
    def _moved(self, moved: LineList.Moved) -> None:
        if isinstance(moved.lines, CallLines):
            self._show_call()
        else:
            self._show_message()

    @on(LineList.Chosen)
    def _clicked(self) -> None:
        self.action_open()

    @on(Input.Changed, "#sip-search")
    def _search_changed(self, changed: Input.Changed) -> None:
        self._search = changed.value.strip()
        self.show_stream()

    # ------------------------------------------------------------ keys

    @on(Input.Submitted, "#sip-search")
    def action_back(self) -> None:
        self.query_one(CallLines).focus()

    def action_pane(self, step: int) -> None:
        panes = [self.query_one(CallLines), self.query_one(LadderLines)]
        at = panes.index(self.focused) if self.focused in panes else 0
        panes[(at + step) % 2].focus()

    def action_open(self) -> None:
        ladder = self.query_one(LadderLines)
        if not ladder.has_focus:
            ladder.focus()
        elif (message := ladder.chosen) is not None:
            self.app.push_screen(SipMessageDialog(message))

    def action_search(self) -> None:
        self.query_one("#sip-search", Input).focus()

    def action_calls_only(self) -> None:
        self.calls_only = not self.calls_only
        self.show_stream()

    def action_copy(self) -> None:
        if (message := self.query_one(LadderLines).chosen) is not None:
            self.app.copy_to_clipboard(message.text)
            self.notify("the message is in the clipboard, if the terminal lets programs put something there (OSC 52)")

    def action_export(self) -> None:
        self.phone.begin(self._export)

    async def _export(self) -> None:
        call = self.query_one(CallLines).chosen
        if call is None:
            return
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(call.messages[0].time))
        name = re.sub(r"[^\w.@-]", "_", call.identity)[:60]
        file = data_directory() / "sip" / f"{stamp}-{name}.txt"
        await asyncio.to_thread(_write, file, written(call.messages))
        self.notify(f"{len(call.messages)} messages are in {file}")


def _write(file: Path, text: str) -> None:
    """Only for the user: messages tell who calls whom."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)
