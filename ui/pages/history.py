"""The calls that were."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from ui.keys import key
from ui.model import shortened
from ui.page import Page
from ui.widgets.meter import clock
from ui.widgets.table import Column, Rows

RESULTS = (None, "missed", "answered", "failed")
"What is shown: all, or these."
STYLES = {"missed": "bold $error", "failed": "$warning", "refused": "$warning", "answered": "$success"}


class HistoryPage(Page):
    """Searched and filtered by the daemon; Enter calls back."""

    BINDINGS: ClassVar = [
        key("history.call", "enter", "call", "Call back", tooltip="Call the other side of this entry"),
        key("history.search", "slash", "search", "Search"),
        key("history.filter", "f", "filter", "All/missed/...", tooltip="Show all, missed, answered or failed calls"),
        key("history.message", "m", "message", "Message", tooltip="Write to the other side"),
        key("history.contact", "a", "contact", "Add contact", tooltip="Keep the other side as a contact"),
        key("history.note", "n", "note", "Note", tooltip="Write something down about this call"),
        key("history.remove", "delete", "remove", "Forget", tooltip="Take this entry out"),
    ]
    REDRAWN_BY: ClassVar = frozenset({"history-changed", "call-ended", "contacts-changed"})

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._result: str | None = None

    def body(self) -> ComposeResult:
        with Horizontal(classes="tools"):
            yield Input(placeholder="search names, addresses, notes", id="search", compact=True)
            yield Static(id="filter")
        yield Rows(
            Column("When", 16), Column("", 1), Column("Who"), Column("Result", 9), Column("Time", 7),
            Column("MOS", 4, 70), Column("Account", 10, 90), Column("Note", 0, 100),
        )  # fmt: skip

    def on_mount(self) -> None:
        self.query_one(Rows).focus()
        self._show_filter()

    def on_opened(self) -> None:
        self.load(self._ask)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] in self.REDRAWN_BY:
            self.set_timer(0.2, self.on_opened)  # the entry is written at the end of the call

    @on(Input.Changed, "#search")
    def _searched(self) -> None:
        self.on_opened()

    @on(Input.Submitted, "#search")
    def _found(self) -> None:
        self.query_one(Rows).focus()

    async def _ask(self) -> None:
        search = self.query_one("#search", Input).value.strip()
        answer = await self.phone.asked("history", limit=300, search=search or None, result=self._result)
        self._entries = {str(entry["id"]): entry for entry in answer.get("entries", ())}
        self.query_one(Rows).set_rows((name, _cells(entry)) for name, entry in self._entries.items())

    def _show_filter(self) -> None:
        parts = [
            Content.styled(
                f" {result or 'all'} ", "bold $background on $primary" if result == self._result else "$foreground 60%"
            )
            for result in RESULTS
        ]
        self.query_one("#filter", Static).update(Content("").join(parts))

    @property
    def entry(self) -> Mapping[str, Any] | None:
        """Under the cursor."""
        return self._entries.get(self.query_one(Rows).chosen or "")

    @on(DataTable.RowSelected)
    def _chosen(self) -> None:
        self.action_call()

    def action_call(self) -> None:
        if (entry := self.entry) is not None:
            self.phone.dial(str(entry["remote"]), str(entry["account"]))
            self.roamphone.action_page("phone")

    def action_search(self) -> None:
        self.query_one("#search").focus()

    def action_filter(self) -> None:
        self._result = RESULTS[(RESULTS.index(self._result) + 1) % len(RESULTS)]
        self._show_filter()
        self.on_opened()

    def action_message(self) -> None:
        if (entry := self.entry) is not None:
            self.roamphone.write_to(str(entry["remote"]))

    def action_contact(self) -> None:
        from ui.dialogs.contact import ContactDialog

        if (entry := self.entry) is not None:
            name = str(entry.get("contact") or entry.get("name") or "")
            self.app.push_screen(ContactDialog(name, [shortened(str(entry["remote"]))]))

    def action_note(self) -> None:
        from ui.dialogs.note import NoteDialog

        if (entry := self.entry) is not None:
            who = str(entry.get("contact") or entry.get("name") or shortened(str(entry["remote"])))
            self.app.push_screen(
                NoteDialog(str(entry["call_id"]), str(entry["account"]), who, str(entry.get("note") or ""))
            )

    def action_remove(self) -> None:
        if (entry := self.entry) is not None:
            self.phone.perform("history-remove", entry=int(cast("int", entry["id"])))


def _cells(entry: Mapping[str, Any]) -> list[Content | str]:
    result = str(entry["result"])
    who = str(entry.get("contact") or entry.get("name") or "")
    address = shortened(str(entry["remote"]))
    name = (
        Content.assemble((who, "bold"), " ", (address, "$foreground 60%"))
        if who and who != address
        else Content(address)
    )
    duration = clock(float(entry["duration"])) if result == "answered" else ""
    mos = entry.get("mos")
    return [
        when(float(entry["began"])), Content.styled("←" if entry["incoming"] else "→", "$accent"), name,
        Content.styled(result, STYLES.get(result, "$foreground 70%")), duration, "" if mos is None else f"{mos:.1f}",
        str(entry["account"]), str(entry.get("note") or ""),
    ]  # fmt: skip


def when(moment: float) -> str:
    """Date and time of day, here."""
    return time.strftime("%a %d %b %H:%M", time.localtime(moment))
