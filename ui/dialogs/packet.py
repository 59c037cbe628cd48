"""One packet at all stages that it passed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ui.packet_book import Followed
from ui.page import Dialog
from ui.widgets.packets import whole


class PacketDialog(Dialog[None]):
    """Enter or Escape closes it."""

    BINDINGS: ClassVar = [("enter", "leave", "Close"), ("q", "leave", "Close")]

    def __init__(self, packet: Followed) -> None:
        super().__init__()
        self._packet = packet

    def body(self) -> ComposeResult:
        packet = self._packet
        way = "out" if packet.outbound else "in"
        yield Static(f"Packet {packet.number}, {way}: at every stage that it passed", classes="title")
        with VerticalScroll():
            yield Static(Content("\n").join(whole(packet, self.app.size.width - 14)))

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
