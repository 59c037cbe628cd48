"""Packets as they pass: live, with their layers unfolded and what was decrypted; one of them through all its stages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from softphone.errors import SoftphoneError
from softphone.paths import data_directory
from ui.dialogs.packet import PacketDialog
from ui.keys import key
from ui.packet_book import PacketBook, discards
from ui.page import Page
from ui.widgets.line_list import LineList
from ui.widgets.packets import PacketList, journey, tree

PERIOD = 2.0
"Seconds between two looks at the counters."


class PacketsPage(Page):
    """Packets come while it is visible, and what came stays."""

    TOPICS: ClassVar = frozenset({"packets", "mobility"})
    BINDINGS: ClassVar = [
        key("packets.filter", "slash", "filter", "Filter", tooltip="Words that packets must have; -word: must not"),
        key("packets.pause", "space", "pause", "Pause", tooltip="Stop the list, or go on"),
        key("packets.follow", "enter", "follow", "Follow", tooltip="The packet at all stages that it passed"),
        key("packets.save", "s", "save", "Save pcapng", tooltip="Write all packets to a file, or stop that"),
        key("packets.discards", "d", "discards", "Discards", tooltip="What was dropped, and why"),
        key("packets.clear", "c", "clear", "Clear", show=False),
        key("packets.leave", "escape", "leave_filter", "Back to the list", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.book = PacketBook()
        self.file: str | None = None
        "Where packets are written to."
        self._why = ""
        self._state_width = 0
        self._discards: list[tuple[str, int]] = []

    def body(self) -> ComposeResult:
        with Horizontal(classes="tools"):
            yield Input(placeholder="filter: rtp, esp, sip, in, wlan0, -udp …", id="filter", compact=True)
            yield Static(id="packets-state")
        with Container(id="packets-body"):
            yield PacketList(self.book.shown)
            with Container(id="packet-side"):
                detail = Static(id="packet-detail")
                detail.border_title = "Layers"
                yield detail
                dropped = Static(id="packet-discards")
                dropped.border_title = "Discards"
                yield dropped

    def on_mount(self) -> None:
        self.query_one(PacketList).focus()
        self.set_interval(PERIOD, self._tick)

    def on_opened(self) -> None:
        self._tick()

    def _tick(self) -> None:
        if self.is_current:
            self.phone.begin(self._count)

    async def _count(self) -> None:
        try:
            answer = await self.phone.request("mobility", request={"op": "counters"})
            self._discards, self._why = discards(answer if isinstance(answer, Mapping) else {}), ""
        except SoftphoneError as exc:
            self._why = str(exc)
        if self.is_mounted:
            self.show_stream()

    def take_event(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "packets" | "packets-missed":
                self.book.take(event)
            case "mobility-lost":
                self._why, self.file = str(event.get("why", "")), None
            case "mobility-found":
                self._why = ""
            case _:
                return
        self.wants_drawing()

    def show_stream(self) -> None:
        book, packets = self.book, self.query_one(PacketList)
        book.settle()
        packets.shown = book.shown
        packets.nothing = self._why or ("no packet passes the filter" if book.seen else PacketList.nothing)
        packets.set_count(len(book.shown), book.take_gone())
        self._show_state()
        self._show_detail()
        names = [
            Content.assemble((f"{count:>7,} ", "bold $error"), (name, "$foreground 80%"))
            for name, count in self._discards
        ]
        self.query_one("#packet-discards", Static).update(
            Content("\n").join(names) if names else Content.styled("nothing was dropped", "$foreground 50%"),
            layout=False,
        )

    def _show_state(self) -> None:
        book = self.book
        parts = (
            [
                Content.styled(" ‖ paused ", "bold $background on $warning"),
                Content(f" {book.meanwhile:,} came meanwhile"),
            ]
            if book.paused
            else [Content.styled(" ● live ", "bold $background on $success")]
        )
        parts.append(Content(f" {len(book.shown):,} shown of {book.seen:,}"))
        if book.missed:
            parts.append(Content.styled(f" {book.missed:,} not followed", "$warning"))
        if self.file is not None:
            parts.append(Content.styled(" ● saving", "bold $error"))
        state = Content("").join(parts)
        self.query_one("#packets-state", Static).update(state, layout=state.cell_length != self._state_width)
        self._state_width = state.cell_length

    def _show_detail(self) -> None:
        packet = self.query_one(PacketList).chosen
        detail = self.query_one("#packet-detail", Static)
        if packet is None:
            detail.update("", layout=False)
            return
        way = "out" if packet.outbound else "in"
        detail.border_subtitle = f"packet {packet.number} {way}"
        detail.update(Content("\n").join([*tree(packet), Content(""), journey(packet)]), layout=False)

    # ------------------------------------------------------------ keys

    @on(LineList.Moved)
    def _moved(self) -> None:
        self._show_detail()

    @on(LineList.Chosen)
    def _chosen(self) -> None:
        self.action_follow()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, changed: Input.Changed) -> None:
        self.book.search(changed.value)
        packets = self.query_one(PacketList)
        packets.cursor = max(0, len(self.book.shown) - 1)
        self.show_stream()

    @on(Input.Submitted, "#filter")
    def action_leave_filter(self) -> None:
        self.query_one(PacketList).focus()

    def action_filter(self) -> None:
        self.query_one("#filter", Input).focus()

    def action_pause(self) -> None:
        self.book.pause(not self.book.paused)
        self.show_stream()

    def action_follow(self) -> None:
        if (packet := self.query_one(PacketList).chosen) is not None:
            self.app.push_screen(PacketDialog(packet))

    def action_discards(self) -> None:
        """In a small terminal they take the place of the layers."""
        self.query_one("#packet-side").toggle_class("discards")

    def action_clear(self) -> None:
        self.book.clear()
        self.query_one(PacketList).cursor = 0
        self.show_stream()

    def action_save(self) -> None:
        self.phone.begin(self._save)

    async def _save(self) -> None:
        """All packets, whole, with what the filter does not show: Wireshark has filters of its own."""
        if self.file is not None:
            await self.phone.request("capture")
            self.notify(f"saved: {self.file}")
            self.file = None
        else:
            directory = data_directory() / "captures"
            await asyncio.to_thread(directory.mkdir, 0o700, True, True)
            file = str(directory / f"{time.strftime('%Y-%m-%d-%H%M%S', time.localtime(self.phone.clock()))}.pcapng")
            await self.phone.request("capture", file=file)
            self.file = file
            self.notify(f"packets go to {file}")
        self.show_stream()
