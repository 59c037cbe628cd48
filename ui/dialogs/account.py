"""A new account: what is asked for most; all keys are on the screen of settings."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, Input, Label, Select, Static

from softphone.errors import SoftphoneError
from ui.keys import key
from ui.page import Dialog

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
NETWORKS = (("direct: the network that this machine is in", "direct"), ("home: calls go on when it changes", "home"))


class AccountDialog(Dialog[None]):
    """Tested before it is saved, if the user wants."""

    BINDINGS: ClassVar = [
        key("account.test", "ctrl+d", "test", "Test", priority=True),
        key("account.save", "ctrl+s", "save", "Save", priority=True),
    ]

    def body(self) -> ComposeResult:
        yield Label("A SIP account", classes="title")
        transports = [(one, one) for one in TRANSPORTS]
        for name, editor in (
            ("address", Input(placeholder="alice@example.org", id="address", compact=True)),
            ("password", Input(placeholder="in the keyring or a file", id="password", password=True, compact=True)),
            ("server", Input(placeholder="found by the domain (RFC 3263)", id="registrar", compact=True)),
            ("transport", Select(transports, value="udp", allow_blank=False, id="transport", compact=True)),
            ("network", Select(NETWORKS, value="direct", allow_blank=False, id="network", compact=True)),
            ("its name here", Input(placeholder="made from the domain", id="name", compact=True)),
        ):  # fmt: skip
            with Horizontal(classes="field"):
                yield Label(name, classes="key")
                yield editor
        yield Static("", id="said", markup=False)
        with Horizontal(id="ways"):
            yield Button("Save (^s)", id="save", variant="primary", compact=True)
            yield Button("Test (^d)", id="test", compact=True)
            yield Button("Cancel (Esc)", id="cancel", compact=True)

    def _text(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()

    @property
    def _called(self) -> str:
        made = re.sub(r"[^A-Za-z0-9]+", "-", self._text("address").rpartition("@")[2]).strip("-")
        return self._text("name") or made or "account"

    def _values(self) -> dict[str, object]:
        """Raises SoftphoneError in words."""
        address = self._text("address").removeprefix("sip:")
        if not address:
            raise SoftphoneError("address: what is your SIP address?")
        values: dict[str, object] = {"address": address}
        if password := self.query_one("#password", Input).value:
            values["password"] = password
        if server := self._text("registrar"):
            values["registrar"] = server if ":" in server.partition(".")[0] else f"sip:{server}"
        for field in ("transport", "network"):
            value = str(self.query_one(f"#{field}", Select).value)
            if value not in ("udp", "direct"):
                values[field] = value
        return values

    def _say(self, text: str, style: str = "$foreground") -> None:
        self.query_one("#said", Static).update(Content.styled(text, style))

    @on(Input.Submitted)
    def _next(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#test")
    def action_test(self) -> None:
        self.load(self._test)

    async def _test(self) -> None:
        try:
            self._say("looking for the server and registering...", "$foreground 60%")
            answer = await self.phone.request("account-test", name=self._called, values=self._values())
        except SoftphoneError as exc:
            self._say(str(exc), "$error")
            return
        told = answer if isinstance(answer, dict) else {}
        self._say(str(told.get("text", "")), "$success" if told.get("ok") else "$error")

    @on(Button.Pressed, "#save")
    def action_save(self) -> None:
        self.load(self._save)

    async def _save(self) -> None:
        try:
            await self.phone.request("account-save", name=self._called, values=self._values())
            await self.phone.request("reload")
        except SoftphoneError as exc:
            self._say(str(exc), "$error")
            return
        self.phone.look()
        self.app.notify(f"account {self._called} is saved")
        self.dismiss(None)
