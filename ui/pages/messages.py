"""Texts: conversations, and a line to write the next one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ui.keys import key
from ui.model import Values, shortened
from ui.page import Page
from ui.widgets.target import TargetInput


class MessagesPage(Page):
    """On the left who wrote, on the right what."""

    BINDINGS: ClassVar = [
        key("messages.new", "ctrl+w", "new", "New", priority=True, tooltip="Write to somebody else"),
        key("messages.call", "ctrl+d", "call", "Call", priority=True, tooltip="Call whom this conversation is with"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.peer: str | None = None
        "URI of whom the conversation is with."
        self._peers: list[str] = []
        self._account: str | None = None

    def body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="peers-side"):
                yield TargetInput(placeholder="to whom?", id="to")
                yield OptionList(id="peers")
            with Vertical(id="conversation-side"):
                with VerticalScroll(id="conversation", can_focus=True):
                    yield Static(id="texts")
                yield Input(placeholder="write a message, Enter sends it", id="text")

    def on_mount(self) -> None:
        self.query_one("#to", TargetInput).border_title = "New"
        self.query_one("#peers").border_title = "Conversations"

    def on_opened(self) -> None:
        self.load(self._ask)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] in ("message-received", "message-sent", "contacts-changed", "history-changed"):
            self.on_opened()

    def open_peer(self, peer: str) -> None:
        """Go on with this conversation, or begin it."""
        self.peer = peer
        self.query_one("#text", Input).focus()
        if self.roamphone.connected:
            self.on_opened()

    async def _ask(self) -> None:
        answer = await self.phone.asked("messages", limit=500)
        latest: dict[str, Values] = {}
        for message in answer.get("messages", ()):
            latest.pop(str(message["peer"]), None)
            latest[str(message["peer"])] = message
        self._peers = list(reversed(latest))
        if self.peer is not None and not any(shortened(peer) == shortened(self.peer) for peer in self._peers):
            self._peers.insert(0, self.peer)
        if self.peer is None and self._peers:
            self.peer = self._peers[0]
        peers = self.query_one("#peers", OptionList)
        peers.clear_options()
        peers.add_options([Option(_peer(peer, latest.get(peer))) for peer in self._peers])
        at = next((at for at, peer in enumerate(self._peers) if shortened(peer) == shortened(self.peer or "")), None)
        peers.highlighted = at
        await self._show(latest)

    async def _show(self, latest: Mapping[str, Values]) -> None:
        side = self.query_one("#conversation", VerticalScroll)
        if self.peer is None:
            side.border_title = "No messages yet"
            self.query_one("#texts", Static).update("")
            return
        answer = await self.phone.asked("messages", peer=self.peer, limit=200)
        messages = answer.get("messages", ())
        self._account = str(messages[-1]["account"]) if messages else None
        name = str(messages[-1].get("contact") or "") if messages else ""
        side.border_title = f"{name} {shortened(self.peer)}".strip()
        lines = [_line(message, name or shortened(self.peer)) for message in messages]
        self.query_one("#texts", Static).update(Content("\n").join(lines))
        side.scroll_end(animate=False)

    @on(TargetInput.Dialled)
    def _to(self, dialled: TargetInput.Dialled) -> None:
        dialled.stop()
        self.open_peer(dialled.target)

    @on(OptionList.OptionSelected, "#peers")
    def _chosen(self, chosen: OptionList.OptionSelected) -> None:
        self.open_peer(self._peers[chosen.option_index])

    @on(Input.Submitted, "#text")
    def _send(self, submitted: Input.Submitted) -> None:
        text = submitted.value.strip()
        if self.peer is None:
            self.roamphone.complain("to whom? Choose a conversation, or type an address above")
        elif text:
            submitted.input.value = ""
            self.phone.perform("message", target=self.peer, text=text, account=self._account)

    def action_new(self) -> None:
        self.query_one("#to", TargetInput).input.focus()

    def action_call(self) -> None:
        if self.peer is not None:
            self.phone.dial(self.peer, self._account)
            self.roamphone.action_page("phone")


def _peer(peer: str, latest: Values | None) -> Content:
    name = str((latest or {}).get("contact") or "") or shortened(peer)
    text = str((latest or {}).get("text") or "").replace("\n", " ")
    return Content.assemble((name, "bold"), "\n", (text[:60], "$foreground 60%"))


def _line(message: Values, name: str) -> Content:
    moment = time.strftime("%H:%M", time.localtime(float(message["time"])))
    who, style = (name, "bold $accent") if message["incoming"] else ("you", "bold $primary")
    return Content.assemble((f"{moment} ", "$foreground 50%"), (f"{who}  ", style), str(message["text"]))
