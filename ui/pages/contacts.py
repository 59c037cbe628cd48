"""The address book, and who is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from ui.keys import key
from ui.model import Values, shortened
from ui.page import Page
from ui.widgets.table import Column, Rows


class ContactsPage(Page):
    """Enter calls; presence is shown of those who are watched."""

    BINDINGS: ClassVar = [
        key("contacts.call", "enter", "call", "Call", tooltip="Call the first address of this contact"),
        key("contacts.search", "slash", "search", "Search"),
        key("contacts.add", "a", "add", "Add", tooltip="Another contact"),
        key("contacts.edit", "e", "edit", "Edit", tooltip="Change this contact"),
        key("contacts.message", "m", "message", "Message", tooltip="Write to this contact"),
        key("contacts.watch", "w", "watch", "Watch", tooltip="See whether this contact is there, or no longer"),
        key("contacts.remove", "delete", "remove", "Remove", tooltip="Take this contact out"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._contacts: dict[str, Values] = {}
        self._watched: dict[str, Values] = {}

    def body(self) -> ComposeResult:
        with Horizontal(classes="tools"):
            yield Input(placeholder="search names and addresses", id="search", compact=True)
            yield Static(id="total")
        yield Rows(Column("Name"), Column("Presence", 18), Column("Addresses"))

    def on_mount(self) -> None:
        self.query_one(Rows).focus()

    def on_opened(self) -> None:
        self.load(self._ask)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "subscription-changed" and event.get("reason") and event.get("phase") == "ended":
            self.roamphone.complain(f"{shortened(str(event['uri']))} cannot be watched: {event['reason']}")
        if event["event"] in ("contacts-changed", "presence-changed", "subscription-changed"):
            self.on_opened()

    @on(Input.Changed, "#search")
    def _searched(self) -> None:
        self.on_opened()

    @on(Input.Submitted, "#search")
    def _found(self) -> None:
        self.query_one(Rows).focus()

    async def _ask(self) -> None:
        search = self.query_one("#search", Input).value.strip()
        answer = await self.phone.asked("contacts", search=search or None, limit=500)
        watched = await self.phone.asked("watched")
        self._watched = {
            shortened(str(one["uri"])): one for one in watched.get("watched", ()) if one.get("kind") == "presence"
        }
        self._contacts = {str(contact["name"]): contact for contact in answer.get("contacts", ())}
        self.query_one(Rows).set_rows((name, self._cells(contact)) for name, contact in self._contacts.items())
        total = answer.get("total", 0)
        self.query_one("#total", Static).update(
            f"{len(self._contacts)} of {total}" if search else f"{total} contact{'s' if total != 1 else ''}"
        )

    def _cells(self, contact: Values) -> list[Content | str]:
        ways = [(shortened(str(one["address"])), str(one.get("kind") or "")) for one in contact.get("reaches", ())]
        watched = next((self._watched[address] for address, _ in ways if address in self._watched), None)
        texts = [Content.assemble(address, (f" {kind}" if kind else "", "$foreground 50%")) for address, kind in ways]
        return [Content.styled(str(contact["name"]), "bold"), _presence(watched), Content(", ").join(texts)]

    @property
    def contact(self) -> Values | None:
        """Under the cursor."""
        return self._contacts.get(self.query_one(Rows).chosen or "")

    @property
    def addresses(self) -> list[str]:
        """Of the contact under the cursor, as they can be dialled."""
        contact = self.contact
        return [] if contact is None else [str(one["address"]) for one in contact.get("reaches", ())]

    @on(DataTable.RowSelected)
    def _chosen(self) -> None:
        self.action_call()

    def action_call(self) -> None:
        if self.addresses:
            self.phone.dial(self.addresses[0])
            self.roamphone.action_page("phone")

    def action_search(self) -> None:
        self.query_one("#search").focus()

    def action_add(self) -> None:
        from ui.dialogs.contact import ContactDialog

        self.app.push_screen(ContactDialog())

    def action_edit(self) -> None:
        from ui.dialogs.contact import ContactDialog

        if (contact := self.contact) is not None:
            name = str(contact["name"])
            ways = [f"{one['address']} {one.get('kind') or ''}".strip() for one in contact.get("reaches", ())]
            self.app.push_screen(ContactDialog(name, ways, instead_of=name))

    def action_message(self) -> None:
        if self.addresses:
            self.roamphone.write_to(self.addresses[0])

    def action_watch(self) -> None:
        for address in self.addresses:
            if shortened(address) in self._watched:
                self.phone.perform("unwatch", uri=self._watched[shortened(address)]["uri"])
                self.set_timer(0.2, self.on_opened)
                return
        uri = next((address for address in self.addresses if address.startswith(("sip:", "sips:"))), None)
        if uri is None:
            self.roamphone.complain("only SIP addresses can be watched")
            return
        self.phone.perform("watch", uri=uri)
        self.set_timer(0.2, self.on_opened)

    def action_remove(self) -> None:
        if (contact := self.contact) is not None:
            self.phone.perform("contact-remove", name=str(contact["name"]))


def _presence(watched: Values | None) -> Content:
    if watched is None:
        return Content("")
    state = watched.get("state")
    if not isinstance(state, Mapping):
        return Content.styled(f"○ {watched.get('reason') or watched.get('phase') or 'asked'}", "$foreground 50%")
    is_open = bool(state.get("open"))
    note = str(state.get("note") or "")
    words = note or ("there" if is_open else "away")
    return Content.styled(f"● {words}" if is_open else f"○ {words}", "$success" if is_open else "$foreground 60%")
