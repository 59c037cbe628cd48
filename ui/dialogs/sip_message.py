"""One SIP message on the whole screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ui.keys import key
from ui.page import Dialog
from ui.sip_log import SipMessage, coloured


class SipMessageDialog(Dialog[None]):
    """Enter or Escape closes it."""

    BINDINGS: ClassVar = [
        ("enter", "leave", "Close"),
        key("message.copy", "y", "copy", "Copy"),
    ]

    def __init__(self, message: SipMessage) -> None:
        super().__init__()
        self._message = message

    def body(self) -> ComposeResult:
        message = self._message
        way = f"to {message.remote}" if message.sent else f"from {message.remote}"
        yield Static(f"{message.label}  {way} over {message.transport.upper()}", classes="title")
        with VerticalScroll():
            yield Static(coloured(message))

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._message.text)
        self.notify("copied")
