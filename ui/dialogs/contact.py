"""Somebody: a name, and the ways to reach them."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Label

from softphone.errors import SoftphoneError
from ui.page import Dialog

WAYS = 3
"Addresses of one contact that the form has."


class ContactDialog(Dialog[bool]):
    """Dismissed with True when the contact was saved."""

    def __init__(self, name: str = "", addresses: Sequence[str] = (), *, instead_of: str | None = None) -> None:
        super().__init__()
        self._called, self._addresses, self._instead_of = name, list(addresses), instead_of

    def body(self) -> ComposeResult:
        yield Label("Contact" if self._instead_of is None else f"Contact {self._instead_of}", classes="title")
        yield Input(value=self._called, placeholder="name", id="name")
        for at in range(max(WAYS, len(self._addresses))):
            address = self._addresses[at] if at < len(self._addresses) else ""
            yield Input(
                value=address, placeholder="number or sip:address; kind may follow after a space", classes="way"
            )
        yield Label("", id="why")
        yield Label("Enter saves    Esc leaves it as it was", classes="hint")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.load(self._save)

    async def _save(self) -> None:
        reaches = []
        for field in self.query(".way").results(Input):
            address, _, kind = field.value.strip().partition(" ")
            if address:
                reaches.append({"address": address, "kind": kind.strip()})
        name = self.query_one("#name", Input).value.strip()
        try:
            await self.phone.request("contact-save", name=name or None, reaches=reaches, instead_of=self._instead_of)
        except SoftphoneError as exc:
            self.query_one("#why", Label).update(str(exc))
            return
        self.dismiss(True)
