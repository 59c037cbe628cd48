"""The screens. A page is imported when it is opened first: the program is usable before the others are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ui.page import Page


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One screen: where it is in the bar, and where its class is."""

    name: str
    title: str
    key: str
    where: str
    "``module:class``."
    meaning: str

    def make(self) -> Page:
        module, _, name = self.where.partition(":")
        return cast("Page", getattr(import_module(module), name)())


PAGES: tuple[PageEntry, ...] = (
    PageEntry("phone", "Phone", "f2", "ui.pages.phone:PhonePage", "accounts, dialling, calls"),
    PageEntry("mobility", "Mobility", "f3", "ui.pages.mobility:MobilityPage", "networks, tunnel, bindings, handovers"),
    PageEntry(
        "packets", "Packets", "f4", "ui.pages.packets:PacketsPage", "what passes, with both layers of IPsec opened"
    ),
    PageEntry("sip", "SIP", "f5", "ui.pages.sip:SipPage", "calls as ladders of their messages"),
    PageEntry("history", "History", "f6", "ui.pages.history:HistoryPage", "the calls that were"),
    PageEntry("contacts", "Contacts", "f7", "ui.pages.contacts:ContactsPage", "the address book, and who is there"),
    PageEntry("messages", "Messages", "f8", "ui.pages.messages:MessagesPage", "texts"),
    PageEntry("settings", "Settings", "f9", "ui.pages.settings:SettingsPage", "accounts, and everything else"),
    PageEntry("log", "Log", "f10", "ui.pages.log:LogPage", "what happens, and the log of the daemon"),
)
"In the order of the bar."
